"""Log-probabilities of the reference: taken once, kept beside the buffer, right after every kind of accident."""

import dataclasses
import gc
import itertools
import logging
import os
import shutil
import weakref

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tabular import parameters, tiny_models

from oreo_algos import EpisodeBuffer, TrainerConfig, train
from oreo_algos.algos import Dpo, Kto, Oreo
from oreo_algos.batch import collate
from oreo_algos.training import reference
from oreo_algos.training.metrics_writer import read_metrics
from oreo_algos.training.reference import reference_logprobs

OPTIONS = {"bf16": False}
LOOK = 1
"""Episodes that every call reads to see which reference it is."""
FAST = {"policy_lr": 0.01, "batch_size": 4, "epochs": 2}
CACHED = {
    "dpo": Dpo(**FAST),
    "kto": Kto(**FAST),
    "oreo-k3": Oreo(**FAST, value_lr=0.01, kl="k3"),
    "oreo-value-only": Oreo(**FAST, value_lr=0.01, value_only=True),
}


class Counted:
    """A policy that counts what it is asked to score."""

    def __init__(self, policy):
        """Wrap a policy."""
        self.policy, self.rows = policy, 0
        self.parameters, self.state_dict, self.max_length = policy.parameters, policy.state_dict, policy.max_length
        self.log_probabilities = policy.log_probabilities

    def score(self, batch, *others, **options):
        self.rows += len(batch)
        return self.policy.score(batch, *others, **options)


@pytest.fixture
def model():
    return Counted(tiny_models().reference)


@pytest.fixture
def buffer(random_episodes, tmp_path):
    EpisodeBuffer(random_episodes(14), tokenizer_fingerprint="t").save(tmp_path / "buffer")
    return EpisodeBuffer.load(tmp_path / "buffer")


def side_files(buffer):
    return sorted(buffer.folder.glob("ref-*.parquet"))


def assert_right(found, model, episodes):
    assert len(found) == len(episodes)
    for episode, row in zip(episodes, found, strict=True):
        assert row.dtype == np.float32
        expected = model.policy.score(collate([episode])).logprobs[0].detach().numpy()
        np.testing.assert_allclose(row, expected, rtol=1e-6)


# --- the side file


def test_rows_are_taken_once_and_read_from_the_folder_afterwards(buffer, model):
    first = reference_logprobs(model, buffer, buffer, **OPTIONS)
    assert_right(first, model, buffer)
    assert model.rows == LOOK + len(buffer)
    again = EpisodeBuffer.load(buffer.folder)
    second = reference_logprobs(model, again, again, **OPTIONS)
    assert model.rows == LOOK + len(buffer) + LOOK
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_only_pieces_with_episodes_asked_for_are_scored_and_others_join_their_file(buffer, model, monkeypatch):
    monkeypatch.setattr(reference, "_PIECE_TOKENS", 1)  # an episode a piece
    some = [buffer[5], buffer[2], buffer[5]]
    assert_right(reference_logprobs(model, buffer, some, **OPTIONS), model, some)
    assert model.rows == LOOK + 2
    assert pq.read_table(side_files(buffer)[0])["episode"].to_pylist() == [2, 5]
    assert_right(reference_logprobs(model, buffer, buffer, **OPTIONS), model, buffer)
    assert model.rows == 2 * LOOK + len(buffer)
    assert len(side_files(buffer)) == 1


def test_a_row_has_the_same_bits_whatever_was_asked_for_before(random_episodes, tmp_path, monkeypatch):
    """Of a reference whose rounding depends on what it reads at once, as that of fast kernels does."""
    monkeypatch.setattr(reference, "_PIECE_TOKENS", 30)
    model = Counted(tiny_models().reference)
    plain = model.score
    model.score = lambda batch: dataclasses.replace(
        plain(batch), logprobs=plain(batch).logprobs * (1 + 1e-3 * batch.tokens.numel())
    )
    found = []
    for number, asked in enumerate([[range(40)], [[7], range(20, 40), [3, 4], range(40)], [[39], range(40)]]):
        EpisodeBuffer(random_episodes(40)).save(tmp_path / str(number))
        buffer = EpisodeBuffer.load(tmp_path / str(number))
        for some in asked:
            rows = reference_logprobs(model, buffer, [buffer[i] for i in some], **OPTIONS)
        found.append([row.tolist() for row in rows])
    assert found[0] == found[1] == found[2]
    in_memory = reference_logprobs(model, buffer[:], buffer, **OPTIONS)
    assert found[0] == [row.tolist() for row in in_memory]


