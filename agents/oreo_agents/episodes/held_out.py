"""Which episodes of a buffer are of tasks that nothing may learn from.

Knows: held-out splits of environments, names and questions of their tasks. Does not know: runs, what is done about it.

A task is held out where it is named after such a split; where an environment of one has it, which options may put under
another name; or, where its name is of no split, as of a row that was imported without its data, where the row says so,
or it asks what a task of one asks. The last is what `oreo data import --env` goes by.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from oreo_agents.episodes.tasks import EnvSettings, make_env
from oreo_algos import Episode, EpisodeBuffer
from oreo_envs.plain import creator_of
from oreo_envs.splits import SPLITS

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOutFound:
    """What a buffer holds of held-out tasks.

    Attributes:
        path: of the buffer, as records name it.
        env: id of the environment.
        episodes: of held-out tasks.
        tasks: that they are of.
        splits: how many episodes of each split.
        example: name of the first of these tasks.
    """

    path: str
    env: str
    episodes: int
    tasks: int
    splits: Mapping[str, int]
    example: str

    def record(self) -> dict[str, Any]:
        """Return it as JSON, for a summary."""
        return asdict(self)

    def __str__(self) -> str:
        """Say it."""
        splits = ", ".join(self.splits)
        return (
            f"{self.path} holds {self.episodes} episodes of {self.tasks} tasks of {self.env} that are held out to "
            f"measure with (split {splits}), such as {self.example}"
        )


class HeldOutTasks:
    """The held-out tasks of one environment; its data is read when names alone do not tell."""

    def __init__(self, settings: EnvSettings) -> None:
        """Read nothing yet, but make an environment of somebody else, which alone knows its splits."""
        self.settings = settings
        knows: Any = creator_of(gym.spec(settings.id))
        if not hasattr(knows, "held_out_splits"):  # one of somebody else's: an environment of its own says
            knows = next(filter(None, map(self._made, getattr(knows, "splits", SPLITS))), None)
        self._splits = tuple(getattr(knows, "splits", SPLITS))
        self._held_out = tuple(getattr(knows, "held_out_splits", ("test",)))
        self._envs: dict[str, Any] | None = None
        self._questions: dict[str, str] = {}

    def find(self, path: str, buffer: EpisodeBuffer) -> HeldOutFound | None:
        """Return what a buffer holds of them; None: nothing.

        Args:
            path: of the buffer, as it is to be named.
            buffer: of episodes of this environment.
        """
        if not self._held_out:
            return None
        columns = buffer.columns
        counts = np.bincount(columns.task, minlength=len(columns.task_ids))
        firsts = np.unique(columns.task, return_index=True)[1]
        splits, found = Counter[str](), list[str]()
        for task_id, first, count in zip(columns.task_ids, firsts.tolist(), counts.tolist(), strict=True):
            if split := self._split_of(task_id, buffer, first):
                splits[split] += count
                found.append(task_id)
        if not found:
            return None
        return HeldOutFound(path, self.settings.id, splits.total(), len(found), dict(splits), found[0])

    def _opened(self) -> dict[str, Any]:
        """Return an environment of each held-out split; of one that is not there, names alone tell."""
        if self._envs is None:
            made = {split: self._made(split) for split in self._held_out}
            self._envs = {split: env for split, env in made.items() if env is not None}
            for split, env in self._envs.items():
                for problem in getattr(env, "problems", ()):
                    self._questions.setdefault(problem.question.strip(), split)
        return self._envs

    def _made(self, split: str) -> Any:
        """Return an environment of a split; None where it cannot be made."""
        try:
            return make_env(self.settings, split).unwrapped
        except (ValueError, OSError) as error:
            _log.debug("%s %s: its tasks are told by name alone (%s)", self.settings.id, split, error)
            return None

    def _split_of(self, task_id: str, buffer: EpisodeBuffer, first: int) -> str:
        """Return the held-out split that a task is of; "": none.

        Args:
            task_id: its name.
            buffer: with an episode of it.
            first: index of that.
        """
        parts = task_id.split("/")[:2]
        if said := next((part for part in parts if part in self._held_out), ""):
            return said
        named = any(part in self._splits for part in parts)
        if named and not self.settings.options:
            return ""
        if has := next((split for split, env in self._opened().items() if env.has_task(task_id)), ""):
            return has
        return "" if named else self._split_told(buffer[first])

    def _split_told(self, episode: Episode) -> str:
        """Return the held-out split that an episode says it is of, or whose question it asks; "": none."""
        told = episode.info.get("split")
        if told in self._held_out:
            return str(told)
        asked = (message["content"].strip() for message in episode.messages if message["role"] == "user")
        return next((self._questions[text] for text in asked if text in self._questions), "")


def find_held_out(path: str, buffer: EpisodeBuffer) -> list[HeldOutFound]:
    """Return what a buffer holds of held-out tasks of any registered environment, see ``HeldOutTasks.find``."""
    found = []
    for env_id in buffer.env_ids:
        if env_id in gym.registry:
            own = buffer if len(buffer.env_ids) == 1 else EpisodeBuffer(e for e in buffer if e.env_id == env_id)
            found.append(HeldOutTasks(EnvSettings(id=env_id)).find(path, own))
    return [one for one in found if one is not None]


def require_learnable(
    found: HeldOutFound | None, *, allowed: bool, switch: str, names: str = ""
) -> HeldOutFound | None:
    """Refuse held-out tasks, or say that they are learned from.

    Args:
        found: by ``HeldOutTasks.find``.
        allowed: whether they may be learned from.
        switch: how one allows it.
        names: what comes before the path, such as ``data=``.

    Returns:
        ``found``.

    Raises:
        ValueError: there are some, and it is not allowed.
    """
    if found is None:
        return None
    if not allowed:
        raise ValueError(
            f"{names}{found}: nothing may learn from these. Leave them out, or give episodes of train tasks; {switch} "
            "learns from them all the same, says so in results and cards, and then only other tasks measure anything"
        )
    _log.warning("%s%s; %s: they are learned from, and only other tasks measure anything", names, found, switch)
    return found
