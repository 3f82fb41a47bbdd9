"""A command that is refused before it did anything leaves nothing that was not there before."""

from pathlib import Path

import pytest
from filelock import FileLock

from oreo_agents.runs import jobs, leftovers


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "data=nowhere"],
        ["eval", "policy.path=./nowhere", "hydra.run.dir=runs/mine"],
        ["train", "policy.path=./nowhere"],
        ["train", "-m", "algo=oreo,dpo", "data=nowhere"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_refused_command_leaves_nothing(oreo, arguments: list[str], tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        oreo(*arguments)
    assert "no" in capsys.readouterr().err
    assert everything(tmp_path) == []


def test_what_was_there_stays(oreo, tmp_path: Path, monkeypatch):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "notes.txt").write_text("mine")
    before = everything(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        oreo("train", "data=nowhere", "hydra.run.dir=runs/mine")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("kind", ["done", "traceback"])
def test_a_run_that_began_keeps_its_log(oreo, kind: str, tmp_path: Path, monkeypatch):
    def job(config, folder: Path) -> None:
        if kind == "done":
            (folder / "sft").mkdir()
            (folder / "sft" / "metrics.jsonl").write_text("")
        else:
            (folder / leftovers.LOG).write_text("Traceback (most recent call last):\n  ...")
        raise ValueError("nothing to learn")

    monkeypatch.setitem(jobs.JOBS, "train", job)
    with pytest.raises(SystemExit):
        oreo("train", f"hydra.run.dir={tmp_path / 'run'}")
    assert {"cli.log", ".run.lock"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_a_folder_that_another_process_took_is_left_to_it(tmp_path: Path):
    leftovers.forget()
    leftovers.watch(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 0")
    with FileLock(tmp_path / "run" / ".run.lock"):
        leftovers.take_back()
        assert everything(tmp_path / "run") == [".run.lock", "config.yaml"]


def test_nothing_is_deleted_where_anything_was_done_in_a_start(tmp_path: Path):
    leftovers.forget()
    for name in ("run", "starts/1"):
        leftovers.watch(tmp_path / name)
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("seed: 0")
    (tmp_path / "starts" / "1" / "data").mkdir()
    (tmp_path / "starts" / "1" / "data" / "episodes.parquet").write_text("")
    before = everything(tmp_path)
    leftovers.take_back()
    assert everything(tmp_path) == before
