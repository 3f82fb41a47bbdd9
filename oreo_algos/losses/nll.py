"""Negative log-likelihood, the loss of SFT and rejection sampling."""

# B episodes, T tokens.

from torch import Tensor

from oreo_algos.losses.masked import check_same_shape


def nll_loss(logprobs: Tensor, loss_mask: Tensor) -> Tensor:
    """Mean negative log-probability of the tokens to imitate.

    Args:
        logprobs: log pi(token t), nats, float [B, T]; ignored where `loss_mask` is False.
        loss_mask: True on tokens to imitate, bool [B, T].

    Returns:
        Scalar, nats a token: mean over all loss tokens of the batch, so a long episode weighs more
        than a short one.

    Raises:
        ValueError: shapes differ, or there is no token to imitate.
    """
    check_same_shape(logprobs=logprobs, loss_mask=loss_mask)
    count = loss_mask.sum()
    if count == 0:
        raise ValueError("loss_mask has no True entry: there is no token to imitate")
    return -logprobs.masked_fill(~loss_mask, 0).sum() / count
