"""A vote over final answers, weighted by the learned value. Source of the vote: Li et al. 2023 (arXiv:2206.02336)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oreo_agents.search.best_of_n import best_finished
from oreo_agents.search.samples import Drawn, SampleSearch
from oreo_agents.search.scoring import Floats, Tempered
from oreo_algos.episode import Episode


@dataclass(frozen=True, kw_only=True)
class WeightedVote(Tempered, SampleSearch):
    """The answer for which finished samples vote with the greatest weight, ``exp(V / tau)``.

    V is read just before the end token. Times tau, the logarithm of the summed weight is ``tau * log votes`` and a soft
    mean of V. At ``tau=0`` the weight is V itself, at least 0: with rewards of 0 and 1, V is about the probability of
    being right, and a prediction below 0 says no more than 0 does. Equal weights (all 0, say) are decided by the
    highest V. If nobody votes, the best finished sample answers.
    """

    def worth(self, drawn: Drawn) -> Floats:
        """Return the weights."""
        if self.tau == 0:
            return drawn.values
        # Of the greatest V it is 1: nothing overflows, and what vanishes beside it has no say.
        weights: Floats = np.exp((drawn.values - drawn.values.max()) / self.tau)
        return weights

    def choose(self, episodes: Sequence[Episode], values: np.ndarray, answers: Sequence[str | None]) -> int:
        """Return the sample with the highest value among those that give the answer of the greatest weight."""
        voters = [i for i, answer in enumerate(answers) if answer is not None and episodes[i].terminated]
        if not voters:
            return best_finished(episodes, values)
        weights: defaultdict[str | None, float] = defaultdict(float)
        for i in voters:
            weights[answers[i]] += max(float(values[i]), 0.0)
        return max(voters, key=lambda i: (weights[answers[i]], values[i]))
