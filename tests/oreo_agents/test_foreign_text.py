"""Texts of episodes, files and folders format nothing: not a terminal, a table, a page."""

import shutil
import subprocess
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from tiny_models import make_episode

from oreo_agents.evaluation.formats import markdown
from oreo_agents.terminal import Terminal, say
from oreo_agents.value_quality.figures import Reading
from oreo_agents.value_quality.page import value_page
from oreo_agents.value_quality.path import ValuePath

HOSTILE = "[red]x[/red] [/nothing] :smile: \x1b[31m <script>document.title='owned'</script> | a"


def hostile_table() -> Table:
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    return table


@pytest.mark.parametrize(
    "printed", [HOSTILE, hostile_table(), Text(HOSTILE), Panel(Text(HOSTILE), title=Text(HOSTILE)), Panel(HOSTILE)]
)
def test_a_terminal_shows_texts_as_they_are(printed):
    console = Terminal(file=StringIO(), width=200, force_terminal=True, color_system=None)
    console.print(printed)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert r"[red]x[/red] [/nothing] :smile: \x1b[31m <script>" in shown
    assert "\x1b[31m" not in shown


def test_a_line_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]):
    say(HOSTILE)
    assert capsys.readouterr().out == HOSTILE.replace("\x1b", r"\x1b") + "\n"


def test_a_table_in_markdown_has_its_columns_and_nothing_else():
    lines = markdown(hostile_table()).splitlines()
    assert "<script" not in "".join(lines) and "\x1b" not in "".join(lines)
    assert all(line.replace(r"\|", "").count("|") == 2 for line in lines if line.startswith("|"))


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium on this machine")
    return found


def loaded(browser: str, page: str, folder: Path) -> str:
    """The page as it stands after everything in it that runs has run."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    return subprocess.run(
        [*command, "--dump-dom", (folder / "page.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


ATTACKS = [
    HOSTILE,
    "<img src=x onerror=\"document.title='owned'\">",
    "</pre></td></table><svg onload=\"document.title='owned'\">",
    '"><iframe srcdoc="<script>parent.document.title=\'owned\'</script>"></iframe>',
    "</title></style><script>document.title='owned'</script>",
    "' onmouseover='x' style='background:url(javascript:document.title=1)",
]


def test_a_page_of_hostile_episodes_runs_nothing(browser: str, tmp_path: Path):
    readings = []
    for number, attack in enumerate(ATTACKS):
        messages = [{"role": "user", "content": attack}, {"role": "assistant", "content": f"{attack}\n{attack}"}]
        episode = make_episode(
            [5],
            [6],
            task_id=attack,
            messages=messages,
            action_spans=[(1, 0, len(attack) + 1)],
            rewards=[float(number % 2)],
        )
        values = np.array([0.1, 0.9])
        readings.append(Reading(episode, ValuePath(values, np.zeros(2), np.zeros(2)), None))
    page = value_page(readings, facts={attack: attack for attack in ATTACKS})
    shown = loaded(browser, page, tmp_path)
    assert "<title>owned" not in shown and "owned" in shown
    ran = loaded(browser, page.replace("</body>", "<script>document.title='owned'</script></body>"), tmp_path)
    assert "<title>owned" in ran  # so a script would have been seen
