"""Best of N by the learned value. Source: Wang et al. 2024 (arXiv:2412.16145), test-time search."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oreo_agents.search.samples import SampleSearch
from oreo_algos.episode import Episode


@dataclass(frozen=True, kw_only=True)
class BestOfN(SampleSearch):
    """The finished answer with the highest V just before its end token; an unfinished one only if there is no other."""

    needs_value = True

    def choose(self, episodes: Sequence[Episode], values: np.ndarray, answers: Sequence[str | None]) -> int:
        """Return the sample with the highest value."""
        return best_finished(episodes, values)


def best_finished(episodes: Sequence[Episode], values: np.ndarray) -> int:
    """Return the index of the finished episode with the highest value, or of any if none is finished."""
    finished = np.array([episode.terminated for episode in episodes])
    return int(np.where(finished | ~finished.any(), values, -np.inf).argmax())
