"""Other spellings of commands, and the texts that papers' models know.

Knows: how people and models write commands that mean one native command; the style of the ReAct prompts.
Does not know: what is admissible (the engines do), which objects there are.
Sources: the style "paper" is what Yao et al. 2022 (arXiv:2210.03629) show their models of ALFWorld 0.3: no
welcome line, one line break before the task, no words on arriving, ``put ... in/on`` for ``move ... to``.
"""

from __future__ import annotations

import re
from typing import Protocol

from oreo_envs.alfworld.texts import WELCOME

STYLES = ("native", "paper")

_LONGEST_COMMAND = 200
_THING = r"([a-z]+ \d+)"
_SPELLINGS = (
    (re.compile(rf"(?:put|place|move) {_THING} (?:in/on|in on|into|onto|in|on|to) {_THING}"), r"move \1 to \2"),
    (re.compile(rf"(?:toggle|turn on) {_THING}"), r"use \1"),
    # A slip in the prompt of the OREO paper's models: "task" for "take".
    (re.compile(rf"task {_THING} from {_THING}"), r"take \1 from \2"),
)

_MOVE = re.compile(r"move (.+) to (.+)")
_MOVED = re.compile(r"You move the (.+) to the (.+)\.")
_ARRIVAL = re.compile(r"You arrive at [^.]+\. ")
_HELP_ON_MOVE = ("move (object) to (receptacle):", "put (object) in/on (receptacle):")


def native_command(command: str) -> str:
    """Return the native spelling of a command; one that has none comes back as it was.

    Letter case, repeated spaces and a full stop at the end do not count. ``put`` and ``place`` mean
    ``move``, with any of in/on, in on, in, on, into, onto, to; ``toggle`` and ``turn on`` mean ``use``.
    The things named stay the same.
    """
    plain = re.sub(" +", " ", command.strip().lower().removesuffix(".").rstrip())
    for spelling, native in _SPELLINGS:
        if match := spelling.fullmatch(plain):
            return match.expand(native)
    return plain


class Play(Protocol):
    """A player's way through a game, of either engine."""

    @property
    def won(self) -> bool:
        """Whether the goal holds now."""

    def step(self, command: str) -> str | None:
        """Obey one native command and return the text, None where the command is not admissible."""


def obey(play: Play, command: str) -> tuple[str | None, str | None]:
    """Give ``play`` a command, literally, and only if it is not admissible so in its native spelling.

    Returns:
        The native command that was obeyed and the text; None and None where there was none.
    """
    command = command.strip(" \t\r\n")
    if len(command) > _LONGEST_COMMAND or not command.isascii() or not command.isprintable():
        return None, None
    if (text := play.step(command)) is not None:
        return command, text
    native = native_command(command)
    if native != command and (text := play.step(native)) is not None:
        return native, text
    return None, None


def show_opening(intro: str, style: str) -> str:
    """Return the first text of a game in a style."""
    if style == "native":
        return intro
    return intro.removeprefix(WELCOME).strip().replace("\n\n", "\n")


def show_text(text: str, style: str) -> str:
    """Return a game's answer to a command in a style."""
    if style == "native":
        return text
    if match := _MOVED.fullmatch(text):
        return f"You put the {match[1]} in/on the {match[2]}."
    return _ARRIVAL.sub("", text, count=1).replace(*_HELP_ON_MOVE)


def show_command(command: str, style: str) -> str:
    """Return a native command in a style."""
    match = _MOVE.fullmatch(command) if style == "paper" else None
    return f"put {match[1]} in/on {match[2]}" if match else command
