"""Checkpoints on disk, and that a continued run is bit for bit the uninterrupted one."""

import dataclasses
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import run as run_forked
from killed_training import KILLED_STEP, train_here
from tabular import parameters, tiny_models
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from oreo_algos import EpisodeBuffer, TrainerConfig, stopping, train
from oreo_algos.algos import Dpo, Kto, Oreo, Sft
from oreo_algos.storage.checkpoint import list_checkpoints, load_last_checkpoint, save_checkpoint
from oreo_algos.training import trainer
from oreo_algos.training.metrics_writer import FILE_NAME, read_metrics

FAST = {"policy_lr": 0.01, "batch_size": 4}
ALGORITHMS = {
    "oreo": Oreo(**FAST, value_lr=0.01, epochs=2, value_warmup_steps=5),
    "sft": Sft(**FAST, epochs=3),
    "dpo": Dpo(**FAST, epochs=3),
    "kto": Kto(**FAST, epochs=3),
}


@pytest.fixture(scope="module")
def buffer(random_episodes):
    return EpisodeBuffer(random_episodes(14))


class Interrupted(Exception):
    pass


def interrupt_at(last):
    def evaluate(step):
        if step == last:
            raise Interrupted
        return {}

    return evaluate


def run(algorithm, buffer, folder, *, seed=0, models=None, stop_at=None, **config):
    """Train networks with dropout; returns the networks."""
    models = models or tiny_models(dropout=0.3, moved=False)
    torch.manual_seed(seed)
    evaluate = None if stop_at is None else interrupt_at(stop_at)
    train(algorithm, models, buffer, TrainerConfig(evaluate_every=1, **config), folder, evaluate=evaluate)
    return models


