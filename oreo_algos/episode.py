"""One recorded episode: the type that flows from environments to losses.

Knows: tokens, which action each token belongs to, rewards, and the same conversation as text.
Does not know: tokenizers, models, environments, padding, files.
"""

# T tokens, K actions (steps).

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

JSONScalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    """A transcript exactly as the model saw it, unpadded, the same in memory and on disk.

    Array-likes are copied to read-only arrays of the stated types; what an integer or bool type
    cannot hold exactly is an error. Compare with `equals`. An episode that no tokenizer has encoded
    yet has empty `tokens` and `step_id`: its `messages` and `action_spans` say how to encode it.

    Attributes:
        tokens: token ids, int32 [T].
        step_id: k >= 0 for a token of action k, -1 for prompt, observation and template, int32 [T].
            Actions follow one another as 0..K-1 and each has a token; an observation may lie
            between two tokens of an action. The first token belongs to no action, for no state lies
            before it.
        rewards: reward after action k, reward units, float32 [K], K >= 1.
        loss_mask: False on action tokens that no imitation loss may learn from, bool [T]; None:
            learn from all. Such a token stays an action: it keeps its step, reward and value
            target.
        behavior_logprobs: log-probability at sampling, nats, float32 [T], 0 outside actions; None:
            unknown.
        action_spans: (message index, start, end) of action k in `messages`, characters, end
            exclusive, int32 [K, 3]; None: the text of the actions cannot be located.
        terminated: the task was answered, solved or failed (Gymnasium's meaning).
        truncated: a step, length or time limit ended the episode (Gymnasium's meaning).
        task_id: the question or game; groups episodes into pairs and samples of one task.
        env_id: the environment's registered id.
        messages: the conversation as `{"role": ..., "content": ...}`, independent of any tokenizer.
        info: JSON scalars by name: seed, policy, source, success, extracted answer.
        success: whether the task was solved; what every algorithm, metric and report means by it. None: what
            `info["success"]` says, and without it whether the return is 1, the reward of a solved task. Settled when
            the episode is made: a copy with other rewards keeps it, unless it is given anew.

    Raises:
        ValueError: a field has the wrong shape, type or values; the message names the field and the
            value.
    """

    tokens: NDArray[np.int32]
    step_id: NDArray[np.int32]
    rewards: NDArray[np.float32]
    loss_mask: NDArray[np.bool_] | None = None
    behavior_logprobs: NDArray[np.float32] | None = None
    action_spans: NDArray[np.int32] | None = None
    terminated: bool
    truncated: bool
    task_id: str
    env_id: str
    messages: list[dict[str, str]] = field(default_factory=list)
    info: dict[str, JSONScalar] = field(default_factory=dict)
    success: bool = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Convert the fields and check them against each other."""
        for name, dtype in _ARRAY_TYPES.items():
            value = getattr(self, name)
            if value is not None or name in ("tokens", "step_id", "rewards"):
                object.__setattr__(self, name, _to_array(name, value, dtype))
        for name in ("terminated", "truncated"):
            value = getattr(self, name)
            if not isinstance(value, bool | np.bool_):
                raise ValueError(f"{name}: expected a bool, got {value!r}")
            object.__setattr__(self, name, bool(value))
        for name in ("task_id", "env_id"):
            _check_text(name, getattr(self, name))
        object.__setattr__(self, "messages", _to_messages(self.messages))
        object.__setattr__(self, "info", _to_info(self.info))
        self._check_lengths()
        self._settle_success()
        if self.encoded:
            self._check_tokens()
        if self.action_spans is not None:
            _check_spans(self.action_spans, self.messages)

    def _settle_success(self) -> None:
        """Write down, once and for all, whether the task was solved."""
        said = {"success": self.success, 'info["success"]': self.info.get("success")}
        verdicts = {name: verdict for name, verdict in said.items() if verdict is not None}
        for name, verdict in verdicts.items():
            if not isinstance(verdict, bool | np.bool_):
                raise ValueError(f"{name}: expected true or false, whether the task was solved, got {verdict!r}")
        if len(set(verdicts.values())) > 1:
            raise ValueError(
                f'success is {self.success} and info["success"] is {self.info["success"]}; give both alike'
            )
        object.__setattr__(self, "success", bool(next(iter(verdicts.values()), self.pays_one)))

    def _check_lengths(self) -> None:
        if self.num_steps == 0:
            raise ValueError("rewards: an episode has at least one action, got an empty array")
        for name in ("step_id", "loss_mask", "behavior_logprobs"):
            value = getattr(self, name)
            if value is not None and len(value) != self.num_tokens:
                raise ValueError(f"{name}: expected {self.num_tokens} entries, one a token, got {len(value)}")
        if self.action_spans is not None and len(self.action_spans) != self.num_steps:
            raise ValueError(
                f"action_spans: expected {self.num_steps} rows, one a reward, got {len(self.action_spans)}"
            )

    def _check_tokens(self) -> None:
        if self.tokens.min() < 0:
            raise ValueError(f"tokens: a token id is >= 0, got {self.tokens.min()}")
        if self.step_id.min() < -1:
            raise ValueError(f"step_id: expected -1 or the number of an action, got {self.step_id.min()}")
        if self.step_id[0] != -1:
            raise ValueError(
                "step_id: the first token has no state before it and cannot be an action, got "
                f"{self.step_id[0]}; begin the transcript with a prompt or a start token"
            )
        action = self.step_id >= 0
        order = self.step_id[action]
        jumps = np.diff(order, prepend=np.int32(-1))
        if ((jumps < 0) | (jumps > 1)).any():
            raise ValueError(f"step_id: actions must follow one another as 0, 1, 2, ..., got {order}")
        found = int(order[-1]) + 1 if len(order) else 0
        if found != self.num_steps:
            raise ValueError(f"step_id: {self.num_steps} rewards need tokens of as many actions, got {found}")
        if self.behavior_logprobs is not None:
            stray = self.behavior_logprobs[~action & (self.behavior_logprobs != 0)]
            if len(stray):
                raise ValueError(f"behavior_logprobs: expected 0 outside actions, got {stray[0]}")

    @property
    def encoded(self) -> bool:
        """Whether a tokenizer has turned the conversation into tokens."""
        return len(self.tokens) > 0

    @property
    def num_tokens(self) -> int:
        """T, with prompt and observations."""
        return len(self.tokens)

    @property
    def num_steps(self) -> int:
        """K, the number of actions."""
        return len(self.rewards)

    @property
    def num_action_tokens(self) -> int:
        """Tokens that the policy generated."""
        return int(np.count_nonzero(self.step_id >= 0))

    @property
    def highest_token(self) -> int:
        """The highest token id, -1 where there is none."""
        return int(self.tokens.max()) if self.encoded else -1

    @property
    def total_reward(self) -> float:
        """Undiscounted return, reward units."""
        return float(self.rewards.sum(dtype=np.float64))

    @property
    def cut_off(self) -> bool:
        """Whether a limit ended it before the task was solved or lost."""
        return self.truncated and not self.terminated and not self.success

    @property
    def pays_one(self) -> bool:
        """Whether the return is 1, to the rounding of float32: what a solved task pays."""
        return abs(self.total_reward - 1) < 1e-5

    def __repr__(self) -> str:
        """One line: the task, its size, what became of it."""
        outcome = "solved" if self.success else "cut off" if self.truncated else "not solved"
        size = f"{self.num_steps} steps, {f'{self.num_tokens} tokens' if self.encoded else 'not encoded'}"
        return f"Episode({self.task_id!r}, {size}, return {self.total_reward:g}, {outcome})"

    def equals(self, other: "Episode") -> bool:
        """Whether every field is the same, arrays entry for entry."""
        return all(_same(getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)


_ARRAY_TYPES: dict[str, type[np.generic]] = {
    "tokens": np.int32,
    "step_id": np.int32,
    "rewards": np.float32,
    "loss_mask": np.bool_,
    "behavior_logprobs": np.float32,
    "action_spans": np.int32,
}


def _to_array(name: str, value: Any, dtype: type[np.generic]) -> NDArray[Any]:
    """Copy to a read-only array; floats are rounded, integers and bools must fit exactly."""
    try:
        source = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: expected a rectangular array, got {value!r}") from error
    if name == "action_spans":
        if source.ndim != 2 or source.shape[1] != 3:
            raise ValueError(f"{name}: expected shape [K, 3], got {list(source.shape)}")
    elif source.ndim != 1:
        raise ValueError(f"{name}: expected one dimension, got shape {list(source.shape)}")
    if source.dtype.kind not in "biuf":
        raise ValueError(f"{name}: expected numbers, got {source.dtype} {value!r}")
    with np.errstate(over="ignore", invalid="ignore"):
        array = source.astype(dtype)
    fits = np.isfinite(array) if array.dtype.kind == "f" else array == source
    if not fits.all():
        place, number = np.argwhere(~fits)[0].tolist(), source[~fits].flat[0]
        what = "finite number" if array.dtype.kind == "f" else f"{array.dtype.name} value"
        raise ValueError(f"{name}[{', '.join(map(str, place))}] is {number}, which is no {what}")
    array.setflags(write=False)
    return array


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected text, got {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: expected Unicode text without lone surrogates, got {value!r}") from error


def _to_messages(messages: Any) -> list[dict[str, str]]:
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise ValueError(f"messages: expected a list of messages, got {messages!r}")
    for message in messages:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise ValueError(f"messages: expected the keys 'role' and 'content' and no other, got {message!r}")
        _check_text("messages: role", message["role"])
        _check_text("messages: content", message["content"])
    return [dict(message) for message in messages]


def _to_info(info: Any) -> dict[str, JSONScalar]:
    if not isinstance(info, dict):
        raise ValueError(f"info: expected a dict, got {info!r}")
    scalars = {key: value.item() if isinstance(value, np.generic) else value for key, value in info.items()}
    for key, value in scalars.items():
        if not isinstance(key, str):
            raise ValueError(f"info: expected names as keys, got {key!r}")
        finite = not isinstance(value, float) or math.isfinite(value)
        if not isinstance(value, JSONScalar) or not finite:
            raise ValueError(f"info[{key!r}]: expected text, a finite number, a bool or None, got {value!r}")
    return scalars


def _check_spans(spans: NDArray[np.int32], messages: list[dict[str, str]]) -> None:
    """Check that the spans lie inside their messages, in order and apart."""
    previous = (0, 0)
    for index, start, end in spans.tolist():
        span = (index, start, end)
        if not 0 <= index < len(messages):
            raise ValueError(f"action_spans: {span} points outside the {len(messages)} messages")
        length = len(messages[index]["content"])
        if not 0 <= start <= end <= length:
            raise ValueError(f"action_spans: {span} lies outside a message of {length} characters")
        if (index, start) < previous:
            raise ValueError(f"action_spans: {span} begins before the action in front of it ends")
        previous = (index, end)


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return np.array_equal(left, right)
    return type(left) is type(right) and left == right
