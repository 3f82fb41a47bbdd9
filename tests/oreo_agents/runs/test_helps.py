"""Help in a terminal: short, quick, and every setting explained."""

import json
import re
import subprocess
import sys

import pytest

from oreo_agents.runs import cli
from oreo_agents.runs.helps import GROUPS, HELPS, asked, help_text
from oreo_agents.runs.overrides import check_overrides


def test_the_commands_with_settings_have_a_help():
    assert {*HELPS} == {*cli._JOBS} and {name for about in HELPS.values() for name in about.groups} == {*GROUPS}


@pytest.mark.parametrize("command", HELPS)
def test_a_help_fits_a_screen_and_shows_five_commands_that_compose(command: str):
    text = help_text(command)
    assert len(text.splitlines()) < 45 and max(map(len, text.splitlines())) <= 120
    examples = [line for line in HELPS[command].examples if line.startswith(command)]
    assert len(examples) == 5
    given = {text for line in examples for text in line.split() if re.match(r"[^-/]*=", text)}
    short = {text for text in given if text.startswith(("search=", "policy.path=", "policy=", "value.path="))}
    # Sweeps and checkpoints are composed elsewhere; here it is names that are not misspelt.
    check_overrides(command, sorted(text for text in given - short if not re.search(r"=[^\[]*,", text)))


def test_help_loads_no_network_library():
    code = (
        "import sys, json; sys.argv = ['oreo', 'train', 'algo=dpo', '--help']; "
        "from oreo_agents.runs.cli import main; main(); "
        "print(json.dumps([name for name in ('torch', 'transformers', 'scipy', 'matplotlib') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [] and done.stdout == help_text("train") + "[]\n"


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["algo=dpo", "--help", "algo"], "algo.max_pairs=6   (int)\n    pairs a task at most."),
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