def assert_same(left, right, path="state"):
    """Equal in every bit, through dicts and lists."""
    assert type(left) is type(right), path
    if isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_same(left[key], right[key], f"{path}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), path
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{path}[{index}]")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), path
    else:
        assert left == right, path


@pytest.fixture(scope="module")
def whole_runs(buffer, tmp_path_factory):
    """Folder of an uninterrupted run of each algorithm, under the algorithm's name."""
    base = tmp_path_factory.mktemp("whole")
    for name, algorithm in ALGORITHMS.items():
        run(algorithm, buffer, base / name)
    return base


def assert_same_run(left, right):
    """Networks, optimisers, schedulers, random state and metrics of two finished runs are equal; CPU time is not."""
    states = [load_last_checkpoint(folder) for folder in (left, right)]
    assert all(state.pop("cpu_seconds") > 0 for state in states)
    assert_same(*states)
    assert (left / FILE_NAME).read_bytes() == (right / FILE_NAME).read_bytes()


# --- resume


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(name, whole_runs, buffer, tmp_path):
    with pytest.raises(Interrupted):
        run(ALGORITHMS[name], buffer, tmp_path, checkpoint_every=4, stop_at=7)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [4]
    # Another random state, to show that the checkpoint replaces it.
    models = run(ALGORITHMS[name], buffer, tmp_path, seed=1, checkpoint_every=4)
    assert_same_run(whole_runs / name, tmp_path)
    for network, (state,) in load_last_checkpoint(whole_runs / name)["networks"].items():
        assert_same(parameters(getattr(models, network)), dict(state))


@pytest.mark.parametrize("stop_at", [3, 5, 6, 9, 12])
def test_resuming_inside_and_after_the_value_warm_up_is_bit_equal(stop_at, whole_runs, buffer, tmp_path):
    """Warm-up is steps 1 to 5, the first epoch 6 to 9; a checkpoint after every second step."""
    with pytest.raises(Interrupted):
        run(ALGORITHMS["oreo"], buffer, tmp_path, checkpoint_every=2, stop_at=stop_at)
    assert load_last_checkpoint(tmp_path)["step"] == (stop_at - 1) // 2 * 2
    run(ALGORITHMS["oreo"], buffer, tmp_path, seed=1, checkpoint_every=2)
    assert_same_run(whole_runs / "oreo", tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_its_step_with_a_checkpoint_that_it_goes_on_from(
    number, whole_runs, buffer, tmp_path
):
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def evaluate(step):
        if step == 6:
            signal.raise_signal(number)
        return {}

    config = TrainerConfig(evaluate_every=1, checkpoint_every=200)
    torch.manual_seed(0)
    try:
        with pytest.raises(stopping.Interrupted) as raised, stopping.listening():
            train(
                ALGORITHMS["oreo"], tiny_models(dropout=0.3, moved=False), buffer, config, tmp_path, evaluate=evaluate
            )
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert raised.value.number == number and "a checkpoint of step 6 of 13" in raised.value.kept
    assert [step for step, _ in list_checkpoints(tmp_path)] == [6]
    run(ALGORITHMS["oreo"], buffer, tmp_path, seed=1, checkpoint_every=200)
    assert_same_run(whole_runs / "oreo", tmp_path)


def test_a_run_interrupted_at_every_step_is_bit_equal(whole_runs, buffer, tmp_path):
    for step in range(2, 14):
        with pytest.raises(Interrupted):
            run(ALGORITHMS["oreo"], buffer, tmp_path, seed=step - 2, checkpoint_every=1, stop_at=step)
    run(ALGORITHMS["oreo"], buffer, tmp_path, seed=99, checkpoint_every=1)
    assert_same_run(whole_runs / "oreo", tmp_path)


def test_dropout_makes_the_random_state_matter(buffer, tmp_path):
    """Else the tests above would pass without restoring it."""

    class Disturbed(Sft):
        def begin_step(self, *_):
            torch.manual_seed(1)

    first, second = run(ALGORITHMS["sft"], buffer, tmp_path / "first"), tiny_models(dropout=0.3, moved=False)
    disturbed = Disturbed(**dataclasses.asdict(ALGORITHMS["sft"]))
    train(disturbed, second, buffer, TrainerConfig(), tmp_path / "second")
    assert not torch.equal(first.policy.head.weight, second.policy.head.weight)


def test_a_run_draws_what_its_seed_says(buffer, tmp_path):
    first = run(ALGORITHMS["sft"], buffer, tmp_path / "first", seed=0)
    second = run(ALGORITHMS["sft"], buffer, tmp_path / "second", seed=1)  # of torch, which the run's replaces
    assert torch.equal(first.policy.head.weight, second.policy.head.weight)


def test_metrics_logged_after_the_checkpoint_are_dropped_and_written_again_once(buffer, tmp_path):
    with pytest.raises(Interrupted):
        run(ALGORITHMS["sft"], buffer, tmp_path, checkpoint_every=4, stop_at=7)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
    run(ALGORITHMS["sft"], buffer, tmp_path, checkpoint_every=4)
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 13))
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in events] == [
        (row["step"], pytest.approx(row["train/loss"], rel=1e-6)) for row in rows
    ]


def test_a_finished_run_starts_no_step_and_reports_the_same(buffer, tmp_path):
    algorithm, config = ALGORITHMS["sft"], TrainerConfig()
    result = train(algorithm, tiny_models(), buffer, config, tmp_path)
    before = (tmp_path / FILE_NAME).read_bytes()
    models = tiny_models()
    assert train(algorithm, models, buffer, config, tmp_path, evaluate=pytest.fail) == result
    assert (tmp_path / FILE_NAME).read_bytes() == before
    assert_same(load_last_checkpoint(tmp_path)["networks"]["policy"], [models.policy.state_dict()])


def test_cpu_time_is_that_of_all_processes_of_a_run_without_steps_made_twice(buffer, tmp_path, monkeypatch):
    clock = 0.0
    monkeypatch.setattr(trainer.time, "process_time", lambda: clock)

    def end_step(*_):
        nonlocal clock
        clock += 1

    monkeypatch.setattr(Sft, "end_step", end_step)

    def tick(step):
        nonlocal clock
        clock += 100  # an evaluation, which is no training
        if step == stop_at:
            raise Interrupted
        return {}

    config = TrainerConfig(evaluate_every=1, checkpoint_every=4)
    stop_at = 7
    with pytest.raises(Interrupted):
        train(ALGORITHMS["sft"], tiny_models(), buffer, config, tmp_path, evaluate=tick)
    stop_at = None
    result = train(ALGORITHMS["sft"], tiny_models(), buffer, config, tmp_path, evaluate=tick)
    assert result.cpu_seconds == result.steps == 12


