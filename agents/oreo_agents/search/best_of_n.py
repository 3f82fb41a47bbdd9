"""Best of N by the learned value and the policy. Source: Wang et al. 2024 (arXiv:2412.16145), test-time search.

Deviation: V alone decides there, which is ``tau=0``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oreo_agents.search.samples import Drawn, SampleSearch
from oreo_agents.search.scoring import Floats, Scored
from oreo_algos.episode import Episode


@dataclass(frozen=True, kw_only=True)
class BestOfN(Scored, SampleSearch):
    """The finished answer with the highest score, see ``Scored``; an unfinished one only if there is no other.

    V is read just before the end token.
    """

    def worth(self, drawn: Drawn) -> Floats:
        """Return the scores."""
        tokens = [episode.num_action_tokens for episode in drawn.episodes]
        return self.scores(drawn.values, log_policy=drawn.log_policy, tokens=tokens, votes=drawn.votes)

    def choose(self, episodes: Sequence[Episode], values: np.ndarray, answers: Sequence[str | None]) -> int:
        """Return the sample with the highest value."""
        return best_finished(episodes, values)


def best_finished(episodes: Sequence[Episode], values: np.ndarray) -> int:
    """Return the index of the finished episode with the highest value, or of any if none is finished."""
    finished = np.array([episode.terminated for episode in episodes])
    return int(np.where(finished | ~finished.any(), values, -np.inf).argmax())
