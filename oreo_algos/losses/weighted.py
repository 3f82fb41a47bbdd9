"""Advantage-weighted imitation, and the expectile that its value is.

Knows: weights, weighted likelihood, asymmetric squares. Does not know: what an advantage is made of.
Source: Peng et al. 2019 (arXiv:1910.00177), AWR; Kostrikov et al. 2021 (arXiv:2110.06169), IQL.
"""

# B episodes, T tokens, K steps.

import math

import torch
from torch import Tensor

from oreo_algos.losses.masked import (
    check_beta,
    check_rows,
    check_same_shape,
    masked_episode_mean,
    partial_episode_mean,
)


def advantage_weights(advantages: Tensor, *, beta: float, max_weight: float) -> Tensor:
    """Return ``min(exp(A / beta), max_weight)``, without gradient, of the shape of the advantages.

    Args:
        advantages: A, reward units.
        beta: temperature, reward units per nat, > 0.
        max_weight: bound, > 0.

    Raises:
        ValueError: beta or the bound is not positive.
    """
    check_beta(beta)
    if not max_weight > 0:
        raise ValueError(f"max_weight must be > 0, got {max_weight}")
    return (advantages.detach() / beta).clamp(max=math.log(max_weight)).exp()


def weighted_nll_loss(logprobs: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """Mean over episodes of the mean over their tokens to imitate of ``- w_t * log pi(x_t)``.

    Args:
        logprobs: log pi of token t, nats, float [B, T].
        weights: of each token, float [B, T], without gradient.
        mask: True on the tokens to imitate, bool [B, T]; an episode without any adds 0.

    Returns:
        Scalar, nats a token. It is not divided by the weights: where they are small, so is the gradient.

    Raises:
        ValueError: shapes differ.
    """
    check_same_shape(logprobs=logprobs, weights=weights, mask=mask)
    return partial_episode_mean(-weights.detach() * logprobs, mask)


def expectile_loss(values: Tensor, targets: Tensor, step_mask: Tensor, *, expectile: float) -> Tensor:
    """Asymmetric squares whose minimum is an expectile of the targets: ``2 * |tau - 1[u < 0]| * u^2``, u = G - V.

    Args:
        values: V(s_k), reward units, float [B, K].
        targets: G_k, reward units, float [B, K]; no gradient reaches them.
        step_mask: True on real steps, bool [B, K].
        expectile: tau in (0, 1): 0.5 is the mean, and the loss the squared error; near 1 the best that happened.

    Returns:
        Scalar: mean over episodes of the mean over their steps.

    Raises:
        ValueError: tau is out of range, shapes differ, or an episode has no step.

    Source: Kostrikov et al. 2021 (arXiv:2110.06169), L_2^tau; the factor 2 is ours.
    """
    if not 0 < expectile < 1:
        raise ValueError(f"expectile must be in (0, 1), got {expectile}")
    check_same_shape(values=values, targets=targets, step_mask=step_mask)
    check_rows(step_mask, "step")
    error = (targets.detach() - values).masked_fill(~step_mask, 0)
    return masked_episode_mean(2 * torch.where(error < 0, 1 - expectile, expectile) * error.square(), step_mask)
