"""What is counted of a buffer's episodes, one after another.

Knows: outcomes, tasks, lengths. Does not know: files; columns, of which `EpisodeBuffer.stats` counts the same at once.
"""

import math
from dataclasses import dataclass, field

from oreo_algos.episode import Episode


@dataclass
class Counts:
    """Sums over episodes, see ``stats``."""

    episodes: int = 0
    successes: int = 0
    tokens: int = 0
    action_tokens: int = 0
    steps: int = 0
    truncated: int = 0
    tasks: dict[str, tuple[bool, bool]] = field(default_factory=dict)  # whether there is a failure, and a success
    _env_ids: set[str] = field(default_factory=set)

    @property
    def env_ids(self) -> list[str]:
        """Ids of the environments that occur, sorted."""
        return sorted(self._env_ids)

    def add(self, episode: Episode) -> None:
        """Count one."""
        failure, success = self.tasks.get(episode.task_id, (False, False))
        self.tasks[episode.task_id] = (failure or not episode.success, success or episode.success)
        self._env_ids.add(episode.env_id)
        self.episodes += 1
        self.successes += episode.success
        self.tokens += episode.num_tokens
        self.action_tokens += episode.num_action_tokens
        self.steps += episode.num_steps
        self.truncated += episode.truncated

    def stats(self) -> dict[str, int | float]:
        """Return what `EpisodeBuffer.stats` says of these episodes."""
        n = self.episodes
        return {
            "episodes": n,
            "tasks": len(self.tasks),
            "mixed_tasks": sum(map(all, self.tasks.values())),
            "success_rate": self.successes / n if n else math.nan,
            "tokens": self.tokens,
            "action_tokens": self.action_tokens,
            "steps_mean": self.steps / n if n else math.nan,
            "truncated": self.truncated,
        }
