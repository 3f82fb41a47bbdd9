"""Intervals and paired tests for numbers of solved tasks, and a bootstrap over tasks for any figure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Integers = NDArray[np.int64]


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


def cluster_interval(
    figure: Callable[[Integers, Integers], float],
    clusters: Sequence[int] | Integers,
    *,
    undefined: tuple[type[Exception], ...] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the 95% percentile bootstrap interval of a figure over rows that come in clusters, such as tasks.

    Samples of one task are no independent evidence, so whole tasks are drawn, with replacement.

    Args:
        figure: of some rows, given as their indices, and the number of the draw that each row came with; rows of a
            task that is drawn twice have two numbers.
        clusters: which cluster each row belongs to, int [N].
        undefined: what ``figure`` raises for a resample that does not define it; such a resample is left out.
        resamples: how many.
        seed: of the draws.

    Returns:
        None with a single cluster, or when more than one resample in twenty does not define the figure.

    Source: Davison and Hinkley 1997, section 3.8, resampling whole clusters.
    """
    names, number = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        return None
    rows = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    sizes = np.array([len(own) for own in rows])
    found = []
    for drawn in np.random.default_rng(seed).integers(len(names), size=(resamples, len(names))):
        draws = np.repeat(np.arange(len(names)), sizes[drawn])
        try:
            found.append(figure(np.concatenate([rows[k] for k in drawn]), draws))
        except undefined:
            continue
    if len(found) < 0.95 * resamples:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
