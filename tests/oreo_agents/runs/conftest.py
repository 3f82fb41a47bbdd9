"""The command line, in this process."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from oreo_agents.runs import cli, jobs, pipeline

Caught = Callable[..., str]


@pytest.fixture
def oreo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return a function that runs the command, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["oreo", *arguments])
        cli.main()

    return call


@pytest.fixture
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake that goes unnoticed must not start hours of work."""

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(pipeline, "train", fail)


@pytest.fixture
def run(oreo: Callable[..., None]) -> Callable[..., None]:
    return oreo


@pytest.fixture
def refused(run, capsys: pytest.CaptureFixture[str]) -> Caught:
    """Run a command that has to fail with exit code 2 and without a traceback; returns what it printed."""

    def call(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run(*arguments)
        printed = capsys.readouterr()
        assert stopped.value.code == 2
        assert "Traceback" not in printed.err and printed.err.startswith("oreo: ")
        return printed.err

    return call


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[DictConfig, Path]]:
    """Replace the jobs by ones that only prepare their run; collects what they were given."""
    seen: list[tuple[DictConfig, Path]] = []

    def prepare(config: DictConfig, folder: Path) -> None:
        jobs.prepare(config, folder, {})
        seen.append((config, folder))

    for command in ("run", "train", "collect", "eval", "sft"):
        monkeypatch.setitem(jobs.JOBS, command, prepare)
    return seen
