"""What a candidate of a search is worth: what V says of it, and what the policy does.

Knows: numbers of the candidates of one choice. Does not know: answers, actions, how they were drawn.

``V + tau * log prior`` is greatest where the policy that is best under V and stays near the prior,
``prior * exp(V / tau)``, is likeliest. At ``tau=0`` V alone decides, as in the paper; the greater tau, the more it
takes of V to leave what the policy says by itself.
"""

import logging
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oreo_agents.search.base import Search

Floats: TypeAlias = NDArray[np.float64]

_log = logging.getLogger(__name__)

# The default of tau was chosen on answers of some 40 tokens.
_LONG = 120

Prior: TypeAlias = Literal["policy", "policy_mean", "votes"]
"""What the policy says of a candidate, see ``Scored``."""


@dataclass(frozen=True, kw_only=True)
class Tempered(Search):
    """A search that weighs V.

    Attributes:
        tau: how much V a nat is worth, reward units a nat, at least 0.
    """

    tau: float = 0.05

    needs_value = True

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.tau < 0:
            raise ValueError(f"tau must be at least 0 (reward units a nat; 0: V alone decides), got {self.tau}")


@dataclass(frozen=True, kw_only=True)
class Scored(Tempered):
    """A search that takes the candidate of the greatest ``V + tau * log prior``.

    Attributes:
        prior: policy: log pi at temperature 1 of all tokens of a candidate; policy_mean: its mean over them; votes: the
            logarithm of how many of the draws come to the same: to an equal answer, or an equal command.
    """

    prior: Prior = "policy"

    @property
    def reads_policy(self) -> bool:
        """Whether log pi is asked for."""
        return self.tau > 0 and self.prior != "votes"

    def scores(
        self, values: ArrayLike, *, log_policy: ArrayLike = 0.0, tokens: ArrayLike = 1, votes: ArrayLike = 1
    ) -> Floats:
        """Return what candidates are worth, reward units, float [N].

        Args:
            values: V of each, reward units.
            log_policy: log pi of all its tokens at temperature 1, nats; read where ``reads_policy`` says so.
            tokens: how many these are.
            votes: draws that come to the same, itself among them; of a path of choices their product.
        """
        values = np.asarray(values, dtype=float)
        if self.tau == 0:
            return values
        if self.prior == "votes":
            return values + self.tau * np.log(votes)
        if self.prior == "policy" and np.asarray(tokens, dtype=float).mean() > _LONG:
            _say_long(self.tau)
        share = 1 if self.prior == "policy" else np.maximum(tokens, 1)
        return values + self.tau * np.asarray(log_policy, dtype=float) / share


@cache
def _say_long(tau: float) -> None:
    """Warn once that the policy says more than V where answers are long."""
    _log.warning(
        "answers of more than %d tokens: their log pi differs by so many nats that with tau=%g the policy decides more "
        "than V; give tau=0 (V alone, the paper's rule) or prior=policy_mean, or choose on dev: evaluate.tau=[0,...]",
        _LONG,
        tau,
    )


def drawn_scores(values: ArrayLike, votes: ArrayLike, tau: float, source: np.random.Generator) -> Floats:
    """Return scores whose greatest is a draw by ``votes * exp(values / tau)``, float [N]; at ``tau=0`` the values.

    Source: the Gumbel-max trick, Yellott 1977.
    """
    values = np.asarray(values, dtype=float)
    return values + tau * (np.log(votes) + source.gumbel(size=values.shape))
