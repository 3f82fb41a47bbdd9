"""Direct preference optimisation and the variants of it that TRL offers by the same names.

Source: Rafailov et al. 2023 (arXiv:2305.18290); the source of each variant stands at its function.
"""

# B pairs.

from torch import Tensor
from torch.nn import functional as F

from oreo_algos.losses.masked import check_batch, check_beta, check_same_shape


def dpo_loss(
    chosen_log_ratio: Tensor, rejected_log_ratio: Tensor, *, beta: float, label_smoothing: float = 0.0
) -> Tensor:
    """Negative log-likelihood of the preferences under the Bradley-Terry model.

    For each pair ``-(1 - e) log sigmoid(m) - e log sigmoid(-m)`` with the margin
    ``m = beta * (l_chosen - l_rejected)`` and the label smoothing e.

    Args:
        chosen_log_ratio: log pi - log pi_ref of the preferred response, summed over its tokens,
            nats, float [B].
        rejected_log_ratio: the same of the other response, float [B].
        beta: KL temperature, reward units per nat, > 0.
        label_smoothing: e, share of the labels that is taken to be wrong, in [0, 0.5).

    Returns:
        Scalar: mean over the pairs.

    Raises:
        ValueError: beta is not positive, shapes differ or are not [B], there is no pair, or
            `label_smoothing` is out of range.

    Source: Rafailov et al. 2023 (arXiv:2305.18290), Equation 7; smoothing: Mitchell 2023,
    "A note on DPO with noisy preferences and relationship to IPO" (cDPO), Equation 3.
    """
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing must be in [0, 0.5), got {label_smoothing}")
    margin = beta * _difference(chosen_log_ratio, rejected_log_ratio, beta)
    if label_smoothing == 0:
        return -F.logsigmoid(margin).mean()
    return -((1 - label_smoothing) * F.logsigmoid(margin) + label_smoothing * F.logsigmoid(-margin)).mean()


def dpo_hinge_loss(chosen_log_ratio: Tensor, rejected_log_ratio: Tensor, *, beta: float) -> Tensor:
    """Hinge on the margin: for each pair ``max(0, 1 - beta * (l_chosen - l_rejected))``.

    Args:
        chosen_log_ratio: log pi - log pi_ref of the preferred response, summed over its tokens,
            nats, float [B].
        rejected_log_ratio: the same of the other response, float [B].
        beta: scale of the margin, per nat, > 0: 1 / beta nats are enough.

    Returns:
        Scalar: mean over the pairs.

    Raises:
        ValueError: beta is not positive, shapes differ or are not [B], or there is no pair.

    Source: Zhao et al. 2023 (arXiv:2305.10425), SLiC, on the normalised margin of Liu
    et al. 2023 (arXiv:2309.06657).
    """
    return F.relu(1 - beta * _difference(chosen_log_ratio, rejected_log_ratio, beta)).mean()


def ipo_loss(chosen_log_ratio: Tensor, rejected_log_ratio: Tensor, *, beta: float) -> Tensor:
    """Identity preference optimisation: for each pair ``(l_chosen - l_rejected - 1 / (2 * beta))^2``.

    The log-ratios are means over tokens, as in TRL; with sums, long responses would have to move less a token.

    Args:
        chosen_log_ratio: log pi - log pi_ref of the preferred response, mean over its tokens,
            nats, float [B].
        rejected_log_ratio: the same of the other response, float [B].
        beta: 1 / (2 * beta) is the margin to reach, > 0.

    Returns:
        Scalar: mean over the pairs.

    Raises:
        ValueError: beta is not positive, shapes differ or are not [B], or there is no pair.

    Source: Azar et al. 2023 (arXiv:2310.12036), Equation 17.
    Deviation: the mean over tokens; the paper has the sum.
    """
    return (_difference(chosen_log_ratio, rejected_log_ratio, beta) - 1 / (2 * beta)).square().mean()


def _difference(chosen_log_ratio: Tensor, rejected_log_ratio: Tensor, beta: float) -> Tensor:
    check_beta(beta)
    check_same_shape(chosen_log_ratio=chosen_log_ratio, rejected_log_ratio=rejected_log_ratio)
    check_batch(chosen_log_ratio=chosen_log_ratio)
    return chosen_log_ratio - rejected_log_ratio
