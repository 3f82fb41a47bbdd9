"""Evaluations on the way: the best is kept, the run stops, a kill loses and doubles nothing, no weight moves."""

import copy
import math

import pytest
import torch
from tabular import parameters, tiny_models
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from oreo_algos import TrainerConfig, train
from oreo_algos.algos import Oreo, Sft
from oreo_algos.storage.checkpoint import list_checkpoints, remove_checkpoints
from oreo_algos.training.curve import Evaluation
from oreo_algos.training.metrics_writer import read_metrics

SFT = Sft(policy_lr=0.05, batch_size=4, epochs=2)  # 8 steps of 14 episodes
OREO = Oreo(policy_lr=0.05, value_lr=0.05, batch_size=4, epochs=2, value_warmup_steps=3)


class Judge:
    """Scores each step as told, and remembers the networks; draws random numbers, as a search does."""

    def __init__(self, scores, models, stop_at=None):
        """Wait for the trainer's calls."""
        self.scores, self.models, self.stop_at, self.seen = scores, models, stop_at, {}

    def __call__(self, step):
        if step == self.stop_at:
            raise KeyboardInterrupt
        torch.rand(3)
        self.seen[step] = copy.deepcopy(weights(self.models))
        score = self.scores[step]
        return Evaluation({"eval/score": score}, score, {"eval/examples": f"after {step}"})


def weights(models):
    return {(kind, n): p for kind in ("policy", "value") for n, p in parameters(getattr(models, kind)).items()}


def equal(left, right):
    return all(torch.equal(parameter, right[name]) for name, parameter in left.items())


def run(buffer, folder, scores, *, algorithm=SFT, stop_at=None, seed=0, **config):
    """Train; networks that drop out show whether their random numbers stay."""
    models = tiny_models(dropout=0.3)
    judge = Judge(scores, models, stop_at)
    config = TrainerConfig(**{"evaluate_every": 2, "eval_on_start": True, "checkpoint_every": 3} | config)
    torch.manual_seed(seed)
    result = train(algorithm, models, buffer, config, folder, evaluate=judge)
    return models, judge, result


def points(folder):
    return [(row["step"], row["eval/score"]) for row in read_metrics(folder) if "eval/score" in row]


RISING = dict(enumerate([0.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]))
PEAK = RISING | {4: 0.9}


@pytest.mark.parametrize("algorithm", [SFT, OREO])
def test_evaluating_changes_no_weight(algorithm, buffer, tmp_path):
    plain, *_ = run(buffer, tmp_path / "plain", {}, algorithm=algorithm, evaluate_every=0)
    scores = dict.fromkeys(range(12), 0.5)
    curve, judge, result = run(buffer, tmp_path / "curve", scores, algorithm=algorithm, evaluate_every=1)
    assert len(judge.seen) == result.steps + 1
    assert equal(weights(plain), weights(curve))


def test_points_are_at_the_start_at_each_multiple_and_at_the_end(buffer, tmp_path):
    _, _, result = run(buffer, tmp_path, RISING, evaluate_every=3)
    assert points(tmp_path) == [(0, 0.0), (3, 0.2), (6, 0.5), (8, 0.7)]
    assert (result.best_step, result.best_score, result.loaded_step, result.stopped_early) == (8, 0.7, None, False)
    shown = EventAccumulator(str(tmp_path), {"tensors": 0}).Reload()
    assert [(event.step, round(event.value, 6)) for event in shown.Scalars("eval/score")] == points(tmp_path)
    assert [event.step for event in shown.Tensors("eval/examples/text_summary")] == [0, 3, 6, 8]
    seconds = [row["eval/cpu_seconds"] for row in read_metrics(tmp_path) if "eval/cpu_seconds" in row]
    assert seconds == sorted(seconds) and seconds[-1] <= result.cpu_seconds


@pytest.mark.parametrize("scores, best", [(PEAK, 4), (RISING, 8), (PEAK | {8: 0.9}, 4)])
def test_the_best_networks_are_what_a_run_ends_with(scores, best, buffer, tmp_path):
    models, judge, result = run(buffer, tmp_path, scores, load_best_model_at_end=True)
    assert equal(weights(models), judge.seen[best])
    assert result.best_step == best and result.loaded_step == (None if best == 8 else best)
    assert len(list(tmp_path.glob("best-*"))) == 1
    remove_checkpoints(tmp_path)
    assert not list(tmp_path.glob("best-*")) and not list(tmp_path.glob("checkpoint-*"))


def test_equal_evaluations_choose_nothing(buffer, tmp_path, caplog):
    """The earliest of equal ones would be the network before it learned anything."""
    models, judge, result = run(buffer, tmp_path, dict.fromkeys(range(9), 0.0), load_best_model_at_end=True)
    assert equal(weights(models), judge.seen[8]) and result.loaded_step is None
    assert "all evaluations came to 0, so none is the best; the last networks stay" in caplog.text


def test_without_being_asked_a_run_ends_with_the_last_networks(buffer, tmp_path):
    models, judge, result = run(buffer, tmp_path, PEAK)
    assert equal(weights(models), judge.seen[8])
    assert (result.best_step, result.loaded_step) == (4, None) and not list(tmp_path.glob("best-*"))


