"""One module an algorithm: a frozen dataclass with its configuration, its choice of data and its losses."""

from oreo_algos.algos.asymre import AsymRe
from oreo_algos.algos.awr import AdvantageWeighted
from oreo_algos.algos.base import Algorithm, EpisodeAlgorithm, Losses
from oreo_algos.algos.constant import ConstantBaseline
from oreo_algos.algos.direct_advantage import DirectAdvantage
from oreo_algos.algos.dpo import Dpo
from oreo_algos.algos.dqo import Dqo
from oreo_algos.algos.grpo import Grpo
from oreo_algos.algos.implicit_prm import ImplicitPrm
from oreo_algos.algos.kto import Kto
from oreo_algos.algos.optimal_advantage import OptimalAdvantage
from oreo_algos.algos.oreo import Oreo
from oreo_algos.algos.rejection import RejectionSampling
from oreo_algos.algos.sft import MoreSft, Sft
from oreo_algos.algos.topr import Topr

__all__ = [
    "AdvantageWeighted",
    "Algorithm",
    "AsymRe",
    "ConstantBaseline",
    "DirectAdvantage",
    "Dpo",
    "Dqo",
    "EpisodeAlgorithm",
    "Grpo",
    "ImplicitPrm",
    "Kto",
    "Losses",
    "MoreSft",
    "OptimalAdvantage",
    "Oreo",
    "RejectionSampling",
    "Sft",
    "Topr",
]
