"""One of several samples, drawn by the learned value: as by ``pi * exp(V / tau)`` where pi draws the samples.

Source: sampling-importance-resampling, Rubin 1987.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oreo_agents.search.actions import GuidedActions, Offer
from oreo_agents.search.best_of_n import best_finished
from oreo_agents.search.samples import Drawn, SampleSearch
from oreo_agents.search.scoring import Floats, Tempered, drawn_scores
from oreo_algos.episode import Episode


@dataclass(frozen=True, kw_only=True)
class Resample(Tempered, SampleSearch):
    """One of the finished samples, with a probability in proportion to ``exp(V / tau)``; at ``tau=0`` the highest V.

    V is read just before the end token. An unfinished sample is taken only if there is no other.
    """

    def worth(self, drawn: Drawn) -> Floats:
        """Return numbers the greatest of which is such a draw."""
        return drawn_scores(drawn.values, 1, self.tau, drawn.source)

    def choose(self, episodes: Sequence[Episode], values: np.ndarray, answers: Sequence[str | None]) -> int:
        """Return the finished sample with the greatest of them."""
        return best_finished(episodes, values)


@dataclass(frozen=True, kw_only=True)
class ResampleActions(Tempered, GuidedActions):
    """At every turn of a game one of the proposed actions, drawn by ``exp(V / tau)``; at ``tau=0`` the highest V.

    What was proposed several times stands there so many times.
    """

    def worth(self, offer: Offer) -> Floats:
        """Return numbers the greatest of which is such a draw."""
        return drawn_scores(offer.values, offer.draws, self.tau, offer.source)
