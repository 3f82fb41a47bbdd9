"""Questions of an environment's own data, and how it opens and grades an answer to one.

Knows: environments, their splits and prompts. Does not know: files, layouts.
"""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym

import oreo_envs
from oreo_agents.formats.solutions import Task
from oreo_envs.datasets import WrongSplit
from oreo_envs.plain import creator_of
from oreo_envs.splits import SPLITS

_log = logging.getLogger(__name__)


def delimiters_of(env_id: str) -> tuple[str, ...] | None:
    """What ends a step of an answer; none where an action is a turn, None where an environment does not say."""
    return getattr(creator_of(gym.spec(env_id)), "step_delimiters", None)


@functools.cache
def held_out_splits_of(env_id: str) -> tuple[str, ...]:
    """Splits that nothing may learn from; () of an environment that is not registered."""
    try:
        return tuple(getattr(creator_of(gym.spec(env_id)), "held_out_splits", ()))
    except (gym.error.Error, ImportError, AttributeError):
        return ()


def is_held_out(env_id: str, task_id: str | None, split: Any) -> bool:
    """Whether an episode is of a split that nothing may learn from, by what it says or its task's name."""
    named = (task_id or "").split("/")
    return (split or (named[1] if len(named) > 2 else None)) in held_out_splits_of(env_id)


def opening_of(env_class: Any, env_id: str, prompt: str | None) -> Callable[[str], Sequence[Mapping[str, str]]]:
    """Return how an environment opens a question: by its prompt template, or as the user's message.

    Raises:
        ValueError: a prompt is named, and it has none.
    """
    if hasattr(env_class, "template"):
        return env_class.template(prompt).messages
    if prompt is not None:
        raise ValueError(f"--prompt {prompt}: {env_id} has no prompt templates; leave it out")
    return lambda question: [{"role": "user", "content": question}]


class Tasks:
    """Questions of an environment, and how it opens one."""

    def __init__(self, env_id: str, path: str | None, prompt: str | None) -> None:
        """Read the questions of all splits that are there; one that is not is warned of."""
        env_class: Any = creator_of(gym.spec(env_id))
        self.opening = opening_of(env_class, env_id, prompt)
        self._by_question: dict[str, Task] = {}
        keywords: dict[str, Any] = {} if path is None else {"path": path}
        for split in getattr(env_class, "splits", SPLITS):
            try:
                env: Any = oreo_envs.make(env_id, split=split, **keywords).unwrapped
            except (FileNotFoundError, ConnectionError, OSError, WrongSplit) as error:
                _log.warning("%s %s: questions are not matched to tasks (%s)", env_id, split, error)
                continue
            for index, problem in enumerate(getattr(env, "problems", ())):
                self._by_question.setdefault(problem.question.strip(), Task(env, index))

    def find(self, question: str) -> Task | None:
        """Return the task of a question; None: it is of none."""
        return self._by_question.get(question.strip())
