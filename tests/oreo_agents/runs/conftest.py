"""The command line, in this process."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from oreo_agents.runs import cli


@pytest.fixture
def oreo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return a function that runs the command, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["oreo", *arguments])
        cli.main()

    return call
