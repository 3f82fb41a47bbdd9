"""OREO: the value and the policy learn from one soft-Bellman residual.

Knows: the two objectives, at any granularity, and the variants of the authors' released code.
Does not know: what a step is, and the KL term of the policy objective, which the algorithm adds.
Source: Wang et al. 2024 (arXiv:2412.16145), Theorem 1 and Equations 8 to 10.

The arguments that all losses of steps take, here and in ``temporal_difference``:

    values: V(s_k) just before step k, reward units, float [B, K].
    log_ratio: log pi - log pi_ref of step k, summed over its tokens, nats, float [B, K]; ignored on padding.
    returns: undiscounted reward-to-go from step k, reward units, float [B, K].
    rewards: reward after step k, reward units, float [B, K]; ignored on padding.
    step_mask: True on real steps, bool [B, K]. Padding is on the right.
    beta: KL temperature, reward units per nat, > 0.

They return a scalar, the mean over episodes of the mean over their steps, and raise ``ValueError`` where beta is not
positive, shapes differ, or an episode has no step. Rewards may fall on any step; the paper has one at the end.
"""

# B episodes, K steps, l_k log-ratio of step k, R_k reward-to-go, sg stop gradient.

from torch import Tensor
from torch.nn import functional as F

from oreo_algos.losses.masked import check_beta, check_rows, check_same_shape, masked_episode_mean, partial_episode_mean
from oreo_algos.segments import suffix_sum


def oreo_value_loss(
    values: Tensor,
    log_ratio: Tensor,
    returns: Tensor,
    step_mask: Tensor,
    *,
    beta: float,
    log_ratio_clip: float | None = None,
    importance_cap: float | None = None,
    counted: Tensor | None = None,
) -> Tensor:
    """Squared soft-Bellman residual of the value function.

    For step k the residual is ``V(s_k) + beta * sum_{i >= k} sg(l_i) - R_k``; it is zero at the
    KL-regularised optimum. The policy is held fixed: no gradient reaches ``log_ratio``.

    Arguments, result and errors: see the module.

    Args:
        log_ratio_clip: c, nats: the accumulated log-ratio is held within [-c, c], see `residuals`.
        importance_cap: c, nats: the square of step k weighs `importance_weights`; None: 1.
        counted: the steps that have a square, bool [B, K], a subset of `step_mask`; an episode of which none is
            counted adds 0 to the mean. None: all.

    Source: Wang et al. 2024 (arXiv:2412.16145), Equation 8; clip and weights: the released code.
    """
    fixed = log_ratio.detach()
    squares = residuals(values, fixed, returns, step_mask, beta=beta, log_ratio_clip=log_ratio_clip).square()
    if importance_cap is not None:
        squares = squares * importance_weights(fixed, step_mask, cap=importance_cap)
    return masked_episode_mean(squares, step_mask) if counted is None else partial_episode_mean(squares, counted)


def oreo_policy_loss(values: Tensor, log_ratio: Tensor, returns: Tensor, step_mask: Tensor, *, beta: float) -> Tensor:
    """Squared soft-Bellman residual of the policy, without the KL term.

    For step k the residual is ``sg(V(s_k)) + beta * l_k + sg(beta * sum_{i > k} l_i) - R_k``. Its
    value is that of `oreo_value_loss`, its gradient reaches only the step's own log-ratio: no
    gradient reaches ``values``.

    Arguments, result and errors: see the module.

    Source: Wang et al. 2024 (arXiv:2412.16145), Equation 9; Equation 10 when the response is one
    step.
    """
    fixed = residuals(values.detach(), log_ratio.detach(), returns, step_mask, beta=beta)
    own = log_ratio.masked_fill(~step_mask, 0)
    # The difference is zero in value and the step's own log-ratio in gradient.
    residual = fixed + beta * (own - own.detach())
    return masked_episode_mean(residual.square(), step_mask)


def full_gradient_policy_loss(
    values: Tensor, log_ratio: Tensor, returns: Tensor, step_mask: Tensor, *, beta: float
) -> Tensor:
    """Squared soft-Bellman residual of the policy in which every later log-ratio has its gradient.

    For step k the residual is ``sg(V(s_k)) + beta * sum_{i >= k} l_i - R_k``. Its value is that of
    `oreo_policy_loss`. Together with `oreo_value_loss` its gradients are those of path consistency.

    Arguments, result and errors: see the module.

    Source: Nachum et al. 2017 (arXiv:1702.08892), path consistency learning on sub-paths that end
    with the episode; an option of the released code of Wang et al. 2024 (arXiv:2412.16145).
    """
    residual = residuals(values.detach(), log_ratio, returns, step_mask, beta=beta)
    return masked_episode_mean(residual.square(), step_mask)


def positive_hinge_loss(log_ratio: Tensor, positive: Tensor) -> Tensor:
    """Penalty on successes that the policy has made less likely than the reference does.

    For each episode ``positive * max(0, -l)``: zero as long as log pi >= log pi_ref.

    Args:
        log_ratio: log pi - log pi_ref of the whole response, nats, float [B].
        positive: True on successful episodes, bool [B].

    Returns:
        Scalar, nats: mean over all episodes, failures adding 0.

    Raises:
        ValueError: shapes differ.

    Source: an option of the released code of Wang et al. 2024 (arXiv:2412.16145), for its
    trajectory loss; the hinge is that of DPO-positive, Pal et al. 2024 (arXiv:2402.13228).
    """
    check_same_shape(log_ratio=log_ratio, positive=positive)
    return F.relu(-log_ratio).masked_fill(~positive, 0).mean()


def importance_weights(log_ratio: Tensor, step_mask: Tensor, *, cap: float) -> Tensor:
    """Weigh each step by how likely the policy is to go on as the data did, truncated.

    ``w_k = exp(min(sum_{i >= k} l_i, cap))``, without gradient: the likelihood ratio of what follows
    s_k if the reference sampled the data, at most ``exp(cap)``.

    Args:
        log_ratio: log pi - log pi_ref of step k, nats, float [B, K]; ignored on padding.
        step_mask: True on real steps, bool [B, K].
        cap: nats; 1 in the released code.

    Returns:
        Weights, float [B, K], 1 on padding where the cap is not below 0.

    Source: an option of the released code of Wang et al. 2024 (arXiv:2412.16145).
    """
    return suffix_sum(log_ratio.detach().masked_fill(~step_mask, 0)).clamp(max=cap).exp()


def residuals(
    values: Tensor,
    log_ratio: Tensor,
    returns: Tensor,
    step_mask: Tensor,
    *,
    beta: float,
    log_ratio_clip: float | None = None,
) -> Tensor:
    """Soft-Bellman residual of each step, accumulated to the end of the episode.

    Arguments and errors: see the module.

    Args:
        log_ratio_clip: c, nats: ``sum_{i >= k} l_i`` is replaced by the nearest number in [-c, c].

    Returns:
        ``V(s_k) + beta * sum_{i >= k} l_i - R_k``, reward units, float [B, K], 0 on padding;
        differentiable in all.

    Source: Wang et al. 2024 (arXiv:2412.16145), Theorem 1 summed from step k to the end.
    """
    check_beta(beta)
    check_same_shape(values=values, log_ratio=log_ratio, returns=returns, step_mask=step_mask)
    check_rows(step_mask, "step")
    to_go = suffix_sum(log_ratio.masked_fill(~step_mask, 0))
    if log_ratio_clip is not None:
        to_go = to_go.clamp(-log_ratio_clip, log_ratio_clip)
    return (values + beta * to_go - returns).masked_fill(~step_mask, 0)
