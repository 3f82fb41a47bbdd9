"""Text environments for reasoning: Gymnasium ids ``oreo/*`` and answer grading.

Importing the package registers the ids. It loads neither torch nor sympy, nor any data; the names below are read when
they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from oreo_envs import grading
    from oreo_envs.base import Demonstration, EnvState, TextEnv
    from oreo_envs.chat import ChatClient
    from oreo_envs.evaluation import Evaluation, EvaluationStopped, evaluate
    from oreo_envs.plain import PlainEnv, make
    from oreo_envs.procedural import ProceduralEnv
    from oreo_envs.recording import Recorder
    from oreo_envs.replies import ChatError, ChatRefused, Reply
    from oreo_envs.spaces import FreeText

__all__ = [
    "ChatClient",
    "ChatError",
    "ChatRefused",
    "Demonstration",
    "EnvState",
    "Evaluation",
    "EvaluationStopped",
    "FreeText",
    "PlainEnv",
    "ProceduralEnv",
    "Recorder",
    "Reply",
    "TextEnv",
    "evaluate",
    "grading",
    "make",
    "register_envs",
]

_HOMES = {
    "ChatClient": "chat",
    "ChatError": "replies",
    "ChatRefused": "replies",
    "Demonstration": "base",
    "EnvState": "base",
    "Evaluation": "evaluation",
    "EvaluationStopped": "evaluation",
    "FreeText": "spaces",
    "PlainEnv": "plain",
    "ProceduralEnv": "procedural",
    "Recorder": "recording",
    "Reply": "replies",
    "TextEnv": "base",
    "evaluate": "evaluation",
    "make": "plain",
}

_ENTRY_POINTS = {
    "oreo/Arithmetic-v0": "oreo_envs.arithmetic:ArithmeticEnv",
    "oreo/Chat-v0": "oreo_envs.conversations:ConversationEnv",
    "oreo/Countdown-v0": "oreo_envs.countdown:CountdownEnv",
    "oreo/GSM8K-v0": "oreo_envs.gsm8k:GSM8KEnv",
    "oreo/MATH-v0": "oreo_envs.math:MATHEnv",
    "oreo/QA-v0": "oreo_envs.qa:QAEnv",
    "oreo/ReasoningGym-v0": "oreo_envs.reasoning_gym_tasks:ReasoningGymEnv",
    "oreo/ALFWorld-v0": "oreo_envs.alfworld.env:ALFWorldEnv",
    "oreo/TextWorld-v0": "oreo_envs.textworld_games:TextWorldEnv",
}
_VECTOR_ENTRY_POINTS = {"oreo/ALFWorld-v0": "oreo_envs.alfworld.vector:ALFWorldVectorEnv"}


def register_envs() -> None:
    """Register the ids that are not registered yet."""
    for env_id, entry_point in _ENTRY_POINTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=entry_point, vector_entry_point=_VECTOR_ENTRY_POINTS.get(env_id))


def __getattr__(name: str) -> Any:
    if name == "grading":
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_envs()
