"""OREO: the value and the policy learn from one soft-Bellman residual.

Knows: the two objectives, at any granularity.
Does not know: what a step is, and the KL term of the policy objective, which the algorithm adds.
Source: Wang et al. 2024 (arXiv:2412.16145), Theorem 1 and Equations 8 to 10.
"""

# B episodes, K steps, l_k log-ratio of step k, R_k reward-to-go, sg stop gradient.

from torch import Tensor

from oreo_algos.losses.masked import check_beta, check_rows, check_same_shape, masked_episode_mean
from oreo_algos.segments import suffix_sum


def oreo_value_loss(values: Tensor, log_ratio: Tensor, returns: Tensor, step_mask: Tensor, *, beta: float) -> Tensor:
    """Squared soft-Bellman residual of the value function.

    For step k the residual is ``V(s_k) + beta * sum_{i >= k} sg(l_i) - R_k``; it is zero at the
    KL-regularised optimum. The policy is held fixed: no gradient reaches ``log_ratio``.

    Args:
        values: V(s_k) just before step k, reward units, float [B, K].
        log_ratio: log pi - log pi_ref of step k, summed over its tokens, nats, float [B, K];
            ignored on padding.
        returns: undiscounted reward-to-go from step k, reward units, float [B, K].
        step_mask: True on real steps, bool [B, K]. Padding is on the right.
        beta: KL temperature, reward units per nat, > 0.

    Returns:
        Scalar: mean over episodes of the mean over their steps.

    Raises:
        ValueError: beta is not positive, shapes differ, or an episode has no step.

    Source: Wang et al. 2024 (arXiv:2412.16145), Equation 8.
    Deviation: rewards may fall on any step; the paper has one at the end.
    """
    residual = residuals(values, log_ratio.detach(), returns, step_mask, beta=beta)
    return masked_episode_mean(residual.square(), step_mask)


def oreo_policy_loss(values: Tensor, log_ratio: Tensor, returns: Tensor, step_mask: Tensor, *, beta: float) -> Tensor:
    """Squared soft-Bellman residual of the policy, without the KL term.

    For step k the residual is ``sg(V(s_k)) + beta * l_k + sg(beta * sum_{i > k} l_i) - R_k``. Its
    value is that of `oreo_value_loss`, its gradient reaches only the step's own log-ratio: no
    gradient reaches ``values``.

    Args:
        values: V(s_k) just before step k, reward units, float [B, K].
        log_ratio: log pi - log pi_ref of step k, summed over its tokens, nats, float [B, K];
            ignored on padding.
        returns: undiscounted reward-to-go from step k, reward units, float [B, K].
        step_mask: True on real steps, bool [B, K]. Padding is on the right.
        beta: KL temperature, reward units per nat, > 0.

    Returns:
        Scalar: mean over episodes of the mean over their steps.

    Raises:
        ValueError: beta is not positive, shapes differ, or an episode has no step.

    Source: Wang et al. 2024 (arXiv:2412.16145), Equation 9; Equation 10 when the response is one
    step.
    Deviation: rewards may fall on any step; the paper has one at the end.
    """
    fixed = residuals(values.detach(), log_ratio.detach(), returns, step_mask, beta=beta)
    own = log_ratio.masked_fill(~step_mask, 0)
    # The difference is zero in value and the step's own log-ratio in gradient.
    residual = fixed + beta * (own - own.detach())
    return masked_episode_mean(residual.square(), step_mask)


def residuals(values: Tensor, log_ratio: Tensor, returns: Tensor, step_mask: Tensor, *, beta: float) -> Tensor:
    """Soft-Bellman residual of each step, accumulated to the end of the episode.

    Args:
        values: V(s_k) just before step k, reward units, float [B, K].
        log_ratio: log pi - log pi_ref of step k, summed over its tokens, nats, float [B, K];
            ignored on padding.
        returns: undiscounted reward-to-go from step k, reward units, float [B, K].
        step_mask: True on real steps, bool [B, K]. Padding is on the right.
        beta: KL temperature, reward units per nat, > 0.

    Returns:
        ``V(s_k) + beta * sum_{i >= k} l_i - R_k``, reward units, float [B, K], 0 on padding;
        differentiable in all.

    Raises:
        ValueError: beta is not positive, shapes differ, or an episode has no step.

    Source: Wang et al. 2024 (arXiv:2412.16145), Theorem 1 summed from step k to the end.
    """
    check_beta(beta)
    check_same_shape(values=values, log_ratio=log_ratio, returns=returns, step_mask=step_mask)
    check_rows(step_mask, "step")
    to_go = suffix_sum(log_ratio.masked_fill(~step_mask, 0))
    return (values + beta * to_go - returns).masked_fill(~step_mask, 0)
