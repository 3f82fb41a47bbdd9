"""Regression of the log-ratio on an advantage over the question's optimal value, with two temperatures.

Source: Brantley et al. 2025 (arXiv:2505.20686), A*-PO, whose ratio is to the reference; Ritter et al. 2026
(arXiv:2602.19362), OAPL, whose ratio is to who made the samples. The loss is one; what is ours is said in
``docs/algorithms/optimal-advantage.md``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from oreo_algos.algos.base import EpisodeAlgorithm, Losses, mean_entropy, require_positive, score
from oreo_algos.algos.baselines import less_baseline, soft_values
from oreo_algos.algos.behavior import BEHAVIOR_EXTRA, behavior_scores, with_behavior
from oreo_algos.algos.value_metrics import advantage_metrics, ratio_metrics
from oreo_algos.batch import Batch
from oreo_algos.episode import Episode
from oreo_algos.losses import oreo_policy_loss
from oreo_algos.models import Models
from oreo_algos.segments import regroup, sum_by_step
from oreo_algos.storage.buffer import EpisodeBuffer


@dataclass(frozen=True, kw_only=True)
class OptimalAdvantage(EpisodeAlgorithm):
    """Fit ``beta * log(pi / anchor)`` of a response to ``r - V``, V being the soft maximum of the question's returns.

    Attributes:
        beta: temperature of the policy (beta_2), reward units per nat.
        value_beta: temperature of ``V = value_beta * log mean exp(r / value_beta)`` over the question's samples
            (beta_1), reward units per nat: large it is their mean, small the best of them.
        anchor: what the ratio is to: the ``reference`` (A*-PO), or the ``behavior`` that made the samples (OAPL), as
            was written down at sampling, and the reference where nothing was.
    """

    policy_lr: float = 1e-6
    beta: float = 1e-3
    value_beta: float = 0.5
    anchor: Literal["reference", "behavior"] = "reference"

    needs = frozenset({"reference"})
    extra = BEHAVIOR_EXTRA

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_positive(self, "beta", "value_beta")

    def select(self, buffer: EpisodeBuffer, rng: np.random.Generator) -> Sequence[Episode]:
        """Take every episode, with its advantage over the question's optimal value in place of its rewards."""
        found = less_baseline(buffer, soft_values(buffer, self.value_beta))
        return with_behavior(found, silent=self.anchor == "reference")

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """Squared residual of the responses, mean over episodes."""
        whole = regroup(batch, "response")
        scores = score(batch, models)
        assert scores.ref_logprobs is not None
        anchor = scores.ref_logprobs if self.anchor == "reference" else behavior_scores(batch, scores)
        log_ratio = sum_by_step(scores.logprobs - anchor, whole)
        advantages = whole.rewards
        loss = oreo_policy_loss(
            advantages.new_zeros(advantages.shape), log_ratio, advantages, whole.step_mask, beta=self.beta
        )
        metrics = {
            "losses/policy": loss.item(),
            **advantage_metrics(advantages, whole.step_mask),
            **ratio_metrics((scores.logprobs.detach() - scores.ref_logprobs).sum(dim=1), batch),
            **mean_entropy(scores, batch.action_mask),
        }
        return Losses({"policy": loss}, metrics)
