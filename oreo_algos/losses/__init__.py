"""Losses: pure functions of tensors, which own no model, optimiser, device or logger."""

from oreo_algos.losses.dpo import dpo_loss
from oreo_algos.losses.kto import kto_loss
from oreo_algos.losses.masked import masked_episode_mean
from oreo_algos.losses.nll import nll_loss
from oreo_algos.losses.oreo import oreo_policy_loss, oreo_value_loss, residuals

__all__ = [
    "dpo_loss",
    "kto_loss",
    "masked_episode_mean",
    "nll_loss",
    "oreo_policy_loss",
    "oreo_value_loss",
    "residuals",
]
