"""Success is what was written when an episode was made: every algorithm reads it, and none guesses from rewards."""

import json

import numpy as np
import pytest
import torch
from tabular import tiny_models

from oreo_algos import EpisodeBuffer, TrainerConfig, train
from oreo_algos.algos import Dpo, Kto, Oreo, RejectionSampling
from oreo_algos.algos.kto import ReferencePoint
from oreo_algos.algos.value_metrics import ratio_metrics
from oreo_algos.batch import collate
from oreo_algos.training.warning_log import read_warnings


@pytest.fixture
def graded(make_episode):
    """One task: .05 for a wrong answer, as some graders pay; 1 for a right one that was cut off and counts as wrong."""
    facts = [(0.05, False, 7), (0.05, True, 8), (1.0, False, 9), (1.0, True, 10)]
    return [make_episode([-1, 0], [reward], success=solved, tokens=[1, token]) for reward, solved, token in facts]


def last_tokens(episodes):
    return [int(episode.tokens[-1]) for episode in episodes]


def test_rejection_sampling_imitates_successes_and_not_positive_rewards(graded):
    chosen = RejectionSampling().select(EpisodeBuffer(graded), np.random.default_rng(0))
    assert last_tokens(chosen) == [8, 10]


def test_dpo_prefers_successes_to_failures_whatever_they_pay(graded):
    pairs = Dpo().select(EpisodeBuffer(graded), np.random.default_rng(0))
    assert {tuple(last_tokens(pair)) for pair in pairs} == {(8, 7), (8, 9), (10, 7), (10, 9)}


def test_kto_desires_successes(graded):
    models, algorithm = tiny_models(), Kto(policy_lr=1e-3)
    metrics = algorithm.losses(collate(graded), models, ReferencePoint(torch.tensor(0.0), 1.0)).metrics
    logprobs = models.policy.score(collate(graded)).logprobs.sum(dim=1)
    assert metrics["logps/chosen"] == pytest.approx(logprobs[[1, 3]].mean().item())
    assert metrics["logps/rejected"] == pytest.approx(logprobs[[0, 2]].mean().item())


def test_the_hinge_and_the_metrics_of_outcomes_read_success(graded):
    assert collate(graded).success.tolist() == [False, True, False, True]
    ratios = ratio_metrics(torch.tensor([1.0, 2.0, 4.0, 8.0]), collate(graded))
    assert ratios == {"log_ratio/pos_median": 5.0, "log_ratio/neg_median": 2.5}
    models = tiny_models()
    with torch.no_grad():
        for parameter in models.policy.parameters():
            parameter.add_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))
    metrics = Oreo(positive_hinge=1.0).losses(collate(graded), models).metrics
    ratio = (models.policy.score(collate(graded)).logprobs - models.reference.score(collate(graded)).logprobs).sum(1)
    expected = (-ratio).clamp(min=0) * torch.tensor([0.0, 1.0, 0.0, 1.0])
    assert metrics["losses/hinge"] == pytest.approx(expected.mean().item(), rel=1e-5) and expected.sum() > 0
    assert not {"values/terminal_pos"} - set(metrics)


def test_success_is_kept_on_disk_and_is_part_of_the_content(graded, tmp_path, make_episode):
    buffer = EpisodeBuffer(graded)
    buffer.save(tmp_path / "buffer")
    loaded = EpisodeBuffer.load(tmp_path / "buffer")
    assert [e.success for e in loaded] == [e.success for e in graded]
    assert all(one.equals(other) for one, other in zip(loaded, graded, strict=True))
    other = [make_episode([-1, 0], [1.0], tokens=[1, 2], success=success) for success in (True, False)]
    assert EpisodeBuffer(other[:1]).content_hash != EpisodeBuffer(other[1:]).content_hash


@pytest.mark.parametrize("algorithm", [RejectionSampling(), Dpo(), Kto()], ids=lambda a: type(a).__name__)
def test_rewards_that_say_more_than_success_are_named_once(algorithm, graded, make_episode, tmp_path):
    between = [*graded, make_episode([-1, 0], [0.5], tokens=[1, 11], success=False)]
    for _ in range(2):  # the second continues
        train(algorithm, tiny_models(), EpisodeBuffer(between), TrainerConfig(), tmp_path)
    found = [finding for finding in read_warnings(tmp_path) if finding.name == "rewards_unread"]
    assert len(found) == 1 and "take 3 values, from 0.05 to 1" in found[0].text and "2 of them" in found[0].text


def test_two_values_of_rewards_and_algorithms_that_read_rewards_are_left_in_peace(graded, make_episode, tmp_path):
    plain = [make_episode([-1, 0], [float(k % 2) * 10], tokens=[1, 7 + k], success=bool(k % 2)) for k in range(4)]
    train(Kto(), tiny_models(), EpisodeBuffer(plain), TrainerConfig(), tmp_path / "kto")
    between = [*graded, make_episode([-1, 0], [0.5], tokens=[1, 11], success=False)]
    train(Oreo(), tiny_models(), EpisodeBuffer(between), TrainerConfig(), tmp_path / "oreo")
    assert not [f for name in ("kto", "oreo") for f in read_warnings(tmp_path / name) if f.name == "rewards_unread"]


def test_two_rewards_that_success_does_not_follow_are_named(make_episode, tmp_path):
    """Rewards of 0 and 10 and nothing said of success: all of them count as failures."""
    unsaid = [make_episode([-1, 0], [float(k % 2) * 10], tokens=[1, 7 + k]) for k in range(4)]
    train(Kto(), tiny_models(), EpisodeBuffer(unsaid), TrainerConfig(), tmp_path)
    assert "as 0 of them are" in next(f.text for f in read_warnings(tmp_path) if f.name == "rewards_unread")


def test_success_of_none_in_info_is_nothing_said(make_episode):
    twins = [make_episode([-1, 0], [0.0], success=solved, info={"success": None}) for solved in (True, False)]
    assert EpisodeBuffer(twins[:1]).content_hash != EpisodeBuffer(twins[1:]).content_hash


def test_a_file_of_an_earlier_release_with_a_text_for_success_is_refused_by_file_and_row(graded, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from oreo_algos.storage import parquet

    folder = tmp_path / "buffer"
    EpisodeBuffer(graded).save(folder)
    file = folder / "part-00000.parquet"
    table = pq.read_table(file).drop_columns(["success"])
    infos = [json.dumps({}), json.dumps({"success": "false"}), json.dumps({}), json.dumps({})]
    column = table.schema.get_field_index("info")
    pq.write_table(table.set_column(column, "info", pa.array(infos)), file)
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["shards"][0]["sha256"] = parquet.sha256(file)
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=r'part-00000\.parquet, row 1: info\["success"\]: expected true or false'):
        EpisodeBuffer.load(folder)
