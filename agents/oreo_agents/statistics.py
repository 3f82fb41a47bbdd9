"""Intervals and paired tests for numbers of solved tasks; thin names over scipy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same tasks.

    Attributes:
        difference: mean accuracy of the first less that of the second.
        low: lower end of the 95% interval of the difference, bootstrap over tasks.
        high: upper end.
        p_value: exact McNemar test, two-sided, of equal accuracy.
        n: tasks compared.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a proportion."""
    interval = stats.binomtest(correct, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def standard_error(correct: int, n: int) -> float:
    """Return the binomial standard error of a proportion."""
    p = correct / n
    return float(np.sqrt(p * (1 - p) / n))


def seed_interval(accuracies: Sequence[float]) -> tuple[float, float]:
    """Return the 95% t-interval of the mean over seeds; needs two or more."""
    values = np.asarray(accuracies, dtype=float)
    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs at least 2 of them, got {len(values)}")
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def compare_paired(first: Sequence[bool], second: Sequence[bool], *, seed: int = 0) -> Comparison:
    """Compare two methods task by task.

    Args:
        first: whether each task was solved by the one.
        second: by the other, in the same order.
        seed: of the bootstrap.

    Raises:
        ValueError: no tasks, or not equally many.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"a paired comparison needs the same tasks twice, got {len(first)} and {len(second)}")
    difference = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    only_first, only_second = int((difference > 0).sum()), int((difference < 0).sum())
    discordant = only_first + only_second
    p_value = stats.binomtest(only_first, discordant).pvalue if discordant else 1.0
    if discordant:
        interval = stats.bootstrap(
            (difference,),
            np.mean,
            n_resamples=2000,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    else:
        low = high = 0.0
    return Comparison(float(difference.mean()), low, high, float(p_value), len(difference))
