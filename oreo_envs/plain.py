"""A plain ``gymnasium.Env`` whose actions and observations are text, played as a ``TextEnv``.

Knows: what such an environment lacks, and how it is filled: messages, names of tasks, splits, success, the copy of a
state. Does not know: what the environment is about. ``make`` is ``gymnasium.make`` for environments of either kind.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator

from oreo_envs.answers import index_after, split_steps
from oreo_envs.base import TextEnv
from oreo_envs.foreign import chat, foreign, require_reward, require_str, require_text, warn_outside
from oreo_envs.grading import AnswerEnd, end_of_answer, extract_answer
from oreo_envs.grading.thoughts import NO_THOUGHTS
from oreo_envs.messages import frozen
from oreo_envs.records import Opening, Outcome, Solution, Turn
from oreo_envs.splits import SPLITS, split_of

_TASK_STREAM = 0x0E0_7
_MAX_DRAWS = 200

# What of an environment's info is kept here, and not taken over.
_BOOKS = {"messages", "task_id", "index", "split", "step"}


def make(env_id: str, *, split: str | None = None, **keywords: Any) -> gymnasium.Env[str, str]:
    """Make an environment that plays as a ``TextEnv``, whatever it is.

    Args:
        env_id: registered, ``module:id``, or what an installed package offers by an entry point ``oreo.envs``.
        split: of the tasks; None: the environment's own default.
        keywords: of the environment, and of ``PlainEnv`` where it is a plain one.

    Raises:
        TypeError: an unknown argument.
        ValueError: actions or observations are no text; the message says which, and what to do.
    """
    env_id = _registered(env_id)
    spec = gymnasium.spec(env_id)
    chosen: dict[str, Any] = {} if split is None else {"split": split}
    if is_text_env_class(creator := creator_of(spec)):
        return gymnasium.make(env_id, disable_env_checker=True, **chosen, **keywords)
    taken = inspect.signature(creator).parameters
    any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
    ours = {name: keywords.pop(name) for name in PlainEnv.own_options() & {*keywords} - {*taken}}
    if "split" in taken or (any_name and not inspect.isclass(creator)):
        keywords |= chosen
    env = gymnasium.make(env_id, disable_env_checker=True, **keywords)
    if plays_as_text_env(env):
        return env
    return PlainEnv(env, **chosen, **ours)


def _registered(env_id: str) -> str:
    """Import what registers an id, if nothing did yet; return the id without its module."""
    module, _, name = env_id.rpartition(":")
    if module:
        importlib.import_module(module)
    elif name not in gymnasium.registry:
        for entry in entry_points(group="oreo.envs", name=name):
            found = entry.load()
            if name not in gymnasium.registry and callable(found):
                gymnasium.register(name, entry_point=found)
    return name


def creator_of(spec: EnvSpec) -> Any:
    """Return the class, or the function, that makes the environments of a spec."""
    return load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point


def is_text_env_class(creator: Any) -> bool:
    """Whether what makes an environment is a ``TextEnv``, or a class with its whole protocol."""
    if not inspect.isclass(creator):
        return False
    return issubclass(creator, TextEnv) or all(hasattr(creator, name) for name in _PROTOCOL)


def plays_as_text_env(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether an environment keeps the books that a ``TextEnv`` keeps."""
    return all(hasattr(env.unwrapped, name) for name in _PROTOCOL)


_PROTOCOL = ("num_tasks", "step_delimiters", "clone_state", "restore_state", "cut_off")


