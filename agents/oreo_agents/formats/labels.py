"""What a row says of success, and texts of a row.

Knows: labels of any spelling, thresholds. Does not know: files, conversations.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

LABELS = ("reward", "correct", "is_correct", "success", "resolved", "label", "kto_tag", "score")
"""Columns of which one says how an episode ended, the first that says something."""

_WORDS = {"true": True, "false": False}


def text_field(row: Mapping[str, Any], name: str) -> str:
    """Return a column of a row.

    Raises:
        ValueError: it is no text, or empty.
    """
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"field {name!r} must be a text that is not empty, got {value!r:.200}")
    return value


def relabelled(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a row with the column ``name`` as its reward, and without other verdicts.

    Raises:
        ValueError: there is none.
    """
    found: Any = row
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if found is None:
        raise ValueError(f"--label {name}: there is no such column among {', '.join(row)}, or it holds nothing")
    return {other: value for other, value in row.items() if other not in LABELS} | {"reward": found}


def number(value: Any) -> float | None:
    """Return a finite number that is one or is written as one, as in CSV; None: it is none."""
    try:
        found = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def label_of(row: Mapping[str, Any], names: Sequence[str] = LABELS) -> Any:
    """Return the first label of a row that is there; None: none is."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def judge_label(label: Any, threshold: float | None) -> tuple[float, bool]:
    """Return the reward that a label is, and whether it says success.

    Args:
        label: true or false, a number, or one of these as a text.
        threshold: numbers from this one on are successes; None: only 1, 0 and -1 say something.

    Raises:
        ValueError: it is no label, or a number that only a threshold can judge.
    """
    said = label
    if isinstance(label, str):
        said = _WORDS.get(label.strip().lower(), label)
        with suppress(ValueError):
            said = float(said) if isinstance(said, str) else said
    if not isinstance(said, bool | int | float) or number(said) is None:
        raise ValueError(f"a label is true, false or a finite number, got {label!r:.200}")
    if threshold is not None and not isinstance(said, bool):
        return float(said), said >= threshold
    if said not in (0, 1, -1):
        raise ValueError(
            f"the label {said:g} is neither 1 nor 0 nor -1, so it does not say whether the solution is "
            "right; say from which number on it is with --success-threshold, or name another column with --label"
        )
    return float(said), said == 1
