"""What environments say of tasks, turns and episodes.

Knows: the form of openings, outcomes, demonstrations and states.
Does not know: when an episode goes on (``base``), which task comes next (``orders``).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oreo_envs.messages import Message

Scalar = str | int | float | bool | None
"""What JSON can hold without nesting."""


@dataclass(frozen=True)
class Opening:
    """A task as it starts: its name, the first observation, and the messages that a policy sees."""

    task_id: str
    observation: str
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Outcome:
    """What an action led to: new text of the environment, the reward, is the task over, did its own limit end it."""

    observation: str = ""
    reward: float = 0.0
    terminated: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)
    truncated: bool = False


@dataclass(frozen=True)
class Turn:
    """What a solver says at once, and what the environment answers.

    Attributes:
        steps: actions, which concatenate to the assistant's message.
        observation: the user's message that follows, "" for none.
        reward: after the last step.
        mistaken: no policy is to imitate it.
    """

    steps: tuple[str, ...]
    observation: str = ""
    reward: float = 0.0
    mistaken: bool = False


@dataclass(frozen=True)
class Solution:
    """What a solver did in one task, turn by turn, and what else is known of it."""

    turns: tuple[Turn, ...]
    info: Mapping[str, Scalar]
    truncated: bool = False


@dataclass(frozen=True)
class Demonstration:
    """A worked solution of one task.

    Attributes:
        task_id: the task.
        index: of the task.
        messages: the whole conversation.
        steps: texts of the actions. Those of one assistant's message concatenate to it; every step of it
            but the last keeps its trailing delimiter.
        spans: (message index, start, end) of each step in ``messages``, characters, end exclusive.
        rewards: one a step.
        mistaken: for each step, whether it is wrong on purpose, so that no policy is to imitate it.
        truncated: a limit ended it, and not an answer.
        info: JSON scalars only: ``source``, ``seed``, ``split``, ``success``, ``answer``, and what the
            environment adds.
    """

    task_id: str
    index: int
    messages: tuple[Message, ...]
    steps: tuple[str, ...]
    spans: tuple[tuple[int, int, int], ...]
    rewards: tuple[float, ...]
    mistaken: tuple[bool, ...]
    truncated: bool
    info: dict[str, Scalar]


@dataclass(frozen=True)
class EnvState:
    """An episode at one moment, as ``clone_state`` returns it for ``restore_state``. Opaque."""

    opening: Opening
    index: int
    messages: tuple[Message, ...]
    num_steps: int
    num_chars: int
    over: bool
    inner: Any


def demonstration(opening: Opening, index: int, solution: Solution, info: Mapping[str, Scalar]) -> Demonstration:
    """Return the demonstration that a solution of a task is."""
    messages = list(opening.messages)
    spans: list[tuple[int, int, int]] = []
    rewards: list[float] = []
    for turn in solution.turns:
        ends = itertools.accumulate(map(len, turn.steps), initial=0)
        spans += [(len(messages), start, end) for start, end in itertools.pairwise(ends)]
        rewards += [*[0.0] * (len(turn.steps) - 1), turn.reward]
        messages.append({"role": "assistant", "content": "".join(turn.steps)})
        if turn.observation:
            messages.append({"role": "user", "content": turn.observation})
    return Demonstration(
        task_id=opening.task_id,
        index=index,
        messages=tuple(messages),
        steps=tuple(step for turn in solution.turns for step in turn.steps),
        spans=tuple(spans),
        rewards=tuple(rewards),
        mistaken=tuple(turn.mistaken for turn in solution.turns for _ in turn.steps),
        truncated=solution.truncated,
        info={**info, **solution.info},
    )
