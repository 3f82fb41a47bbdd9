"""What a row of any layout comes to, before it is known of which environment it is.

Knows: where actions lie in a conversation, how steps are cut and paid. Does not know: files, columns, tokens.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from oreo_agents.formats.chat import Message, require_answered
from oreo_algos import Episode
from oreo_algos.episode import JSONScalar
from oreo_envs.answers import split_steps

Cut = Literal["auto", "line", "turn", "response"]
"""Where steps end: as labels or an environment say; at each line; a turn is a step; the last turn alone is one."""

PAIR = "pair"
"""Name in ``info``: two episodes with the same pair belong together, and the one that succeeded is preferred."""


@dataclass(kw_only=True)
class Draft:
    """An episode to be.

    Attributes:
        messages: the whole conversation.
        turns: places of the messages that are learned from, in order; all are the assistant's.
        label: what says how good it is, see ``labels.judge_label``; None: nothing does.
        shown: it is there to be imitated, so that no label means success.
        pieces: texts of the steps of the last turn, which add up to it; None: nobody cut it.
        step_labels: one a piece.
        exact: rewards and action_spans as an episode has them, which outweigh all of that.
        pair: names the pair that it is one half of.
        task_id: named by the row; None: after the prompt.
        env_id: named by the row; None: the importer's.
        question: to be looked for among the tasks of an environment; None: the last thing said before the answer.
        truncated: a limit ended it.
        terminated: the task ended it; None: what ``truncated`` is not.
        info: what else is known.
    """

    messages: list[Message]
    turns: list[int]
    label: Any = None
    shown: bool = False
    pieces: Sequence[str] | None = None
    step_labels: Sequence[float] | None = None
    exact: tuple[Sequence[float], Sequence[Sequence[int]]] | None = None
    pair: str | None = None
    task_id: str | None = None
    env_id: str | None = None
    question: str | None = None
    truncated: bool = False
    terminated: bool | None = None
    info: dict[str, JSONScalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that there is something to learn from, and drop what follows it.

        Raises:
            ValueError: there is not, or what a row names has another type.
        """
        for name, kind in (("task_id", str | None), ("env_id", str | None), ("info", dict)):
            if not isinstance(value := getattr(self, name), kind):
                raise ValueError(f"{name}: expected {'an object' if kind is dict else 'a text'}, got {value!r:.80}")
        if self.exact is not None:
            return
        require_answered(self.messages)
        if not self.turns:
            raise ValueError("no message of the assistant is to be learned from (weight 0, or loss false, in all)")
        if silent := [place for place in self.turns if not self.messages[place]["content"].strip()]:
            raise ValueError(f"message {silent[0]}: the assistant says nothing, which is no action")
        self.messages = self.messages[: self.turns[-1] + 1]

    @property
    def asked(self) -> str:
        """The question."""
        return self.messages[self.turns[0] - 1]["content"] if self.question is None else self.question

    @property
    def response(self) -> str:
        """The last turn."""
        return self.messages[self.turns[-1]]["content"]

    @property
    def single(self) -> bool:
        """Whether it is one answer to one question, perhaps after a word of the system."""
        return [message["role"] for message in self.messages if message["role"] != "system"] == ["user", "assistant"]

    def prompt_digest(self) -> str:
        """Twelve digits that tell its prompt from others."""
        return digest(json.dumps([[m["role"], m["content"]] for m in self.messages[: self.turns[0]]]))

    def episode(
        self, env_id: str, *, delimiters: tuple[str, ...], cut: Cut, reward: float, success: bool, pay_steps: bool
    ) -> Episode:
        """Make the episode, without tokens.

        Args:
            env_id: of the environment, where the row names none.
            delimiters: what ends a step where nothing else says so; none: a turn is a step.
            cut: see ``Cut``.
            reward: of the whole, after its last step.
            success: whether it solved the task.
            pay_steps: labels of steps are their rewards, in place of ``reward``.
        """
        info = dict(self.info)
        if self.exact is not None:
            rewards, spans = self.exact
        else:
            spans, rewards = self._cut(delimiters, cut, reward, pay_steps)
            info["success"] = success
        if self.step_labels is not None and not pay_steps:
            info["step_rightness"] = json.dumps([round(float(label), 6) for label in self.step_labels])
        if self.pair is not None:
            info[PAIR] = self.pair
        with np.errstate(over="ignore"):  # the episode refuses what is no float32
            paid = _array("rewards", rewards, np.float32)
        return Episode(
            tokens=np.zeros(0, np.int32),
            step_id=np.zeros(0, np.int32),
            rewards=paid,
            action_spans=_array("action_spans", spans, np.int32).reshape(-1, 3),
            messages=self.messages,
            terminated=not self.truncated if self.terminated is None else self.terminated,
            truncated=self.truncated,
            task_id=self.task_id or f"{_short(env_id)}/imported/{self.prompt_digest()}",
            env_id=self.env_id or env_id,
            info=info,
            success=success,
        )

    def _cut(
        self, delimiters: tuple[str, ...], cut: Cut, reward: float, pay_steps: bool
    ) -> tuple[list[tuple[int, int, int]], list[float]]:
        turns = self.turns[-1:] if cut == "response" else self.turns
        spans: list[tuple[int, int, int]] = []
        for place in turns:
            text = self.messages[place]["content"]
            match cut:
                case "turn" | "response":
                    pieces: Sequence[str] = (text,)
                case "line":
                    pieces = split_steps(text, ("\n",))
                case "auto":
                    labelled = self.pieces is not None and place == self.turns[-1]
                    pieces = (self.pieces or ()) if labelled else split_steps(text, delimiters)
            ends = [0, *itertools.accumulate(map(len, pieces))]
            spans += [(place, start, end) for start, end in itertools.pairwise(ends)]
        rewards = [0.0] * (len(spans) - 1) + [reward]
        if pay_steps and self.step_labels is not None:
            rewards = self._paid(spans)
        return spans, rewards

    def _paid(self, spans: Sequence[tuple[int, int, int]]) -> list[float]:
        """Labels of pieces as rewards of spans: a label falls on the span that its piece ends in."""
        rewards = [0.0] * len(spans)
        ends = itertools.accumulate(map(len, self.pieces or ()))
        own = [number for number, span in enumerate(spans) if span[0] == self.turns[-1]]
        for end, label in zip(ends, self.step_labels or (), strict=True):
            rewards[next(number for number in own if spans[number][2] >= end)] += float(label)
        return rewards


def _array(name: str, values: Any, kind: type[np.generic]) -> np.ndarray[Any, Any]:
    """Return numbers that a row holds.

    Raises:
        ValueError: they are none, or do not fit.
    """
    try:
        return np.asarray(values, kind)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name}: expected lists of numbers, got {values!r:.80}") from None


def digest(text: str) -> str:
    """Twelve digits that tell a text from others."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def answered(prompt: Sequence[Message], completion: str, **fields: Any) -> Draft:
    """Return the draft of one answer to a prompt."""
    if not completion.strip():
        raise ValueError("the answer is empty")
    messages = [*prompt, {"role": "assistant", "content": completion}]
    return Draft(messages=messages, turns=[len(messages) - 1], **fields)


def scalars(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, JSONScalar]:
    """Return the columns among ``names`` that are single values."""
    return {name: row[name] for name in names if isinstance(row.get(name), str | int | float | bool)}


def _short(env_id: str) -> str:
    return env_id.removeprefix("oreo/").rpartition("-v")[0].lower() or env_id
