"""The one hook for services of experiment tracking, and each service where its library is there."""

import json
import math
import re
import sqlite3
from pathlib import Path

import pytest
from training_runs import run

from oreo_algos import TrainerConfig
from oreo_algos.algos import Sft
from oreo_algos.training import trackers
from oreo_algos.training.metrics_writer import MetricsWriter, read_metrics
from oreo_algos.training.trackers import TRACKERS, Tracked, Trackers, require_trackers, tracker_names


class Recording:
    """Writes down what it is told."""

    def __init__(self, run: Tracked) -> None:  # noqa: D107
        self.run, self.calls = run, []
        runs.append(self)

    def __getattr__(self, name: str):  # noqa: D105
        return lambda *given: self.calls.append((name, *given))


runs: list[Recording] = []


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    monkeypatch.setitem(TRACKERS, "recording", Recording)
    runs.clear()
    return runs


def test_a_tracker_is_told_of_settings_every_step_every_text_and_the_end(single_turn, tmp_path: Path, recording):
    _, rows, _ = run(Sft(batch_size=7, epochs=2, policy_lr=0.1), single_turn, tmp_path / "a", tracker=["recording"])
    [told] = recording
    assert [call[0] for call in told.calls if call[0] != "text"] == [
        *("start", *["scalars"] * (len(rows) - 1), "scalars", "flush", "finish"),
    ]
    settings = told.calls[0][1]
    assert settings["algo.name"] == "Sft" and settings["algo.batch_size"] == 7 and settings["episodes"] == 14
    scalars = [call[1:] for call in told.calls if call[0] == "scalars"]
    assert [step for step, _ in scalars] == [row["step"] for row in rows]
    assert scalars[0][1]["train/loss"] == rows[0]["train/loss"]
    assert told.run.name == f"{tmp_path.name}/a" and not list(tmp_path.rglob("events*"))


def test_a_tracker_is_told_of_the_end_of_a_training_that_fails(single_turn, tmp_path: Path, recording):
    def fail(step: int) -> dict[str, float]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        run(Sft(batch_size=7), single_turn, tmp_path, tracker="recording", evaluate_every=1, evaluate=fail)
    assert recording[0].calls[-1] == ("finish",)


@pytest.mark.parametrize("fails", ["start", "scalars", "text", "flush", "finish"])
def test_a_service_that_fails_ends_no_training(fails: str, tmp_path: Path, monkeypatch, recording, caplog):
    def fail(self, *given):
        raise ConnectionError("no route")

    broken = type("Broken", (Recording,), {fails: fail})
    monkeypatch.setitem(TRACKERS, "broken", broken)
    with MetricsWriter(tmp_path, trackers=["broken", "recording"]) as writer:
        for step in (1, 2):
            writer.write(step, {"train/loss": 1.0})
            writer.write_text("warnings/x", "y")
            writer.flush()
    assert len(read_metrics(tmp_path)) == 2
    assert [call[0] for call in recording[1].calls].count("scalars") == 2
    assert caplog.text.count("tracker broken failed and is told nothing more of this run: no route") == 1


def test_a_run_that_goes_on_keeps_the_name_that_a_service_gave_it(tmp_path: Path):
    assert Tracked(tmp_path).kept_id("wandb", lambda: "first") == "first"
    assert Tracked(tmp_path, resume_step=3).kept_id("wandb", lambda: "second") == "first"
    assert Tracked(tmp_path).kept_id("wandb", lambda: "third") == "third", "from the start again is another run"


@pytest.mark.parametrize("none", [[], "none", None, ()])
def test_no_tracker_leaves_the_metrics_alone(none, single_turn, tmp_path: Path):
    _, rows, _ = run(Sft(batch_size=7), single_turn, tmp_path, tracker=none)
    assert rows and not list(tmp_path.glob("events*"))


def test_tensorboard_is_the_default(single_turn, tmp_path: Path):
    assert TrainerConfig().tracker == ("tensorboard",)
    run(Sft(batch_size=7), single_turn, tmp_path)
    assert len(list(tmp_path.glob("events*"))) == 1


def test_trackers_are_named_once_and_among_those_there_are():
    assert tracker_names("wandb") == ("wandb",)
    assert tracker_names(["mlflow", "tensorboard", "mlflow"]) == ("mlflow", "tensorboard")
    with pytest.raises(ValueError, match=r"there is no 'wandv'; give some of tensorboard, wandb, trackio, mlflow"):
        TrainerConfig(tracker=["wandv"])


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
def test_a_library_that_is_missing_is_named_with_the_line_that_installs_it(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf'needs the library {name}.*pip install "oreo-suite\[{name}\]"'):
        require_trackers(["tensorboard", name])
    with pytest.raises(ValueError, match="pip install"):
        MetricsWriter(tmp_path, trackers=[name])
    require_trackers(["tensorboard"])


