"""Other spellings of commands, and the texts that papers' models know.

Knows: how people and models write commands that mean one native command; the style of the ReAct prompts.
Does not know: what is admissible (the engines do), which objects there are.
Sources: the style "paper" is what Yao et al. 2022 (arXiv:2210.03629) show their models of ALFWorld 0.3: no
welcome line, one line break before the task, no words on arriving, ``put ... in/on`` for ``move ... to``.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol

from oreo_envs.action_formats import unwrap
from oreo_envs.alfworld.texts import WELCOME

STYLES = ("native", "paper")
SPELLINGS = ("lenient", "strict")

_LONGEST_COMMAND = 200
# A thing has its number; an article before it does not count, and its words may be apart: "the dining table 1".
_THING = r"((?:[a-z]+ )+\d+)"
_ARTICLE = re.compile(r"(?:the|an?) (?=[a-z]+ )")
# Marks around a thing or between its words, as in ``take "mug 1" from [desk_1]``.
_MARKS = re.compile(r"[\"'`*_\[\](){}<>\u2018\u2019\u201c\u201d\u00ab\u00bb]+|(?<=[a-z])[ -]?#? ?(?=\d)")
_IN = r"(?:in ?/ ?on(?: ?to)?|in (?:or|and) on|in on|in ?to|on ?to|inside of|inside|within|on top of|in|on|to)"
_FROM = r"(?:from|out of|off)(?: in ?/ ?on| inside| on| in)?"
_BESIDE = r"(?: up| down| back)?"
_SPELLINGS = tuple(
    (re.compile(pattern.replace("{}", _THING)), native)
    for pattern, native in (
        (r"(?:go|walk|move) ?to {}", "go to {}"),
        # A slip in the prompt of the OREO paper's and ETO's models: "task" for "take".
        (
            r"(?:take|pick up|pick|grab|get|task) {} (?:up )?(?:from|out of|off) (?:in ?/ ?on |inside |on |in )?{}",
            "take {} from {}",
        ),
        (rf"(?:put|place|move|set){_BESIDE} {{}}{_BESIDE} {_IN} {{}}", "move {} to {}"),
        (r"(?:use|toggle|turn on|switch on) {}", "use {}"),
        (r"(?:turn|switch) {} on", "use {}"),
        *(
            (rf"{verb}{_BESIDE} {{}}{_BESIDE} (?:with|using|in|inside|on|at) {{}}", f"{verb} {{}} with {{}}")
            for verb in ("clean", "heat", "cool")
        ),
        (rf"slice{_BESIDE} {{}}{_BESIDE} (?:with|using) {{}}", "slice {} with {}"),
        (rf"(open|close){_BESIDE} {{}}", "{} {}"),
        (r"examine {}", "examine {}"),
    )
)

_MOVE = re.compile(r"move (.+) to (.+)")
_PUT = re.compile(r"\Aput (.+) in/on (.+)\Z")
_MOVED = re.compile(r"You move the (.+) to the (.+)\.")
_ARRIVAL = re.compile(r"You arrive at [^.]+\. ")
_HELP_ON_MOVE = ("move (object) to (receptacle):", "put (object) in/on (receptacle):")


def native_command(command: str) -> str:
    """Return the native spelling of a command; one that has none comes back as it was, in lower case.

    Letter case, repeated spaces, a leading ">", quotes, brackets and Markdown around it or around a thing and a full
    stop at the end do not count, nor do articles; the words of a thing may be written apart ("dining table 1"), its
    number together with them ("mug1", "mug #1"). ``put``, ``place``, ``move`` and ``set``, with or without ``down``,
    take any of in, on, in/on, in / on, into, onto, inside, within, on top of, to; ``pick up``, ``pick``, ``grab``
    and ``get`` mean ``take``; ``toggle``, ``turn on`` and ``switch on`` mean ``use``; ``clean``, ``heat`` and ``cool``
    take with, using, in, inside, on, at. The things named stay the same, with their numbers.
    """
    plain = re.sub(" +", " ", unwrap(command).lower().rstrip(".!").rstrip())
    marked = re.sub(" +", " ", _MARKS.sub(" ", plain)).strip()
    for spelling, native in _SPELLINGS:
        if match := spelling.fullmatch(marked):
            return native.format(*map(_name, match.groups()))
    return plain


def _name(thing: str) -> str:
    """The name of a thing in one word and a number; a verb stays as it is."""
    if " " not in thing:
        return thing
    *words, number = _ARTICLE.sub("", thing, count=1).split(" ")
    return f"{''.join(words)} {number}"


def is_thought(command: str, spelling: str) -> bool:
    """Whether a command is ReAct's ``think: ...``, of which the game knows nothing."""
    return (command if spelling == "strict" else unwrap(command).lower()).strip().startswith("think:")


class Play(Protocol):
    """A player's way through a game, of either engine."""

    @property
    def won(self) -> bool:
        """Whether the goal holds now."""

    def step(self, command: str) -> str | None:
        """Obey one native command and return the text, None where the command is not admissible."""


class Obeyed(NamedTuple):
    """What came of a command: the native one that was obeyed and the text; None and None where there was none."""

    command: str | None
    text: str | None


def obey(play: Play, command: str, *, style: str = "native", spelling: str = "lenient") -> Obeyed:
    """Give ``play`` a command.

    Args:
        play: the game.
        command: in any spelling.
        style: the text style, which tells how a literal command is spelled.
        spelling: ``strict``: what is admissible literally, in the style, is obeyed and nothing else, as by the stock
            engine; blank space around a command does not count there either. ``lenient``: what is not admissible so is
            obeyed in its native spelling.
    """
    command = command.strip()
    literal = command
    if style == "paper" and spelling == "strict":
        literal = "" if _MOVE.fullmatch(command) else _PUT.sub(r"move \1 to \2", command)
    if (text := play.step(literal)) is not None:
        return Obeyed(literal, text)
    if spelling == "strict" or len(command) > _LONGEST_COMMAND or not command.isascii() or not command.isprintable():
        return Obeyed(None, None)
    native = native_command(command)
    if native != command and (text := play.step(native)) is not None:
        return Obeyed(native, text)
    return Obeyed(None, None)


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
