"""How good a value function is: figures of V against outcomes, its own Bellman equation, and the rightness of steps.

Knows: arrays of numbers. Does not know: networks, tasks, how V was read, intervals.
Every figure raises ``Undefined`` where the data cannot define it; none returns NaN.
"""

# N states (or episodes, or steps), K steps of one episode.

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Undefined(ValueError):
    """These data do not define the figure; the message says why."""


@dataclass(frozen=True)
class Bin:
    """States whose V lies in one stretch of [0, 1].

    Attributes:
        count: how many.
        predicted: their mean V.
        observed: the share of them that ended right.
    """

    count: int
    predicted: float
    observed: float


def auc(scores: ArrayLike, right: ArrayLike) -> float:
    """Area under the ROC curve: the share of (right, wrong) pairs that the scores order right, ties half.

    Args:
        scores: higher means more likely right, float [N].
        right: bool [N].

    Raises:
        Undefined: all are right, or none is.

    Source: Hanley and McNeil 1982, as the Mann-Whitney statistic ``U / (n_right * n_wrong)``.
    """
    return grouped_auc(scores, right, np.zeros(np.shape(scores), dtype=np.int64))


def grouped_auc(scores: ArrayLike, right: ArrayLike, group: ArrayLike) -> float:
    """Share of (right, wrong) pairs *of one group* that the scores order right, ties half.

    With questions as groups this is within-question ordering: it is blind to how difficult a question is, which AUC
    counts too. Every pair weighs the same, so a group counts by its number of pairs.

    Args:
        scores: higher means more likely right, float [N].
        right: bool [N].
        group: which group each belongs to, whole numbers >= 0, int [N].

    Raises:
        Undefined: no group holds both kinds.
    """
    chosen, number = np.asarray(right, dtype=bool), np.asarray(group)
    # Ranks within all scores, one stretch of them a group: one search then finds the wrong ones of its own group.
    values, rank = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    place = number * (len(values) + 1) + rank
    wrong = np.sort(place[~chosen])
    begin = np.searchsorted(wrong, (number * (len(values) + 1))[chosen])
    end = np.searchsorted(wrong, ((number + 1) * (len(values) + 1))[chosen])
    below = np.searchsorted(wrong, place[chosen], side="left") - begin
    not_above = np.searchsorted(wrong, place[chosen], side="right") - begin
    pairs = int((end - begin).sum())
    if pairs == 0:
        if chosen.all() or not chosen.any():
            raise Undefined(
                f"all {len(chosen)} are {'right' if chosen.any() else 'wrong'}, so there is no pair to order"
            )
        raise Undefined("no group holds both a right and a wrong one, so there is no pair to order")
    return float((below + not_above).sum() / 2 / pairs)


def reliability(values: ArrayLike, outcomes: ArrayLike, bins: int = 10) -> list[Bin]:
    """Sort states into bins of equal width by V, clipped to [0, 1]; empty bins are left out.

    Args:
        values: V, reward units where a right answer is worth 1, float [N].
        outcomes: ended right, bool [N].
        bins: how many; the last one includes V = 1.
    """
    predicted = np.clip(np.asarray(values, dtype=np.float64), 0, 1)
    observed = np.asarray(outcomes, dtype=np.float64)
    number = np.minimum((predicted * bins).astype(np.int64), bins - 1)
    return [
        Bin(int(inside.sum()), float(predicted[inside].mean()), float(observed[inside].mean()))
        for inside in (number == k for k in range(bins))
        if inside.any()
    ]


def calibration_error(values: ArrayLike, outcomes: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: ``sum_b n_b / N * |mean V - share right|`` over bins of equal width.

    Args:
        values: V, clipped to [0, 1], float [N].
        outcomes: ended right, bool [N].
        bins: how many.

    Raises:
        Undefined: no state.

    Source: Guo et al. 2017 (arXiv:1706.04599), Equation 3.
    """
    found = reliability(values, outcomes, bins)
    if not found:
        raise Undefined("there is no state")
    return sum(b.count * abs(b.predicted - b.observed) for b in found) / sum(b.count for b in found)


def brier_score(values: ArrayLike, outcomes: ArrayLike) -> float:
    """Mean squared difference of V, clipped to [0, 1], and the outcome; 0 is perfect.

    Args:
        values: V, float [N].
        outcomes: ended right, bool [N].

    Raises:
        Undefined: no state.

    Source: Brier 1950.
    """
    if np.size(values) == 0:
        raise Undefined("there is no state")
    predicted = np.clip(np.asarray(values, dtype=np.float64), 0, 1)
    return float(np.square(predicted - np.asarray(outcomes, dtype=np.float64)).mean())


def explained_variance(values: ArrayLike, targets: ArrayLike) -> float:
    """``1 - Var(target - V) / Var(target)``: 1 is perfect, 0 what a constant gets, below 0 is worse than that.

    Args:
        values: V, reward units, float [N].
        targets: the reward-to-go less beta times the log-ratio-to-go, reward units, float [N].

    Raises:
        Undefined: all targets are the same.
    """
    target = np.asarray(targets, dtype=np.float64)
    if target.size == 0 or np.ptp(target) == 0:
        raise Undefined("all targets are the same, so there is no variance to explain")
    return float(1 - (target - np.asarray(values, dtype=np.float64)).var() / target.var())


def targets_to_go(rewards: ArrayLike, costs: ArrayLike) -> Floats:
    """``sum_{i >= k} (r_i - beta * l_i)``: what V of each state of one episode should be.

    Args:
        rewards: reward between a state and the next, float [n].
        costs: ``beta * l`` between them, reward units, float [n].
    """
    net = np.asarray(rewards, dtype=np.float64) - np.asarray(costs, dtype=np.float64)
    return np.cumsum(net[::-1])[::-1]


def one_step_residuals(values: ArrayLike, rewards: ArrayLike, costs: ArrayLike) -> Floats:
    """``V(s_k) + beta * l_k - r_k - V(s_{k+1})`` for each state of one episode; V after the last reward is 0.

    Args:
        values: V of each state, float [n].
        rewards: reward between it and the next, float [n].
        costs: ``beta * l`` between them, reward units, float [n].

    Source: Wang et al. 2024 (arXiv:2412.16145), Theorem 1.
    """
    value = np.asarray(values, dtype=np.float64)
    net = np.asarray(rewards, dtype=np.float64) - np.asarray(costs, dtype=np.float64)
    return value - net - np.append(value[1:], 0.0)


def path_residuals(values: ArrayLike, rewards: ArrayLike, costs: ArrayLike) -> Floats:
    """``V(s_k) + beta * sum_{i >= k} l_i - R_k`` for each state of one episode; arguments as in the other form.

    Source: Wang et al. 2024 (arXiv:2412.16145), Equation 8.
    """
    return np.asarray(values, dtype=np.float64) - targets_to_go(rewards, costs)


def first_mistake_found(advantages: ArrayLike, right: ArrayLike) -> float:
    """Tell whether the step of lowest advantage is the first wrong one: 1 or 0, a share where several are lowest.

    Choosing a step of K at random finds it with probability 1 / K.

    Args:
        advantages: of the steps of one episode, float [K].
        right: whether each is right, bool [K].

    Raises:
        Undefined: no step is wrong.
    """
    advantage, wrong = np.asarray(advantages), np.flatnonzero(~np.asarray(right, dtype=bool))
    if len(wrong) == 0:
        raise Undefined("no step is wrong")
    lowest = np.flatnonzero(advantage == advantage.min())
    return float(np.mean(lowest == wrong[0]))
