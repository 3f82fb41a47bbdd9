"""Searches that draw whole answers and choose one of them.

Knows: episodes and their final values. Does not know: how they are drawn, how one is chosen.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from oreo_agents.search.base import Answer, Candidate, Search
from oreo_agents.search.player import Judgement, Player
from oreo_agents.search.scoring import Floats
from oreo_algos.episode import Episode


@dataclass(frozen=True)
class Drawn:
    """The samples of one task, and what is known of them; of an outcome nothing is.

    Attributes:
        episodes: the samples.
        values: V of each just before its end token, float [N]; NaN where V is not read.
        answers: the final answer of each in its canonical form, see ``TextEnv``; None without one.
        log_policy: log pi of each at temperature 1, nats, float [N]; NaN where it is not read.
        source: of randomness, this task's own.
    """

    episodes: Sequence[Episode]
    values: Floats
    answers: Sequence[str | None]
    log_policy: Floats
    source: np.random.Generator

    @property
    def votes(self) -> list[int]:
        """How many samples give the answer of each; one without an answer is alone."""
        given = Counter(self.answers)
        return [1 if answer is None else given[answer] for answer in self.answers]


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
        super().__post_init__()
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
            values: what each is worth, see ``worth``, float [N].
            answers: the final answer of each in its canonical form, see ``TextEnv``; None without one.
        """

    def worth(self, drawn: Drawn) -> Floats:
        """Return what each sample is worth, float [N]: V just before its end token; NaN where V is not read.

        V is not read by a search that does not need it, and where there is one sample.
        """
        return drawn.values

    def answer(self, player: Player) -> list[Answer | None]:
        """Draw, score and choose."""
        key = (self.samples, self.temperature, self.constrained)
        samples, answers = player.samples(*key), player.final_answers(*key)
        # Among one sample there is nothing to choose.
        reads, asks = (self.samples > 1 and wanted for wanted in (self.needs_value, self.reads_policy))
        judged = player.final_values(*key) if reads else [[] for _ in samples]
        said = player.final_log_policy(*key) if asks else [[] for _ in samples]
        found: list[Answer | None] = []
        for slot, episodes in enumerate(samples):
            unread = np.full(len(episodes), np.nan)
            values = np.array([judgement.value for judgement in judged[slot]]) if judged[slot] else unread
            log_policy = np.array(said[slot]) if said[slot] else unread
            source = player.source_at(slot, self.samples)
            drawn = Drawn(episodes, values, answers[slot], log_policy, source)
            found.append(self._answer(drawn, judged[slot]) if episodes else None)
        return found

    def _answer(self, drawn: Drawn, judged: Sequence[Judgement]) -> Answer:
        episodes, answers = drawn.episodes, drawn.answers
        read: list[float | None] = [judgement.value for judgement in judged] or [None] * len(episodes)
        worth = self.worth(drawn)
        chosen = self.choose(episodes, worth, answers)
        if chosen not in range(len(episodes)):
            raise ValueError(
                f"{type(self).__name__}.choose returned {chosen!r}; it must return the index of one of the "
                f"{len(episodes)} answers, from 0 on"
            )
        return Answer(
            episodes[chosen],
            sum(int(episode.info["generated_tokens"] or 0) for episode in episodes),
            sum(judgement.read for judgement in judged),
            [
                Candidate(episode, value, answer, None if np.isnan(score) else float(score))
                for episode, value, answer, score in zip(episodes, read, answers, worth, strict=True)
            ]
            if len(episodes) > 1
            else (),
        )

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
