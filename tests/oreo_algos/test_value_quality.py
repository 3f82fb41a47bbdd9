"""Figures of a value, against brute force, by hand, and on values whose quality is known."""

import numpy as np
import pytest

from oreo_algos.value_quality import (
    Undefined,
    auc,
    brier_score,
    calibration_error,
    explained_variance,
    first_mistake_found,
    grouped_auc,
    one_step_residuals,
    path_residuals,
    reliability,
    targets_to_go,
)


def share_of_pairs(scores, positive, group):
    """What ``grouped_auc`` says, pair by pair."""
    pairs = [
        (p > n) + (p == n) / 2
        for p, is_positive, its_group in zip(scores, positive, group, strict=True)
        if is_positive
        for n, other_is_positive, other_group in zip(scores, positive, group, strict=True)
        if not other_is_positive and its_group == other_group
    ]
    return sum(pairs) / len(pairs)


@pytest.mark.parametrize("seed", range(5))
def test_ordering_is_the_share_of_pairs_of_one_group(seed):
    rng = np.random.default_rng(seed)
    scores = rng.choice([-1.5, 0.0, 0.25, 0.3, 2.0], size=60)  # many ties
    positive, group = rng.random(60) < 0.4, rng.integers(7, size=60)
    assert grouped_auc(scores, positive, group) == pytest.approx(share_of_pairs(scores, positive, group))
    assert auc(scores, positive) == pytest.approx(share_of_pairs(scores, positive, np.zeros(60)))


def test_a_value_that_only_knows_difficulty_orders_nothing_within_a_question():
    """Ten easy and ten hard questions; V is the share of right answers of the question."""
    question = np.repeat(np.arange(20), 10)
    easy = question < 10
    solved = np.arange(200) % 10 < np.where(easy, 9, 1)
    value = np.where(easy, 0.9, 0.1)
    assert auc(value, solved) == pytest.approx(0.9)
    assert grouped_auc(value, solved, question) == 0.5
    assert calibration_error(value, solved) == pytest.approx(0)


def test_a_perfect_value():
    solved = np.array([True, False, True, False])
    assert auc(solved, solved) == grouped_auc(solved, solved, [0, 0, 1, 1]) == 1
    assert auc(-1.0 * solved, solved) == 0
    assert calibration_error(solved, solved) == brier_score(solved, solved) == 0
    assert explained_variance(solved, solved) == 1


def test_a_constant_value():
    solved = np.array([True, False, False, False])
    constant = np.full(4, 0.75)
    assert auc(constant, solved) == grouped_auc(constant, solved, [0, 0, 1, 1]) == 0.5
    assert calibration_error(constant, solved) == 0.5  # says 3/4, and 1/4 are right
    assert brier_score(constant, solved) == pytest.approx((0.0625 + 3 * 0.5625) / 4)
    assert explained_variance(constant, solved) == 0


def test_calibration_by_hand():
    values = [0.05, 0.15, 0.19, 1.0, 1.7, -0.2]
    solved = [True, False, False, True, False, False]
    bins = [(b.count, b.predicted, b.observed) for b in reliability(values, solved)]
    expected = [(2, 0.025, 0.5), (2, 0.17, 0.0), (2, 1.0, 0.5)]  # -0.2 counts as 0, 1.7 as 1
    assert bins == [pytest.approx(one) for one in expected]
    assert calibration_error(values, solved) == pytest.approx((2 * 0.475 + 2 * 0.17 + 2 * 0.5) / 6)
    assert brier_score(values, solved) == pytest.approx((0.95**2 + 0.15**2 + 0.19**2 + 0 + 1 + 0) / 6)


def test_explained_variance_does_not_see_an_offset_and_punishes_noise():
    targets = np.array([0.0, 1.0, 1.0, 0.0])
    assert explained_variance(targets + 3, targets) == 1
    assert explained_variance(-targets, targets) == -3


def test_a_value_that_solves_the_soft_bellman_equation_has_no_residual():
    rewards, costs = np.array([0.0, 0.5, 0.0, 1.0]), np.array([0.1, -0.2, 0.0, 0.3])
    values = np.array([1.3, 1.4, 0.7, 0.7])  # from the end: 1 - .3, + 0 - 0, + .5 + .2, + 0 - .1
    assert targets_to_go(rewards, costs) == pytest.approx(values)
    assert one_step_residuals(values, rewards, costs) == pytest.approx(0)
    assert path_residuals(values, rewards, costs) == pytest.approx(0)


def test_an_error_of_one_value_is_seen_once_along_the_path_and_twice_step_by_step():
    rewards, costs, values = np.array([0.0, 0.0, 1.0]), np.zeros(3), np.array([1.0, 0.6, 1.0])
    assert one_step_residuals(values, rewards, costs) == pytest.approx([0.4, -0.4, 0])
    assert path_residuals(values, rewards, costs) == pytest.approx([0, -0.4, 0])


def test_the_first_mistake_is_found_where_its_advantage_is_the_lowest():
    right = [True, False, False, True]
    assert first_mistake_found([0.1, -0.5, -0.1, 0.0], right) == 1
    assert first_mistake_found([0.1, -0.1, -0.5, 0.0], right) == 0, "the second one is not the first"
    assert first_mistake_found([0.1, -0.5, -0.5, 0.0], right) == 0.5
    assert first_mistake_found(np.zeros(4), right) == 0.25, "a constant value is as good as chance"


@pytest.mark.parametrize(
    ("figure", "reason"),
    [
        (lambda: auc([0.1, 0.2], [True, True]), "all 2 are right"),
        (lambda: auc([0.1, 0.2], [False, False]), "all 2 are wrong"),
        (lambda: auc([], []), "all 0 are wrong"),
        (lambda: grouped_auc([0.1, 0.2], [True, False], [0, 1]), "no group holds both"),
        (lambda: explained_variance([0.1, 0.2], [1, 1]), "no variance to explain"),
        (lambda: explained_variance([], []), "no variance to explain"),
        (lambda: calibration_error([], []), "no state"),
        (lambda: brier_score([], []), "no state"),
        (lambda: first_mistake_found([0.1], [True]), "no step is wrong"),
    ],
)
def test_what_the_data_cannot_say_is_undefined_with_a_reason(figure, reason):
    with pytest.raises(Undefined, match=reason):
        figure()
