"""Help in a terminal: short, quick, and every setting explained."""

import json
import re
import subprocess
import sys

import pytest

from oreo_agents.runs import jobs
from oreo_agents.runs.helps import GROUPS, HELPS, asked, help_text
from oreo_agents.runs.overrides import check_overrides


def test_the_commands_with_settings_have_a_help():
    assert {*HELPS} == {*jobs.JOBS} and {name for about in HELPS.values() for name in about.groups} == {*GROUPS}


@pytest.mark.parametrize("command", HELPS)
def test_a_help_fits_a_screen_and_shows_five_commands(command: str):
    lines = help_text(command).splitlines()
    assert len(lines) < 45 and max(map(len, lines)) <= 120
    assert sum(line.startswith(f"  oreo {command} ") or line == f"  oreo {command}" for line in lines) >= 5
    assert len(HELPS[command].examples) == 5


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for about in HELPS.values() for line in about.examples])
def test_an_example_of_a_help_composes(line: str):
    command, *given = line.split()
    overrides = [re.sub("^search=", "evaluate.searches=", text) for text in given if re.match(r"[^-/]*=", text)]
    if any(text.startswith("policy.path=") for text in overrides):
        overrides = ["policy=checkpoint", *overrides]
    check_overrides(command, overrides)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train algo=dpo --help", "oreo train [KEY=VALUE ...]"),
        ("report --help", "usage: oreo report"),
        ("data --help", "usage: oreo data"),
        ("data import --help", "usage: oreo data import"),
        ("doctor --help", "oreo doctor RUN/NAME | policy.path="),
        ("--help", "oreo: offline"),
    ],
)
def test_help_loads_no_network_library(line: str, said: str):
    code = (
        f"import sys, json; sys.argv = ['oreo', *{line.split()}]; from oreo_agents.runs.cli import main; main(); "
        "print(json.dumps([name for name in ('torch', 'transformers', 'scipy', 'matplotlib') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [] and done.stdout.startswith(said)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["algo=dpo", "--help", "algo"], "algo.max_pairs=6   (int)\n    pairs a task at most that are drawn;"),
        (["--help", "env"], "+env.options.box_size=8   (int)\n    things in a box."),
        (["--help", "policy.lora"], "+policy.lora.rank=0   (int)\n    rank of the update; 0 trains all weights."),
        (["-h", "seed"], "seed=0\n    of everything random"),
    ],
)
def test_settings_of_a_group_have_their_default_and_what_they_mean(arguments: list[str], found: str):
    assert found in (asked("train", arguments) or "")


def test_no_help_is_given_unasked():
    assert asked("train", ["algo=dpo"]) is None


def test_an_unknown_group_offers_the_closest():
    with pytest.raises(ValueError, match="no group of settings 'algoo'; did you mean 'algo'"):
        asked("train", ["--help", "algoo"])
