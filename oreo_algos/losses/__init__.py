"""Losses: pure functions of tensors, which own no model, optimiser, device or logger."""

from oreo_algos.losses.advantage import advantage_regression_loss, clipped_ratio_loss, step_advantages
from oreo_algos.losses.divergence import k3_estimate
from oreo_algos.losses.dpo import dpo_hinge_loss, dpo_loss, ipo_loss
from oreo_algos.losses.kto import kto_loss
from oreo_algos.losses.masked import masked_episode_mean, partial_episode_mean
from oreo_algos.losses.nll import nll_loss
from oreo_algos.losses.oreo import (
    full_gradient_policy_loss,
    importance_weights,
    oreo_policy_loss,
    oreo_value_loss,
    positive_hinge_loss,
    residuals,
)
from oreo_algos.losses.outcome import outcome_cross_entropy
from oreo_algos.losses.reinforce import reinforce_loss, tapered_weights
from oreo_algos.losses.temperature import effective_temperature
from oreo_algos.losses.temporal_difference import (
    lambda_value_loss,
    next_values,
    one_step_policy_loss,
    soft_lambda_returns,
)
from oreo_algos.losses.weighted import advantage_weights, expectile_loss, weighted_nll_loss

__all__ = [
    "advantage_regression_loss",
    "advantage_weights",
    "clipped_ratio_loss",
    "dpo_hinge_loss",
    "dpo_loss",
    "effective_temperature",
    "expectile_loss",
    "full_gradient_policy_loss",
    "importance_weights",
    "ipo_loss",
    "k3_estimate",
    "kto_loss",
    "lambda_value_loss",
    "masked_episode_mean",
    "next_values",
    "nll_loss",
    "one_step_policy_loss",
    "oreo_policy_loss",
    "oreo_value_loss",
    "outcome_cross_entropy",
    "partial_episode_mean",
    "positive_hinge_loss",
    "reinforce_loss",
    "residuals",
    "soft_lambda_returns",
    "step_advantages",
    "tapered_weights",
    "weighted_nll_loss",
]
