import itertools
import tracemalloc

import numpy as np
import pytest

from oreo_algos.algos.selection import NothingToLearnError, balance, outcomes_by_task, preference_pairs
from oreo_algos.storage.buffer import EpisodeBuffer


@pytest.fixture
def outcomes(make_episode):
    """Build a buffer from the rewards of each task; token 1 of an episode is its index."""

    def build(**rewards):
        flat = [(task, reward) for task, column in rewards.items() for reward in column]
        return EpisodeBuffer(
            make_episode([-1, 0], [reward], task_id=task, tokens=[0, index])
            for index, (task, reward) in enumerate(flat)
        )

    return build


def rng(seed=0):
    return np.random.default_rng(seed)


def index_of(episode):
    return int(episode.tokens[1])


def test_outcomes_are_grouped_by_task(outcomes):
    assert outcomes_by_task(outcomes(a=[1, 0, 1], b=[0], c=[1])) == [([0, 2], [1]), ([], [3]), ([4], [])]


def test_what_info_says_of_success_outweighs_the_return(make_episode):
    solved = make_episode([-1, 0], [0.0], info={"success": True})
    failed = make_episode([-1, 0], [1.0], info={"success": False})
    assert outcomes_by_task(EpisodeBuffer([solved, failed])) == [([0], [1])]


def test_balance_keeps_at_most_n_of_each_outcome_of_a_task_in_order(outcomes):
    buffer = outcomes(a=[1] * 5 + [0] * 3, b=[1, 0, 0, 0], c=[0])
    kept = [index_of(episode) for episode in balance(buffer, 2, rng())]
    assert kept == sorted(set(kept))
    groups = {"a right": range(5), "a wrong": range(5, 8), "b right": [8], "b wrong": range(9, 12), "c wrong": [12]}
    counts = {name: len(set(kept) & set(members)) for name, members in groups.items()}
    assert counts == {"a right": 2, "a wrong": 2, "b right": 1, "b wrong": 2, "c wrong": 1}


def test_balance_draws_anew_with_another_seed_and_the_same_with_the_same(outcomes):
    buffer = outcomes(a=[1] * 30 + [0] * 30)
    drawn = [[index_of(episode) for episode in balance(buffer, 4, rng(seed))] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_balance_of_no_episode_an_outcome_is_an_error(outcomes):
    with pytest.raises(ValueError, match="per_outcome must be at least 1 episode, got 0"):
        balance(outcomes(a=[1]), 0, rng())


def test_every_pair_is_drawn_once_when_there_are_few(outcomes):
    pairs = preference_pairs(outcomes(a=[1, 0, 1, 0], b=[1, 1], c=[0, 1]), 6, rng())
    found = {(index_of(right), index_of(wrong)) for right, wrong in pairs}
    assert len(pairs) == len(found) == 5
    assert found == {*itertools.product([0, 2], [1, 3]), (7, 6)}


def test_a_task_gives_at_most_so_many_pairs_without_replacement(outcomes):
    pairs = preference_pairs(outcomes(a=[1, 1, 1, 0, 0, 0], b=[0, 1]), 6, rng())
    of_a = [(index_of(right), index_of(wrong)) for right, wrong in pairs if right.task_id == "a"]
    assert len(of_a) == len(set(of_a)) == 6
    assert len(pairs) == 7
    assert all(right.task_id == wrong.task_id and right.success and not wrong.success for right, wrong in pairs)


def test_no_task_with_both_outcomes_is_an_error_with_the_mend(outcomes):
    with pytest.raises(
        NothingToLearnError, match=r"none of the 2 tasks .* both a successful and a failed .*; collect more"
    ):
        preference_pairs(outcomes(a=[1, 1], b=[0]), 6, rng())


def paired(make_episode):
    """Three named pairs of one task, a copy of the first, a half alone, and two episodes that are of no pair."""
    named = [
        (1, "a"),
        (0, "a"),
        (0, "b"),
        (1, "b"),
        (1, "c"),
        (0, "c"),
        (1, "a"),
        (0, "a"),
        (1, "d"),
        (1, 7),
        (0, None),
    ]
    return EpisodeBuffer(
        make_episode([-1, 0], [reward], task_id="t", tokens=[0, index], info={} if name is None else {"pair": name})
        for index, (reward, name) in enumerate(named)
    )


@pytest.mark.parametrize("stored", [False, True])
def test_pairs_that_the_data_names_stay_together_and_others_are_drawn(make_episode, tmp_path, stored):
    buffer = paired(make_episode)
    if stored:
        buffer.save(tmp_path / "b", episodes_per_shard=4)
        buffer = EpisodeBuffer.load(tmp_path / "b")
    assert buffer.pairs == [(0, 1), (6, 7), (3, 2), (4, 5)]
    found = [(index_of(right), index_of(wrong)) for right, wrong in preference_pairs(buffer, 1, rng())]
    assert found[:4] == buffer.pairs and found[4][1] == 10 and found[4][0] in (8, 9) and len(found) == 5
    assert buffer[[3, 2, 9]].pairs == [(0, 1)]


def test_a_text_that_looks_like_a_name_is_none(make_episode, tmp_path):
    info = {"said": '{"pair": "x"}', "a pair": "x"}
    buffer = EpisodeBuffer(make_episode([-1, 0], [reward], info=info) for reward in (1, 0))
    buffer.save(tmp_path / "b")
    assert EpisodeBuffer.load(tmp_path / "b").pairs == buffer.pairs == []


def test_pairs_of_a_task_with_thousands_of_samples_are_not_listed(outcomes):
    buffer = outcomes(a=[1, 0] * 2000)
    buffer.columns  # noqa: B018
    tracemalloc.start()
    pairs = preference_pairs(buffer, 6, rng())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pairs) == 6 and len({tuple(pair) for pair in pairs.indices.tolist()}) == 6
    assert peak < 1 << 20, "of four million pairs"
    assert all(right.success and not wrong.success for right, wrong in pairs)
