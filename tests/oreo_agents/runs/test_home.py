"""``~`` is the user's folder in every option and every setting, however it is given."""

import json
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from oreo_agents.runs import cli, jobs
from oreo_agents.runs.arguments import at_home
from oreo_agents.runs.building import build


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and another folder to work in."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("~/a", "H/a"),
        ("--out=~/a", "--out=H/a"),
        ("policy.path=~/a", "policy.path=H/a"),
        ("data=[~/a,b,'~/c']", "data=[H/a,b,'H/c']"),
        ("env={path:~/a,id:x}", "env={path:H/a,id:x}"),
        ("+algo@algorithms.x=oreo", "+algo@algorithms.x=oreo"),
        ("~env", "~env"),
        ("~", "~"),
        ("policy.system_prompt=in a ~/x", "policy.system_prompt=in a ~/x"),
        ("hub:owner/~name", "hub:owner/~name"),
    ],
)
def test_where_a_path_may_begin(given: str, expected: str, home: Path):
    assert at_home([given]) == [expected.replace("H", str(home))]


def test_of_options_and_places(home: Path, monkeypatch: pytest.MonkeyPatch):
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "reward": 1}
    (home / "rows.jsonl").write_text(json.dumps(row), encoding="utf-8")
    for command in (
        ["data", "import", "~/rows.jsonl", "--out=~/buffer"],
        ["data", "stats", "~/buffer"],
        ["new", "env", "my-letters", "--out=~/package"],
    ):
        monkeypatch.setattr(sys, "argv", ["oreo", *command])
        cli.main()
    assert {path.name for path in home.iterdir()} == {"rows.jsonl", "buffer", "package"}
    assert not list(Path().iterdir())


def test_of_settings_and_of_the_folder_of_a_run(home: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setitem(jobs.JOBS, "train", lambda config, folder: seen.append((config.policy.path, folder)))
    monkeypatch.setattr(sys, "argv", ["oreo", "train", "policy.path=~/model", "hydra.run.dir=~/out"])
    cli.main()
    assert seen == [(str(home / "model"), home / "out")] and not list(Path().iterdir())


def test_of_a_file_of_settings(home: Path):
    config = OmegaConf.create(
        {"policy": {"_target_": "oreo_agents.runs.loading.PolicySettings", "path": "~/model", "chat_template": "~/t"}}
    )
    assert isinstance(config, DictConfig)
    built = build(config.policy)
    assert (built.path, built.chat_template) == (str(home / "model"), str(home / "t"))
