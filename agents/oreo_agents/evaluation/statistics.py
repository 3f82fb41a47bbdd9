"""Every interval and test of solved tasks is made here, from answers by run and task; and a bootstrap over tasks.

Knows: what is independent of what. Does not know: files, tables, how an answer came about.

Tasks are drawn from a population of tasks, and runs (seeds) from a population of runs. Answers of one run share its
noise of training, and answers to one task share its difficulty, whatever the run: neither ten runs of the same tasks
nor many tasks of one run are so many independent answers. With runs that answered the same tasks the variance of the
mean is that of a random-effects model with both, and how far it can be trusted is Satterthwaite's number of degrees of
freedom: near ``runs - 1`` where runs differ, near ``tasks - 1`` where tasks do. Runs of different worlds, which share
no task, are units themselves.

Source: Searle, Casella and McCulloch 1992, section 4.3 and 4.7 (two-way crossed random effects); Satterthwaite 1946;
Brennan 2001, chapter 3. Coverage by simulation: ``tests/oreo_agents/evaluation/test_statistics.py``.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

# 97.5% of a normal distribution lie below.
_Z = float(special.ndtri(0.975))

_ROUNDING = 1e-12


@dataclass(frozen=True, order=True)
class RunKey:
    """What tells the runs of one thing apart.

    Attributes:
        world: which tasks there are: runs of one world answered the same ones, those of another one others.
        seed: of the run.
        copy: counts runs of the same world and seed, from 0.
    """

    world: str = ""
    seed: int = 0
    copy: int = 0


Answers = Mapping[RunKey, Mapping[str, float]]
"""By run and task: 1 solved, 0 not; between them where one run answered a task several times."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval.

    Attributes:
        mean: over worlds, of their runs, of their tasks.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison(Estimate):
    """Two methods on the same tasks of the same runs; ``mean`` is the first less the second.

    Attributes:
        p_value: two-sided, of equal accuracy: exact McNemar of one run, else the t-test of the interval.
        tasks: compared, each counted once.
        runs: compared.
    """

    p_value: float
    tasks: int
    runs: int


def accuracy(answers: Answers) -> Estimate:
    """Estimate the share of solved tasks.

    The interval is Wilson's, with the number of answers that would be independent in place of the number of answers.
    One run has as many as it has tasks.

    Raises:
        ValueError: there is no answer.

    Source: Wilson 1927; Korn and Graubard 1998 for the effective number.
    """
    spread = _spread(answers)
    mean = spread.mean
    if not 0 < mean < 1 or spread.variance == 0:
        effective = float(spread.tasks)
    elif spread.runs == 1:
        effective = spread.tasks * (mean * (1 - mean)) / max(spread.second_moment - mean**2, 1e-12)
    else:
        effective = max(mean * (1 - mean) / spread.variance, 1.0)
    quantile = _Z if spread.runs == 1 else special.stdtrit(spread.freedom, 0.975)
    return Estimate(mean, *_wilson(mean, effective, float(quantile)))


def compare(first: Answers, second: Answers) -> Comparison | None:
    """Compare two methods on the tasks that both answered, in the runs that both have; None without any.

    Of one run the interval is Agresti and Min's, which has a width even where no task tells the two apart.

    Source: Agresti and Min 2005; McNemar 1947.
    """
    differences = {
        run: {task: first[run][task] - second[run][task] for task in first[run] if task in second[run]}
        for run in first
        if run in second
    }
    differences = {run: row for run, row in differences.items() if row}
    if not differences:
        return None
    spread = _spread(differences)
    if spread.runs == 1 or spread.variance == 0:
        # Half a task for each of the four outcomes.
        center = spread.mean * spread.tasks / (spread.tasks + 2)
        squares = spread.second_moment * spread.tasks + 1
        variance = (squares - center**2 * (spread.tasks + 2)) / (spread.tasks + 2) ** 2
        half = _Z * np.sqrt(variance)
        values = np.concatenate([list(row.values()) for row in differences.values()])
        p_value = _mcnemar(values) if spread.runs == 1 else float(2 * special.ndtr(-abs(center) / np.sqrt(variance)))
    else:
        center, error = spread.mean, np.sqrt(spread.variance)
        half = special.stdtrit(spread.freedom, 0.975) * error
        p_value = float(2 * special.stdtr(spread.freedom, -abs(center) / error))
    low, high = max(float(center - half), -1.0), min(float(center + half), 1.0)
    return Comparison(spread.mean, low, high, p_value, spread.tasks, spread.runs)


