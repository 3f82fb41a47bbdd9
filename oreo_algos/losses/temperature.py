"""How warm the optimum of a squared soft-Bellman residual with a KL regulariser is.

Knows: beta, alpha, how many steps and tokens episodes have. Does not know: networks, batches, what a step is.
"""

import torch
from torch import Tensor

from oreo_algos.losses.masked import check_beta, check_same_shape


def effective_temperature(
    beta: float, alpha: float, steps: Tensor, tokens: Tensor, *, all_gradients: bool = False
) -> Tensor:
    """KL temperature that stands in place of beta once there is a regulariser, mean over episodes.

    The policy loss of an episode of K steps and N tokens, n = N / K in a step, is
    ``mean_k (... + beta * l_k - R_k)^2 + alpha * mean_t KL_t``. To second order around the reference both are
    quadratic in the log-ratio with the same curvature, for the KL of a step is the sum of those of its tokens. Where
    the gradient vanishes, ``(2 beta^2 / K + alpha / N) * l = 2 beta / K * advantage``, so the policy is
    that of the objective ``E_pi[R] - T * KL`` with

        T = beta + alpha / (2 * beta * n)

    At token level n is 1: the length of the answer cancels. Where the gradient of a residual reaches all later
    log-ratios (``all_gradients``), the i-th log-ratio is in i squares, on average (K + 1) / 2, and the second term is
    divided by that. The estimates of the KL agree to second order.

    Args:
        beta: KL temperature of the residual, reward units per nat, > 0.
        alpha: weight of the mean KL per token, reward units squared per nat.
        steps: K of each episode, [B], > 0.
        tokens: N of each episode, [B], > 0.
        all_gradients: as in ``full_gradient_policy_loss``.

    Returns:
        Scalar, reward units per nat.

    Raises:
        ValueError: beta is not positive, shapes differ, or an episode has no step or token.

    Source: ours; the losses are Eq. 9 and 10 of Wang et al. 2024 (arXiv:2412.16145).
    """
    check_beta(beta)
    check_same_shape(steps=steps, tokens=tokens)
    if not (len(steps) and (steps > 0).all() and (tokens > 0).all()):
        raise ValueError("every episode needs at least one step and one token")
    squares = (steps + 1) / 2 if all_gradients else torch.ones_like(steps)
    return beta + alpha / (2 * beta) * (steps / (tokens * squares)).double().mean()
