"""Direct preference optimisation.

Source: Rafailov et al. 2023 (arXiv:2305.18290).
"""

# B pairs.

from torch import Tensor
from torch.nn import functional as F

from oreo_algos.losses.masked import check_batch, check_beta, check_same_shape


def dpo_loss(chosen_log_ratio: Tensor, rejected_log_ratio: Tensor, *, beta: float) -> Tensor:
    """Negative log-likelihood of the preferences under the Bradley-Terry model.

    For each pair ``-log sigmoid(beta * (l_chosen - l_rejected))``.

    Args:
        chosen_log_ratio: log pi - log pi_ref of the preferred response, summed over its tokens,
            nats, float [B].
        rejected_log_ratio: the same of the other response, float [B].
        beta: KL temperature, reward units per nat, > 0.

    Returns:
        Scalar: mean over the pairs.

    Raises:
        ValueError: beta is not positive, shapes differ or are not [B], or there is no pair.

    Source: Rafailov et al. 2023 (arXiv:2305.18290), Equation 7.
    """
    check_beta(beta)
    check_same_shape(chosen_log_ratio=chosen_log_ratio, rejected_log_ratio=rejected_log_ratio)
    check_batch(chosen_log_ratio=chosen_log_ratio)
    return -F.logsigmoid(beta * (chosen_log_ratio - rejected_log_ratio)).mean()