@pytest.mark.parametrize("stop_at", [2, 4, 6, 8])
@pytest.mark.parametrize("every", [2, 3, 100])
def test_a_kill_loses_and_doubles_no_point_and_not_the_best(every, stop_at, buffer, tmp_path):
    how = {"checkpoint_every": every, "load_best_model_at_end": True}
    whole, judge, expected = run(buffer, tmp_path / "whole", PEAK, **how)
    with pytest.raises(KeyboardInterrupt):
        run(buffer, tmp_path / "parts", PEAK, stop_at=stop_at, **how)
    parts, _, result = run(buffer, tmp_path / "parts", PEAK, seed=5, **how)
    assert equal(weights(parts), weights(whole)) and equal(weights(parts), judge.seen[4])
    assert points(tmp_path / "parts") == points(tmp_path / "whole")
    assert (result.best_step, result.best_score) == (expected.best_step, expected.best_score) == (4, 0.9)
    shown = EventAccumulator(str(tmp_path / "parts")).Reload().Scalars("eval/score")
    assert [event.step for event in shown] == [0, 2, 4, 6, 8]


def test_the_best_outlives_a_kill_between_a_better_one_and_the_next_checkpoint(buffer, tmp_path):
    """The run goes on from a checkpoint whose best the killed process had beaten since; here it is not beaten again."""
    how = {"checkpoint_every": 5, "load_best_model_at_end": True}
    with pytest.raises(KeyboardInterrupt):
        run(buffer, tmp_path, PEAK | {6: 0.95}, stop_at=8, **how)
    assert sorted(path.name for path in tmp_path.glob("best-*")) == ["best-4", "best-6"]
    assert [step for step, _ in list_checkpoints(tmp_path)] == [5]
    models, _, result = run(buffer, tmp_path, PEAK, **how)
    _, judge, _ = run(buffer, tmp_path / "whole", PEAK, **how)
    assert result.loaded_step == 4 and equal(weights(models), judge.seen[4])


def test_a_run_killed_after_its_last_checkpoint_ends_with_the_best_too(buffer, tmp_path):
    models, _, _ = run(buffer, tmp_path, PEAK, load_best_model_at_end=True)
    again, judge, result = run(buffer, tmp_path, {}, load_best_model_at_end=True)
    assert equal(weights(again), weights(models)) and not judge.seen and result.loaded_step == 4


def test_a_run_stops_when_evaluations_no_longer_become_better(buffer, tmp_path):
    scores = {0: 0.1, 2: 0.5, 4: 0.5, 6: 0.4, 8: 0.9}
    _, judge, result = run(buffer, tmp_path, scores, early_stopping_patience=2)
    assert list(judge.seen) == [0, 2, 4, 6] and (result.steps, result.stopped_early) == (6, True)
    _, judge, result = run(buffer, tmp_path, scores, early_stopping_patience=2)
    assert not judge.seen and (result.steps, result.stopped_early, result.best_step) == (6, True, 2)


def test_evaluations_before_the_policy_learns_are_no_reason_to_stop(buffer, tmp_path):
    """3 steps of value warm-up, 8 of the policy: two evaluations there without a better one are at step 5."""
    scores = dict.fromkeys(range(12), 0.5)
    _, _, result = run(buffer, tmp_path, scores, algorithm=OREO, evaluate_every=1, early_stopping_patience=2)
    assert result.steps == 5


def test_a_start_that_stays_the_best_has_the_value_of_the_end_of_the_warm_up(buffer, tmp_path):
    scores = dict.fromkeys(range(12), 0.5) | {11: 0.4}
    models, judge, result = run(buffer, tmp_path, scores, algorithm=OREO, evaluate_every=2, load_best_model_at_end=True)
    assert list(judge.seen) == [0, 2, 3, 4, 6, 8, 10, 11] and result.loaded_step == 3
    assert equal(weights(models), judge.seen[3])


def test_what_is_not_a_number_is_never_the_best(buffer, tmp_path):
    scores = RISING | {0: math.nan, 8: math.nan}
    _, _, result = run(buffer, tmp_path, scores, load_best_model_at_end=True)
    assert result.loaded_step == 6
    assert [step for step, score in points(tmp_path) if score is None] == [0, 8]


@pytest.mark.parametrize("setting", [{"load_best_model_at_end": True}, {"early_stopping_patience": 1}])
def test_to_choose_needs_evaluations_and_scores(setting, buffer, tmp_path):
    [name] = setting
    with pytest.raises(ValueError, match=f"trainer.{name} needs evaluations on the way: give trainer.evaluate_every"):
        TrainerConfig(**setting)
    config = TrainerConfig(evaluate_every=1, **setting)
    with pytest.raises(ValueError, match="evaluations have no score"):
        train(SFT, tiny_models(), buffer, config, tmp_path, evaluate=lambda step: {"accuracy": 1.0})


def test_a_new_run_in_the_folder_of_another_one_begins_anew(buffer, tmp_path):
    """Killed before its first checkpoint, and begun again with other numbers at step 0."""
    for start in (0.3, 0.3, 0.4):
        with pytest.raises(KeyboardInterrupt):
            run(buffer, tmp_path, RISING | {0: start}, stop_at=4, checkpoint_every=100)
        assert points(tmp_path) == [(0, start), (2, 0.1)]
