"""The base class of all text environments: task choice, messages, limits, `info`.

Knows: Gymnasium's contract, chat messages, when an episode may go on.
Does not know: what a task is about, how an answer is judged (subclasses say so), tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded

from oreo_envs.arguments import check_arguments
from oreo_envs.checks import choose, closest, positive, whole
from oreo_envs.foreign import require_reward
from oreo_envs.grading.thoughts import Thoughts
from oreo_envs.messages import Lent, Message, frozen, message
from oreo_envs.orders import LAST_INDEX, Order, Seat, lists_tasks, look_around, own_options
from oreo_envs.records import Demonstration, EnvState, Opening, Outcome, Scalar, Solution, Turn, demonstration
from oreo_envs.spaces import FreeText
from oreo_envs.spec import LimitedSpec
from oreo_envs.visible import visible

__all__ = ["Demonstration", "EnvState", "Message", "Opening", "Outcome", "Scalar", "Solution", "TextEnv", "Turn"]

_NO_LIMIT = Outcome()


class TextEnv(gymnasium.Env[str, str], ABC):
    r"""One task in text. Subclasses say what the task is; this class keeps the books.

    Action: a chunk of text, any ``str``: a reasoning step, several steps, or a command.
    Observation: the *new* text from the environment, "" when the chunk was only appended.
    Start: ``reset(seed=...)`` draws a task; ``options={"index": i}`` or ``{"task_id": ...}`` names
        one, a list of either, or of such options, one for each environment of a vector. What is drawn
        follows ``order``, see ``__init__``.
    Reward: 1.0 at the end when the task is solved, else 0.0.
    Episode end: terminated when the task was answered, solved or failed; truncated after
        ``max_steps`` actions or when actions and observations together exceed ``max_chars``
        characters; a subclass may judge what these ended. Gymnasium's ``max_episode_steps`` is a
        wrapper's, of which an environment knows nothing: what it ends is not judged.
    Info: ``messages`` (the whole state as OpenAI chat messages: read-only ones, in a list that is the caller's),
        ``task_id``, ``index``, ``split``, ``step`` (actions so far), ``success``, ``answer`` (None
        before the end), and what subclasses add.
    Source and version: see the subclass; the registered id carries the version.

    A subclass implements ``num_tasks``, ``_open``, ``_index_of`` and ``_respond``, and for
    demonstrations ``_demonstrate``; one with state beyond its messages also ``_begin``, ``_get_inner``
    and ``_set_inner``; one that can judge single actions ``step_rightness``, one whose equal answers may
    be written differently ``canonical``. It reads answers with
    ``thoughts.answer``: what stands before the end of a thought is none.
    """

    _spec: EnvSpec | None = None
    metadata: dict[str, Any] = {"render_modes": ["ansi", "human"], "render_fps": 4}  # noqa: RUF012 (gymnasium's)
    splits: ClassVar[tuple[str, ...]] = ()
    held_out_splits: ClassVar[tuple[str, ...]] = ("test",)
    """Splits whose solutions must never reach a buffer."""
    step_delimiters: ClassVar[tuple[str, ...]] = ()
    """Texts that end a reasoning step; empty where an action is a turn."""
    split_names: ClassVar[Mapping[str, str]] = {}
    """What others call some of the splits, to suggest ours."""
    option_splits: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Arguments that do something on some splits only: on which."""

    def __new__(cls, *_: Any, **arguments: Any) -> Self:
        """Check the names of the arguments, see ``arguments.check_arguments``."""
        check_arguments(cls, arguments)
        return super().__new__(cls)

    def __init__(
        self,
        *,
        split: str,
        max_steps: int | None,
        max_chars: int,
        thoughts: Any = None,
        order: str = "random",
        place: tuple[int, int] | Seat | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Check the arguments that all environments share.

        Args:
            split: one of ``splits``.
            max_steps: actions before truncation; None: no limit. Gymnasium's ``max_episode_steps`` can only shorten
                an episode further, and ``spec.max_episode_steps`` is the shorter of both.
            max_chars: characters of text before truncation.
            thoughts: how thoughts are told from answers, see ``grading.Thoughts.of``; whoever plays may set the
                attribute of this name, since the prompt of a model may begin a thought.
            order: which task a ``reset`` without options starts. "random" draws each anew, so that as many resets as
                there are tasks reach about 63% of them; "shuffled" plays every task once in an order drawn by
                ``reset(seed=...)`` (without any: 0), then again in another; "sequential" by index. A vector shares
                one order, so that no two of its environments play the same task of a round.
            place: (i, n), environment i of the n of a vector, where it cannot be told, see ``orders``.
            render_mode: None; "ansi": ``render()`` returns the conversation as one text; "human": what is new is
                printed at each reset and step.

        Raises:
            ValueError: an unknown value, a limit below 1, ``thoughts`` that are no marks, or an order that tasks
                without end cannot have.
        """
        self.thoughts = Thoughts.of(thoughts)
        self.observation_space = FreeText()
        self.action_space = FreeText()
        if isinstance(split, str) and split in self.split_names:
            raise ValueError(f"unknown split {split!r}; did you mean {self.split_names[split]!r}?")
        self.split = choose("split", split, self.splits)
        self.max_steps = None if max_steps is None else positive("max_steps", max_steps)
        self.max_chars = positive("max_chars", max_chars)
        if render_mode is not None:
            choose("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self.order, self.place = Order(order), Seat.of(place)
        self._opening: Opening | None = None
        self._index = -1
        self._messages: list[Message] = []
        self._lent = Lent()
        self._num_steps = self._num_chars = 0
        self._over = False

    def refuse_idle(self, **options: Any) -> None:
        """Check that no argument is given that does nothing on this split, see ``option_splits``.

        Raises:
            ValueError: one is.
        """
        for name, value in options.items():
            asked = len(value) > 0 if hasattr(value, "__len__") else bool(value)
            if asked and self.split not in self.option_splits[name]:
                where = ", ".join(self.option_splits[name])
                raise ValueError(f"{name}={value!r} does nothing on split {self.split!r}, only on: {where}")

    # What a subclass says.

    @property
    @abstractmethod
    def num_tasks(self) -> int | None:
        """Number of tasks in the split, None when they are generated without end."""

    @abstractmethod
    def _open(self, index: int) -> Opening:
        """Say how task ``index``, which is in range, starts; leaves the running episode alone."""

    def _begin(self, index: int) -> Opening:
        """Start task ``index`` as the running episode; for those with state beyond the messages."""
        return self._open(index)

    @abstractmethod
    def _index_of(self, task_id: str) -> int | None:
        """Index of the task called so, None if there is none in this split."""

    @abstractmethod
    def _respond(self, action: str) -> Outcome:
        """Judge ``action``, which is already part of ``_messages``."""

    def _task_ids(self) -> Iterable[str]:
        """Task ids to suggest for a misspelt one."""
        return ()

    def _overflow(self) -> Outcome:
        """Judge a text over the limit: not at all, since it may be anything, and any size."""
        return Outcome()

    def _cut_off(self, limit: Literal["steps", "text"]) -> Outcome:
        """Judge what was done when a limit ends the episode: its reward, and info to add."""
        return Outcome()

    def _demonstrate(self, index: int, seed: int) -> Solution:
        """Solve task ``index``; leaves the running episode alone."""
        raise NotImplementedError(f"{type(self).__name__} has no demonstrations")

    def _get_inner(self) -> Any:
        """State beyond the messages, cheap to copy and never changed in place."""
        return None

    def _set_inner(self, inner: Any) -> None:
        """Invert ``_get_inner``."""

    # What everybody gets.

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start the task that ``options`` names by "index" or "task_id", else draw one.

        Raises:
            ValueError: unknown option, both options at once, index out of range, unknown task id, a list that is
                not for this vector. Named tasks leave the order where it is.
        """
        super().reset(seed=seed)
        if self.place is None and (self.order.name != "random" or lists_tasks(options)):
            look_around()
        if seed is not None:
            self.order.begin(seed, self.place or Seat())
        index = self._choose_task(own_options(options, self.place))
        opening = self._begin(index)  # where it fails the episode before goes on
        self._index, self._opening = index, opening
        self._messages, self._lent = frozen(opening.messages), Lent()
        self._num_steps = self._num_chars = 0
        self._over = False
        if self.render_mode == "human":
            print(visible(f"[{opening.task_id}]\n{opening.observation}"))
        return opening.observation, self._info({})

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Add ``action`` to the assistant's text and let the environment answer.

        Raises:
            TypeError: the action is not a ``str``.
            gymnasium.error.ResetNeeded: no episode is running.
        """
        self._say(action)
        outcome = self._respond(action) if self._num_chars <= self.max_chars else self._overflow()
        if outcome.observation:
            self._append("user", outcome.observation)
        too_long = self._num_chars > self.max_chars
        too_many = self.max_steps is not None and self._num_steps >= self.max_steps
        limited = not outcome.terminated and (too_long or too_many)
        truncated = limited or (outcome.truncated and not outcome.terminated)
        end = self._cut_off("text" if too_long else "steps") if limited and not outcome.truncated else _NO_LIMIT
        self._over = outcome.terminated or truncated
        info = self._info({**end.info, **outcome.info})
        if self.render_mode == "human":
            print(visible(f"> {action}" + f"\n{outcome.observation}" * bool(outcome.observation)))
        reward = require_reward(type(self).__name__, "_respond", action, outcome.reward + end.reward)
        return outcome.observation, reward, outcome.terminated, truncated, info

    def cut_off(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """As ``step``, for an action that a limit of whoever acts cut in its middle: not judged, the end, truncated."""
        self._say(action)
        self._over = True
        return "", 0.0, False, True, self._info({})

    def _say(self, action: str) -> None:
        if self._opening is None:
            raise ResetNeeded("call reset() before step(): no task has been started")
        if self._over:
            raise ResetNeeded(f"the episode of {self._opening.task_id} is over; call reset() to start another")
        if not isinstance(action, str):
            raise TypeError(f"an action is a str, got {type(action).__name__}: {action!r:.80}")
        self._append("assistant", action)
        self._num_steps += 1

    def render(self) -> str | None:
        """Return the conversation so far as one text with ``render_mode="ansi"``, else None."""
        if self.render_mode != "ansi":
            return None
        if self._opening is None:
            raise ResetNeeded("call reset() before render(): no task has been started")
        return "\n".join(f"[{message['role']}]\n{message['content']}" for message in self._messages)

    @property
    def spec(self) -> EnvSpec | None:
        """What ``gym.make`` made it from, with the limit that holds as ``max_episode_steps``."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        """Keep a spec."""
        self._spec = None if spec is None else LimitedSpec.of(spec, self.max_steps)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a copy, whose messages can be changed."""
        self.__dict__.update(state)
        self._messages, self._lent = frozen(self._messages), Lent()

    def clone_state(self) -> EnvState:
        """Return the episode's state, for ``restore_state``.

        The random generator is not part of it: it chooses tasks, and takes no part in an episode.

        Raises:
            gymnasium.error.ResetNeeded: no task has been started.
        """
        if self._opening is None:
            raise ResetNeeded("call reset() before clone_state(): no task has been started")
        return EnvState(
            opening=self._opening,
            index=self._index,
            messages=tuple(self._messages),
            num_steps=self._num_steps,
            num_chars=self._num_chars,
            over=self._over,
            inner=self._get_inner(),
        )

    def restore_state(self, state: EnvState) -> None:
        """Go back to a state that ``clone_state`` returned, here or in an equal environment."""
        self._opening, self._index = state.opening, state.index
        self._messages, self._lent = frozen(state.messages), Lent()
        self._num_steps, self._num_chars = state.num_steps, state.num_chars
        self._over = state.over
        self._set_inner(state.inner)

    def demonstration(self, index: int, *, seed: int = 0) -> Demonstration:
        """Return a worked solution of task ``index``; leaves the running episode alone.

        Args:
            index: the task, as in ``reset(options={"index": index})``.
            seed: draws the solver's choices, where there are any.

        Raises:
            ValueError: index out of range, or a split whose solutions must not reach a buffer.
        """
        if self.split in self.held_out_splits:
            raise ValueError(
                f"split {self.split!r} is held out: its solutions must not reach a buffer; use split={self.splits[0]!r}"
            )
        index = self._check_index(index)
        solution = self._demonstrate(index, seed)
        return demonstration(self._open(index), index, solution, {"split": self.split, "seed": seed})

    def has_task(self, task_id: str) -> bool:
        """Whether a task of this split is called so."""
        return self._index_of(task_id) is not None

    def canonical(self, answer: str) -> str:
        """Return what is equal for equal answers, to count votes by: here the text but for blanks and capitals."""
        return " ".join(answer.split()).casefold()

    def step_rightness(self, task_id: str, steps: Sequence[str]) -> list[bool] | None:
        """Say of each action of an episode whether it is right, given those before it; leaves the running one alone.

        Args:
            task_id: the task, of this split.
            steps: texts of all its actions.

        Returns:
            One bool an action; None where nobody can tell.

        Raises:
            ValueError: unknown task id.
        """
        return None

    def _append(self, role: str, text: str) -> None:
        """Grow ``role``'s last message, or add one; a message is replaced, never changed."""
        self._num_chars += len(text)
        if self._messages and self._messages[-1]["role"] == role:
            text = self._messages.pop()["content"] + text
        self._messages.append(message(role, text))

    def _info(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        assert self._opening is not None
        return {
            "messages": self._lent.of(self._messages),
            "task_id": self._opening.task_id,
            "index": self._index,
            "split": self.split,
            "step": self._num_steps,
            "success": False,
            "answer": None,
            **extra,
        }

    def _choose_task(self, options: Mapping[str, Any]) -> int:
        if "index" in options:
            return self._check_index(options["index"])
        if "task_id" in options:
            return self._find_task(options["task_id"])
        num_tasks = self.num_tasks
        if num_tasks is None and self.order.name == "shuffled":
            raise ValueError(
                "order='shuffled' needs an end, and tasks are made without end here: 'random' draws them, 'sequential' "
                "counts up"
            )
        return self.order.next(num_tasks, self.place or Seat(), self.np_random)

    def _find_task(self, task_id: Any) -> int:
        index = self._index_of(task_id) if isinstance(task_id, str) else None
        if index is None:
            raise ValueError(
                f"unknown task_id {task_id!r} in split {self.split!r}{closest(str(task_id), self._task_ids())}"
            )
        return index

    def _check_index(self, index: Any) -> int:
        number, limit = whole("a task index", index), self.num_tasks
        if not 0 <= number < (LAST_INDEX if limit is None else limit):
            upper = "10**18" if limit is None else limit
            raise ValueError(
                f"task index {number} is out of range: split {self.split!r} takes indices >= 0 and < {upper}"
            )
        return number