def test_numbers_of_numpy_among_the_metrics_do_not_spoil_the_checkpoint(buffer, tmp_path):
    def evaluate(step):
        return {"eval/accuracy": np.float64(0.5), "eval/return": np.float32(0.25)}

    config = TrainerConfig(evaluate_every=1)
    result = train(ALGORITHMS["sft"], tiny_models(), buffer, config, tmp_path, evaluate=evaluate)
    assert load_last_checkpoint(tmp_path)["metrics"] == result.metrics
    assert result.metrics["eval/return"] == 0.25


def test_how_often_to_save_and_evaluate_may_change_when_a_run_continues(whole_runs, buffer, tmp_path):
    with pytest.raises(Interrupted):
        run(ALGORITHMS["sft"], buffer, tmp_path, checkpoint_every=4, stop_at=6)
    run(ALGORITHMS["sft"], buffer, tmp_path, checkpoint_every=5, keep_checkpoints=3)
    assert_same_run(whole_runs / "sft", tmp_path)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [5, 10, 12]


# --- kill -9


@pytest.fixture(scope="module")
def killed(buffer, tmp_path_factory):
    """Folder of runs killed at every file operation of their second save, and in the middle of its state."""
    base = tmp_path_factory.mktemp("killed")
    buffer.save(base / "buffer")
    train_here(base / "whole", buffer, seed=0)
    script = str(Path(__file__).with_name("killed_training.py"))
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parents[3]}:{Path(__file__).parents[1]}"}
    run_forked([script, str(base)], base, environment).check_returncode()
    return base


def logged_steps(folder):
    """Steps of a curve as TensorBoard shows it."""
    return [event.step for event in EventAccumulator(str(folder)).Reload().Scalars("train/loss")]


