"""Checks of arguments, with messages that say what to do.

Knows: allowed words, whole numbers, shares. Does not know: what they are for.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def choose(what: str, value: Any, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is allowed.

    Raises:
        ValueError: it is not; the message offers the closest allowed one.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        raise ValueError(f"unknown {what} {value!r}{closest(str(value), allowed)}; known: {', '.join(allowed)}")
    return str(value)


def closest(word: str, known: Iterable[str]) -> str:
    """Return '; did you mean ...?' for the closest known word, or ''."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def positive(what: str, value: int) -> int:
    """Return ``value`` if it is an integer of at least 1.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{what} must be an integer >= 1, got {value!r}")
    return value


def share(what: str, value: float) -> float:
    """Return ``value`` if it lies in 0..1.

    Raises:
        ValueError: it does not.
    """
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{what} must lie in 0..1, got {value!r}")
    return value
