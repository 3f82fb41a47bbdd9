"""Rows of a file of JSON lines, and what a label in one says.

Knows: JSON, texts, labels. Does not know: what the rows are about.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def json_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a file of JSON lines, each with the number of its line.

    Raises:
        ValueError: a line is no JSON object; says which.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except ValueError as error:  # not UTF-8, or not JSON
                raise ValueError(f"{file}, line {number}: not a JSON object ({error})") from error
            if not isinstance(row, dict):
                raise ValueError(f"{file}, line {number}: expected a JSON object, got {json.dumps(row)[:60]!r}")
            yield number, row


def text_field(row: dict[str, Any], name: str, where: str) -> str:
    """Return a field of a row.

    Raises:
        ValueError: it is no text, or empty.
    """
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: field {name!r} must be a text that is not empty, got {value!r}")
    return value


def judge_label(label: Any, threshold: float | None, where: str) -> tuple[float, bool]:
    """Return the reward that a label is, and whether it says success.

    Raises:
        ValueError: it is no label, or a number that only a threshold can judge.
    """
    if not isinstance(label, bool | int | float) or not math.isfinite(label):
        raise ValueError(f"{where}: a label is true, false or a finite number, got {label!r}")
    if threshold is not None and not isinstance(label, bool):
        return float(label), label >= threshold
    if label not in (0, 1, -1):
        raise ValueError(
            f"{where}: the label {label:g} is neither 1 nor 0 nor -1, so it does not say whether the solution is "
            "right; say from which number on it is with --success-threshold"
        )
    return float(label), label == 1
