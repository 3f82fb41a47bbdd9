"""Direct preference optimisation on pairs of a right and a wrong episode of the same task.

Source: Rafailov et al. 2023 (arXiv:2305.18290); baseline of Wang et al. 2024 (arXiv:2412.16145). The variants have
the names and the form of TRL. With the likelihood of the chosen: Pang et al. 2024 (arXiv:2404.19733). Pairs that share
their first steps: Lai et al. 2024 (arXiv:2406.18629), Step-DPO; of games: Song et al. 2024 (arXiv:2403.02502), ETO.
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
    require_whole,
    score,
    subset_mean,
    token_log_ratio,
)
from oreo_algos.algos.selection import Pairs, preference_pairs, step_pairs
from oreo_algos.batch import Batch
from oreo_algos.episode import Episode
from oreo_algos.losses import dpo_hinge_loss, dpo_loss, ipo_loss, partial_episode_mean
from oreo_algos.models import Models
from oreo_algos.storage.buffer import EpisodeBuffer

LossType = Literal["sigmoid", "hinge", "ipo"]
Compared = Literal["rest", "step"]


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
        nll_weight: of the negative log-likelihood of the chosen response, mean over its tokens, that is added for each
            pair; 1 in Iterative RPO.
        shared_steps: pairs have at least so many first steps in common, and the loss is of the tokens after those; 0:
            of whole responses.
        compared: ``rest``: all steps from the one on in which they part; ``step``: that one alone, as in Step-DPO.
    """

    policy_lr: float = 5e-7
    beta: float = 0.1
    loss_type: LossType = "sigmoid"
    label_smoothing: float = 0.0
    max_pairs: int = 6
    nll_weight: float = 0.0
    shared_steps: int = 0
    compared: Compared = "rest"

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
        require_whole(self, "shared_steps")
        require_one_of(self, "compared", get_args(Compared))
        for name in ("nll_weight", "shared_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"Dpo.{name} must not be negative, got {getattr(self, name)}")

    @property
    def compares_steps(self) -> bool:
        """Whether the pairs part at a step that is looked for."""
        return self.shared_steps > 0 or self.compared == "step"

    def select(self, buffer: EpisodeBuffer, rng: np.random.Generator) -> Pairs:
        """Take the pairs that the data names, and draw some of each task that has both outcomes."""
        if self.compares_steps:
            return step_pairs(buffer, self.max_pairs, self.shared_steps, rng)
        return preference_pairs(buffer, self.max_pairs, rng)

    def weight(self, batch: Batch) -> float:
        """Count pairs."""
        return len(batch) / 2

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """DPO loss and likelihood of the chosen, means over pairs."""
        scores, mask, metrics = score(batch, models), batch.action_mask, dict[str, float]()
        if self.compares_steps:
            step = parting_step(batch)
            mask = mask & (batch.step_id == step if self.compared == "step" else batch.step_id >= step)
            metrics["pairs/shared_steps"] = step.clamp(min=0).double().mean().item()
        chosen_ratio, rejected_ratio = _pairs(token_log_ratio(scores).masked_fill(~mask, 0).sum(dim=1))
        logprobs = scores.logprobs.masked_fill(~mask, 0)
        chosen_logprob, rejected_logprob = _pairs(logprobs.detach().sum(dim=1))
        is_chosen = torch.arange(len(batch), device=batch.tokens.device) % 2 == 0
        margins = (self.beta * (chosen_ratio - rejected_ratio)).detach()
        metrics |= {
            "rewards/chosen": self.beta * chosen_ratio.mean().item(),
            "rewards/rejected": self.beta * rejected_ratio.mean().item(),
            "rewards/margins": margins.mean().item(),
            "rewards/accuracies": (margins > 0).float().mean().item(),
            "logps/chosen": chosen_logprob.mean().item(),
            "logps/rejected": rejected_logprob.mean().item(),
            **mean_entropy(scores, mask & is_chosen[:, None]),
        }
        loss = self._loss(chosen_ratio, rejected_ratio, mask)
        if self.nll_weight:
            imitated = (mask & batch.loss_mask)[0::2]
            loss = loss + self.nll_weight * partial_episode_mean(-logprobs[0::2], imitated)
            if imitated.any():
                metrics["nll/chosen"] = subset_mean(-logprobs[0::2], imitated)
        return Losses({"policy": loss}, metrics)

    def _loss(self, chosen_ratio: Tensor, rejected_ratio: Tensor, mask: Tensor) -> Tensor:
        match self.loss_type:
            case "sigmoid":
                return dpo_loss(chosen_ratio, rejected_ratio, beta=self.beta, label_smoothing=self.label_smoothing)
            case "hinge":
                return dpo_hinge_loss(chosen_ratio, rejected_ratio, beta=self.beta)
            case "ipo":
                chosen, rejected = _pairs(mask.sum(dim=1))
                return ipo_loss(chosen_ratio / chosen, rejected_ratio / rejected, beta=self.beta)


def parting_step(batch: Batch) -> Tensor:
    """Return the step in which the episodes of each pair part, int64 [2 B, 1], the same for both; -1: in none.

    The steps before it have the same tokens, observations included, see ``selection.shared_steps``.
    """
    same = (batch.tokens[0::2] == batch.tokens[1::2]) & (batch.step_id[0::2] == batch.step_id[1::2])
    same &= batch.attention[0::2] & batch.attention[1::2]
    place = same.cumprod(dim=1).sum(dim=1, keepdim=True).clamp(max=same.shape[1] - 1)
    return batch.step_id[0::2].gather(1, place).repeat_interleave(2, dim=0)


def _pairs(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Split a number a row, [2 B], into those of the chosen and of the rejected episodes, [B] each."""
    return rows[0::2], rows[1::2]