@dataclass(frozen=True)
class _Spread:
    """The mean of answers and how far it can be trusted.

    Attributes:
        mean: over worlds, of their runs, of their tasks.
        variance: of the mean.
        freedom: degrees of freedom of the variance.
        tasks: each counted once.
        runs: how many.
        second_moment: mean over tasks of the square of their mean over runs.
    """

    mean: float
    variance: float
    freedom: float
    tasks: int
    runs: int
    second_moment: float


def _spread(answers: Answers) -> _Spread:
    """Estimate the mean of answers and its variance, see the module."""
    if not answers or not all(answers.values()):
        raise ValueError(f"no answers to tell anything from: {len(answers)} runs, one or all of them without a task")
    worlds: defaultdict[str, list[float]] = defaultdict(list)
    by_task: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for run, row in answers.items():
        worlds[run.world].append(sum(row.values()) / len(row))
        for task, answer in row.items():
            by_task[run.world, task].append(answer)
    means = [sum(of_runs) / len(of_runs) for of_runs in worlds.values()]
    # Runs that answered only some of the same tasks are units: what they share may say little of the rest.
    same = len(worlds) == 1 and all(len(several) == len(answers) for several in by_task.values())
    if same:
        variance, freedom = _crossed(np.array(list(by_task.values())).T)
    else:
        units = means if len(worlds) > 1 else worlds[next(iter(worlds))]
        variance, freedom = float(np.var(units, ddof=1) / len(units)), len(units) - 1.0
    # What is left of rounding is no variance.
    variance = variance if variance > _ROUNDING else 0.0
    second = sum((sum(several) / len(several)) ** 2 for several in by_task.values()) / len(by_task)
    return _Spread(sum(means) / len(means), variance, freedom, len(by_task), len(answers), second)


def _crossed(table: Floats) -> tuple[float, float]:
    """Return the variance of the mean of a table, runs by tasks, and its degrees of freedom.

    With the mean squares of a two-way layout it is ``(MS_tasks + MS_runs - MS_rest) / (runs * tasks)``.
    """
    runs, tasks = table.shape
    if tasks == 1 or runs == 1:
        values = table.ravel()
        return (float(values.var(ddof=1) / len(values)), len(values) - 1.0) if len(values) > 1 else (0.0, 1.0)
    by_run, by_task, mean = table.mean(axis=1), table.mean(axis=0), table.mean()
    rest = table - by_run[:, None] - by_task[None, :] + mean
    of_tasks = by_task.var(ddof=1) / tasks
    of_runs = by_run.var(ddof=1) / runs
    of_rest = np.square(rest).sum() / ((runs - 1) * (tasks - 1) * runs * tasks)
    variance = of_tasks + of_runs - of_rest
    if variance <= of_rest / 50:
        # Less than what answers vary by themselves: the difference of estimates is a matter of chance.
        return float(max(of_tasks, of_rest)), tasks - 1.0
    squares = of_tasks**2 / (tasks - 1) + of_runs**2 / (runs - 1) + of_rest**2 / ((runs - 1) * (tasks - 1))
    return float(variance), float(max(variance**2 / squares, runs - 1))


def _mcnemar(differences: Floats) -> float:
    """Return the exact two-sided p-value of one run: tasks that one method alone solved, half of them each."""
    first, second = int((differences > 0).sum()), int((differences < 0).sum())
    return min(float(2 * special.bdtr(min(first, second), first + second, 0.5)), 1.0)


def _wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's interval of a share of ``n`` answers, which need not be a whole number."""
    square = quantile**2
    center = (share + square / (2 * n)) / (1 + square / n)
    half = quantile / (1 + square / n) * np.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(float(center - half), 0.0), min(float(center + half), 1.0)


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a share of ``n`` tasks of one run."""
    return _wilson(correct / n, n, _Z)


def share_interval(share: float, n: float) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a mean of ``n`` independent numbers in 0..1, such as tasks' shares."""
    return _wilson(share, n, _Z)


def standard_error(correct: int, n: int) -> float:
    """Return the binomial standard error of a share of ``n`` tasks of one run."""
    p = correct / n
    return float(np.sqrt(p * (1 - p) / n))


def mean_interval(numbers: Sequence[float]) -> tuple[float, float]:
    """Return the 95% t-interval of the mean of a figure of each run, such as an AUC; needs two runs or more."""
    values = np.asarray(numbers, dtype=float)
    if len(values) < 2:
        raise ValueError(f"an interval over runs needs at least 2 of them, got {len(values)}")
    half = special.stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


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
        None with a single cluster, when more than one resample in twenty does not define the figure, or when the
        figure is the same in all: that nothing varies in so few tasks is no certainty.

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
    if np.ptp(found) <= _ROUNDING:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
