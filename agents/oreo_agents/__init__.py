"""Where environments and algorithms meet: transformers agents, rollouts, search, evaluation, the command line.

The names below are read when they are first asked for: importing the package loads neither torch nor transformers.
``docs/python.md`` shows them at work.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oreo_agents.episodes.generate import Sampling, generate
    from oreo_agents.episodes.policy_agent import PolicyAgent
    from oreo_agents.episodes.prompts import PromptFormat
    from oreo_agents.episodes.rollout import rollout
    from oreo_agents.evaluation.records import load_results
    from oreo_agents.evaluation.score import Score
    from oreo_agents.networks.policy import CausalPolicy
    from oreo_agents.networks.value import TokenValue
    from oreo_agents.runs.facade import (
        algorithm,
        answer,
        collect,
        demonstrations,
        evaluate,
        load_policy,
        load_value,
        make,
        new_policy,
        new_value,
        save,
        searches,
        train,
    )
    from oreo_agents.serving.answering import Reply
    from oreo_algos.episode import Episode
    from oreo_algos.storage.buffer import EpisodeBuffer
    from oreo_algos.training.trainer import TrainerConfig, TrainResult

__all__ = [
    "CausalPolicy",
    "Episode",
    "EpisodeBuffer",
    "PolicyAgent",
    "PromptFormat",
    "Reply",
    "Sampling",
    "Score",
    "TokenValue",
    "TrainResult",
    "TrainerConfig",
    "algorithm",
    "answer",
    "collect",
    "demonstrations",
    "evaluate",
    "generate",
    "load_policy",
    "load_results",
    "load_value",
    "make",
    "new_policy",
    "new_value",
    "rollout",
    "save",
    "searches",
    "train",
]

_HOMES = {
    "CausalPolicy": "oreo_agents.networks.policy",
    "Episode": "oreo_algos.episode",
    "EpisodeBuffer": "oreo_algos.storage.buffer",
    "PolicyAgent": "oreo_agents.episodes.policy_agent",
    "PromptFormat": "oreo_agents.episodes.prompts",
    "Reply": "oreo_agents.serving.answering",
    "Sampling": "oreo_agents.episodes.generate",
    "Score": "oreo_agents.evaluation.score",
    "TokenValue": "oreo_agents.networks.value",
    "TrainResult": "oreo_algos.training.trainer",
    "TrainerConfig": "oreo_algos.training.trainer",
    "generate": "oreo_agents.episodes.generate",
    "load_results": "oreo_agents.evaluation.records",
    "rollout": "oreo_agents.episodes.rollout",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with warnings.catch_warnings():
        # tqdm says so in a notebook without ipywidgets, as soon as transformers is imported; no bar of it is shown.
        warnings.filterwarnings("ignore", message="IProgress not found")
        value = getattr(import_module(_HOMES.get(name, f"{__name__}.runs.facade")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
