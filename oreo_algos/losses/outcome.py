"""Outcomes as labels: the log-ratio of a response is the logit of its success.

Knows: the loss. Does not know: episodes, models.
Source: Yuan et al. 2024 (arXiv:2412.01981), implicit process rewards; Cui et al. 2025 (arXiv:2502.01456), PRIME.
"""

# B episodes.

import torch
from torch import Tensor
from torch.nn import functional as F

from oreo_algos.losses.masked import check_batch, check_beta, check_same_shape


def outcome_cross_entropy(log_ratio: Tensor, success: Tensor, *, beta: float) -> Tensor:
    """Cross-entropy of outcomes under the probability ``sigmoid(beta * l)`` of success.

    Args:
        log_ratio: l, log pi - log pi_ref of a response, summed over its tokens, nats, float [B].
        success: True on responses that succeeded, bool [B].
        beta: scale of the implicit reward, per nat, > 0.

    Returns:
        Scalar, nats: mean over the responses.

    Raises:
        ValueError: beta is not positive, shapes differ or are not [B], the labels are not bool, or there is none.

    Source: Cui et al. 2025 (arXiv:2502.01456), the cross-entropy that trains their implicit process reward model.
    """
    check_beta(beta)
    check_same_shape(log_ratio=log_ratio, success=success)
    check_batch(log_ratio=log_ratio)
    if success.dtype != torch.bool:
        raise ValueError(f"success must be bool [B], got {success.dtype}")
    return F.binary_cross_entropy_with_logits(beta * log_ratio, success.to(log_ratio.dtype))
