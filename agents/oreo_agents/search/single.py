"""One episode, no choice: greedy decoding and plain sampling."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oreo_agents.search.base import Search
from oreo_algos.episode import Episode


@dataclass(frozen=True, kw_only=True)
class Greedy(Search):
    """The likeliest token at each position."""

    temperature: float = 0.0

    def choose(self, episodes: Sequence[Episode], values: np.ndarray) -> int:
        """Take the only episode."""
        return 0


@dataclass(frozen=True, kw_only=True)
class Admissible(Greedy):
    """The likeliest token at each position, among those that lead to an action that the environment admits."""

    constrained = True


@dataclass(frozen=True, kw_only=True)
class Sampled(Search):
    """One sample: what the policy gets on average at a temperature."""

    def choose(self, episodes: Sequence[Episode], values: np.ndarray) -> int:
        """Take the first sample."""
        return 0
