r"""Shapes: the kinds of answers there are.

Knows: numbers, formulas, words, choices, numbers in a base, ratios and clock times, lists, sets,
tuples, intervals, unions, matrices, relations. Does not know: how they are written (``reading``),
when two are equal (``equality``).
"""

from __future__ import annotations

from dataclasses import dataclass

from oreo_envs.grading.rationals import RationalAnswer


@dataclass(frozen=True)
class Number:
    """A rational number."""

    number: RationalAnswer


@dataclass(frozen=True)
class Formula:
    """A mathematical expression, in LaTeX."""

    text: str


@dataclass(frozen=True)
class Words:
    """Plain words, in lower case, without articles."""

    text: str


@dataclass(frozen=True)
class Choice:
    """A letter that names an option; ``marked``: it was written as one, "(A)" or "option A"."""

    letter: str
    marked: bool


@dataclass(frozen=True)
class Based:
    """Digits in a number base."""

    digits: str
    base: int


@dataclass(frozen=True)
class Ratio:
    """Numbers with colons between them; ``half`` is "am" or "pm" of a clock time, else ""."""

    parts: tuple[str, ...]
    half: str = ""

    @property
    def is_clock(self) -> bool:
        """Whether this may be a time of day: hours without sign, then minutes below 60."""
        hours, *rest = self.parts
        return (
            bool(rest or self.half)
            and len(rest) <= 2
            and all(part.isdigit() for part in self.parts)
            and len(hours) <= 2
            and int(hours) <= 24
            and all(len(part) == 2 and int(part) < 60 for part in rest)
        )


@dataclass(frozen=True)
class Items:
    """Entries without order: a list (``kind`` "list"), a "set", or the parts of a "union"."""

    kind: str
    parts: tuple[Shape, ...]


@dataclass(frozen=True)
class Ordered:
    """Entries in order between brackets: a tuple, a vector, an interval, a column."""

    left: str
    right: str
    parts: tuple[Shape, ...]


@dataclass(frozen=True)
class Grid:
    """A matrix."""

    rows: tuple[tuple[Shape, ...], ...]


@dataclass(frozen=True)
class Relation:
    """``left operator right``; ``value`` is what it says of a name on its left, if it does."""

    operator: str
    left: str
    right: str
    value: Shape | None = None


Shape = Number | Formula | Words | Choice | Based | Ratio | Items | Ordered | Grid | Relation

INFINITY = Formula(r"\infty")
MINUS_INFINITY = Formula(r"-\infty")
