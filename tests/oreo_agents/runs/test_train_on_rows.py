"""``oreo train algo=dpo data=prefs.jsonl`` from the command to the card, and ``oreo eval data=held.jsonl`` after it."""

import gzip
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_models import make_model, make_tokenizer

from oreo_agents.episodes.tasks import EnvSettings
from oreo_agents.evaluation.preferences import DevPairs
from oreo_agents.networks.policy import PolicySettings
from oreo_agents.runs import cli
from oreo_agents.runs.layout import Layout
from oreo_agents.runs.loading import Loader
from oreo_agents.runs.run_data import RunData
from oreo_agents.runs.settings import RunSettings
from oreo_agents.runs.trained_from import learned_from
from oreo_algos.training.glossary import metrics as glossary

Row = dict[str, Any]
TRAIN = ["train", "data=prefs.jsonl", "policy.path=model", "algo.batch_size=4", "algo.policy_lr=1e-3"]
ON_THE_WAY = ["trainer.evaluate_every=2", "trainer.checkpoint_every=1"]


def pair(n: int) -> Row:
    return {"prompt": f"What is {n} + 2?", "chosen": f"{n} + 2 = {n + 2}", "rejected": f"I think that it is {n + 3}"}


def write(path: Path, numbers: range) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(pair(n)) + "\n" for n in numbers)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """A folder with pairs and a policy, to work in."""
    folder: Path = tmp_path_factory.mktemp("place")
    make_model("llama", context=128).save_pretrained(folder / "model")
    make_tokenizer().save_pretrained(folder / "model")
    write(folder / "prefs.jsonl", range(12))
    write(folder / "held.jsonl", range(20, 28))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def oreo(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["oreo", *arguments])
        try:
            cli.main()
        finally:
            root = logging.getLogger()
            for handler in [one for one in root.handlers if getattr(one, "baseFilename", "").endswith("cli.log")]:
                root.removeHandler(handler)
                handler.close()


@pytest.fixture
def refused(place: Path, capsys) -> Callable[..., str]:
    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            oreo(*arguments)
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and "Traceback" not in said
        return said

    return call


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    """The folder of a run of OREO, whose value ranks pairs too."""
    oreo(*TRAIN, "algo=oreo", "evaluate.pairs.data=held.jsonl", "hydra.run.dir=whole", *ON_THE_WAY)
    return place / "whole"


def test_rows_are_imported_said_trained_on_and_ranked(trained: Path):
    log = (trained / "cli.log").read_text()
    assert "data=prefs.jsonl is imported on the way" in log and "12 preference pairs" in log
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert (config["data"], config["env"]["id"]) == ("prefs.jsonl", "oreo/Chat-v0")
    document = json.loads((trained / "results.json").read_text())
    [part] = document["training"]["oreo"]["buffers"]
    assert part["given"] == "prefs.jsonl" and part["episodes"] == 24
    by_policy, by_value = document["pairs"]
    assert (by_policy["search"], by_value["search"]) == ("implicit_reward", "value")
    assert by_policy["beta"] == config["algo"]["beta"] and by_policy["reference"] == "model"
    for row in document["pairs"]:
        assert (row["n"], row["split"]) == (8, "pairs-held") and row["wilson_low"] <= row["accuracy"]
    report = (trained / "report.md").read_text()
    assert "Held-out pairs ranked right (%) of pairs-held" in report and "V at the end" in report
    card = (trained / "oreo" / "policy" / "README.md").read_text()
    assert "| pairs-held | implicit_reward | 8 |" in card and "reward accuracy, implicit_reward" in card


def test_what_is_measured_on_the_way_is_in_tensorboard_and_in_the_glossary(trained: Path):
    events = EventAccumulator(str(trained / "oreo")).Reload()
    names = [name for name in events.Tags()["scalars"] if name.startswith("eval/Chat-v0/")]
    own = [metric for metric in glossary() if "<pairs>" in metric.name]
    assert [name for name in names if not any(metric.matches(name) for metric in own)] == []
    assert [metric.name for metric in own if not any(metric.matches(name) for name in names)] == []
    rows = {row["search"]: row for row in json.loads((trained / "results.json").read_text())["pairs"]}
    last = events.Scalars("eval/Chat-v0/pairs-held/reward_margin")[-1].value
    assert last == pytest.approx(rows["implicit_reward"]["margin"], rel=1e-3)
    assert events.Scalars("eval/Chat-v0/pairs-held/reward_accuracy")[0].value == 0.5


