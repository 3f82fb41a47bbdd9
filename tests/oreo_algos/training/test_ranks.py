"""Training on several processes against one: gradients of the first step, weights, kills, other numbers of them."""

import os
import sys
from functools import cache
from pathlib import Path

import pytest
import ranks_at_work
import torch
from forked import run
from ranks_at_work import CASES, KILLED, SHARDINGS, run_case
from tabular import sampled, with_twins

from oreo_algos import EpisodeBuffer, TrainerConfig, ranks
from oreo_algos.training.metrics_writer import read_metrics
from oreo_algos.training.micro_batches import share

QUICK = ["sft, one example a step", "kto, one turn", "oreo, moving average", "oreo, muon"]
SLOW = [name for name in CASES if name not in QUICK]
KILLS = [("0", "after"), ("1", "within"), ("01", "after")]


@pytest.fixture(scope="module")
def base(tmp_path_factory, random_episodes, single_turn) -> Path:
    """A folder with both buffers, and what came of the plans that are cheap."""
    folder = tmp_path_factory.mktemp("ranks")
    EpisodeBuffer(sampled(with_twins(random_episodes(14), 5))).save(folder / "several")
    single_turn.save(folder / "single")
    work(folder, f"compare:2:{';'.join(QUICK)}", f"hand over:{KILLED}", "fail", "first")
    return folder


@pytest.fixture(scope="module")
def alone(base):
    """What one process finds in a case, once."""
    return cache(lambda name: run_case(name, base, base / "runs" / f"{name}-alone"))


def work(base: Path, *plans: str) -> None:
    """Follow plans of `ranks_at_work` in a process of its own."""
    here = [str(Path(module.__file__).parent) for module in (ranks_at_work, sys.modules["tabular"])]
    path = os.pathsep.join([*here, *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = run([ranks_at_work.__file__, str(base), *plans], base, os.environ | {"PYTHONPATH": path})
    assert ended.returncode == 0, ended.stderr


def assert_same(found: dict, expected: dict) -> None:
    assert found["steps"] == expected["steps"] >= 4
    for gradients, others in zip(found["gradients"], expected["gradients"], strict=True):
        for one, other in zip(gradients, others, strict=True):
            assert (one is None) == (other is None)
            if other is not None:
                assert (one - other).norm() <= 1e-6 * max(other.norm(), 1e-6)
    assert_weights(found, expected)


def assert_weights(found: dict, expected: dict) -> None:
    for one, other in zip(found["weights"], expected["weights"], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


def assert_as_alone(base: Path, alone, size: int, names: list[str]) -> None:
    for name in names:
        for sharding in SHARDINGS:
            place = f"{name}-{sharding}-{size}"
            expected = alone(name)
            assert_same(torch.load(base / f"{place}.pt"), expected)
            rows, others = (read_metrics(base / "runs" / run) for run in (place, f"{name}-alone"))
            assert len(rows) == expected["steps"]
            for row, other in zip(rows, others, strict=True):
                assert row == pytest.approx(other, rel=1e-6, abs=1e-7), place


def test_two_processes_find_what_one_finds(base, alone):
    assert_as_alone(base, alone, 2, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "names"), [(2, SLOW), (3, list(CASES))])
def test_every_algorithm_finds_on_several_processes_what_it_finds_on_one(size, names, base, alone):
    work(base, f"compare:{size}:{';'.join(names)}")
    assert_as_alone(base, alone, size, names)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize(("victims", "moment"), KILLS)
def test_a_killed_run_goes_on_with_any_number_of_processes(sharding, victims, moment, base, alone):
    work(base, f"kill:{sharding}:{victims}:{moment}")
    step = 1 if moment == "within" else 2
    place = f"killed-{sharding}-{victims}-{moment}"
    assert (base / "runs" / place / f"checkpoint-{step}").exists()
    for size in (1, 2, 3):
        for way in SHARDINGS:
            found = torch.load(base / f"{place}-{size}-{way}.pt")
            assert_weights(found, alone(KILLED))
            assert found["steps"] == alone(KILLED)["steps"]


def test_what_one_process_began_others_continue_and_the_other_way_round(base, alone):
    for place in ("from-one", "to-one"):
        assert_weights(torch.load(base / f"{place}.pt"), alone(KILLED))


def test_a_loss_that_is_no_number_in_one_process_ends_all_with_its_sentence(base):
    said = [(base / f"said-{rank}").read_text() for rank in (0, 1)]
    assert said[0] == said[1] and "the loss is nan at step 1" in said[0]


def test_what_the_first_does_alone_others_wait_for_and_hear_of(base):
    assert [(base / f"heard-{rank}").read_text() for rank in (0, 1)] == ["7, it broke", "7, it broke"]


def test_shares_are_of_about_one_size():
    sizes = [9, 1, 1, 1, 5, 4, 3]
    parts = share(sizes, 3)
    assert sorted(i for part in parts for i in part) == list(range(7))
    assert max(sum(sizes[i] for i in part) for part in parts) == 9
    assert share([3, 2], 3) == [[0], [1], []]


def test_who_was_started_as_one_of_several_does_not_train_alone(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"ranks\.join"):
        ranks.require_joined()


def test_settings_that_nothing_would_come_of_are_refused():
    with pytest.raises(ValueError, match="one of replicated, full"):
        TrainerConfig(sharding="half")
    with pytest.raises(ValueError, match="sharding=full"):
        TrainerConfig(cpu_offload=True)


def test_offload_without_processes_is_refused(base, tmp_path):
    with pytest.raises(ValueError, match="torchrun"):
        run_case("sft", base, tmp_path, "full", cpu_offload=True)
