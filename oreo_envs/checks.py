"""Checks of arguments, with messages that say what to do.

Knows: allowed words, whole numbers, shares. Does not know: what they are for.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

# How much of a whole name has to be the same where its last part is another, such as one whose dots were forgotten.
_WHOLE = 0.8


def choose(what: str, value: Any, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is allowed.

    Raises:
        ValueError: it is not; the message offers the closest allowed one.
    """
    allowed = tuple(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"unknown {what} {value!r}{closest(str(value), allowed)}; known: {', '.join(allowed)}")
    return str(value)


def closest(word: str, known: Iterable[str]) -> str:
    """Return '; did you mean ...?' for the closest known word, or '' where none is close."""
    matches = close_to(word, known)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def close_to(word: str, known: Iterable[str]) -> list[str]:
    """Return known words that may have been meant, the closest first; [] where none is close.

    Of names in parts, 'a.b' or 'a/b', it is the last part that has to be close: what stands before it is often shared
    by names that have nothing else in common. The name at the same place was meant, or else any that ends so.
    """
    ends: dict[str, list[str]] = {}
    for name in dict.fromkeys(known):
        ends.setdefault(_last_part(name), []).append(name)
    if near := difflib.get_close_matches(_last_part(word), ends, n=1):
        place = word.removesuffix(_last_part(word))
        here = [name for name in ends[near[0]] if name == place + near[0]]
        return here or sorted(ends[near[0]], key=lambda name: -difflib.SequenceMatcher(None, word, name).ratio())
    names = [name for each in ends.values() for name in each]
    return difflib.get_close_matches(word, names, n=1, cutoff=_WHOLE)


def _last_part(name: str) -> str:
    return re.split(r"[./]", name)[-1]


def positive(what: str, value: int) -> int:
    """Return ``value`` if it is an integer of at least 1.

    Raises:
        ValueError: it is not.
    """
    number = None if isinstance(value, bool) else _integer(value)
    if number is None or number < 1:
        raise ValueError(f"{what} must be an integer >= 1, got {value!r}")
    return number


def flag(what: str, value: Any) -> bool:
    """Return ``value`` if it is True or False.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{what} must be True or False, got {value!r}")
    return value


def wholes(what: str, values: Any) -> tuple[int, ...]:
    """Return ``values`` if they are a list of integers.

    Raises:
        ValueError: they are not.
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"{what} must be a list of integers, got {values!r}")
    return tuple(whole(what, value) for value in values)


def whole(what: str, value: Any) -> int:
    """Return ``value`` if it is an integer.

    Raises:
        ValueError: it is not.
    """
    number = None if isinstance(value, bool) else _integer(value)
    if number is None:
        raise ValueError(f"{what} must be an integer, got {value!r}")
    return number


def _integer(value: Any) -> int | None:
    """The integer that a value is, also one of another library."""
    try:
        return operator.index(value)
    except TypeError:
        return None


def share(what: str, value: float) -> float:
    """Return ``value`` if it lies in 0..1.

    Raises:
        ValueError: it does not.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{what} must lie in 0..1, got {value!r}")
    return value


def pair(what: str, values: Any) -> Sequence[Any]:
    """Return ``values`` if they are two.

    Raises:
        ValueError: they are not.
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 2:
        raise ValueError(f"{what} must be (low, high), got {values!r}")
    return values


def span(what: str, values: Any, least: int, greatest: int | None) -> tuple[int, int]:
    """Return ``values`` if they are two integers, ``least <= low <= high <= greatest``.

    Raises:
        ValueError: they are not.
    """
    low, high = (whole(what, value) for value in pair(what, values))
    if not least <= low <= high or (greatest is not None and high > greatest):
        upper = "" if greatest is None else f" <= {greatest}"
        raise ValueError(f"{what} must be (low, high) with {least} <= low <= high{upper}, got {(low, high)}")
    return low, high
