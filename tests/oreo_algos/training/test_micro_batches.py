"""Micro-batches of a token budget: every example once, within the budget, of similar lengths."""

import itertools

import numpy as np
import pytest

from oreo_algos.training.micro_batches import cut_by_tokens, episodes_of, longest


@pytest.fixture
def of_lengths(make_episode):
    return lambda lengths: [make_episode([-1] + [0] * (length - 1), [1.0]) for length in lengths]


def lengths(pieces):
    return [[episode.num_tokens for episode in piece] for piece in pieces]


@pytest.mark.parametrize("budget", [1, 7, 20, 10_000])
def test_every_example_is_in_one_piece_within_the_budget_unless_it_is_alone(budget, random_episodes):
    episodes = random_episodes(40)
    pieces = cut_by_tokens(episodes, budget)
    assert sorted(map(id, episodes_of(pieces))) == sorted(map(id, episodes))
    assert all(len(piece) == 1 or sum(map(longest, piece)) <= budget for piece in pieces)
    # No two neighbours would have fitted into one.
    assert all(sum(map(longest, piece)) + longest(after[0]) > budget for piece, after in itertools.pairwise(pieces))


def test_the_longest_come_first_and_equal_lengths_in_the_order_given(of_lengths):
    episodes = of_lengths([3, 9, 4, 9, 2])
    pieces = cut_by_tokens(episodes, 12)
    assert lengths(pieces) == [[9], [9], [4, 3, 2]]
    assert pieces[0] == [episodes[1]]


def test_a_pair_stays_together_and_counts_with_both_of_its_episodes(of_lengths):
    a, b, c, d = of_lengths([5, 2, 4, 4])
    assert cut_by_tokens([(c, d), (a, b)], 15) == [[(a, b), (c, d)]]
    assert cut_by_tokens([(c, d), (a, b)], 14) == [[(a, b)], [(c, d)]]
    assert episodes_of([(a, b), (c, d)]) == [a, b, c, d]


def test_sorting_leaves_little_padding(of_lengths):
    drawn = of_lengths(np.random.default_rng(0).integers(50, 400, 64))
    pieces = cut_by_tokens(drawn, 2048)
    computed = sum(len(piece) * max(map(longest, piece)) for piece in pieces)
    assert computed < 1.15 * sum(map(longest, drawn))
