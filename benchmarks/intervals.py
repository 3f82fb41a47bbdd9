"""How often a 95% interval holds the truth, and how often equal methods are found different: ours, and what is common.

    python benchmarks/intervals.py [--studies 2000]

A study draws 140 tasks and three runs of each method, which answer all of them. Tasks are equally hard, or most of them
are solved nearly always or nearly never; seeds are alike, or differ by 3 points where half of the tasks are solved.
Columns: a bootstrap over tasks of the means over seeds; Student's t over seeds; the wider of both; Wilson's interval of
all answers, as if each were independent; and ``oreo_agents.evaluation.statistics``. Two minutes on one core.
"""

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from oreo_agents.evaluation.statistics import RunKey, accuracy, compare, mean_interval

TASKS, RUNS = 140, 3
Answers = NDArray[np.float64]  # [runs, tasks]
Interval = tuple[float, float]

DIFFICULTIES: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "equal": lambda rng, n: np.full(n, 0.6),
    "unequal": lambda rng, n: rng.beta(0.15, 0.1, n),
}


def ours(answers: Answers) -> dict[RunKey, dict[str, float]]:
    """Return answers as ``statistics`` takes them."""
    return {RunKey("", k): {str(t): float(x) for t, x in enumerate(run)} for k, run in enumerate(answers)}


def over_tasks(answers: Answers) -> Interval:
    """Bootstrap over tasks, in its normal approximation."""
    means = answers.mean(axis=0)
    half = 1.96 * means.std() / np.sqrt(TASKS)
    return means.mean() - half, means.mean() + half


def over_seeds(answers: Answers) -> Interval:
    """Student's t over seeds."""
    return mean_interval(answers.mean(axis=1).tolist())


def wider(answers: Answers) -> Interval:
    """From the lower of both lower ends to the higher of both upper ends."""
    lows, highs = zip(over_tasks(answers), over_seeds(answers), strict=True)
    return min(lows), max(highs)


def wilson(answers: Answers) -> Interval:
    """Wilson's interval of all answers."""
    found = stats.binomtest(int(answers.sum()), answers.size).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def two_way(answers: Answers) -> Interval:
    """The suite's interval."""
    found = accuracy(ours(answers))
    return found.low, found.high


def mcnemar(first: Answers, second: Answers) -> float:
    """Return McNemar's p-value of the answers of all seeds, as if each were independent."""
    alone, other = int((first > second).sum()), int((first < second).sum())
    return float(stats.binomtest(alone, alone + other).pvalue) if alone + other else 1.0


METHODS = {
    "over tasks": over_tasks,
    "over seeds": over_seeds,
    "wider of both": wider,
    "Wilson, all answers": wilson,
    "two-way": two_way,
}


def main() -> None:
    """Simulate and print two tables."""
    parser = argparse.ArgumentParser(description="Coverage of intervals by simulation.")
    parser.add_argument("--studies", type=int, default=2000)
    studies = parser.parse_args().studies
    print(f"| tasks | seeds differ by | {' | '.join(METHODS)} | McNemar p < .05, all answers | p < .05, two-way |")
    print(f"|---|---:|{'---:|' * (len(METHODS) + 2)}")
    for difficulty, draw in DIFFICULTIES.items():
        truth = float(draw(np.random.default_rng(1), 1_000_000).mean())
        for noise in (0.0, 0.03):
            rng = np.random.default_rng(0)
            held, small = dict.fromkeys(METHODS, 0), np.zeros(2)
            for _ in range(studies):
                shares = draw(rng, TASKS)
                skill = rng.normal(0, noise, (2, RUNS, 1)) * 4 * shares * (1 - shares)
                first, second = (rng.random((2, RUNS, TASKS)) < shares + skill).astype(float)
                for name, method in METHODS.items():
                    low, high = method(first)
                    held[name] += low <= truth <= high
                found = compare(ours(first), ours(second))
                assert found is not None
                small += [mcnemar(first, second) < 0.05, found.p_value < 0.05]
            cells = [*held.values(), *small]
            print(f"| {difficulty} | {100 * noise:.0f} points | {' | '.join(f'{x / studies:.3f}' for x in cells)} |")


if __name__ == "__main__":
    main()
