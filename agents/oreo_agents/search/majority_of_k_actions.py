"""Majority vote over K actions, turn by turn: what as many samples give without a value."""

from dataclasses import dataclass

import numpy as np

from oreo_agents.search.actions import ActionSearch, Offer
from oreo_agents.search.scoring import Floats


@dataclass(frozen=True, kw_only=True)
class MajorityOfKActions(ActionSearch):
    """At every turn the action that was proposed most often; the greedy one wins a tie that it is part of.

    Where the environment reads commands in actions, those that give the same command vote together, whatever thoughts
    lead to it; of their texts the first is taken.
    """

    def worth(self, offer: Offer) -> Floats:
        """Return the votes."""
        return np.array(offer.votes, dtype=float)
