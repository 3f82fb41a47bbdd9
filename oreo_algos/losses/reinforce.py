"""REINFORCE on recorded episodes: likelihoods weighed by advantages, tapered or not.

Knows: the objective, given advantages. Does not know: what a return is compared with (``algos.baselines``).
Source: Arnal et al. 2025 (arXiv:2506.20520), Le Roux et al. 2025 (arXiv:2503.14286).
"""

# B episodes, K steps.

import torch
from torch import Tensor

from oreo_algos.losses.masked import check_batch, check_rows, check_same_shape


def reinforce_loss(logprobs: Tensor, advantages: Tensor, step_mask: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of each step times its advantage: ``- sum_k w_k * A_k * log pi(a_k)``.

    Nothing says how likely the data were under whoever made them. With weights 1 and an advantage of both signs the
    loss has no lower bound: log pi of what is worse than the baseline may fall for ever.

    Args:
        logprobs: log pi of step k, summed over its tokens, nats, float [B, K]; ignored on padding.
        advantages: A_k, reward units, float [B, K]; no gradient reaches them.
        step_mask: True on real steps, bool [B, K].
        weights: w_k, float [B, K], without gradient; None: 1.

    Returns:
        Scalar, reward units times nats: mean over episodes of the sum over their steps, so that a long episode weighs
        more than a short one.

    Raises:
        ValueError: shapes differ, or an episode has no step.

    Source: Arnal et al. 2025 (arXiv:2506.20520), the objective E_mu[log pi(y) (r(y) - V)]; with `tapered_weights`
    Le Roux et al. 2025 (arXiv:2503.14286).
    """
    factors = advantages.detach() if weights is None else (weights * advantages).detach()
    check_same_shape(logprobs=logprobs, factors=factors, step_mask=step_mask)
    check_rows(step_mask, "step")
    return -(factors * logprobs).masked_fill(~step_mask, 0).sum(dim=1).mean()


def tapered_weights(log_ratio: Tensor, advantages: Tensor) -> Tensor:
    """Weigh what is worse than its baseline by ``min(pi / mu, 1)``, and everything else by 1, without gradient.

    What the policy has unlearned no longer counts, so that the loss of the worse responses is bounded.

    Args:
        log_ratio: log pi - log mu of whole responses, mu being who made them, nats, float [B].
        advantages: reward units, float [B].

    Returns:
        Weights in (0, 1], float [B].

    Raises:
        ValueError: shapes differ or are not [B].

    Source: Le Roux et al. 2025 (arXiv:2503.14286), the truncation of the ratio to [0, 1] where R(tau) < 0.
    """
    check_same_shape(log_ratio=log_ratio, advantages=advantages)
    check_batch(log_ratio=log_ratio)
    return torch.where(advantages < 0, log_ratio.detach().clamp(max=0).exp(), 1.0)
