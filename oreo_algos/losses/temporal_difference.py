"""Soft Bellman consistency of one step: what bootstraps from the value of the next state.

Knows: one-step residuals and soft lambda-returns, at any granularity.
Does not know: what a step is, and the KL regulariser, which an algorithm may add.
Source: Wang et al. 2024 (arXiv:2412.16145), Theorem 1, and the one-step option of their released code; Ji et al. 2024
(arXiv:2410.09302), Direct Q-function Optimization.

Arguments, results and errors that are not explained below: those of all losses of steps, see ``losses.oreo``.
"""

# B episodes, K steps, l_k log-ratio of step k, r_k reward after it, sg stop gradient.

import torch
from torch import Tensor

from oreo_algos.losses.masked import check_beta, check_rows, check_same_shape, masked_episode_mean
from oreo_algos.losses.oreo import importance_weights


def one_step_policy_loss(
    values: Tensor, log_ratio: Tensor, rewards: Tensor, step_mask: Tensor, *, beta: float
) -> Tensor:
    """Squared difference of the soft Q-function and its one-step target.

    With ``Q(s_k, a_k) = V(s_k) + beta * l_k`` the residual of step k is
    ``sg(V(s_k)) + beta * l_k - r_k - sg(V(s_{k+1}))``, where V after the last step is 0. No gradient
    reaches ``values``.

    Arguments, result and errors: see `losses.oreo`.

    Source: Theorem 1 of Wang et al. 2024 for one step; the Q-loss of Ji et al. 2024.
    """
    _check(values, log_ratio, rewards, step_mask, beta)
    fixed = values.detach()
    residual = fixed + beta * log_ratio - rewards - next_values(fixed, step_mask)
    # Filled before squaring, so that nothing on padding reaches the gradient.
    return masked_episode_mean(residual.masked_fill(~step_mask, 0).square(), step_mask)


def lambda_value_loss(
    values: Tensor,
    log_ratio: Tensor,
    rewards: Tensor,
    step_mask: Tensor,
    *,
    beta: float,
    trace: float,
    importance_cap: float | None = None,
) -> Tensor:
    """Squared difference of the value and its soft lambda-return: ``(V(s_k) - sg(G_k))^2``.

    Arguments, result and errors: see `losses.oreo`.

    Args:
        trace: lambda in [0, 1], see `soft_lambda_returns`: 0 is the one-step target, 1 Equation 8 of
            Wang et al. 2024 (`oreo_value_loss`).
        importance_cap: c, nats: the square of step k weighs `importance_weights`; None: 1.

    Raises:
        ValueError: trace is no share, or as for every loss.

    Source: Ji et al. 2024 (arXiv:2410.09302), value loss with lambda-returns.
    """
    targets = soft_lambda_returns(values, log_ratio, rewards, step_mask, beta=beta, trace=trace)
    squares = (values - targets).masked_fill(~step_mask, 0).square()
    if importance_cap is not None:
        squares = squares * importance_weights(log_ratio, step_mask, cap=importance_cap)
    return masked_episode_mean(squares, step_mask)


def soft_lambda_returns(
    values: Tensor, log_ratio: Tensor, rewards: Tensor, step_mask: Tensor, *, beta: float, trace: float
) -> Tensor:
    """Return ``G_k = r_k - beta * l_k + (1 - trace) * V(s_{k+1}) + trace * G_{k+1}``, without gradient.

    V and G after the last step are 0. Reward units, float [B, K], 0 on padding; arguments and errors as in
    `lambda_value_loss`.
    """
    _check(values, log_ratio, rewards, step_mask, beta)
    if not 0 <= trace <= 1:
        raise ValueError(f"trace must be in [0, 1], got {trace}")
    now = (rewards - beta * log_ratio).detach().masked_fill(~step_mask, 0)
    bootstrap = (1 - trace) * next_values(values.detach(), step_mask)
    columns: list[Tensor] = []
    later = torch.zeros_like(now[:, 0])
    for k in range(now.shape[1] - 1, -1, -1):
        later = now[:, k] + bootstrap[:, k] + trace * later
        columns.append(later)
    return torch.stack(columns[::-1], dim=1).masked_fill(~step_mask, 0)


def next_values(values: Tensor, step_mask: Tensor) -> Tensor:
    """V(s_{k+1}) in column k, float [B, K]: 0 at the last step of an episode and on padding."""
    real = values.masked_fill(~step_mask, 0)
    return torch.cat([real[:, 1:], torch.zeros_like(real[:, :1])], dim=1)


def _check(values: Tensor, log_ratio: Tensor, rewards: Tensor, step_mask: Tensor, beta: float) -> None:
    check_beta(beta)
    check_same_shape(values=values, log_ratio=log_ratio, rewards=rewards, step_mask=step_mask)
    check_rows(step_mask, "step")
