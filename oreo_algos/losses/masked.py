"""The mean that the paper's losses take, and the checks that every loss shares.

Source: Wang et al. 2024 (arXiv:2412.16145): means are per episode over its steps, then over
episodes.
"""

# B episodes, N steps or tokens.

import torch
from torch import Tensor


def masked_episode_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over episodes of the mean over each episode's entries.

    A long episode weighs as much as a short one.

    Args:
        x: float [B, N]; ignored where `mask` is False.
        mask: True on the entries that count, bool [B, N].

    Returns:
        Scalar.

    Raises:
        ValueError: shapes differ, the mask is not bool, or an episode has no entry.
    """
    check_same_shape(x=x, mask=mask)
    check_rows(mask, "entry")
    sums = x.masked_fill(~mask, 0).sum(dim=1)
    return (sums / mask.sum(dim=1)).mean()


def partial_episode_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over all episodes of the mean over each episode's entries; one without an entry counts as 0.

    So micro-batches that weigh by episodes add up to the whole, whichever episodes have an entry.

    Args:
        x: float [B, N]; ignored where `mask` is False.
        mask: True on the entries that count, bool [B, N].

    Returns:
        Scalar.

    Raises:
        ValueError: shapes differ.
    """
    check_same_shape(x=x, mask=mask)
    sums = x.masked_fill(~mask, 0).sum(dim=1)
    return (sums / mask.sum(dim=1).clamp(min=1)).mean()


def check_same_shape(**tensors: Tensor) -> None:
    """Raise ValueError, with every name and shape, unless all shapes are equal."""
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"shapes must be equal, got {shapes}")


def check_rows(mask: Tensor, what: str) -> None:
    """Raise ValueError unless the mask is bool [B, N], B > 0, and every row has a True entry."""
    if mask.dtype != torch.bool or mask.ndim != 2:
        raise ValueError(f"the mask must be bool [B, N], got {mask.dtype} {list(mask.shape)}")
    if len(mask) == 0:
        raise ValueError("the batch has no episode")
    empty = ~mask.any(dim=1)
    if empty.any():
        rows = empty.nonzero().flatten().tolist()
        raise ValueError(f"every episode needs at least one {what}; rows {rows} have none")


def check_beta(beta: float) -> None:
    """Raise ValueError unless `beta` is positive."""
    if not beta > 0:
        raise ValueError(f"beta must be > 0 (reward units per nat), got {beta}")


def check_batch(**tensors: Tensor) -> None:
    """Raise ValueError unless every tensor is [B] with B > 0."""
    for name, tensor in tensors.items():
        if tensor.ndim != 1 or len(tensor) == 0:
            raise ValueError(f"{name} must be [B] with B > 0, got {list(tensor.shape)}")
