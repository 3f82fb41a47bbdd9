"""TOPR, tapered off-policy REINFORCE: what is worse than the baseline counts by how likely it still is.

Source: Le Roux et al. 2025 (arXiv:2503.14286): weight 1 where R >= 0 and the ratio pi / mu of the response, held in
[0, 1], where R < 0. What is ours is said in ``docs/algorithms/topr.md``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from oreo_algos.algos.base import EpisodeAlgorithm, Losses, mean_entropy, score, subset_mean
from oreo_algos.algos.baselines import baseline_values, less_baseline
from oreo_algos.algos.behavior import BEHAVIOR_EXTRA, behavior_scores, with_behavior
from oreo_algos.algos.value_metrics import advantage_metrics, logprob_metrics, ratio_metrics
from oreo_algos.batch import Batch
from oreo_algos.episode import Episode
from oreo_algos.losses import reinforce_loss, tapered_weights
from oreo_algos.models import Models
from oreo_algos.segments import regroup, sum_by_step
from oreo_algos.storage.buffer import EpisodeBuffer


@dataclass(frozen=True, kw_only=True)
class Topr(EpisodeAlgorithm):
    """Imitate what returned more than the baseline, unlearn the rest until it is unlikely.

    Attributes:
        baseline: what a return is compared with: a number, reward units; the mean return of all episodes (``data``) or
            of the ``question``'s. Half of a reward of 0 or 1 stands for the paper's rewards of -1 and 1.
    """

    policy_lr: float = 5e-6
    baseline: float | Literal["data", "question"] = 0.5

    needs = frozenset({"reference"})
    extra = BEHAVIOR_EXTRA

    def select(self, buffer: EpisodeBuffer, rng: np.random.Generator) -> Sequence[Episode]:
        """Take every episode, with its advantage in place of its rewards."""
        return with_behavior(less_baseline(buffer, baseline_values(buffer, self.baseline)))

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """Tapered REINFORCE loss of the responses, mean over episodes."""
        whole = regroup(batch, "response")
        scores = score(batch, models)
        logprobs, advantages = sum_by_step(scores.logprobs, whole), whole.rewards
        ratio = (scores.logprobs.detach() - behavior_scores(batch, scores)).sum(dim=1)
        weights = tapered_weights(ratio, advantages[:, 0])
        loss = reinforce_loss(logprobs, advantages, whole.step_mask, weights=weights[:, None])
        assert scores.ref_logprobs is not None
        metrics = {
            **advantage_metrics(advantages, whole.step_mask),
            **logprob_metrics(scores, batch),
            **ratio_metrics((scores.logprobs.detach() - scores.ref_logprobs).sum(dim=1), batch),
            **mean_entropy(scores, batch.action_mask),
        }
        worse = advantages[:, 0] < 0
        if worse.any():
            metrics["weights/negative"] = subset_mean(weights, worse)
        return Losses({"policy": loss}, metrics)
