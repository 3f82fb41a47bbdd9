"""Negative log-likelihood, the loss of SFT and rejection sampling."""

# B episodes, T tokens.

from torch import Tensor

from oreo_algos.losses.masked import check_same_shape


def nll_loss(logprobs: Tensor, weights: Tensor) -> Tensor:
    """Mean negative log-probability of tokens.

    Args:
        logprobs: log pi(token t), nats, float [B, T]; ignored where the weight is 0.
        weights: how much each token counts, >= 0, float [B, T]; or bool: True on the tokens to imitate.

    Returns:
        Scalar, nats a token: weighted mean over all tokens of the batch, so a long episode weighs more
        than a short one.

    Raises:
        ValueError: shapes differ, or no token counts.
    """
    check_same_shape(logprobs=logprobs, weights=weights)
    total = weights.sum()
    if total == 0:
        raise ValueError("every weight is 0: there is no token to imitate")
    return -(logprobs.masked_fill(weights == 0, 0) * weights).sum() / total
