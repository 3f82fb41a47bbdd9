"""`oreo play`: a person's game in the terminal."""

import io
import sys

import pytest
from rich.console import Console

from oreo_agents.runs import cli
from oreo_agents.runs.play import main


def played(lines, *arguments):
    """What the screen shows when these lines are typed, and then the end of the file."""
    typed = iter(lines)

    def read(prompt):
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    screen = io.StringIO()
    main(arguments, read, Console(file=screen, width=100, force_terminal=False))
    return screen.getvalue()


def test_an_answer_is_written_line_by_line_and_handed_in():
    shown = played(["Let me see.", "so 3", ""], "arithmetic", "--split", "dev", "--index", "4")
    assert "arithmetic/w0-" in shown and "/dev/4" in shown and "How many" in shown
    assert "not solved: reward 0 after 3 actions" in shown


@pytest.mark.parametrize("text", ["Let me see.\nso 3", "Let me see.\nso 3\n", "Let me see.\nso 3\n\n"])
def test_the_end_of_a_pipe_hands_an_answer_in(text: str, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    screen = io.StringIO()
    main(("arithmetic", "--split", "dev", "--index", "4"), console=Console(file=screen, width=100))
    assert "not solved: reward 0 after 3 actions" in screen.getvalue()


def test_the_end_of_a_terminal_leaves(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert played(["so 3"], "arithmetic").rstrip().endswith("left")
    assert played([], "arithmetic").rstrip().endswith("left")


def test_a_game_shows_observations_commands_and_the_reward():
    options = ("alfworld", "--path", "generated", "--split", "valid_seen", "--index", "0", "--option", "max_steps=2")
    shown = played(["look", "fly [red]"], *options)
    assert "Your task is to" in shown and "inventory" in shown and "Nothing happens." in shown
    assert "a limit ended it: reward 0 after 2 actions" in shown
    assert played([], *options).rstrip().endswith("left")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alfwrld"], "did you mean 'alfworld'?"),
        (["arithmetic", "--split", "tset"], "unknown split 'tset'; did you mean 'test'?"),
        (["arithmetic", "--option", "box"], "--option box: give KEY=VALUE"),
        (["arithmetic", "--option", "boxes=3"], "has no argument 'boxes'; did you mean 'box_size'?; it takes: world, "),
        (["arithmetic", "--option", "max_step=3"], "no argument 'max_step'; did you mean 'max_steps'?; it takes: "),
    ],
)
def test_mistakes_are_named(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["oreo", "play", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr().err
    assert end.value.code == 2 and message in said and "was raised from" not in said
