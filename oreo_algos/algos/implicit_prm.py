"""An implicit process reward model: outcomes are the labels, the log-ratio of the policy is the logit.

Source: Yuan et al. 2024 (arXiv:2412.01981); Cui et al. 2025 (arXiv:2502.01456), PRIME, whose policy is another network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oreo_algos.algos.base import (
    EpisodeAlgorithm,
    Losses,
    mean_entropy,
    require_positive,
    score,
    subset_mean,
    transcript_log_ratio,
)
from oreo_algos.algos.selection import NothingToLearnError
from oreo_algos.batch import Batch
from oreo_algos.episode import Episode
from oreo_algos.losses import outcome_cross_entropy
from oreo_algos.models import Models
from oreo_algos.storage.buffer import EpisodeBuffer


@dataclass(frozen=True, kw_only=True)
class ImplicitPrm(EpisodeAlgorithm):
    """``beta * log(pi / ref)`` of a response becomes the logit of its success, and so that of a step its reward.

    Attributes:
        policy_lr: peak learning rate.
        beta: scale of the implicit reward, per nat.
    """

    policy_lr: float = 1e-6
    beta: float = 0.05

    needs = frozenset({"reference"})
    reads_success_only = True

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_positive(self, "beta")

    def select(self, buffer: EpisodeBuffer, rng: np.random.Generator) -> Sequence[Episode]:
        """Take every episode; there must be both outcomes."""
        episodes = super().select(buffer, rng)
        solved = int(buffer.columns.success.sum())
        if solved in (0, len(buffer)):
            raise NothingToLearnError(
                f"{'all' if solved else 'none'} of the {len(buffer)} episodes of this buffer succeeded, and a reward "
                "model tells one outcome from the other; collect more samples, or tasks that are sometimes solved"
            )
        return episodes

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """Cross-entropy of the outcomes, mean over episodes."""
        scores = score(batch, models)
        log_ratio = transcript_log_ratio(scores)
        loss = outcome_cross_entropy(log_ratio, batch.success, beta=self.beta)
        rewards = self.beta * log_ratio.detach()
        metrics = {
            "outcomes/accuracy": ((rewards > 0) == batch.success).double().mean().item(),
            **mean_entropy(scores, batch.action_mask),
        }
        for name, rows in (("chosen", batch.success), ("rejected", ~batch.success)):
            if rows.any():
                metrics[f"rewards/{name}"] = subset_mean(rewards, rows)
                metrics[f"logps/{name}"] = subset_mean(scores.logprobs.sum(dim=1), rows)
        return Losses({"policy": loss}, metrics)
