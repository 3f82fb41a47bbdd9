"""Policy losses whose advantages are numbers, known before the policy moves.

Knows: the losses, given advantages. Does not know: which value or group of samples an advantage was taken against.
Sources: Liu et al. 2024 (arXiv:2412.18279), Direct Advantage Policy Optimization; Shao et al. 2024 (arXiv:2402.03300),
GRPO.
"""

# B episodes, K steps, T tokens.

from torch import Tensor

from oreo_algos.losses.masked import check_beta, check_rows, check_same_shape, masked_episode_mean
from oreo_algos.losses.temporal_difference import next_values


def step_advantages(values: Tensor, rewards: Tensor, step_mask: Tensor) -> Tensor:
    """Return ``A_k = r_k + V(s_{k+1}) - V(s_k)``, V after the last step being 0.

    Args:
        values: V(s_k) just before step k, reward units, float [B, K].
        rewards: reward after step k, reward units, float [B, K]; ignored on padding.
        step_mask: True on real steps, bool [B, K].

    Returns:
        Reward units, float [B, K], 0 on padding, without gradient.
    """
    check_same_shape(values=values, rewards=rewards, step_mask=step_mask)
    fixed = values.detach()
    return (rewards.detach() + next_values(fixed, step_mask) - fixed).masked_fill(~step_mask, 0)


def advantage_regression_loss(log_ratio: Tensor, advantages: Tensor, step_mask: Tensor, *, beta: float) -> Tensor:
    """Squared distance of each step's log-ratio from its advantage in units of beta: ``(l_k - A_k / beta)^2``.

    Args:
        log_ratio: log pi - log pi_ref of step k, summed over its tokens, nats, float [B, K]; ignored on padding.
        advantages: A_k, reward units, float [B, K]; ignored on padding, no gradient reaches them.
        step_mask: True on real steps, bool [B, K].
        beta: KL temperature, reward units per nat, > 0.

    Returns:
        Scalar, nats squared: mean over episodes of the mean over their steps.

    Raises:
        ValueError: beta is not positive, shapes differ, or an episode has no step.

    Source: Liu et al. 2024 (arXiv:2412.18279), the quadratic loss of scaled advantages and log-ratios. ``beta^2`` times
    it is `one_step_policy_loss` with the same V.
    """
    check_beta(beta)
    check_same_shape(log_ratio=log_ratio, advantages=advantages, step_mask=step_mask)
    check_rows(step_mask, "step")
    distance = (log_ratio - advantages.detach() / beta).masked_fill(~step_mask, 0)
    return masked_episode_mean(distance.square(), step_mask)


def clipped_ratio_loss(
    logprobs: Tensor, behavior_logprobs: Tensor, advantages: Tensor, action_mask: Tensor, *, clip: float
) -> Tensor:
    """Negative clipped surrogate of the return.

    For token t of an episode with advantage A ``-min(w_t * A, clamp(w_t, 1 - clip, 1 + clip) * A)`` with the ratio
    ``w_t = exp(log pi - log pi_behavior)``: a token that has moved far enough in the direction of A has no gradient.

    Args:
        logprobs: log pi of token t, nats, float [B, T]; ignored outside actions.
        behavior_logprobs: the same when it was sampled, float [B, T]; no gradient reaches it.
        advantages: of the episodes, float [B]; no gradient reaches them.
        action_mask: True on tokens of actions, bool [B, T].
        clip: how far a ratio may be from 1, in (0, 1).

    Returns:
        Scalar, in the unit of the advantages: mean over episodes of the mean over their tokens.

    Raises:
        ValueError: shapes differ, an episode has no action token, or the clip is out of range.

    Source: Schulman et al. 2017 (arXiv:1707.06347), the clipped objective; with the means of Shao et al. 2024
    (arXiv:2402.03300).
    """
    if not 0 < clip < 1:
        raise ValueError(f"clip must be in (0, 1), got {clip}")
    check_same_shape(logprobs=logprobs, behavior_logprobs=behavior_logprobs, action_mask=action_mask)
    check_same_shape(advantages=advantages, episodes=action_mask[:, 0])
    gain = advantages.detach()[:, None]
    # Filled before the exponential, so that nothing outside actions reaches the gradient.
    ratio = (logprobs - behavior_logprobs.detach()).masked_fill(~action_mask, 0).exp()
    surrogate = (ratio * gain).minimum(ratio.clamp(1 - clip, 1 + clip) * gain)
    return -masked_episode_mean(surrogate, action_mask)