SETTINGS = {"algo": {"name": "Oreo", "beta": 0.03, "weights": [1, 2], "nothing": None}}


def write(folder: Path, name: str, *, first: int = 1) -> None:
    """Two steps and a text, whose letters mean something to a service."""
    with MetricsWriter(folder, first - 1, trackers=[name], settings=SETTINGS) as writer:
        for step in (first, first + 1):
            writer.write(step, {"train/loss": 0.5 / step, "train/kl": math.nan, "odd/β (x)": 2.0})
        writer.write_text("warnings/flat", "<b>bold</b> ``` [red]")
        writer.flush()


def library(name: str) -> None:
    """Skip where a library is not installed, or where installing was not asked for."""
    pytest.importorskip(name, reason=f"{name} is not installed (the extra [{name}])", exc_type=ImportError)


@pytest.mark.filterwarnings("ignore")  # foreign libraries warn of what they will
def test_wandb_writes_its_offline_run(tmp_path: Path, monkeypatch, caplog):
    library("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    write(tmp_path, "wandb")
    write(tmp_path, "wandb", first=3)
    assert not caplog.text
    files = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    own = json.loads((tmp_path / "wandb-run.json").read_text(encoding="utf-8"))["id"]
    assert {file.name for file in files} == {f"run-{own}.wandb"} and len(files) == 2
    assert all(name in files[0].read_bytes() for name in (b"train/loss", b"algo.beta", "odd/β (x)".encode()))
    [text, *_] = tmp_path.rglob("*.html")
    assert "&lt;b&gt;bold" in text.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_trackio_writes_its_local_project(tmp_path: Path, monkeypatch, caplog):
    library("trackio")
    from trackio import sqlite_storage, utils

    for module in (sqlite_storage, utils):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio", raising=False)
    monkeypatch.setenv("TRACKIO_PROJECT", "ours")
    write(tmp_path / "run", "trackio")
    write(tmp_path / "run", "trackio", first=3)
    assert not caplog.text
    with sqlite3.connect(tmp_path / "trackio" / "ours.db") as base:
        rows = [
            (name, step, json.loads(row))
            for name, step, row in base.execute("select run_name, step, metrics from metrics")
        ]
    losses = {step: row["train/loss"] for _, step, row in rows if "train/loss" in row}
    assert losses == {step: pytest.approx(0.5 / step) for step in (1, 2, 3, 4)}
    assert {name for name, _, _ in rows} == {f"{tmp_path.name}/run"}


@pytest.mark.filterwarnings("ignore")
def test_mlflow_writes_its_data_base(tmp_path: Path, monkeypatch, caplog):
    library("mlflow")
    import mlflow

    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/ours.db")
    write(tmp_path, "mlflow")
    write(tmp_path, "mlflow", first=3)
    assert "tracker" not in caplog.text
    client = mlflow.MlflowClient()
    [found] = client.search_runs([client.get_experiment_by_name("oreo").experiment_id])
    assert found.info.status == "FINISHED" and found.data.params["algo.beta"] == "0.03"
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert {point.step: point.value for point in history} == {step: 0.5 / step for step in (1, 2, 3, 4)}
    assert client.list_artifacts(found.info.run_id, "warnings/flat")


def test_a_tracker_of_another_package_is_asked_for_by_its_name(tmp_path: Path, recording):
    Trackers(["recording"], Tracked(tmp_path, 5), {"a": {"b": [1]}}).finish()
    assert recording[0].calls == [("start", {"a.b": "[1]"}), ("finish",)] and recording[0].run.resume_step == 5


def test_the_tracker_of_the_documents_is_told_of_a_training(single_turn, tmp_path: Path, monkeypatch, capsys):
    page = (Path(__file__).resolve().parents[3] / "docs" / "sharing.md").read_text(encoding="utf-8")
    [code] = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "TRACKERS" in block]
    monkeypatch.setitem(TRACKERS, "printing", Recording)  # so that what the code adds goes with the test
    exec(code, {})
    run(Sft(batch_size=7, epochs=1), single_turn, tmp_path / "x", tracker="printing")
    assert capsys.readouterr().out.splitlines()[0] == f"{tmp_path.name}/x Sft"
