"""Kahneman-Tversky optimisation: labelled responses instead of pairs.

Knows: the loss, given an estimate of the KL reference point.
Does not know: how the estimate is made (mismatched pairs or matched log-ratios).
Source: Ethayarajh et al. 2024 (arXiv:2402.01306).
"""

# B episodes.

import torch
from torch import Tensor

from oreo_algos.losses.masked import check_batch, check_beta, check_same_shape


def kto_loss(
    log_ratio: Tensor,
    desirable: Tensor,
    kl: Tensor | float,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """Weighted distance of each response's prospect-theoretic value from its ceiling.

    A desirable response has the value ``sigmoid(beta * (l - kl))``, an undesirable one
    ``sigmoid(beta * (kl - l))``; the loss is ``weight * (1 - value)``, averaged over the batch. No
    gradient reaches ``kl``.

    Args:
        log_ratio: log pi - log pi_ref of the response, summed over its tokens, nats, float [B].
        desirable: True on responses to imitate, bool [B].
        kl: reference point z_0, an estimate of KL(pi || pi_ref), nats, >= 0; scalar.
        beta: KL temperature, reward units per nat, > 0.
        desirable_weight: lambda_D, >= 0.
        undesirable_weight: lambda_U, >= 0.

    Returns:
        Scalar: mean over all responses of the batch, not one mean a class.

    Raises:
        ValueError: beta is not positive, a weight is negative, shapes differ or are not [B], `kl`
            is not a scalar, or the batch is empty.

    Source: Ethayarajh et al. 2024 (arXiv:2402.01306), L_KTO, in the form of TRL's KTOTrainer; the
    paper writes the same number as ``weight - weight * value``.
    """
    check_beta(beta)
    if desirable_weight < 0 or undesirable_weight < 0:
        raise ValueError(
            f"desirable_weight and undesirable_weight must be >= 0, got {desirable_weight} and {undesirable_weight}"
        )
    check_same_shape(log_ratio=log_ratio, desirable=desirable)
    check_batch(log_ratio=log_ratio)
    if desirable.dtype != torch.bool:
        raise ValueError(f"desirable must be bool [B], got {desirable.dtype}")
    reference = torch.as_tensor(kl, dtype=log_ratio.dtype, device=log_ratio.device).detach()
    if reference.ndim != 0:
        raise ValueError(f"kl must be a scalar, got shape {list(reference.shape)}")
    margin = beta * (log_ratio - reference)
    loss = torch.where(
        desirable,
        desirable_weight * torch.sigmoid(-margin),  # 1 - sigmoid(x) = sigmoid(-x)
        undesirable_weight * torch.sigmoid(margin),
    )
    return loss.mean()