class PlainEnv(TextEnv):
    r"""A plain text environment with what it lacks filled in.

    Action: as the environment's; where it has ``step_delimiters`` (such as ``("\n",)``) an action is a part of an
        answer, which it is handed as a whole, once it states its final answer (``#### x``, ``\boxed{x}``) or an empty
        action ends it.
    Observation: as the environment's.
    Start: task i of a split is ``reset(seed=s)`` with a seed s drawn from split and i; with ``options={"index": i}``
        where the environment says ``num_tasks``.
    Reward: as the environment's.
    Episode end: as the environment's, and the limits of every ``TextEnv``.
    Info: what the environment says; ``messages`` (its opening's if it says some, else the observation as the user's),
        ``task_id`` (its own if it says one at reset), ``index, split, step``; ``success``: its own, else whether the
        rewards add up to the ``reward_threshold`` of its registration, without one to 1; ``answer``: its own; else, of
        an answer, the one that is marked, or the last line.
    Source and version: the environment's.

    Splits: ``splits`` of the environment where it has them and takes ``split``; else "train", "dev" and "test", of
    which the last is held out. Where answers are asked for, the opening text of a task decides its split, so that none
    is in two; games, whose openings may be alike, have different seeds in each split.

    What is read of the environment where it is there: ``splits``, ``held_out_splits``, ``num_tasks``,
    ``step_delimiters``, ``canonical(answer)``, ``demonstrate()`` (the actions that solve the running task: texts, or
    one), ``vocabulary()``, ``action_text(command)``, and any other attribute that is asked for.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        *,
        split: str = "train",
        system_prompt: str | None = None,
        max_steps: int | None = 64,
        max_chars: int = 32_768,
        thoughts: Any = None,
        order: str = "random",
        place: Any = None,
        render_mode: str | None = None,
    ) -> None:
        """Wrap an environment, in whatever wrappers it comes.

        Args:
            env: made; one whose ``reset(seed=...)`` decides everything.
            split: one of its splits.
            system_prompt: the text of a system message before the opening; None: none.
            max_steps: actions before truncation; None: no limit.
            max_chars: characters of text before truncation.
            thoughts, order, place, render_mode: see ``TextEnv``.

        Raises:
            ValueError: actions or observations are no text, or two resets with one seed begin differently.
        """
        self.inner = env
        own: Any = env.unwrapped
        self.name = "environment" if env.spec is None else env.spec.id
        for what in ("action", "observation"):
            require_text(self.name, what, getattr(env, f"{what}_space", None))
        given = tuple(getattr(own, "splits", ()) or ())
        self.splits = given or SPLITS  # type: ignore[misc]
        held_out = getattr(own, "held_out_splits", None)
        self.held_out_splits = tuple(  # type: ignore[misc]
            (name for name in self.splits if name.startswith(("test", "val"))) if held_out is None else held_out
        )
        self.step_delimiters = tuple(getattr(own, "step_delimiters", ()))  # type: ignore[misc]
        super().__init__(
            split=split,
            max_steps=max_steps,
            max_chars=max_chars,
            thoughts=thoughts,
            order=order,
            place=place,
            render_mode=render_mode,
        )
        self.system_prompt = system_prompt
        self._split_by_text = bool(self.step_delimiters) and not given and self.num_tasks is None
        self._seeds: dict[int, int] = {}
        self._at: tuple[int, tuple[str, ...]] | None = None  # task and actions that ``inner`` has been given
        self._given: tuple[str, ...] = ()
        self._return = 0.0
        self._answer_end = AnswerEnd()
        self._said: dict[str, Any] = {}
        self.spec = env.spec
        self._require_reproducible()

    @classmethod
    def own_options(cls) -> set[str]:
        """Return the arguments that are of this class, and of no environment."""
        return set(inspect.signature(cls).parameters) - {"env", "split"}

    def __getattr__(self, name: str) -> Any:
        """Return what else the environment has."""
        if name.startswith("_") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner.unwrapped, name)

    @property
    def num_tasks(self) -> int | None:
        """What the environment says; None: every seed is a task."""
        count = getattr(self.inner.unwrapped, "num_tasks", None)
        return None if count is None else int(count)

    def canonical(self, answer: str) -> str:
        """Return the environment's own form of an answer, else the plain one."""
        own = getattr(self.inner.unwrapped, "canonical", None)
        return super().canonical(answer) if own is None else str(own(answer))

    def step_rightness(self, task_id: str, steps: Sequence[str]) -> list[bool] | None:
        """Say what the environment says of single actions, if anything."""
        own = getattr(self.inner.unwrapped, "step_rightness", None)
        return None if own is None else own(task_id, steps)

    def close(self) -> None:
        """Close the environment."""
        self.inner.close()

    def _open(self, index: int) -> Opening:
        observation, info = self._reset_inner(index)
        return self._opening_of(index, observation, info)

    def _begin(self, index: int) -> Opening:
        observation, info = self._reset_inner(index)
        opening = self._opening_of(index, observation, info)
        self._said = {name: value for name, value in info.items() if name not in {*_BOOKS, "success", "answer"}}
        self._given, self._return = (), 0.0
        return opening

    def _opening_of(self, index: int, observation: str, info: Mapping[str, Any]) -> Opening:
        task_id = info.get("task_id")
        messages = chat(self.name, info["messages"]) if info.get("messages") else []
        if not messages:
            messages = [{"role": "user", "content": observation}]
        if self.system_prompt is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.system_prompt}, *messages]
        named = f"{self._prefix}/{index}" if task_id is None else str(task_id)
        return Opening(named, observation, tuple(frozen(messages)))

    @property
    def _prefix(self) -> str:
        return f"{self.name.rpartition('-v')[0].lower() or self.name}/{self.split}"

    def _index_of(self, task_id: str) -> int | None:
        index = index_after(self._prefix, task_id)
        return None if index is not None and self.num_tasks is not None and index >= self.num_tasks else index

    def _task_ids(self) -> tuple[str, ...]:
        return (f"{self._prefix}/0",)

    def _respond(self, action: str) -> Outcome:
        if not self.step_delimiters:
            return self._act(action, {})
        text = self._messages[-1]["content"]
        end = self._answer_end.of(text, self.thoughts)
        if action and end is None:
            return Outcome()
        response = self.thoughts.answer(text[:end]) or ""
        outcome = self._act(response, {"answer": _answer_of(response)})
        if not (outcome.terminated or outcome.truncated):
            raise ValueError(
                f"{self.name}: an environment with step_delimiters is handed a whole answer and ends the episode, and "
                "this one goes on; leave out step_delimiters, so that an action is a turn"
            )
        return outcome

    def _cut_off(self, limit: Literal["steps", "text"]) -> Outcome:
        """Hand over an answer that takes too many steps; one that is too long is not judged."""
        if limit == "text" or not self.step_delimiters:
            return Outcome()
        response = self.thoughts.answer(self._messages[-1]["content"]) or ""
        return self._act(response, {"answer": _answer_of(response)})

    def _act(self, action: str, found: dict[str, Any]) -> Outcome:
        self._catch_up()
        if not self.inner.action_space.contains(action):
            warn_outside(self.name, action, self.inner.action_space)
        with foreign(self.name, f"step({action!r:.60})"):
            observation, reward, terminated, truncated, info = self.inner.step(action)
        self._given = (*self._given, action)
        self._at = (self._index, self._given)
        require_str(self.name, "step", observation)
        reward = require_reward(self.name, "step", action, reward)
        self._return += reward
        said = {name: value for name, value in info.items() if name not in _BOOKS}
        said["success"] = bool(said.get("success", terminated and self._solved(self._return)))
        return Outcome(observation, reward, bool(terminated), {**found, **said}, bool(truncated))

    def _catch_up(self) -> None:
        """Bring the environment to where this episode is: it may have been elsewhere for a copy of it."""
        if self._at == (self._index, self._given):
            return
        self._reset_inner(self._index)
        for action in self._given:
            self.inner.step(action)

    def _reset_inner(self, index: int) -> tuple[str, dict[str, Any]]:
        self._at = None
        if self.num_tasks is not None:
            with foreign(self.name, f"reset(seed={index}, options={{'index': {index}}})"):
                found = self.inner.reset(seed=index, options={"index": index})
        elif not self._split_by_text or index in self._seeds:
            found = self._reset_to(self._seeds.get(index, self._seed(index, 0)))
        else:
            found = self._drawn(index)
        require_str(self.name, "reset", found[0])
        self._at = (index, ())
        return found

    def _reset_to(self, seed: int) -> tuple[str, dict[str, Any]]:
        with foreign(self.name, f"reset(seed={seed})"):
            return self.inner.reset(seed=seed)

    def _drawn(self, index: int) -> tuple[str, dict[str, Any]]:
        """Draw seeds until the opening belongs to the split."""
        for draw in range(_MAX_DRAWS):
            seed = self._seed(index, draw)
            observation, info = self._reset_to(seed)
            require_str(self.name, "reset", observation)
            if split_of(observation) == self.split:
                self._seeds[index] = seed
                return observation, info
        raise ValueError(
            f"{self.name}: of {_MAX_DRAWS} seeds none begins a task of split {self.split!r}: it has too few different "
            "questions to be split by their text; give the environment an argument `split` and an attribute `splits`"
        )

    def _seed(self, index: int, draw: int) -> int:
        entropy = [_TASK_STREAM, self.splits.index(self.split), index, draw]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)

    def _require_reproducible(self) -> None:
        first, second = (self._reset_inner(0)[0] for _ in range(2))
        if first != second:
            raise ValueError(
                f"{self.name}: reset(seed=...) with one seed began with {first!r:.60} and then with {second!r:.60}: a "
                "task could not be played again; call super().reset(seed=seed) and draw from self.np_random alone"
            )

    @property
    def clonable(self) -> bool:
        """Whether ``restore_state`` goes back: a game's environment has heard what was said, and cannot unhear it."""
        return bool(self.step_delimiters)

    def _get_inner(self) -> Any:
        return self._given, self._return

    def _set_inner(self, inner: Any) -> None:
        self._given, self._return = inner

    def _demonstrate(self, index: int, seed: int) -> Solution:
        own: Any = self.inner.unwrapped
        if not hasattr(own, "demonstrate"):
            raise NotImplementedError(
                f"{self.name} has no demonstrations: it has no method demonstrate(), which returns the actions that "
                "solve the task that was just reset"
            )
        self._reset_inner(index)
        with foreign(self.name, "demonstrate()"):
            shown = own.demonstrate()
        actions: Sequence[str] = (shown,) if isinstance(shown, str) else tuple(shown)
        if self.step_delimiters:
            text = "".join(actions)
            actions = (text[: end_of_answer(text, NO_THOUGHTS)],)
        self._at = None
        turns: list[Turn] = []
        total, over, truncated = 0.0, False, False
        info: dict[str, Any] = {}
        for action in actions:
            with foreign(self.name, f"step({action!r:.60})"):
                observation, reward, over, truncated, info = self.inner.step(action)
            reward = require_reward(self.name, "step", action, reward)
            total += reward
            steps = split_steps(action, self.step_delimiters)
            turns.append(Turn(steps, "" if over or truncated else observation, reward))
            if over or truncated:
                break
        answer = info.get("answer", _answer_of(actions[0]) if self.step_delimiters else None)
        success = bool(info.get("success", over and self._solved(total)))
        return Solution(
            tuple(turns), {"source": "demonstrate", "success": success, "answer": answer}, truncated=not over
        )

    def _solved(self, total: float) -> bool:
        threshold = getattr(self.inner.spec, "reward_threshold", None)
        return total >= (1.0 if threshold is None else threshold) - 1e-6

    def _info(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return super()._info({**(self._said if self._num_steps == 0 else {}), **extra})


def _answer_of(response: str) -> str | None:
    """Return the answer that a response marks, else its last line; None of a blank one."""
    if end_of_answer(response, NO_THOUGHTS) is not None:
        return extract_answer(response, NO_THOUGHTS)
    lines = response.strip().splitlines()
    return lines[-1].strip() if lines else None
