"""Every option of every command refuses what is wrong in a sentence that names it, with exit code 2.

The options are read from the commands' own parsers, so that a new one is covered without a line.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oreo_agents.runs import cli

COMMANDS = ("data", "report", "reproduce", "doctor", "metrics", "show", "push", "play", "new", "chat")
WRONG = {int: ["a text", "0.5", "nan", "1e3", "-1", "", str(10**30), "٣"], float: ["a text", "nan", "inf", ""]}
PLACEHOLDERS = {int: "3", float: "0.5"}


class Seen(Exception):
    """A command has made its parser."""


def parser_of(command: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """What reads the options of a command."""

    def seen(parser: argparse.ArgumentParser, *given: object, **how: object) -> None:
        raise Seen(parser)

    with monkeypatch.context() as patched:
        for name in ("parse_args", "parse_known_args"):
            patched.setattr(argparse.ArgumentParser, name, seen)
        patched.setattr(sys, "argv", ["oreo", command])
        with pytest.raises(Seen) as caught:
            cli._command()
    return caught.value.args[0]


def parts(parser: argparse.ArgumentParser, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list]]:
    """Each parser below one, by the words that lead there, with its options."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from parts(child, (*before, name))
    yield before, [each for each in parser._actions if not isinstance(each, argparse._SubParsersAction)]


def needed(actions: list[argparse.Action]) -> list[str]:
    """Something for whatever has to be given."""
    words = []
    for action in actions:
        value = str(next(iter(action.choices))) if action.choices else "x"
        if not action.option_strings and action.nargs not in ("?", "*"):
            words.append(value)
        elif action.option_strings and action.required:
            words += [action.option_strings[-1], value]
    return words


def number_read(action: argparse.Action) -> type | None:
    """Which kind of number an option reads, if any."""
    for kind, text in PLACEHOLDERS.items():
        try:
            if callable(action.type) and type(action.type(text)) is kind:
                return kind
        except (ValueError, argparse.ArgumentTypeError):
            continue
    return None


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_takes_what_is_wrong(command: str, monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    found = 0
    for words, actions in parts(parser_of(command, monkeypatch)):
        others = needed(actions)
        for action in actions:
            kind = number_read(action)
            wrong = ["no such thing"] if action.choices else WRONG.get(kind, []) if kind else []
            for value in wrong if action.option_strings else ():
                found += 1
                given = [command, *words, *others, f"{action.option_strings[-1]}={value}"]
                monkeypatch.setattr(sys, "argv", ["oreo", *given])
                with pytest.raises(SystemExit) as ended:
                    cli.main()
                said = capsys.readouterr().err
                assert ended.value.code == 2 and "Traceback" not in said, given
                assert action.option_strings[-1] in said.splitlines()[-1], (given, said)
    assert found or command not in ("data", "show", "play")
    assert not list(tmp_path.iterdir()), "nothing was written"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["data", "balance", "b", "--out", "o", "--seed", "-1"],
            "--seed: must be a whole number of at least 0, got '-1'",
        ),
        (["data", "split", "b", "--share=nan"], "--share: must be a finite number, got 'nan'"),
        (
            ["data", "encode", "b", "--tokenizer=x", "--chat-template-kwargs=[1]"],
            "must be an object in JSON, {NAME: VALUE}",
        ),
        (["data", "encode", "b", "--tokenizer=x", "--chat-template-kwargs=" + "[" * 9999], "more than 100 deep"),
        (["data", "generate-houses", "--out", "o", "--seed=9999999999"], "of at least 0 and at most 999,999,999, got"),
    ],
)
def test_the_sentence_says_what_it_takes(given: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys, "argv", ["oreo", *given])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and said in re.sub(r"\s+", " ", capsys.readouterr().err)
