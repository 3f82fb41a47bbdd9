"""Direct preference optimisation on pairs of a right and a wrong episode of the same task.

Source: Rafailov et al. 2023 (arXiv:2305.18290); baseline of Wang et al. 2024 (arXiv:2412.16145). The variants have
the names and the form of TRL.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from oreo_algos.algos.base import (
    Algorithm,
    Losses,
    mean_entropy,
    require_one_of,
    require_positive,
    score,
    transcript_log_ratio,
)
from oreo_algos.algos.selection import Pairs, preference_pairs
from oreo_algos.batch import Batch
from oreo_algos.episode import Episode
from oreo_algos.losses import dpo_hinge_loss, dpo_loss, ipo_loss
from oreo_algos.models import Models
from oreo_algos.storage.buffer import EpisodeBuffer

LossType = Literal["sigmoid", "hinge", "ipo"]


@dataclass(frozen=True, kw_only=True)
class Dpo(Algorithm[tuple[Episode, Episode]]):
    """DPO, by default with the sigmoid loss of its paper.

    A batch holds pairs in neighbouring rows, chosen before rejected, so that one forward pass scores both.

    Attributes:
        beta: KL temperature of the implicit reward, reward units per nat; with ``ipo`` the margin to reach is
            ``1 / (2 * beta)`` nats a token.
        loss_type: ``sigmoid``; ``hinge`` (SLiC); ``ipo``, on log-ratios averaged over the tokens of a response.
        label_smoothing: share of the labels that is taken to be wrong (cDPO), in [0, 0.5); sigmoid only.
        max_pairs: pairs a task at most that are drawn; those that the data names, see ``EpisodeBuffer.pairs``, are all
            kept.
    """

    policy_lr: float = 5e-7
    beta: float = 0.1
    loss_type: LossType = "sigmoid"
    label_smoothing: float = 0.0
    max_pairs: int = 6

    needs = frozenset({"reference"})
    reads_success_only = True

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_positive(self, "beta", "max_pairs")
        require_one_of(self, "loss_type", get_args(LossType))
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"Dpo.label_smoothing must be in [0, 0.5), got {self.label_smoothing}")
        if self.label_smoothing and self.loss_type != "sigmoid":
            raise ValueError(f"label_smoothing belongs to loss_type=sigmoid, got loss_type={self.loss_type}")

    def select(self, buffer: EpisodeBuffer, rng: np.random.Generator) -> Pairs:
        """Take the pairs that the data names, and draw some of each task that has both outcomes."""
        return preference_pairs(buffer, self.max_pairs, rng)

    def weight(self, batch: Batch) -> float:
        """Count pairs."""
        return len(batch) / 2

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """DPO loss, mean over pairs."""
        scores = score(batch, models)
        chosen_ratio, rejected_ratio = _pairs(transcript_log_ratio(scores))
        chosen_logprob, rejected_logprob = _pairs(scores.logprobs.detach().sum(dim=1))
        is_chosen = torch.arange(len(batch), device=batch.tokens.device) % 2 == 0
        margins = (self.beta * (chosen_ratio - rejected_ratio)).detach()
        metrics = {
            "rewards/chosen": self.beta * chosen_ratio.mean().item(),
            "rewards/rejected": self.beta * rejected_ratio.mean().item(),
            "rewards/margins": margins.mean().item(),
            "rewards/accuracies": (margins > 0).float().mean().item(),
            "logps/chosen": chosen_logprob.mean().item(),
            "logps/rejected": rejected_logprob.mean().item(),
            **mean_entropy(scores, batch.action_mask & is_chosen[:, None]),
        }
        return Losses({"policy": self._loss(chosen_ratio, rejected_ratio, batch)}, metrics)

    def _loss(self, chosen_ratio: Tensor, rejected_ratio: Tensor, batch: Batch) -> Tensor:
        match self.loss_type:
            case "sigmoid":
                return dpo_loss(chosen_ratio, rejected_ratio, beta=self.beta, label_smoothing=self.label_smoothing)
            case "hinge":
                return dpo_hinge_loss(chosen_ratio, rejected_ratio, beta=self.beta)
            case "ipo":
                chosen, rejected = _pairs(batch.action_mask.sum(dim=1))
                return ipo_loss(chosen_ratio / chosen, rejected_ratio / rejected, beta=self.beta)


def _pairs(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Split a number a row, [2 B], into those of the chosen and of the rejected episodes, [B] each."""
    return rows[0::2], rows[1::2]