def test_the_same_is_found_afterwards(trained: Path):
    oreo("eval", "whole/oreo", "data=held.jsonl", "hydra.run.dir=after")
    before, after = (json.loads((Path(one) / "results.json").read_text())["pairs"] for one in ("whole", "after"))
    for name in ("n", "accuracy", "margin", "checkpoint", "beta"):
        assert [row.get(name) for row in after] == pytest.approx([row.get(name) for row in before])
    assert not any({"seen_in_training", "training_unknown"} & row.keys() for row in after)
    assert "Held-out pairs ranked right" in Path("after/report.md").read_text()


def test_a_small_policy_is_held_against_the_start_that_runs_share(place: Path, refused, tmp_path: Path, monkeypatch):
    oreo("train", "data=prefs.jsonl", "algo=dpo", "hydra.run.dir=tiny")
    monkeypatch.chdir(tmp_path)
    where = ["eval", f"{place}/tiny/dpo", f"data={place}/held.jsonl"]
    oreo(*where, "hydra.run.dir=tiny-after")
    [row] = json.loads(Path("tiny-after/results.json").read_text())["pairs"]
    assert row["n"] == 8 and Path(row["reference"]).parent.parent == place / "outputs" / "starts"
    shutil.copytree(place / "tiny", "far/away/tiny")
    said = refused("eval", "far/away/tiny", *where[2:], "hydra.run.dir=no")
    assert "was trained from start, which lies neither in the run folder" in said and "reference.path=FOLDER" in said


def test_pairs_that_a_run_learned_from_are_counted_afterwards(trained: Path):
    oreo("eval", "whole", "data=[prefs.jsonl,held.jsonl]", "hydra.run.dir=known")
    rows = json.loads(Path("known/results.json").read_text())["pairs"]
    assert [(row["n"], row["seen_in_training"]) for row in rows] == [(20, 12), (20, 12)]
    assert (
        "oreo: 12 prompts of pairs-prefs-and-1-more are also in the training data" in Path("known/cli.log").read_text()
    )
    report = Path("known/report.md").read_text()
    assert "trained on" in report and "Preference pairs ranked right" in report and "Held-out" not in report


def test_pairs_are_held_out_only_of_what_is_known(trained: Path):
    shutil.copytree("whole/oreo/policy", "elsewhere")
    oreo("eval", "policy.path=elsewhere", "reference.path=model", "data=prefs.jsonl", "hydra.run.dir=unknown")
    report = Path("unknown/report.md").read_text()
    assert "Preference pairs ranked right (%) of pairs-prefs" in report and "Held-out" not in report
    assert "nothing tells what it learned from" in Path("unknown/cli.log").read_text()
    assert learned_from("elsewhere") is None and learned_from("model") is None
    tasks = learned_from("whole/oreo/policy")
    assert tasks is not None and len(tasks) == 12
    shutil.copytree("whole", "moved/whole")
    assert learned_from("moved/whole/oreo/policy") == tasks, "the start is found from the working folder"
    summary = Path("moved/whole/oreo/summary.json")
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"identity": "other"}))
    assert learned_from("moved/whole/oreo/policy") is None, "these are other episodes"


