"""How a turn says its action: a bare command, ReAct's "Thought: ... Action: ...", or tags.

Knows: where in a turn's text the command stands, what was invented after it, how a command is written.
Does not know: what commands mean, which are admissible. Nothing inside a thought (``grading.Thoughts``) is a command.
Sources: Yao et al. 2022 (arXiv:2210.03629) for ReAct; ``parse_action`` of ETO (Song et al. 2024, arXiv:2403.02502)
for ``react="eto"``; ``alfworld_projection`` of verl-agent (Feng et al. 2025, arXiv:2505.10978) for tags.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from oreo_envs.checks import choose
from oreo_envs.grading.thoughts import Thoughts

FORMATS = ("command", "react", "tags")
REACT_RULES = ("first", "eto")

_LABEL = r"{}(?:[ \t]+\d+)?[*_`\"'\])]*[ \t]*[:\uff1a][*_`]*"
_LINE_START = r"^[ \t>#*_`~\"'\[(\-]*(?:\d+[.)][ \t]*)?"
_ACTION_LINE = re.compile(_LINE_START + _LABEL.format("action"), re.IGNORECASE | re.MULTILINE)
_ACTION = re.compile(r"(?<![a-z])" + _LABEL.format("action"), re.IGNORECASE)
_ACTION_AGAIN = re.compile(_LINE_START.removeprefix("^") + _LABEL.format("action"), re.IGNORECASE)
_SPECIAL = r"</s>|<\|[a-z_]+\|>|<end_of_turn>|<eos>|<turn\|>"
# Where a turn ends and the model goes on for others: what the environment says, or another thought.
_CUT = re.compile(r"(?<![a-z])" + _LABEL.format("(?:observation|thought)") + "|" + _SPECIAL, re.IGNORECASE)
_FENCE = re.compile(r"\s*```(?:[a-z]*\n)?\s*", re.IGNORECASE)
_END = re.compile(_SPECIAL, re.IGNORECASE)
_WRAPPERS = "\"'`*_\u201c\u201d\u2018\u2019\u00ab\u00bb"
_OPENING, _CLOSING = f"{_WRAPPERS}[({{<>", f"{_WRAPPERS}])}}>"
_ITEM = re.compile(r"(?:\d{1,3}[.)]|-)\s+")
_ACTION_TAG = re.compile(r"</?action>", re.IGNORECASE)

_ETO_ACTION = re.compile(r"Action:\s?(.*)", re.DOTALL)

_OPEN_TAG, _CLOSE_TAG = "<action>", "</action>"
_CHINESE = re.compile("[\u4e00-\u9fff]")
_TAIL = 30


class Said(NamedTuple):
    """What a turn says.

    Attributes:
        command: as it is written, "" where there is none.
        rest: what follows it in the turn and is dropped.
        valid: well-formed by the rule of tags; None in other formats.
    """

    command: str
    rest: str = ""
    valid: bool | None = None


@dataclass(frozen=True)
class ActionFormat:
    """A way to write actions.

    Attributes:
        name: ``command``: the turn is the command. ``react``: "Thought: ..." and, on a new line, "Action: ...".
            ``tags``: "<think>...</think>" and "<action>...</action>".
        react: which "Action:" of a turn in ``react`` counts. ``first``: the first one, in any letter case, with
            Markdown, quotes, brackets, fences and end tokens around it or the command; one that begins a line goes
            before one in the middle of a line, up to the first "Observation:" or further "Thought:". ``eto``: the rule
            of ETO to the letter, ``re.findall(r"Action:\\s?(.*)", text.strip(), re.DOTALL)[0]``: everything after the
            first "Action:", exactly so spelled, further lines included, so that an action with anything invented after
            it is no command of the game.
    """

    name: str = "command"
    react: str = "first"

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            ValueError: an unknown name, or a rule of ReAct for another format.
        """
        choose("action_format", self.name, FORMATS)
        choose("react", self.react, REACT_RULES)
        if self.react != REACT_RULES[0] and self.name != "react":
            raise ValueError(
                f"react={self.react!r} says which 'Action:' of a turn counts, and has no effect with "
                f"action_format={self.name!r}; set action_format='react', or leave react out"
            )

    def read(self, text: str, thoughts: Thoughts) -> Said:
        """Find the command in a turn.

        In ``tags`` the command is what verl-agent's projection returns: in lower case, what stands between the first
        ``<action>`` and the first ``</action>``; without both, the last 30 characters of the turn. ``valid`` is its
        rule: both tags of the action, both of the thought, and no Chinese character (U+4E00 to U+9FFF) anywhere.
        Deviations: text inside thoughts is not searched for an action; where the prompt began the thought, its
        ``<think>`` counts as said.
        """
        if self.name == "command":
            return Said(thoughts.answer(text) or "")
        outside = thoughts.outside(text)
        if self.name == "tags":
            return _read_tags(text, outside, thoughts.opened)
        if self.react == "eto":
            found = _ETO_ACTION.search(outside.strip())
            return Said(found[1] if found else "")
        return _read_react(outside)

    def info(self, said: Said) -> dict[str, Any]:
        """Return what an environment's ``info`` says of the form of a turn."""
        if self.name == "command":
            return {}
        rest = {"action_rest": said.rest}
        return rest if self.name == "react" else {**rest, "action_valid": said.valid}

    def write(self, command: str, reason: str = "") -> str:
        """Return a turn that gives ``command``, with a reason where the format has one."""
        if self.name == "command":
            return command
        if self.name == "tags":
            return f"<think>{reason}</think>\n{_OPEN_TAG}{command}{_CLOSE_TAG}"
        return f"Thought: {reason}\nAction: {command}" if reason else f"Action: {command}"


