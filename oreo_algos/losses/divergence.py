"""Estimates of a divergence from log-probabilities of the tokens taken.

Source: Schulman 2020, "Approximating KL divergence".
"""

from torch import Tensor


def k3_estimate(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Estimate KL(pi || ref) of each choice as ``ref/pi - 1 - log(ref/pi)``: never negative, unbiased under pi.

    Args:
        logprobs: log pi of the token taken, nats.
        ref_logprobs: the same under the reference, of the same shape.

    Returns:
        Nats, of that shape; 0 where both are the same.
    """
    log_ratio = ref_logprobs - logprobs
    return log_ratio.exp() - 1 - log_ratio
