"""One episode, no choice: greedy decoding and plain sampling."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oreo_agents.search.samples import SampleSearch
from oreo_algos.episode import Episode


@dataclass(frozen=True, kw_only=True)
class Sampled(SampleSearch):
    """One sample: what the policy gets on average at a temperature."""

    samples: int = 1
    temperature: float = 1.0

    def choose(self, episodes: Sequence[Episode], values: np.ndarray, answers: Sequence[str | None]) -> int:
        """Take the first sample."""
        return 0

    @property
    def size(self) -> None:
        """One sample is no choice."""
        return None

    def sized(self, answers: int) -> "Sampled":
        """Stay as it is: more samples would change nothing."""
        return self


@dataclass(frozen=True, kw_only=True)
class Greedy(Sampled):
    """The likeliest token at each position."""

    temperature: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Admissible(Greedy):
    """The likeliest token at each position, among those that lead to an action that the environment admits."""

    constrained = True
