"""Supervised fine-tuning: maximum likelihood of the action tokens of demonstrations."""

from dataclasses import dataclass
from typing import Any

from oreo_algos.algos.base import EpisodeAlgorithm, Losses, mean_entropy
from oreo_algos.batch import Batch
from oreo_algos.losses import nll_loss
from oreo_algos.models import Models


@dataclass(frozen=True, kw_only=True)
class Sft(EpisodeAlgorithm):
    """Learn from every episode of the buffer; the mean is over tokens, as in TRL."""

    policy_lr: float = 2e-5
    epochs: int = 3

    def weight(self, batch: Batch) -> float:
        """Count the tokens that the loss is a mean over."""
        return float(batch.num_loss_tokens)

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """Negative log-likelihood of the tokens that may be imitated, mean over tokens."""
        scores = models.policy.score(batch)
        metrics = mean_entropy(scores, batch.loss_mask)
        return Losses({"policy": nll_loss(scores.logprobs, batch.loss_mask)}, metrics)