def test_what_the_reference_cannot_read_and_an_episode_that_occurs_twice_are_no_obstacle(random_episodes, model):
    episodes = random_episodes(6)
    model.max_length = sorted(episode.num_tokens for episode in episodes)[3]
    fit = [episode for episode in episodes if episode.num_tokens <= model.max_length]
    assert 0 < len(fit) < 6
    assert_right(reference_logprobs(model, EpisodeBuffer([*episodes, fit[0]]), fit, **OPTIONS), model, fit)


def test_another_reference_tokenizer_precision_or_data_is_a_miss(buffer, model, random_episodes):
    reference_logprobs(model, buffer, buffer, **OPTIONS)
    other = Counted(tiny_models(1).reference)
    assert_right(reference_logprobs(other, buffer, buffer, **OPTIONS), other, buffer)
    assert other.rows == LOOK + len(buffer)
    kinds = {
        "tokenizer": EpisodeBuffer(buffer, tokenizer_fingerprint="u", folder=buffer.folder),
        "data": EpisodeBuffer(random_episodes(14, seed=1), tokenizer_fingerprint="t", folder=buffer.folder),
    }
    for count, changed in enumerate(kinds.values(), start=2):
        assert_right(reference_logprobs(model, changed, changed, **OPTIONS), model, changed)
        assert model.rows == count * (LOOK + 14)
    reference_logprobs(model, buffer, buffer, bf16=True)
    assert model.rows == 4 * (LOOK + 14)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "flipped", "other rows"])
