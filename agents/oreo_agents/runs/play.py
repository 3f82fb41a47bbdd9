"""The command ``oreo play``: a person plays an environment in the terminal.

Knows: how to show a turn and read an action. Does not know: what an environment is about.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

import oreo_envs
from oreo_agents.episodes.tasks import find_env
from oreo_agents.runs.option_types import whole
from oreo_agents.terminal import Terminal
from oreo_envs.arguments import what_is_wrong
from oreo_envs.limits import read_json

USAGE = "oreo play ID [--split SPLIT] [--index I] [--path PATH] [--option KEY=VALUE ...]"


def main(arguments: Sequence[str], read: Callable[[str], str] = input, console: Console | None = None) -> None:
    """Play one task.

    Args:
        arguments: of the command line.
        read: asks for a line; EOFError ends the game, and hands in an answer that was begun where no terminal is read.
        console: where to show; None: the terminal.

    Raises:
        ValueError: an unknown environment, task or option.
    """
    parser = argparse.ArgumentParser(prog="oreo play", description="Play an environment in the terminal.")
    parser.add_argument("env", metavar="ID", help="an environment id, its short name (alfworld, gsm8k), or MODULE:ID")
    parser.add_argument("--split", help="default: the environment's")
    parser.add_argument("--index", type=whole(), help="number of the task; default: any")
    parser.add_argument("--path", help="where the environment's data lies; alfworld: generated needs none")
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="an argument of the environment, as JSON"
    )
    given = parser.parse_args(arguments)
    keywords = dict(map(_option, given.option))
    keywords |= {name: value for name in ("split", "path") if (value := getattr(given, name)) is not None}
    env_id = find_env(given.env, "")
    try:
        env = oreo_envs.make(env_id, **keywords)
    except TypeError as error:
        raise ValueError(f"{env_id}: {what_is_wrong(error)}") from None
    with env:
        play(env, None if given.index is None else {"index": given.index}, read, console or Terminal())


def play(
    env: gym.Env[str, str], options: dict[str, Any] | None, read: Callable[[str], str], console: Console
) -> dict[str, Any]:
    """Play the task that ``options`` names, and return the last info."""
    unwrapped: Any = env.unwrapped
    # An answer grows line by line, and an empty line hands it in; a command is a line.
    line_end = "\n" if unwrapped.step_delimiters else ""
    observation, info = env.reset(options=options)
    console.print(Panel(Text(observation), title=Text(info["task_id"]), subtitle=Text(unwrapped.split)))
    console.print(
        "Your answer, line by line; an empty line hands it in." if line_end else "One command a turn.", style="dim"
    )
    over, total, begun = False, 0.0, False
    while not over:
        if commands := info.get("admissible_commands"):
            console.print(Columns([Text(command, style="cyan") for command in commands], padding=(0, 2)))
        try:
            line = read("> ")
        except EOFError:
            if not begun or sys.stdin.isatty():
                console.print("left")
                return info
            line = ""  # the end of a file ends the answer in it
        begun = bool(line and line_end)
        observation, reward, terminated, truncated, info = env.step(line + line_end if line else "")
        over, total = terminated or truncated, total + float(reward)
        if observation:
            console.print(Text(observation))
    end = "solved" if info["success"] else "a limit ended it" if truncated else "not solved"
    answer = "" if info["answer"] is None else f", answer {info['answer']}"
    console.print(Text(f"{end}: reward {total:g} after {info['step']} actions{answer}", style="bold"))
    return info


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--option {text}: give KEY=VALUE")
    try:
        return name, read_json(value)
    except ValueError:
        return name, value
