"""What is selected is known by number: episodes are made when a step reads them, and not before."""

import dataclasses
import itertools

import numpy as np
import pytest
from tabular import tiny_models
from training_runs import run

from oreo_algos import Episode, EpisodeBuffer
from oreo_algos.algos import Dpo, Kto, RejectionSampling, Sft
from oreo_algos.algos.selection import Pairs, balance, outcomes_by_task
from oreo_algos.storage import buffer as buffer_module
from oreo_algos.storage.stored import StoredEpisode
from oreo_algos.training.doctor import examine_outcomes, examine_rewards
from oreo_algos.training.examples import Examples

FAST = {"policy_lr": 0.01, "batch_size": 4}


@pytest.fixture
def stored(make_episode, tmp_path):
    rng = np.random.default_rng(0)
    EpisodeBuffer(
        make_episode([-1] * int(start) + [0] * int(length), [float(i % 3 == 0)], task_id=f"task-{i // 6}")
        for i, (start, length) in enumerate(rng.integers(1, 6, (24, 2)))
    ).save(tmp_path / "buffer", episodes_per_shard=10)
    return EpisodeBuffer.load(tmp_path / "buffer")


@pytest.fixture
def made(monkeypatch):
    """Rows of which an episode was made."""
    rows, original = [], StoredEpisode.at

    def at(of, row):
        rows.append(row)
        return original(of, row)

    monkeypatch.setattr(StoredEpisode, "at", staticmethod(at))
    return rows


def test_nothing_that_is_selected_counted_or_joined_makes_an_episode(stored, made):
    rng = np.random.default_rng(0)
    joined = EpisodeBuffer.concatenate([stored, stored[::2]])
    for algorithm in (Dpo(), Kto(), Sft(), RejectionSampling()):
        examples = Examples(algorithm.select(joined, rng))
        assert len(examples.fitting(8)) < len(examples) == len(examples.longest)
    balance(joined, 1, rng), outcomes_by_task(joined), examine_outcomes(joined), examine_rewards(joined)
    assert joined.identity and joined.stats()["episodes"] == 36
    assert made == []


def test_a_step_makes_its_own_episodes_alone(stored, made, tmp_path):
    run(Sft(**FAST, epochs=1), stored, tmp_path, evaluate=lambda step: {}, evaluate_every=1)
    assert len(made) <= 1 + 2 * 24  # one to see which policy it is; of a step, to look where they stand and to pad


@pytest.mark.parametrize("algorithm", [Dpo(**FAST), Kto(**FAST), Sft(**FAST)], ids=lambda each: type(each).__name__)
def test_a_list_of_made_episodes_and_a_selection_by_number_are_learned_from_alike(algorithm, stored, tmp_path):
    class Listed(type(algorithm)):
        def select(self, buffer, rng):
            return list(super().select(buffer, rng))

    models = tiny_models()
    models.policy.max_length = 8
    _, lazy, result = run(algorithm, stored, tmp_path / "lazy", models)
    models = tiny_models()
    models.policy.max_length = 8
    listed = Listed(**dataclasses.asdict(algorithm))
    _, made, other = run(listed, EpisodeBuffer(list(stored)), tmp_path / "listed", models)
    assert [row["train/loss"] for row in lazy] == [row["train/loss"] for row in made]
    assert (result.examples, result.skipped_too_long) == (other.examples, other.skipped_too_long)
    assert result.skipped_too_long


def test_an_example_without_an_episode_is_an_error(stored):
    with pytest.raises(ValueError, match="example 1 of the selection is made of no episode"):
        Examples([(stored[0],), ()])


def test_pairs_are_a_sequence(stored):
    pairs = Dpo().select(stored, np.random.default_rng(0))
    assert isinstance(pairs, Pairs) and pairs[3] == list(pairs)[3] and len(pairs[1:3]) == 2
    assert all(right.success and not wrong.success and right.task_id == wrong.task_id for right, wrong in pairs)


def test_the_identity_of_a_buffer_is_that_of_its_episodes_and_reads_none_that_is_stored(stored, monkeypatch):
    copy = EpisodeBuffer(dataclasses.replace(episode) for episode in stored)
    found = [
        (stored.identity, copy.identity),
        (stored[5:].identity, copy[5:].identity),
        (stored[::-1].identity, copy[::-1].identity),
        (EpisodeBuffer.concatenate([stored, stored[:3]]).identity, EpisodeBuffer([*copy, *copy[:3]]).identity),
    ]
    assert all(one == other for one, other in found) and len(set(found)) == 4
    for one, changed in itertools.product([stored], [{"rewards": [5.0]}, {"info": {"a": 1}}, {"task_id": "b"}]):
        other = EpisodeBuffer([dataclasses.replace(one[0], **changed, success=one[0].success), *one[1:]])
        assert other.identity != one.identity
    monkeypatch.setattr(buffer_module, "Canonical", None)
    assert EpisodeBuffer.concatenate([stored[3:], stored]).identity
    assert EpisodeBuffer([]).identity == stored[:0].identity


def test_episodes_are_found_where_they_lie(stored):
    chosen = stored[[7, 3, 20]]
    assert stored.locate(chosen).tolist() == stored.locate(list(chosen)).tolist() == [7, 3, 20]
    assert chosen.locate(stored[[3, 4, 20]]).tolist() == [1, -1, 2]
    joined = EpisodeBuffer.concatenate([chosen, stored])
    assert joined.locate([stored[23], dataclasses.replace(stored[23])]).tolist() == [26, -1]
    in_memory = EpisodeBuffer(list(map(dataclasses.replace, stored)))
    assert in_memory.locate(in_memory[4:6]).tolist() == [4, 5] and stored.locate(in_memory).max() == -1
    assert isinstance(in_memory[0], Episode) and in_memory.locate(stored).max() == -1
