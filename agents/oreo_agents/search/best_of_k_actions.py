"""Best of K actions by the learned value and the policy, turn by turn.

Source: Wang et al. 2024 (arXiv:2412.16145), test-time search in ALFWorld.
Deviations: one of the actions is greedy; V alone decides there, which is ``tau=0``.
"""

from dataclasses import dataclass

from oreo_agents.search.actions import GuidedActions, Offer
from oreo_agents.search.scoring import Floats, Scored


@dataclass(frozen=True, kw_only=True)
class BestOfKActions(Scored, GuidedActions):
    """At every turn the action with the highest score, see ``Scored``.

    V is read just before its end token, before the environment answers, unless ``lookahead`` says otherwise.
    """

    def worth(self, offer: Offer) -> Floats:
        """Return the scores."""
        tokens = [len(sample.tokens) for sample in offer.samples]
        return self.scores(offer.values, log_policy=offer.log_policy, tokens=tokens, votes=offer.votes)
