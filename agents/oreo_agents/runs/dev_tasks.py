"""Which tasks a network is asked while it is trained: of the dev split, else train tasks that it does not learn from.

Knows: settings, splits, what tells tasks apart. Does not know: training, answers.
"""

import logging
from collections.abc import Callable, Collection
from typing import Any

import gymnasium as gym
import numpy as np

from oreo_agents.episodes.tasks import Purpose, choose_indices, derive, identities
from oreo_agents.runs.settings import RunSettings
from oreo_envs.checks import closest

_log = logging.getLogger(__name__)

_DEV = "dev"


def dev_split(settings: RunSettings, asks: str = "trainer.evaluate_every") -> str:
    """Return the split whose tasks are asked.

    Args:
        settings: of the run.
        asks: the setting that makes it necessary, for the messages.

    Raises:
        ValueError: the split that was asked for is no split, or holds test tasks; or all train tasks are learned
            from, and there is no dev split.
    """
    asked, train = settings.evaluate.dev.split, settings.collect.split
    with settings.env_maker(train)() as env:
        known = tuple(getattr(env.unwrapped, "splits", ()))
        available = getattr(env.unwrapped, "num_tasks", None)
    if asked is not None:
        return _checked(asked, known, settings)
    if _DEV in known:
        try:
            settings.env_maker(_DEV)().close()
            return _DEV
        except (ValueError, FileNotFoundError) as error:
            reason = f"its dev split cannot be read ({error})"
    else:
        reason = "it has no dev split"
    unread = f"{settings.env.id}: {asks} needs tasks that nothing is learned from; {reason}"
    wanted = {"sft.demonstrations": settings.sft.demonstrations}
    if not settings.data_folders and settings.algorithms:
        wanted["collect.tasks"] = settings.collect.tasks
    for name, count in wanted.items():
        if available is not None and (count is None or count >= available):
            raise ValueError(
                f"{unread}, and {name} takes all {available} train tasks. Leave some out, such as "
                f"{name}={max(available - settings.evaluate.dev.tasks, available // 2)}, or name another split with "
                "evaluate.dev.split=..."
            )
    _log.info("%s, so train tasks that are not learned from are asked", unread)
    return train


def _checked(split: str, known: Collection[str], settings: RunSettings) -> str:
    if known and split not in known:
        raise ValueError(
            f"evaluate.dev.split={split}: {settings.env.id} has the splits {', '.join(known)}{closest(split, known)}"
        )
    if "test" in split.lower() or (split in settings.evaluate.splits and split != _DEV):
        raise ValueError(
            f"evaluate.dev.split={split}: what is measured on the way decides what is kept, so it must not be what the "
            "results are of; name a split for development, or give null"
        )
    return split


def dev_indices(
    settings: RunSettings, split: str, learned_from: Callable[[], frozenset[str]]
) -> tuple[Callable[[], gym.Env[str, str]], list[int]]:
    """Return a maker of environments, and the tasks to ask: always the same ones, less those that are learned from.

    Args:
        settings: of the run.
        split: what ``dev_split`` returned.
        learned_from: returns what tells the tasks of the training data, see ``tasks.identity``.

    Raises:
        ValueError: no task is left.
    """
    make, count = settings.env_maker(split), settings.evaluate.dev.tasks
    with make() as env:
        if split != settings.collect.split and split != settings.sft.split:
            return make, choose_indices(env, count, None)
        seen, found = learned_from(), list[int]()
        for index in _drawn(env, 2 * count + len(seen)):
            if not seen & identities(env, [index]):
                found.append(index)
            if len(found) == count:
                break
    if not found:
        raise ValueError(
            f"{settings.env.id}: trainer.evaluate_every needs tasks that nothing is learned from, and all tasks of "
            f"split {split!r} are; collect on fewer (collect.tasks=..., sft.demonstrations=...), or name another split "
            "with evaluate.dev.split=..."
        )
    if len(found) < count:
        _log.warning("evaluate.dev.tasks=%d: only %d tasks are not learned from", count, len(found))
    return make, found


def _drawn(env: gym.Env[str, str], count: int) -> list[int]:
    """Draw tasks in an order that is always the same: all of them, or so many of those without end."""
    available: Any = env.unwrapped.num_tasks  # type: ignore[attr-defined]
    if available is None:
        return choose_indices(env, count, derive(0, Purpose.DEV))
    return np.random.default_rng(0).permutation(available).tolist()
