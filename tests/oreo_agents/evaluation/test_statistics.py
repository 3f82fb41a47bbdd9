"""Intervals and paired tests against formulas written out."""

import math
from math import comb

import numpy as np
import pytest

from oreo_agents.evaluation.statistics import (
    cluster_interval,
    compare_paired,
    seed_interval,
    standard_error,
    wilson_interval,
)


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (3, 10), (10, 10), (412, 1000)])
def test_wilson_interval_solves_its_quadratic_equation(correct: int, n: int):
    z, p = 1.959963984540054, correct / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson_interval(correct, n) == pytest.approx((center - half, center + half), abs=1e-9)


def test_standard_error_is_that_of_a_binomial_share():
    assert standard_error(25, 100) == pytest.approx(math.sqrt(0.25 * 0.75 / 100))
    assert standard_error(0, 7) == 0


def test_seed_interval_is_students():
    # Three seeds: t(0.975, 2) = 4.302653; mean 0.5, sample standard deviation 0.1.
    half = 4.302652729911275 * 0.1 / math.sqrt(3)
    assert seed_interval([0.4, 0.5, 0.6]) == pytest.approx((0.5 - half, 0.5 + half))


def test_an_interval_over_one_seed_is_refused():
    with pytest.raises(ValueError, match="an interval over seeds needs at least 2 of them, got 1"):
        seed_interval([0.5])


def outcomes(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    one = [True] * both + [True] * first + [False] * second + [False] * neither
    other = [True] * both + [False] * first + [True] * second + [False] * neither
    return one, other


@pytest.mark.parametrize(("first", "second"), [(9, 2), (2, 9), (5, 5), (1, 0)])
def test_mcnemar_counts_the_tasks_that_only_one_solved(first: int, second: int):
    result = compare_paired(*outcomes(20, first, second, 13))
    n = first + second
    tail = sum(comb(n, k) for k in range(max(first, second), n + 1)) / 2**n
    assert result.p_value == pytest.approx(min(1.0, 2 * tail))
    assert result.difference == pytest.approx((first - second) / (33 + n))
    assert result.n == 33 + n


def test_the_bootstrap_interval_is_about_that_of_the_normal_approximation():
    one, other = outcomes(300, 120, 60, 520)
    result = compare_paired(one, other)
    differences = np.array(one, float) - np.array(other, float)
    half = 1.96 * differences.std(ddof=1) / math.sqrt(len(differences))
    assert result.low < result.difference < result.high
    assert (result.low, result.high) == pytest.approx((0.06 - half, 0.06 + half), abs=0.004)


def test_the_bootstrap_is_the_same_for_the_same_seed():
    pair = outcomes(300, 120, 61, 520)
    assert compare_paired(*pair, seed=1) == compare_paired(*pair, seed=1)


def test_equal_outcomes_differ_by_nothing():
    result = compare_paired([True, False, True], [True, False, True])
    assert (result.difference, result.low, result.high, result.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_difference_on_every_task_has_an_interval_too():
    result = compare_paired([True] * 6, [False] * 6)
    assert (result.difference, result.low, result.high) == (1.0, 1.0, 1.0)
    assert result.p_value == pytest.approx(2 / 2**6)


def test_pairs_need_the_same_tasks():
    with pytest.raises(ValueError, match="needs the same tasks twice, got 2 and 1"):
        compare_paired([True, False], [True])
    with pytest.raises(ValueError, match="got 0 and 0"):
        compare_paired([], [])


def test_the_interval_over_clusters_knows_that_copies_are_no_evidence():
    """The mean of 100 numbers, and of the same numbers eight times over; the standard error is that of 100."""
    numbers = np.random.default_rng(0).normal(size=100)
    copies = np.repeat(numbers, 8)
    low, high = cluster_interval(lambda rows, _: copies[rows].mean(), np.repeat(np.arange(100), 8))
    half = 1.96 * numbers.std() / 10
    assert (low, high) == pytest.approx((numbers.mean() - half, numbers.mean() + half), abs=0.15 * half)


def test_clusters_are_drawn_whole_and_told_apart_when_drawn_twice():
    clusters = [7, 3, 7, 3, 3]

    def check(rows, draws):
        for draw in set(draws):
            assert sorted(rows[draws == draw]) in ([0, 2], [1, 3, 4])
        assert sorted(set(draws)) == [0, 1]
        return 0.0

    assert cluster_interval(check, clusters, resamples=50) == (0.0, 0.0)


def test_resamples_that_do_not_define_the_figure_are_left_out_unless_they_are_many():
    def interval(needed):
        def figure(rows, draws):
            if len(set(rows)) < needed:
                raise KeyError
            return 1.0

        return cluster_interval(figure, range(9), undefined=(KeyError,), resamples=200)

    assert interval(3) == (1.0, 1.0)
    assert interval(7) is None
    assert cluster_interval(lambda *_: 1.0, [4, 4, 4]) is None
