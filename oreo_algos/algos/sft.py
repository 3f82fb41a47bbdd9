"""Supervised fine-tuning: maximum likelihood of the action tokens of demonstrations."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from oreo_algos.algos.base import EpisodeAlgorithm, Losses, mean_entropy, require_positive, require_whole, subset_mean
from oreo_algos.batch import Batch
from oreo_algos.losses import nll_loss
from oreo_algos.models import Models


@dataclass(frozen=True, kw_only=True)
class Sft(EpisodeAlgorithm):
    """Learn from every episode of the buffer; the mean is over tokens, as in TRL.

    Attributes:
        observation_weight: how much a token counts that is no action, of the prompt or an observation, against 1 for
            one of an action: a model from random weights learns the names of things sooner when it is to predict them.
    """

    policy_lr: float = 2e-5
    epochs: int = 3
    observation_weight: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if not 0 <= self.observation_weight <= 1:
            raise ValueError(f"observation_weight must be in [0, 1], got {self.observation_weight}")

    def weight(self, batch: Batch) -> float:
        """Sum the weights of the tokens that the loss is a mean over."""
        return float(self._token_weights(batch).sum())

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """Negative log-likelihood of the tokens that may be imitated, mean over tokens."""
        weights = self._token_weights(batch)
        scores = models.policy.score(self._scored(batch))
        metrics = mean_entropy(scores, batch.loss_mask)
        if self.observation_weight:
            for name, mask in {"actions": batch.loss_mask, "observations": ~batch.action_mask & (weights > 0)}.items():
                if mask.any():
                    metrics[f"nll/{name}"] = subset_mean(-scores.logprobs, mask)
        return Losses({"policy": nll_loss(scores.logprobs, weights)}, metrics)

    def _scored(self, batch: Batch) -> Batch:
        """Return the batch with every token to be scored that has a weight."""
        if not self.observation_weight:
            return batch
        return replace(batch, step_id=torch.where(batch.attention, 0, -1))

    def _token_weights(self, batch: Batch) -> Tensor:
        """Return how much each token counts, float [B, T]."""
        weights = batch.loss_mask.float()
        observed = batch.attention & ~batch.action_mask
        observed[:, 0] = False  # nothing predicts the first token
        return torch.where(observed, self.observation_weight, weights)


@dataclass(frozen=True, kw_only=True)
class MoreSft(Sft):
    """Go on with supervised fine-tuning: the control that tells what offline learning gained from what time gained.

    Its buffer is to hold demonstrations, and no offline episodes.

    Attributes:
        samples: new demonstrations of each task that the supervised start was shown.
    """

    epochs: int = 1
    samples: int = 1

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_positive(self, "samples")
        require_whole(self, "samples")
