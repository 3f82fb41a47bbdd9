"""Which tasks a run uses: environments by split, a choice of indices, what tells tasks apart; seeds of draws.

Knows: the settings of an environment. Does not know: policies, stages.
"""

import tarfile
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from oreo_agents.settings import EnvSettings, RunSettings

# Tasks of an environment without end are drawn below this; far fewer are drawn than there are.
_MAX_INDEX = 2**31


class Purpose(IntEnum):
    """What is drawn in a run: each has a stream of random numbers of its own."""

    DEMONSTRATIONS = 0
    COLLECTION = 1
    SELECTION = 2
    EVALUATION = 3
    MORE = 4


def derive(seed: int, *purpose: int) -> int:
    """Return the seed of one purpose."""
    return int(np.random.SeedSequence([seed, *purpose]).generate_state(1)[0])


def env_maker(settings: RunSettings, split: str) -> Callable[[], gym.Env[str, str]]:
    """Return a function that makes an environment of a split of a run.

    Raises:
        ValueError: ``env.path`` is one file of tasks, which would serve as every split, and this one is not
            evaluated.
    """
    path = settings.env.path
    one_file = path is not None and Path(path).is_file() and not tarfile.is_tarfile(path)
    if one_file and split not in settings.evaluate.splits:
        raise ValueError(
            f"env.path={path} is one file, so training and evaluation would see the same tasks; give the folder "
            "that holds a file for each split"
        )
    return partial(make_env, settings.env, split)


def make_env(settings: EnvSettings, split: str) -> gym.Env[str, str]:
    """Make an environment of a split.

    Raises:
        ValueError: the environment refuses its options.
    """
    try:
        return gym.make(settings.id, split=split, disable_env_checker=True, **settings.keywords())
    except (TypeError, gym.error.Error) as error:
        raise ValueError(f"env: {settings.id} cannot be made with {settings.keywords()}: {error}") from error


def choose_indices(env: gym.Env[str, str], count: int | None, seed: int | None) -> list[int]:
    """Choose tasks of an environment.

    Args:
        env: of the split.
        count: how many at most; None: all of them.
        seed: draws them; None: always the same ones.

    Raises:
        ValueError: all tasks of an environment that generates them without end.
    """
    available: int | None = env.unwrapped.num_tasks  # type: ignore[attr-defined]
    # Data sets are sorted by subject: a part is drawn and not cut off, also where no seed is to matter.
    generator = np.random.default_rng(0 if seed is None else seed)
    if available is not None:
        whole = count is None or count >= available
        return list(range(available)) if whole else generator.permutation(available)[:count].tolist()
    if count is None:
        assert env.spec is not None
        raise ValueError(f"{env.spec.id} generates tasks without end: say how many to use")
    return list(range(count)) if seed is None else generator.integers(_MAX_INDEX, size=count).tolist()


def train_indices(settings: RunSettings, count: int | None, *purpose: int, split: str = "train") -> list[int]:
    """Choose tasks of a split that a run trains on, at most ``count``, for a purpose; see ``choose_indices``.

    Raises:
        ValueError: a split that is held out.
    """
    env = env_maker(settings, split)()
    if split in getattr(env.unwrapped, "held_out_splits", ()):
        raise ValueError(f"split {split!r} is held out: nothing may learn from it; use split='train'")
    return choose_indices(env, count, derive(settings.seed, *purpose))


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
