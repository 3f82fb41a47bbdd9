"""Searches that draw whole answers and choose one of them.

Knows: episodes and their final values. Does not know: how they are drawn, how one is chosen.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from oreo_agents.search.base import Answer, Candidate, Search
from oreo_agents.search.player import Judgement, Player
from oreo_algos.episode import Episode
from oreo_algos.typed import require_finite, require_types


@dataclass(frozen=True, kw_only=True)
class SampleSearch(Search):
    """Base class; those with equal sampling choose among the same samples.

    Attributes:
        samples: episodes drawn for each task.
        temperature: of the sampling; 0 is greedy decoding. At 1 the greatest V is that of a rare error it never saw.
    """

    samples: int = 8
    temperature: float = 0.7

    constrained: ClassVar[bool] = False
    """Whether the policy can say only what the environment admits, see ``rollout``."""

    def __post_init__(self) -> None:
        """Check the settings."""
        require_types(self)
        require_finite(self)
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        if self.temperature < 0 or (self.temperature == 0 and self.samples > 1):
            raise ValueError(
                f"temperature must be > 0 to draw {self.samples} different samples, got {self.temperature}"
            )

    @abstractmethod
    def choose(self, episodes: Sequence[Episode], values: np.ndarray, answers: Sequence[str | None]) -> int:
        """Return the index of the answer to give.

        Args:
            episodes: the samples of one task; their outcome must not be looked at.
            values: V of each just before its end token, float [N]; NaN where V is not read: by a search that does not
                need it, and where there is one sample.
            answers: the final answer of each in its canonical form, see ``TextEnv``; None without one.
        """

    def answer(self, player: Player) -> list[Answer | None]:
        """Draw, score and choose."""
        key = (self.samples, self.temperature, self.constrained)
        drawn = player.samples(*key)
        judged = player.final_values(*key) if self._reads_value else [[] for _ in drawn]
        given = player.final_answers(*key)
        return [self._answer(*task) if task[0] else None for task in zip(drawn, judged, given, strict=True)]

    def _answer(
        self, episodes: Sequence[Episode], judged: Sequence[Judgement], answers: Sequence[str | None]
    ) -> Answer:
        values = np.array([judgement.value for judgement in judged]) if judged else np.full(len(episodes), np.nan)
        read: list[float | None] = [judgement.value for judgement in judged]
        chosen = self.choose(episodes, values, answers)
        if chosen not in range(len(episodes)):
            raise ValueError(
                f"{type(self).__name__}.choose returned {chosen!r}; it must return the index of one of the "
                f"{len(episodes)} answers, from 0 on"
            )
        return Answer(
            episodes[chosen],
            sum(int(episode.info["generated_tokens"] or 0) for episode in episodes),
            sum(judgement.read for judgement in judged),
            [Candidate(*one) for one in zip(episodes, read or [None] * len(episodes), answers, strict=True)]
            if len(episodes) > 1
            else (),
        )

    @property
    def _reads_value(self) -> bool:
        """Among one sample there is nothing to choose."""
        return self.needs_value and self.samples > 1

    @property
    def size(self) -> str | None:
        """Number of samples."""
        return str(self.samples)

    def sized(self, answers: int) -> "SampleSearch":
        """Draw so many samples."""
        return replace(self, samples=answers)

    def unfit(self, *, played: bool) -> str | None:
        """Refuse to choose among several games."""
        if self.samples > 1 and played:
            return (
                f"chooses among {self.samples} finished episodes; a task that is played turn by turn can be played "
                "only once"
            )
        return None
