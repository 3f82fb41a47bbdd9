"""docs/extending.md and `oreo new` as a user meets them: every file is written, every command run."""

import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from forked import OREO, run

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = re.findall(r"`([\w./-]+)`:\n\n```\w+\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


def call(arguments: list[str], folder: Path, *places: Path) -> str:
    """Run Python in a folder; return what it printed."""
    path = os.pathsep.join(map(str, [ROOT, ROOT / "agents", *places]))
    ran = run(arguments, folder, os.environ | {"PYTHONPATH": path, "COLUMNS": "160"})
    assert ran.returncode == 0, f"{shlex.join(arguments)}\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
    return ran.stdout


def oreo(line: str, folder: Path, *places: Path) -> str:
    return call([*OREO, *shlex.split(line)[1:]], folder, *places)


def test_the_page_has_files_and_commands():
    assert len(FILES) >= 8 and len(COMMANDS) >= 9 and all(line.startswith("oreo ") for line in COMMANDS)
    for name, text in FILES:
        if name.endswith(".py"):
            compile(text, name, "exec")
    # What it costs: an environment in one file, and its settings.
    lengths = {name: len([line for line in text.splitlines() if line.strip()]) for name, text in FILES}
    assert lengths["reverse.py"] <= 25 and lengths["guess.py"] <= 25 and lengths["conf/env/reverse.yaml"] <= 2
    assert lengths["tapered.py"] <= 25 and lengths["shortest.py"] <= 10


@pytest.mark.slow
def test_every_command_of_the_page_works(tmp_path: Path):
    for name, text in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    printed = {line: oreo(line, tmp_path) for line in COMMANDS}
    [table] = [text for line, text in printed.items() if line.startswith("oreo report")]
    assert "tapered-gentle" in table and "2" in table
    assert (tmp_path / "o/run/results.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("env", "oreo run experiment=mine-env-tiny algos=[rejection] workers=1"),
        ("algo", "oreo train experiment=mine-algo-tiny algo=mine-algo"),
        ("search", "oreo train experiment=mine-search-tiny algo=oreo algo.value_warmup_steps=4"),
    ],
)
def test_a_new_package_passes_its_tests_and_runs(kind: str, command: str, tmp_path: Path):
    folder = tmp_path / f"mine-{kind}"
    assert f"cd mine-{kind}" in oreo(f"oreo new {kind} mine-{kind}", tmp_path)
    assert "passed" in call(["-m", "pytest", "-q", "-p", "no:cacheprovider"], folder, folder)
    # What `pip install` would leave beside it, without a registry.
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / f"mine_{kind}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())])
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups) + "\n")
    printed = oreo(command, tmp_path, folder)
    assert "Accuracy (%)" in printed and ("mine" in printed or kind == "env")