def test_a_killed_save_leaves_the_checkpoint_before_it_or_the_new_one_and_training_ends_bit_equal(killed, buffer):
    attempts = sorted(killed.glob("operation-*"), key=lambda path: int(path.name.split("-")[1]))
    assert len(attempts) > 8
    found = set()
    for folder in attempts:
        found.add(load_last_checkpoint(folder)["step"])
        train_here(folder, buffer, seed=1)
        assert_same_run(killed / "whole", folder)
        assert logged_steps(folder) == logged_steps(killed / "whole")
        assert not list(folder.glob(".checkpoint-*"))  # what the kill left behind is gone
    assert found == {KILLED_STEP // 2, KILLED_STEP}


def test_a_state_half_written_is_never_read(killed, buffer):
    folder = killed / "half"
    assert [path.name for path in folder.glob(".checkpoint-*/state.pt")] == ["state.pt"]
    assert load_last_checkpoint(folder)["step"] == KILLED_STEP // 2
    train_here(folder, buffer, seed=1)
    assert_same_run(killed / "whole", folder)
    assert logged_steps(folder) == logged_steps(killed / "whole")


# --- files


def test_only_the_newest_checkpoints_stay(tmp_path):
    for step in (2, 4, 10, 100):
        save_checkpoint(tmp_path, step, {"step": step}, keep=2)
    assert [(step, path.name) for step, path in list_checkpoints(tmp_path)] == [
        (10, "checkpoint-10"),
        (100, "checkpoint-100"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-100"]
    assert load_last_checkpoint(tmp_path) == {"step": 100}


def test_what_kills_left_goes_when_a_run_begins(buffer, tmp_path):
    """Checkpoints that a kill kept from being pruned, one half written, one half removed."""
    run(ALGORITHMS["sft"], buffer, tmp_path, checkpoint_every=3, keep_checkpoints=3)
    for name in (".checkpoint-7.tmp-4194305", ".checkpoint-3.gone-4194305", ".checkpoint-9.old-4194305"):
        shutil.copytree(tmp_path / "checkpoint-9", tmp_path / name)
    run(ALGORITHMS["sft"], buffer, tmp_path, keep_checkpoints=1)  # all steps are taken: nothing is saved again
    assert [path.name for path in tmp_path.glob("*checkpoint-*")] == ["checkpoint-12"]


def test_other_folders_are_no_checkpoints(tmp_path):
    for name in ("checkpoint-x", "checkpoint-5", ".checkpoint-7.tmp-1", "policy"):
        (tmp_path / name).mkdir()
    assert list_checkpoints(tmp_path) == []
    assert load_last_checkpoint(tmp_path) is None
    assert load_last_checkpoint(tmp_path / "absent") is None


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_an_unreadable_checkpoint_is_an_error_with_file_and_mend(damage, buffer, tmp_path):
    run(ALGORITHMS["sft"], buffer, tmp_path, checkpoint_every=8, keep_checkpoints=2)
    path = tmp_path / "checkpoint-12" / "state.pt"
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(
        ValueError, match=r"checkpoint-12/state\.pt: .* cannot be read \(\w+\); delete the folder .*-12 to "
    ):
        run(ALGORITHMS["sft"], buffer, tmp_path)


def test_after_deleting_an_unreadable_checkpoint_the_one_before_it_continues(whole_runs, buffer, tmp_path):
    run(ALGORITHMS["sft"], buffer, tmp_path, checkpoint_every=8, keep_checkpoints=2)
    shutil.rmtree(tmp_path / "checkpoint-12")
    run(ALGORITHMS["sft"], buffer, tmp_path, seed=1, checkpoint_every=8, keep_checkpoints=2)
    assert_same_run(whole_runs / "sft", tmp_path)


ANOTHER_RUN = r"run: the checkpoint of step \d+ there belongs to a run with another configuration or buffer; choose"


@pytest.mark.parametrize("change", ["setting", "algorithm", "seed", "buffer", "bf16"])
def test_a_checkpoint_of_another_run_is_refused_with_its_folder(change, buffer, tmp_path):
    folder = tmp_path / "run"
    run(ALGORITHMS["sft"], buffer, folder)
    before = (folder / FILE_NAME).read_bytes()
    algorithm, data = ALGORITHMS["sft"], buffer
    if change == "setting":
        algorithm = dataclasses.replace(algorithm, policy_lr=0.02)
    if change == "algorithm":
        algorithm = ALGORITHMS["kto"]
    if change == "buffer":
        data = buffer[:13]
    config = TrainerConfig(seed=int(change == "seed"), bf16=change == "bf16")
    with pytest.raises(ValueError, match=ANOTHER_RUN):
        train(algorithm, tiny_models(dropout=0.3, moved=False), data, config, folder)
    assert (folder / FILE_NAME).read_bytes() == before


@pytest.mark.parametrize("changed", ["policy", "reference", "value"])
@pytest.mark.parametrize("how", ["other numbers", "one number", "another order"])
def test_a_run_from_another_start_is_refused_in_the_folder_of_the_first(changed, how, buffer, tmp_path):
    folder = tmp_path / "run"
    run(ALGORITHMS["oreo"], buffer, folder)
    models = tiny_models(dropout=0.3, moved=False)
    network = getattr(models, changed)
    with torch.no_grad():
        first = next(network.parameters())
        if how == "other numbers":
            first.copy_(torch.randn_like(first))
        elif how == "one number":
            first[-1, -1] += 1e-6
        else:
            first.copy_(first.flip(0))
    with pytest.raises(ValueError, match=ANOTHER_RUN):
        run(ALGORITHMS["oreo"], buffer, folder, models=models)


def test_a_network_that_the_algorithm_does_not_need_may_change(buffer, tmp_path):
    run(ALGORITHMS["sft"], buffer, tmp_path)
    models = dataclasses.replace(tiny_models(dropout=0.3, moved=False), reference=None, value=None)
    run(ALGORITHMS["sft"], buffer, tmp_path, models=models)
