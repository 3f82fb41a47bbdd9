"""Which tasks a run uses: environments by split, a choice of indices, what tells tasks apart; seeds of draws.

Knows: the settings of an environment. Does not know: policies, stages.
"""

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import gymnasium as gym
import numpy as np

import oreo_envs
from oreo_agents import plugins
from oreo_algos.typed import require_types
from oreo_envs.arguments import arguments_of, what_is_wrong
from oreo_envs.checks import closest
from oreo_envs.plain import creator_of

# Tasks of an environment without end are drawn below this; far fewer are drawn than there are.
_MAX_INDEX = 2**31

ENDLESS = 1000
"""How many tasks are used where all are asked for and there is no end to them."""


@dataclass(frozen=True, kw_only=True)
class EnvSettings:
    """Which environment.

    Attributes:
        id: a Gymnasium id; one that an entry point of an installed package offers is registered by it, and
            ``module:id`` by that module.
        path: where its data lies, or several such places; None: where the environment looks by itself.
        options: further keyword arguments of ``gym.make``, other than ``split``.
        demonstrations: how many tasks other settings show by default; None: all of the train split, and ``ENDLESS``
            of tasks that are made without end.
        collection_tasks: how many they collect on by default; None: the same, or 600 of a small model.
        evaluation_tasks: how many of each split they evaluate on by default; None: the same, or 500 of a small model.
        evaluation_splits: those that they evaluate on by default.
        searches: those that they answer with by default.
        max_new_tokens: how long they let an answer, or a turn, of a small model be, tokens.
        context: how long they let a transcript of a small model be, tokens.
        module: what registers it when it is imported; given before the id, too.
    """

    id: str
    path: str | Sequence[str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    demonstrations: int | None = None
    collection_tasks: int | None = None
    evaluation_tasks: int | None = None
    evaluation_splits: Sequence[str] = ("test",)
    searches: Sequence[str] = ("greedy",)
    max_new_tokens: int = 256
    context: int = 512

    module: str | None = None

    def __post_init__(self) -> None:
        """Take the module from the id, and check that the environment is registered.

        Raises:
            ValueError: it is not, or its module cannot be imported.
        """
        require_types(self)
        for name, least in (("demonstrations", 0), ("collection_tasks", 1), ("evaluation_tasks", 1)):
            count = getattr(self, name)
            if count is not None and count < least:
                raise ValueError(f"env.{name} must be at least {least}, or null for all, got {count}")
        for name in ("max_new_tokens", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"env.{name} must be at least 1, got {getattr(self, name)}")
        module, _, env_id = self.id.rpartition(":")
        object.__setattr__(self, "module", module or self.module)
        object.__setattr__(self, "id", env_id)
        self.register()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive in another process, where nothing has registered the environment yet."""
        self.__dict__.update(state)
        self.register()

    def register(self) -> None:
        """Import what registers the environment.

        Raises:
            ValueError: nothing does.
        """
        if self.module:
            plugins.import_named(self.module)
        register(self.id, "env.id=")

    @property
    def paths(self) -> list[str]:
        """Where its data lies; none: where the environment looks by itself."""
        return [self.path] if isinstance(self.path, str) else list(self.path or ())

    def keywords(self, split: str | None = None) -> dict[str, Any]:
        """Return the keyword arguments of ``gym.make`` that do something on a split (None: all), without the split."""
        env_class = creator_of(gym.spec(self.id))
        splits: Mapping[str, Sequence[str]] = getattr(env_class, "option_splits", {})
        idle = {name for name in self.options if split is not None and split not in splits.get(name, (split,))}
        options = {name: value for name, value in self.options.items() if name not in idle}
        return options | ({} if self.path is None else {"path": self.path})


class Purpose(IntEnum):
    """What is drawn in a run: each has a stream of random numbers of its own."""

    DEMONSTRATIONS = 0
    COLLECTION = 1
    SELECTION = 2
    EVALUATION = 3
    MORE = 4
    DEV = 5


def derive(seed: int, *purpose: int) -> int:
    """Return the seed of one purpose."""
    return int(np.random.SeedSequence([seed, *purpose]).generate_state(1)[0])


def make_env(settings: EnvSettings, split: str) -> gym.Env[str, str]:
    """Make an environment of a split; a plain one is filled up, see ``oreo_envs.plain``.

    Raises:
        ValueError: the environment refuses its options, or an answer would be one action: runs write it in steps.
    """
    settings.register()
    if settings.options.get("single_turn"):
        raise ValueError(
            "env.options.single_turn is for agents that answer in one piece (gym.make, oreo_envs.evaluate); a run "
            "hands an answer over step by step and has all of it graded, so leave it out"
        )
    try:
        return oreo_envs.make(settings.id, split=split, **settings.keywords(split))
    except (TypeError, gym.error.Error) as error:
        if unknown := _unknown_options(settings):
            raise ValueError(unknown) from None
        wrong = what_is_wrong(error)
        raise ValueError(f"env: {settings.id} cannot be made with {settings.keywords(split)}: {wrong}") from error


def option_names(env_id: str) -> list[str]:
    """Return the names of the options that an environment takes; none where it is no class."""
    env_class: Any = creator_of(gym.spec(env_id))
    names = arguments_of(env_class) if inspect.isclass(env_class) else ()
    return [name for name in names if name not in ("split", "path", "place", "render_mode")]


def _unknown_options(settings: EnvSettings) -> str:
    """Say which options an environment does not have, and what would help; "" where it has all."""
    known = option_names(settings.id)
    unknown = [name for name in settings.options if name not in known]
    if not known or not unknown:
        return ""
    hint = next(filter(None, (closest(name, known) for name in unknown)), "")
    needs_data = "fields" in known and not settings.path and not os.environ.get("OREO_DATA")
    return (
        f"env.options: {settings.id} takes no {', '.join(unknown)}{hint}; an experiment that is made for another "
        f"environment sets such options: leave experiment=... out, or set options of this one ({', '.join(known)})"
        + ("; nor is it said where its data lies: set env.path=... or OREO_DATA" if needs_data else "")
    )


def register(env_id: str, argument: str) -> None:
    """See to it that an id is registered: by the installed package whose entry point offers it, if it is not yet.

    Args:
        env_id: without a module.
        argument: what it was given as, for the message.

    Raises:
        ValueError: nothing registers it.
    """
    if env_id not in gym.registry and env_id in plugins.offered("envs"):
        found = plugins.load("envs", env_id)
        if env_id not in gym.registry and callable(found):
            gym.register(env_id, entry_point=found)
    if env_id not in gym.registry:
        names = known_envs().values()
        raise ValueError(
            f"{argument}{env_id}: no such environment{closest(env_id, [*names, *gym.registry])}; known: "
            f"{', '.join(names)}\nlooked in: {plugins.where()}; others are given as MODULE:ID"
        )


def known_envs() -> dict[str, str]:
    """Return the ids of the suite's environments and of those that are plugged in, by their short names."""
    roots = plugins.named_roots()
    ids = [env_id for env_id, spec in gym.registry.items() if _root(spec.entry_point) in roots]
    return {short_name(env_id): env_id for env_id in [*ids, *plugins.offered("envs")]}


def short_name(env_id: str) -> str:
    """Return what an environment is called for short: ``gsm8k`` for ``oreo/GSM8K-v0``."""
    return env_id.rpartition("/")[2].rpartition("-v")[0].lower() or env_id


def _root(entry_point: Any) -> str:
    module = entry_point if isinstance(entry_point, str) else getattr(entry_point, "__module__", "")
    return str(module).partition(":")[0].partition(".")[0]


def find_env(name: str, argument: str = "--env ") -> str:
    """Return the id of a text environment, registered, from its id or short name, or ``module:id``.

    Args:
        name: as a user gives it.
        argument: what it was given as, for the message.

    Raises:
        ValueError: there is none.
    """
    module, _, env_id = name.rpartition(":")
    if module:
        plugins.import_named(module)
    short = known_envs()
    plain = {key.replace("-", "").replace("_", ""): value for key, value in short.items()}
    # reasoning-gym, as in ``env=reasoning-gym``
    env_id = plain.get(env_id.lower().replace("-", "").replace("_", ""), env_id)
    if env_id not in gym.registry and env_id not in plugins.offered("envs"):
        names = [*short, *short.values()]
        raise ValueError(
            f"{argument}{name}: unknown environment; known: {', '.join(names)}{closest(env_id, names)}\n"
            f"looked in: {plugins.where()}; others are given as MODULE:ID"
        )
    register(env_id, argument)
    return env_id


MOST = 10_000_000
"""How many tasks can be asked for at once where they are made without end: what is known of each is kept in memory."""


def choose_indices(env: gym.Env[str, str], count: int | None, seed: int | None) -> list[int]:
    """Choose tasks of an environment.

    Args:
        env: of the split.
        count: how many at most; None: all of them, ``ENDLESS`` where they are made without end.
        seed: draws them; None: always the same ones.

    Raises:
        ValueError: more than ``MOST`` of tasks without end.
    """
    available: int | None = env.unwrapped.num_tasks  # type: ignore[attr-defined]
    # Data sets are sorted by subject: a part is drawn and not cut off, also where no seed is to matter.
    generator = np.random.default_rng(0 if seed is None else seed)
    if available is not None:
        whole = count is None or count >= available
        return list(range(available)) if whole else generator.permutation(available)[:count].tolist()
    count = ENDLESS if count is None else count
    if count > MOST:
        raise ValueError(f"{count} tasks are asked for: they are made without end here, give at most {MOST}")
    return list(range(count)) if seed is None else generator.integers(_MAX_INDEX, size=count).tolist()


def is_played(env: gym.Env[str, str]) -> bool:
    """Whether a task is played turn by turn, and not answered at once."""
    return not env.unwrapped.step_delimiters  # type: ignore[attr-defined]


def question(messages: Sequence[Mapping[str, str]]) -> str:
    """Return the text that tells a task from others: the first message of the user."""
    return next((message["content"] for message in messages if message["role"] == "user"), "")


def identity(env: gym.Env[str, str], task_id: str, messages: Sequence[Mapping[str, str]]) -> str:
    """Return what tells a task from others: its question, for data sets repeat questions under other names.

    Games are told apart by name: different ones may begin with the same text.
    """
    return task_id if is_played(env) else question(messages)


def identities(env: gym.Env[str, str], indices: Sequence[int]) -> frozenset[str]:
    """Return what tells these tasks from others."""
    resets: list[dict[str, Any]] = [env.reset(options={"index": index})[1] for index in indices]
    return frozenset(identity(env, info["task_id"], info["messages"]) for info in resets)
