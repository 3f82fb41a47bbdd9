"""Each warning once: on the console, in the file, in TensorBoard, also after a restart."""

import json
import logging
import os
import signal

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from oreo_algos.training.metrics_writer import MetricsWriter
from oreo_algos.training.warning_log import FILE_NAME, Finding, WarningLog, read_warnings

FLAT, ALL_EQUAL = Finding("flat_value", "V is 0.5 everywhere"), Finding("equal_rewards", "all are 1")


def texts(folder) -> dict[str, list[tuple[int, str]]]:
    """(step, text) of what TensorBoard would show, by tag."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag.removesuffix("/text_summary"): [
            (event.step, event.tensor_proto.string_val[0].decode()) for event in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }


def test_a_warning_is_given_everywhere_once_and_other_names_beside_it(tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second is another process's
        log = WarningLog(tmp_path / "run")
        log.give([FLAT, FLAT])
        log.give([ALL_EQUAL, Finding("flat_value", "V is 0.4 everywhere")])
    assert [record.getMessage() for record in caplog.records] == [
        "doctor: run: flat_value: V is 0.5 everywhere",
        "doctor: run: equal_rewards: all are 1",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    lines = (tmp_path / "run" / FILE_NAME).read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["flat_value", "equal_rewards"]
    assert read_warnings(tmp_path / "run") == [FLAT, ALL_EQUAL]
    assert texts(tmp_path / "run") == {
        "doctor/flat_value": [(0, "V is 0.5 everywhere")],
        "doctor/equal_rewards": [(0, "all are 1")],
    }


def test_a_run_without_tensorboard_gets_no_events(tmp_path, caplog):
    WarningLog(tmp_path / "run", events=False).give([FLAT])
    assert len(caplog.records) == 1 and [path.name for path in (tmp_path / "run").iterdir()] == [FILE_NAME]


def test_nothing_wrong_leaves_no_file(tmp_path):
    WarningLog(tmp_path / "run").give([])
    assert not (tmp_path / "run").exists() and read_warnings(tmp_path / "run") == []


def test_a_text_of_a_training_run_outlives_the_steps_that_a_restart_drops(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.write(step, {"train/loss": 1.0})
        WarningLog(tmp_path, writer.write_text).give([FLAT])
    with MetricsWriter(tmp_path, resume_step=1) as writer:
        writer.write(2, {"train/loss": 1.0})
    assert texts(tmp_path) == {"doctor/flat_value": [(0, "```text\nV is 0.5 everywhere\n```")]}  # no Markdown of others
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_text_is_in_tensorboard_also_when_the_process_is_killed_at_once(tmp_path):
    child = os.fork()
    if child == 0:
        try:
            writer = MetricsWriter(tmp_path)
            WarningLog(tmp_path, writer.write_text).give([FLAT])
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert read_warnings(tmp_path) == [FLAT]
    assert texts(tmp_path) == {"doctor/flat_value": [(0, f"```text\n{FLAT.text}\n```")]}
