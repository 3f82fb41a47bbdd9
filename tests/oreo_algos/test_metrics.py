import json
import math
import pickle
import statistics

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from oreo_algos.metrics import Deviation, ExplainedVariance, Maximum, Mean, Median, Minimum, WeightedMean
from oreo_algos.training.metrics_writer import FILE_NAME, MetricsWriter, read_metrics


def scalars(folder, name):
    """(step, value) of every event that TensorBoard would draw."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_what_is_written_is_read_back_exactly_in_both_formats(tmp_path):
    values = [0.1, 1 / 3, 1e-300]
    with MetricsWriter(tmp_path) as writer:
        for step, value in enumerate(values, start=1):
            writer.write(step, {"train/loss": value, "train/num_tokens": step})
    assert read_metrics(tmp_path) == [
        {"step": step, "train/loss": value, "train/num_tokens": step} for step, value in enumerate(values, start=1)
    ]
    assert scalars(tmp_path, "train/loss") == [
        (step, pytest.approx(value, rel=1e-6)) for step, value in enumerate(values, start=1)
    ]


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, {"train/loss": 0.5})
        assert read_metrics(tmp_path) == [{"step": 1, "train/loss": 0.5}]


def test_a_value_that_is_not_finite_becomes_null(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.0})
    line = (tmp_path / FILE_NAME).read_text()
    assert json.loads(line, parse_constant=pytest.fail) == {"step": 1, "a": None, "b": None, "c": None, "d": 0.0}


def test_a_last_line_cut_off_by_a_kill_is_ignored(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.write(step, {"train/loss": float(step)})
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-7])
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]
    with MetricsWriter(tmp_path, resume_step=2) as writer:
        writer.write(3, {"train/loss": 3.0})
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3]


def test_a_folder_without_metrics_has_none(tmp_path):
    assert read_metrics(tmp_path) == []


def test_what_was_logged_after_the_step_that_a_run_continues_from_is_dropped(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        for step in range(1, 6):
            writer.write(step, {"train/loss": float(step)})
    with MetricsWriter(tmp_path, resume_step=3) as writer:
        assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3]
        writer.write(4, {"train/loss": 40.0})
    expected = [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]
    assert [(row["step"], row["train/loss"]) for row in read_metrics(tmp_path)] == expected
    assert scalars(tmp_path, "train/loss") == expected


def test_a_new_run_in_a_used_folder_starts_with_no_metrics(tmp_path):
    for value in (1.0, 2.0):
        with MetricsWriter(tmp_path) as writer:
            writer.write(1, {"train/loss": value})
    assert read_metrics(tmp_path) == [{"step": 1, "train/loss": 2.0}]


def test_the_files_are_closed_when_training_fails(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), MetricsWriter(tmp_path) as writer:
        writer.write(1, {"train/loss": 1.0})
        raise RuntimeError("stop")
    with pytest.raises(ValueError, match="closed file"):
        writer.write(2, {"train/loss": 1.0})


def test_weighted_mean_averages_a_name_over_the_contributions_that_have_it():
    mean = WeightedMean()
    mean.add({"loss": 1.0, "values/terminal_pos": 5.0}, 3)
    mean.add({"loss": 5.0}, 1)
    assert mean.result() == {"loss": (3 * 1.0 + 1 * 5.0) / 4, "values/terminal_pos": 5.0}
    assert WeightedMean().result() == {}


def test_a_number_that_says_what_it_is_is_merged_as_such_into_a_plain_one():
    mean = WeightedMean()
    for value, count, weight in ((1.0, 3, 10), (5.0, 1, 20)):
        mean.add({"mean": Mean(value, count), "least": Minimum(value), "most": Maximum(value), "loss": value}, weight)
    result = mean.result()
    assert result == {"mean": (3 * 1.0 + 1 * 5.0) / 4, "least": 1.0, "most": 5.0, "loss": (10 * 1.0 + 20 * 5.0) / 30}
    assert all(type(value) is float for value in result.values())


def test_a_standard_deviation_of_parts_is_that_of_the_whole():
    parts, mean = ([1.0, 2.0, 6.0], [10.0], [3.0, 3.0]), WeightedMean()
    for part in parts:  # the weights are of something else
        mean.add({"std": Deviation(statistics.pstdev(part), len(part), statistics.mean(part))}, weight=7)
    assert mean.result()["std"] == pytest.approx(statistics.pstdev([x for part in parts for x in part]))


def deviation(values):
    return Deviation(statistics.pstdev(values), len(values), statistics.mean(values))


def test_medians_and_explained_variance_of_a_step_do_not_depend_on_how_it_was_cut():
    """Sorted by length, a micro-batch may hold nothing but targets that are nearly alike."""
    rng = np.random.default_rng(0)
    target = np.sort(rng.normal(size=60))
    residual = 0.8 * rng.normal(size=60)
    whole = {"median": np.median(target), "explained": 1 - residual.var() / target.var()}
    for pieces in (1, 2, 7, 60):
        step = WeightedMean()
        for rows in np.array_split(np.arange(60), pieces):
            described = (deviation(target[rows].tolist()), deviation(residual[rows].tolist()))
            step.add({"median": Median(target[rows].tolist()), "explained": ExplainedVariance(*described)}, len(rows))
        assert step.result() == pytest.approx(whole, rel=1e-9)


def test_targets_that_are_all_the_same_explain_nothing_and_are_not_logged():
    step, same = WeightedMean(), deviation([1.0, 1.0])
    step.add({"explained": ExplainedVariance(same, deviation([0.5, 0.25])), "loss": 1.0}, 2)
    assert step.result() == {"loss": 1.0}
    step.add({"explained": ExplainedVariance(deviation([3.0]), deviation([0.0]))}, 1)
    left = statistics.pvariance([0.5, 0.25, 0.0]) / statistics.pvariance([1.0, 1.0, 3.0])
    assert step.result()["explained"] == pytest.approx(1 - left)


@pytest.mark.parametrize(
    "number",
    [
        Mean(0.5, 3),
        Minimum(-1.0),
        Maximum(2.0),
        Median([3.0, 1.0, 2.0]),
        deviation([1.0, 4.0]),
        ExplainedVariance(deviation([1.0, 4.0]), deviation([0.0, 1.0])),
    ],
    ids=lambda number: type(number).__name__,
)
def test_a_number_can_be_sent_to_another_process(number):
    copy = pickle.loads(pickle.dumps(number))
    assert type(copy) is type(number) and copy == number and copy.parts == number.parts
    together = type(number).join([copy, number])
    assert float(together) == pytest.approx(float(number))