def test_a_run_that_was_killed_goes_on_and_one_of_the_same_data_imports_nothing(trained: Path, monkeypatch):
    dpo = [*TRAIN, "algo=dpo", "evaluate.pairs.share=0.25", *ON_THE_WAY]
    oreo(*dpo, "hydra.run.dir=dpo")
    log = (trained.parent / "dpo" / "cli.log").read_text()
    assert "imported on the way" not in log, "the run before has the same start and data"
    document = json.loads(Path("dpo/results.json").read_text())
    assert document["training"]["dpo"]["buffers"][0]["episodes"] == 18, "a quarter of the prompts is held back"
    assert document["pairs"][0]["n"] == 3 and "seen_in_training" not in document["pairs"][0]
    learned = learned_from("dpo/dpo/policy")
    assert learned is not None and len(learned) == 9, "what is held back was not learned from"

    original, asked = DevPairs.__call__, []

    def killed(self: DevPairs, step: int):
        asked.append(step)
        if asked == [0, 2]:
            raise KeyboardInterrupt
        return original(self, step)

    monkeypatch.setattr(DevPairs, "__call__", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        oreo(*dpo, "hydra.run.dir=again")
    assert not Path("again/dpo/summary.json").exists() and any(Path("again/dpo").glob("checkpoint-*"))
    oreo(*dpo, "hydra.run.dir=again")
    assert asked[:2] == [0, 2] and asked[2] >= 2, "it began where it stopped"
    whole, again = (load_file(f"{one}/dpo/policy/model.safetensors") for one in ("dpo", "again"))
    assert all((whole[name] == again[name]).all() for name in whole)


def test_a_run_that_is_done_says_that_its_data_has_changed(refused: Callable[..., str], place: Path):
    """Otherwise the old policy passes for one that learned from the new rows."""
    command = ["train", "data=mine.jsonl", *TRAIN[2:], "algo=dpo", "hydra.run.dir=mine"]
    write(place / "mine.jsonl", range(4))
    oreo(*command)
    os.utime("mine.jsonl", (1, 1))
    oreo(*command)  # the same rows
    write(place / "mine.jsonl", range(4, 8))
    said = refused(*command)
    assert "mine/dpo learned from other episodes (8) than there are now in data=mine.jsonl (8); put these back" in said
    Path("mine.jsonl").unlink()
    assert "mine.jsonl: no such file or folder" in refused(*command)


def test_what_cannot_be_measured_is_a_sentence(refused: Callable[..., str], trained: Path):
    said = refused(*TRAIN, "algo=dpo", "trainer.evaluate_every=2", "hydra.run.dir=no1")
    assert "evaluate.pairs.share=0.1" in said and "judges no answer" in said
    said = refused("eval", "policy.path=model", "data=held.jsonl", "hydra.run.dir=no2")
    assert "reference.path=CHECKPOINT" in said
    said = refused("eval", "policy.path=model", "env=chat", "hydra.run.dir=no3")
    assert "what=pairs ranks held-out preference pairs: give them as data=FILE" in said
    assert not Path("no1").exists() and not Path("no3").exists()
    Path("shown.jsonl").write_text('{"prompt": "q", "completion": "a"}\n')
    said = refused(*TRAIN, "algo=dpo", "evaluate.pairs.data=shown.jsonl", "hydra.run.dir=no1")
    assert "hold no preference pair" in said and not Path("no1/dpo").exists()


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ("a.jsonl", 3),
        ("./sub/../a.jsonl", 3),
        ("~/a.jsonl", 3),
        ("{}/a.jsonl", 3),
        (["a.jsonl", "b.jsonl.gz"], 5),
        ("folder", 4),
        (["~/folder", "b.jsonl.gz"], 6),
    ],
)
def test_rows_lie_anywhere(given, count: int, place: Path, tmp_path: Path, monkeypatch):
    write(tmp_path / "a.jsonl", range(3))
    write(tmp_path / "b.jsonl.gz", range(3, 5))
    write(tmp_path / "folder" / "train-00000-of-00002.jsonl", range(5, 7))
    write(tmp_path / "folder" / "train-00001-of-00002.jsonl", range(7, 9))
    write(tmp_path / "folder" / "test.jsonl", range(9, 12))
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    data = given.format(tmp_path) if isinstance(given, str) else given
    policy = PolicySettings(path=str(place / "model"))
    settings = RunSettings(env=EnvSettings(id="oreo/Chat-v0"), policy=policy, data=data)
    layout = Layout(tmp_path / "run", tmp_path / "run")
    parts = RunData(settings, layout, Loader(settings.policy, settings.value)).offline(str(place / "model"))
    assert sum(len(part.buffer.pairs) for part in parts) == count
