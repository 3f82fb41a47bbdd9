"""Where environments and algorithms meet: transformers agents, rollouts, search, evaluation, the command line.

The names below are read when they are first asked for: importing the package loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oreo_agents.episodes.collect import collect
    from oreo_agents.episodes.generate import Sampling, generate
    from oreo_agents.episodes.policy_agent import PolicyAgent
    from oreo_agents.episodes.prompts import PromptFormat
    from oreo_agents.episodes.rollout import rollout
    from oreo_agents.evaluation.evaluate import evaluate
    from oreo_agents.evaluation.records import load_results
    from oreo_agents.networks.policy import CausalPolicy
    from oreo_agents.networks.value import TokenValue

__all__ = [
    "CausalPolicy",
    "PolicyAgent",
    "PromptFormat",
    "Sampling",
    "TokenValue",
    "collect",
    "evaluate",
    "generate",
    "load_results",
    "rollout",
]

_HOMES = {
    "CausalPolicy": "networks.policy",
    "PolicyAgent": "episodes.policy_agent",
    "PromptFormat": "episodes.prompts",
    "Sampling": "episodes.generate",
    "TokenValue": "networks.value",
    "collect": "episodes.collect",
    "evaluate": "evaluation.evaluate",
    "generate": "episodes.generate",
    "load_results": "evaluation.records",
    "rollout": "episodes.rollout",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
