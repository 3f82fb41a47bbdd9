"""AsymRE: off-policy REINFORCE whose baseline is a little lower than the mean return.

Source: Arnal et al. 2025 (arXiv:2506.20520): advantage r - V with V = mean over a question's samples + delta_v, no
importance weights, no reference. What is ours is said in ``docs/algorithms/asymre.md``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oreo_algos.algos.base import EpisodeAlgorithm, Losses, mean_entropy
from oreo_algos.algos.baselines import Baseline, baseline_values, less_baseline
from oreo_algos.algos.value_metrics import advantage_metrics, logprob_metrics
from oreo_algos.batch import Batch
from oreo_algos.episode import Episode
from oreo_algos.losses import reinforce_loss
from oreo_algos.models import Models
from oreo_algos.segments import reward_to_go, sum_by_step
from oreo_algos.storage.buffer import EpisodeBuffer


@dataclass(frozen=True, kw_only=True)
class AsymRe(EpisodeAlgorithm):
    """Raise the likelihood of what returned more than its baseline, lower that of what returned less.

    Attributes:
        baseline: what a return is compared with: a number, reward units; the mean return of all episodes (``data``), of
            the ``question``'s, or of those that were in the same ``state`` of it, action by action.
        delta_v: added to the baseline, reward units. The lower, the nearer are the shares of the better answers to
            those in the data, and the more is what is worse imitated too, as are a question's samples that are all
            alike; towards 0 fewer answers are left, from 0 on one.
    """

    policy_lr: float = 5e-6
    baseline: Baseline = "question"
    delta_v: float = -0.1

    def select(self, buffer: EpisodeBuffer, rng: np.random.Generator) -> Sequence[Episode]:
        """Take every episode, with advantages in place of its rewards."""
        return less_baseline(buffer, baseline_values(buffer, self.baseline), shift=self.delta_v)

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """REINFORCE loss of every action, summed over an episode, mean over episodes."""
        scores = models.policy.score(batch)
        advantages = reward_to_go(batch.rewards, batch.step_mask)
        loss = reinforce_loss(sum_by_step(scores.logprobs, batch), advantages, batch.step_mask)
        metrics = {
            **advantage_metrics(advantages, batch.step_mask),
            **logprob_metrics(scores, batch),
            **mean_entropy(scores, batch.action_mask),
        }
        return Losses({"policy": loss}, metrics)
