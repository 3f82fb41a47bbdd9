"""The examples run as they stand, and say what they promise."""

import os
import re
import runpy
from pathlib import Path

import pytest
from forked import run

FOLDER = Path(__file__).resolve().parents[1] / "examples"

# What each prints, as a regular expression.
SCRIPTS = {
    "own_environment": r"examples/Reverse-v0 test: 805 of 1000 tasks solved, 80\.5% \[",
    "custom_agent": r"Countdown-v0 test: \d+ of 200 tasks solved[\s\S]*ALFWorld-v0 valid_seen: \d+ of 20 tasks solved",
    "import_data": r"episodes=128[\s\S]*'mixed_tasks': 64[\s\S]*8 steps; pairs ordered right: \d+%",
    "own_algorithm": r"│ oreo[\s\S]*10 steps, taper 0\.\d+\ntopr: \d+ of 32 tasks solved",
    "search_by_value": r"greedy +\d+ of 64[\s\S]*median_vote +\d+ of 64 solved, \d+ tokens a task",
    "compare_algorithms": r"dpo - rejection +│ +3 │[\s\S]*rejection +mean 0\.\d+, by seed \[[\s\S]*accuracy\.png",
}
QUICK = ("own_environment", "custom_agent")


def test_every_example_is_run_and_listed():
    listed = re.findall(r"^\| \[`([^`]+)`\]", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    there = {path.name for path in FOLDER.iterdir() if path.suffix in (".py", ".ipynb")}
    assert {*listed} == there


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_example_runs(name: str, capsys: pytest.CaptureFixture[str]):
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert re.search(SCRIPTS[name], capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*SCRIPTS} - {*QUICK}))
def test_an_example_runs(name: str, tmp_path: Path):
    done = run([str(FOLDER / f"{name}.py")], tmp_path, os.environ | {"COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    assert re.search(SCRIPTS[name], done.stdout), done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.ipynb")))
def test_a_notebook_runs_and_is_kept_without_outputs(name: str, tmp_path: Path):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    client = nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert any("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))