def unwrap(command: str) -> str:
    """Return a command without quotes, brackets, Markdown, a leading ">", "-" or "1." and end tokens around it."""
    end = _END.search(command)
    command = _ACTION_TAG.sub("", command[: end.start()] if end else command).strip().lstrip(f"{_OPENING} ").rstrip()
    if item := _ITEM.match(command):
        command = command[item.end() :].lstrip(f"{_OPENING} ")
    while command:
        # A full stop goes with what it follows: with a quotation mark, but not with a word.
        inner = command.removesuffix(".").rstrip()
        if inner[-1:] not in _CLOSING or not inner:
            return command
        command = inner.rstrip(_CLOSING).rstrip()
    return ""


def _read_react(text: str) -> Said:
    """The first action of a turn; it ends where its line does, or where something else is said."""
    starts = [0, *(match.start() for match in _CUT.finditer(text)), len(text)]
    for start, end in itertools.pairwise(starts):
        label = _ACTION_LINE.search(text, start, end) or _ACTION.search(text, start, end)
        stop = -1
        while label is not None:
            begin = label.end()
            if fence := _FENCE.match(text, begin, end):
                begin = fence.end()
            while begin < end and text[begin].isspace():
                begin += 1
            if stop < begin:
                stop = min(at for at in (text.find("\n", begin), end) if at >= 0)
            if following := _ACTION_AGAIN.match(text, begin, stop):
                label = following
                continue
            if cut := _CUT.search(text, begin, stop):
                stop = cut.start()
            return Said(unwrap(text[begin:stop]), _rest(text[stop:]))
    return Said("")


def _rest(text: str) -> str:
    """What follows a command, "" where it is nothing but the end of what stood around the command."""
    return text.strip() if _END.sub("", text).strip(f"{_CLOSING} \t\r\n.") else ""


def _read_tags(text: str, outside: str, opened: bool) -> Said:
    lowered = outside.lower()
    start, end = lowered.find(_OPEN_TAG), lowered.find(_CLOSE_TAG)
    if start < 0 or end < 0:
        tail = text.lower()[-_TAIL:]
        return Said(tail if lowered.endswith(tail) else "", valid=False)
    thought = ("<think>" in text or opened) and "</think>" in text
    return Said(
        lowered[start + len(_OPEN_TAG) : end].strip(),
        _rest(outside[end + len(_CLOSE_TAG) :]),
        thought and not _CHINESE.search(text),
    )
