"""What options of the command take: numbers and objects, refused where they are read.

Knows: how a text becomes a value. Does not know: which options there are.
"""

import math
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any

from oreo_envs.limits import read_json

LARGEST = 2**63 - 1
"""Above it a number fits in no seed or counter."""


def whole(least: int = 0, most: int = LARGEST) -> Callable[[str], int]:
    """Return what reads a whole number of at least and at most so much, for ``type`` of an option."""

    def read(text: str) -> int:
        digits = text.removeprefix("-")
        number = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
        if number is None or not least <= number <= most:
            upper = f" and at most {most:,}" if most < LARGEST or (number or 0) > most else ""
            raise ArgumentTypeError(f"must be a whole number of at least {least}{upper}, got {text!r:.60}")
        return number

    return read


def finite(text: str) -> float:
    """Read a finite number.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ArgumentTypeError(f"must be a finite number, got {text!r:.60}")
    return number


def json_object(text: str) -> dict[str, Any]:
    """Read an object in JSON.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        found = read_json(text)
    except ValueError as error:
        raise ArgumentTypeError(f"must be an object in JSON ({error}), got {text!r:.60}") from None
    if not isinstance(found, dict):
        raise ArgumentTypeError(f"must be an object in JSON, {{NAME: VALUE}}, got {text!r:.60}")
    return found