def test_a_damaged_file_is_reported_and_taken_again(damage, buffer, model, caplog):
    reference_logprobs(model, buffer, buffer, **OPTIONS)
    (file,) = side_files(buffer)
    content = bytearray(file.read_bytes())
    match damage:
        case "truncated":
            file.write_bytes(content[: len(content) // 2])
        case "foreign":
            shutil.copy(next(buffer.folder.glob("part-*.parquet")), file)
        case "flipped":
            content[len(content) // 3] ^= 255
            file.write_bytes(content)
        case "other rows":
            table = pq.read_table(file)
            pq.write_table(table.set_column(1, "logprobs", table["logprobs"].take(list(range(13, -1, -1)))), file)
    with caplog.at_level(logging.WARNING, logger="oreo_algos"):
        assert_right(reference_logprobs(model, buffer, buffer, **OPTIONS), model, buffer)
    assert model.rows == 2 * (LOOK + len(buffer))
    (message,) = caplog.messages
    assert message.startswith(f"{file}: damaged (")
    assert message.endswith("the log-probabilities of the reference are taken again")
    reference_logprobs(model, buffer, buffer, **OPTIONS)
    assert model.rows == 2 * (LOOK + len(buffer)) + LOOK


def test_a_folder_that_cannot_be_written_and_a_buffer_in_memory_go_on_in_memory(buffer, model, caplog):
    shutil.rmtree(buffer.folder)
    with caplog.at_level(logging.WARNING, logger="oreo_algos"):
        assert_right(reference_logprobs(model, buffer, buffer, **OPTIONS), model, buffer)
        assert "in memory only" in caplog.text
        caplog.clear()
        assert_right(reference_logprobs(model, buffer[:], buffer, **OPTIONS), model, buffer)
    assert not caplog.messages
    assert not buffer.folder.exists()


def test_two_runs_that_score_at_the_same_time_both_keep_what_was_written_first(buffer, model, monkeypatch):
    """The other run writes its rows while this one is scoring."""
    original = reference._score

    def meanwhile(*arguments, **options):
        monkeypatch.setattr(reference, "_score", original)
        reference_logprobs(model, buffer, list(buffer)[:9], **OPTIONS)
        return original(*arguments, **options) + 1e-3  # as if rounded otherwise

    monkeypatch.setattr(reference, "_score", meanwhile)
    mine = reference_logprobs(model, buffer, list(buffer)[5:], **OPTIONS)
    kept = reference_logprobs(model, buffer, buffer, **OPTIONS)
    assert_right(kept[:9], model, list(buffer)[:9])
    assert all(np.array_equal(one, other) for one, other in zip(mine, kept[5:], strict=True))


def test_the_side_files_used_last_stay(buffer):
    def use(seed):
        """Ask for the rows of a reference; returns whether they were known."""
        model = Counted(tiny_models(seed).reference)
        reference_logprobs(model, buffer, buffer, **OPTIONS)
        return model.rows == LOOK

    files = []
    for seed in range(reference._KEPT):
        assert not use(seed)
        files += set(side_files(buffer)) - set(files)
    # Reference 0 was written last, then 1 and so on; names say nothing.
    for age, file in enumerate(files):
        os.utime(file, (1000 - age, 1000 - age))
    assert use(reference._KEPT - 1)
    assert not use(100)
    assert len(side_files(buffer)) == reference._KEPT
    assert set(files) - set(side_files(buffer)) == {files[reference._KEPT - 2]}, "not used for longest"


# --- in training


def run(algorithm, buffer, folder, models, evaluate=None):
    train(algorithm, models, buffer, TrainerConfig(evaluate_every=1), folder, evaluate=evaluate)
    return models


@pytest.mark.parametrize("name", CACHED)
def test_training_reads_what_scoring_at_each_step_would_find(name, buffer, tmp_path, monkeypatch):
    """To the rounding of float32, in which they are kept."""
    cached = run(CACHED[name], buffer, tmp_path / "cached", tiny_models())
    monkeypatch.setattr(type(CACHED[name]), "reference_use", "distribution")
    plain = run(CACHED[name], buffer, tmp_path / "plain", tiny_models())
    for kind in ("policy", "value"):
        before = parameters(getattr(plain, kind))
        for key, parameter in parameters(getattr(cached, kind)).items():
            torch.testing.assert_close(parameter, before[key], rtol=0, atol=1e-5)


def test_a_run_that_continues_takes_the_bits_that_it_began_with(buffer, tmp_path):
    def stop(step):
        if step == 2:
            raise KeyboardInterrupt
        return {}

    whole = run(CACHED["dpo"], buffer, tmp_path / "whole", tiny_models())
    with pytest.raises(KeyboardInterrupt):
        train(
            CACHED["dpo"],
            tiny_models(),
            buffer,
            TrainerConfig(evaluate_every=1, checkpoint_every=1),
            tmp_path / "parts",
            evaluate=stop,
        )
    parts = tiny_models()
    train(CACHED["dpo"], parts, buffer, TrainerConfig(checkpoint_every=1), tmp_path / "parts")
    for key, parameter in parameters(whole.policy).items():
        assert torch.equal(parameter, parameters(parts.policy)[key])


@pytest.mark.parametrize("name", [*CACHED, "oreo"])
def test_the_reference_is_let_go_of_once_what_is_read_of_it_is_known(name, buffer, tmp_path):
    """At once, without the collection of cycles; the exact divergence reads it at every step."""
    there = []

    def look(step):
        there.append(known() is not None)
        return {}

    models = tiny_models()
    known = weakref.ref(models.reference)
    gc.disable()
    try:
        run(CACHED.get(name, Oreo(**FAST, value_lr=0.01)), buffer, tmp_path / "run", models, look)
    finally:
        gc.enable()
    assert there == [name == "oreo"] * len(there) and there


def test_pairs_that_a_step_makes_are_scored_before_the_steps(buffer, tmp_path, monkeypatch):
    """What a step would find is what it is given, to the rounding of float32."""
    rewards = itertools.cycle([[1.0], [0.0]])
    single = [
        dataclasses.replace(e, step_id=np.where(np.arange(e.num_tokens) < 2, -1, 0), rewards=next(rewards))
        for e in buffer
    ]
    found = []
    for use in ("logprobs", "distribution"):
        monkeypatch.setattr(Kto, "reference_use", use)
        run(CACHED["kto"], EpisodeBuffer(single), tmp_path / use, tiny_models())
        found.append([row["train/rewards/reference_point"] for row in read_metrics(tmp_path / use)])
    assert max(found[0]) > 0.1 and found[0] == pytest.approx(found[1], abs=1e-6)


def test_while_the_policy_stays_the_reference_nothing_is_taken(buffer, tmp_path):
    run(CACHED["oreo-value-only"], buffer, tmp_path / "run", tiny_models(moved=False))
    assert not side_files(buffer)


def test_a_run_that_is_finished_takes_nothing(buffer, tmp_path):
    run(CACHED["dpo"], buffer, tmp_path / "run", tiny_models())
    (file,) = side_files(buffer)
    file.unlink()
    run(CACHED["dpo"], buffer, tmp_path / "run", tiny_models())
    assert not side_files(buffer)


def test_the_exact_divergence_takes_nothing_before_the_steps(buffer, tmp_path):
    run(Oreo(**FAST, value_lr=0.01), buffer, tmp_path / "run", tiny_models())
    assert not side_files(buffer)
