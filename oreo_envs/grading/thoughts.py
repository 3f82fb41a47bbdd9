"""Thoughts: what a model says to itself before it answers, and where the answer begins.

Knows: marks. Does not know: what an answer is. Nothing before the end of a thought is an answer, and a thought that
never ends has none.
Sources: the chat templates of Qwen3 and DeepSeek-R1 (``<think>``), GPT-OSS (channels), Magistral, Command A Reasoning,
Seed-OSS, Kimi-VL-Thinking, EXAONE Deep and Gemma 4; prompts in wide use (``<thinking>``, ``<reasoning>``,
``<reflection>``, ``<scratchpad>``); the data of Sky-T1 and OpenThoughts (``<|begin_of_thought|>``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MARKS = (
    ("<think>", "</think>"),
    # Whatever is said in another channel than the final one.
    ("<|channel|>", "<|channel|>final<|message|>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("<thought>", "</thought>"),
    ("<|channel>", "<channel|>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
"""How thoughts begin and end."""


@dataclass(frozen=True)
class Thoughts:
    """How a thought is told from an answer.

    Attributes:
        marks: pairs of texts that begin and end one; none: everything is an answer.
        opened: the model's turn begins inside a thought, because the prompt begins one.
    """

    marks: tuple[tuple[str, str], ...] = MARKS
    opened: bool = False

    @classmethod
    def of(cls, given: Thoughts | Mapping[str, Any] | Iterable[Iterable[str]] | None) -> Thoughts:
        """Read a setting: pairs of marks, or a mapping with ``marks`` and ``opened``; None: the default.

        Raises:
            ValueError: it is neither, or a mark is no text or empty.
        """
        if given is None or isinstance(given, Thoughts):
            return given or cls()
        fields = dict(given) if isinstance(given, Mapping) else {"marks": given}
        try:
            marks = tuple((begin, end) for begin, end in fields.pop("marks", MARKS))
            opened = fields.pop("opened", False)
        except (TypeError, ValueError):
            marks, opened = (("", ""),), False
        if fields or not isinstance(opened, bool) or not all(isinstance(m, str) and m for pair in marks for m in pair):
            raise ValueError(
                f"thoughts must be pairs of texts that begin and end a thought, such as [[<think>, </think>]], or a "
                f"mapping with marks and opened (true or false), got {given!r}"
            )
        return cls(marks, opened)

    def answer(self, text: str) -> str | None:
        """Return what follows the last thought of a turn, None while a thought goes on."""
        if not self.marks or _any_of(self.marks).search(text) is None:
            return None if self.opened else text
        end = max((text.rfind(close) + len(close) for _, close in self.marks if close in text), default=None)
        if end is None and self.opened:
            return None
        answer = text[end or 0 :]
        return None if any(begin in answer for begin, _ in self.marks) else answer

    def answers(self, text: str) -> Iterator[tuple[int, int]]:
        """Start and end of every stretch of a turn that is in no thought, read from its beginning.

        Unlike ``answer``, what is read does not depend on what follows: an end without a beginning ends only the
        stretch that it stands in.
        """
        start = None if self.opened else 0
        for mark, closes in self.found(text):
            if start is not None:
                yield start, mark.start()
            start = mark.end() if closes else None
        if start is not None:
            yield start, len(text)

    def found(self, text: str) -> Iterator[tuple[re.Match[str], bool]]:
        """Every mark of a text, and whether it ends thoughts."""
        for mark in _any_of(self.marks).finditer(text) if self.marks else ():
            yield mark, any(mark[0] == close for _, close in self.marks)

    def outside(self, text: str) -> str:
        """Return what a turn says outside its thoughts, a line break in the place of each.

        Unlike ``answer``, what stands between two thoughts is kept. A thought without end goes on to the end of the
        text; an end without a beginning makes a thought of everything before it.
        """
        at = 0
        if self.opened:
            at = min((place + len(end) for _, end in self.marks if (place := text.find(end)) >= 0), default=len(text))
        if not self.marks:
            return text[at:]
        endings = dict(self.marks)
        said: list[str] = []
        while found := _any_of(self.marks).search(text, at):
            if (ending := endings.get(found[0])) is None:
                said, at = [], found.end()
                continue
            said += [text[at : found.start()], "\n"]
            end = text.find(ending, found.end())
            if end < 0:
                return "".join(said)
            at = end + len(ending)
        return "".join([*said, text[at:]])

    def closes(self, text: str) -> bool:
        """Whether a text ends a thought."""
        return any(close in text for _, close in self.marks)

    def open_in(self, text: str) -> tuple[str, str] | None:
        """Return the marks of the thought that goes on at the end of a text, None where none does."""
        last = {pair: text.rfind(pair[0]) for pair in self.marks}
        pair = max(last, key=lambda pair: last[pair], default=None)
        if pair is None or last[pair] < 0 or self.answer(text[last[pair] :]) is not None:
            return None
        return pair


@lru_cache(maxsize=64)
def _any_of(marks: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    """Of two marks that begin alike the longer one is meant."""
    return re.compile("|".join(map(re.escape, sorted({m for pair in marks for m in pair}, key=len, reverse=True))))


MARKED = Thoughts()
"""Any mark in use."""

NO_THOUGHTS = Thoughts(())
"""Of a text without its thoughts: all of it may be an answer."""
