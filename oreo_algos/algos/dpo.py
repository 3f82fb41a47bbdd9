"""Direct preference optimisation on pairs of a right and a wrong episode of the same task.

Source: Rafailov et al. 2023 (arXiv:2305.18290); baseline of Wang et al. 2024 (arXiv:2412.16145). The variants have
the names and the form of TRL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from torch import Tensor

from oreo_algos.algos.base import (
    Algorithm,
    Losses,
    mean_entropy,
    require_one_of,
    require_positive,
    transcript_log_ratio,
)
from oreo_algos.batch import Batch, collate
from oreo_algos.buffer import EpisodeBuffer
from oreo_algos.episode import Episode
from oreo_algos.losses import dpo_hinge_loss, dpo_loss, ipo_loss
from oreo_algos.models import Models
from oreo_algos.selection import preference_pairs

LossType = Literal["sigmoid", "hinge", "ipo"]


class Preference(NamedTuple):
    """Two batches of equal length: row b of ``chosen`` is preferred to row b of ``rejected``."""

    chosen: Batch
    rejected: Batch

    def to(self, device: Any) -> "Preference":
        """Move both batches."""
        return Preference(self.chosen.to(device), self.rejected.to(device))


@dataclass(frozen=True, kw_only=True)
class Dpo(Algorithm[tuple[Episode, Episode], Preference]):
    """DPO, by default with the sigmoid loss of its paper.

    Attributes:
        beta: KL temperature of the implicit reward, reward units per nat; with ``ipo`` the margin to reach is
            ``1 / (2 * beta)`` nats a token.
        loss_type: ``sigmoid``; ``hinge`` (SLiC); ``ipo``, on log-ratios averaged over the tokens of a response.
        label_smoothing: share of the labels that is taken to be wrong (cDPO), in [0, 0.5); sigmoid only.
        max_pairs: pairs a task at most.
    """

    policy_lr: float = 5e-7
    beta: float = 0.1
    loss_type: LossType = "sigmoid"
    label_smoothing: float = 0.0
    max_pairs: int = 6

    needs = frozenset({"reference"})

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_positive(self, "beta", "max_pairs")
        require_one_of(self, "loss_type", get_args(LossType))
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"Dpo.label_smoothing must be in [0, 0.5), got {self.label_smoothing}")
        if self.label_smoothing and self.loss_type != "sigmoid":
            raise ValueError(f"label_smoothing belongs to loss_type=sigmoid, got loss_type={self.loss_type}")

    def select(self, buffer: EpisodeBuffer, rng: np.random.Generator) -> list[tuple[Episode, Episode]]:
        """Draw pairs of each task that has both outcomes."""
        return preference_pairs(buffer, self.max_pairs, rng)

    def collate(self, examples: Sequence[tuple[Episode, Episode]]) -> Preference:
        """Pad the chosen and the rejected episodes, each among themselves."""
        chosen, rejected = zip(*examples, strict=True)
        return Preference(collate(chosen), collate(rejected))

    def weight(self, batch: Preference) -> float:
        """Count pairs."""
        return float(len(batch.chosen))

    def losses(self, batch: Preference, models: Models, context: Any = None) -> Losses:
        """DPO loss, mean over pairs."""
        chosen = models.policy.score(batch.chosen, models.reference)
        rejected = models.policy.score(batch.rejected, models.reference)
        chosen_ratio, rejected_ratio = transcript_log_ratio(chosen), transcript_log_ratio(rejected)
        margins = (self.beta * (chosen_ratio - rejected_ratio)).detach()
        metrics = {
            "rewards/chosen": self.beta * chosen_ratio.mean().item(),
            "rewards/rejected": self.beta * rejected_ratio.mean().item(),
            "rewards/margins": margins.mean().item(),
            "rewards/accuracies": (margins > 0).float().mean().item(),
            "logps/chosen": chosen.logprobs.sum(dim=1).mean().item(),
            "logps/rejected": rejected.logprobs.sum(dim=1).mean().item(),
            **mean_entropy(chosen, batch.chosen.action_mask),
        }
        return Losses({"policy": self._loss(chosen_ratio, rejected_ratio, batch)}, metrics)

    def _loss(self, chosen_ratio: Tensor, rejected_ratio: Tensor, batch: Preference) -> Tensor:
        match self.loss_type:
            case "sigmoid":
                return dpo_loss(chosen_ratio, rejected_ratio, beta=self.beta, label_smoothing=self.label_smoothing)
            case "hinge":
                return dpo_hinge_loss(chosen_ratio, rejected_ratio, beta=self.beta)
            case "ipo":
                chosen, rejected = (half.action_mask.sum(dim=1) for half in batch)
                return ipo_loss(chosen_ratio / chosen, rejected_ratio / rejected, beta=self.beta)
