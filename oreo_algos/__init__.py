"""Offline reinforcement learning on tokens: episodes, losses, algorithms, one trainer. Never imports an environment.

The names below are read when they are first asked for: importing the package, or reading episodes, loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oreo_algos.batch import Batch, collate
    from oreo_algos.episode import Episode
    from oreo_algos.models import Models, Policy, TokenScores, Value
    from oreo_algos.storage.buffer import EpisodeBuffer
    from oreo_algos.training.trainer import TrainerConfig, TrainResult, train

__all__ = [
    "Batch",
    "Episode",
    "EpisodeBuffer",
    "Models",
    "Policy",
    "TokenScores",
    "TrainResult",
    "TrainerConfig",
    "Value",
    "collate",
    "train",
]

_HOMES = {
    "Batch": "batch",
    "Episode": "episode",
    "EpisodeBuffer": "storage.buffer",
    "Models": "models",
    "Policy": "models",
    "TokenScores": "models",
    "TrainResult": "training.trainer",
    "TrainerConfig": "training.trainer",
    "Value": "models",
    "collate": "batch",
    "train": "training.trainer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
