"""Where a row keeps its question, its answer and its solution.

Knows: dotted paths, layouts of well-known data sets, how numbers and lists are written, what is no reference answer.
Does not know: files, how answers are compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from oreo_envs.checks import choose
from oreo_envs.data_rows import Row
from oreo_envs.limits import read_json

ROLES = ("question", "answer", "solution")
"""What a row says."""

Fields = tuple[tuple[str, str], ...]
"""Pairs of a role and the dotted path of its column."""


class NoReference(ValueError):
    """A row that has no answer to be held against: it is left out, and counted."""


@dataclass(frozen=True)
class RowLayout:
    """Columns of a known data set, dotted.

    A question of several columns is these, with a space between; without a column of answers the solution states them.
    """

    question: tuple[str, ...]
    answer: str | None
    solution: str | None = None

    def paths(self, role: str) -> tuple[str, ...]:
        """Return the columns of a role."""
        path = {"answer": self.answer, "solution": self.solution}.get(role)
        return self.question if role == "question" else (path,) if path else ()

    @cached_property
    def needs(self) -> frozenset[str]:
        """Columns that a row of this layout has, in lower case."""
        return frozenset(path.partition(".")[0].lower() for path in (*self.question, self.answer or str(self.solution)))

    def __str__(self) -> str:
        """Name the columns."""
        optional = f" (+ {self.solution})" if self.solution and self.answer else ""
        return " + ".join([*self.question, self.answer or str(self.solution)]) + optional


LAYOUTS = (
    RowLayout(("Body", "Question"), "Answer"),  # SVAMP
    RowLayout(("query",), None, "response"),  # MetaMathQA
    RowLayout(("extra_info.question",), "reward_model.ground_truth", "extra_info.answer"),  # verl
    RowLayout(("prompt",), "reward_model.ground_truth"),  # DAPO
    RowLayout(("question",), "final_answer", "solution"),  # DeepMath, OlympiadBench
    RowLayout(("problem",), "answer", "solution"),  # MathArena, AIMO, NuminaMath
    RowLayout(("question",), "answer", "solution"),  # GSM8K
    RowLayout(("prompt",), "answer", "solution"),
    RowLayout(("problem",), None, "solution"),  # MATH
    RowLayout(("question",), None, "solution"),
    RowLayout(("input",), "target"),  # GSM-Hard
)
"""Recognised by their columns, upper and lower case apart; the first that fits."""

_COLUMNS = {
    role: {path.partition(".")[0].lower() for layout in LAYOUTS for path in layout.paths(role)} for role in ROLES
}
_NO_REFERENCE = {"", "proof", "notfound", "not found", "none", "nan", "null", "n/a", "-", "--"}
_WRAPPING = re.compile(r"\$|\\(?:text|textbf|textit|mathrm|boxed|mbox)\s*(?=\{)|[{}]|\\[()\[\]]")


def as_fields(fields: Mapping[str, str] | None) -> Fields:
    """Check the columns that a user names.

    Raises:
        ValueError: an unknown role, or a column that is no text.
    """
    if not isinstance(fields, Mapping | None):
        raise ValueError(f"fields must map {', '.join(ROLES)} to columns, got {fields!r}")
    for role, path in (fields or {}).items():
        choose("role in fields", role, ROLES)
        if not isinstance(path, str) or not path:
            raise ValueError(f"fields[{role!r}] must name a column, such as 'reward_model.ground_truth', got {path!r}")
    return tuple(sorted((fields or {}).items()))


def pick(row: Row, fields: Fields, names: Mapping[str, str]) -> Row:
    """Return the row with the columns of ``fields`` under the ``names`` of their roles.

    Other columns that are known for these roles do not count; what is not named is found as without ``fields``.

    Raises:
        ValueError: a column is not there.
    """
    if not fields:
        return row
    chosen = {}
    for role, path in fields:
        try:
            chosen[names[role]] = lookup(row, path)
        except KeyError:
            raise ValueError(f"no field {path!r} (fields, {role}); this row has {columns(row)}") from None
    hidden = {column for role, _ in fields for column in _COLUMNS[role]}
    return {key: value for key, value in row.items() if key.lower() not in hidden} | chosen


def lookup(row: Any, path: str, *, any_case: bool = False) -> Any:
    """Return what a dotted path leads to: keys of objects, indices of lists; a column may have dots in its name.

    Raises:
        KeyError: it leads nowhere.
    """
    if isinstance(row, Mapping):
        if path in row:
            return row[path]
        key, dot, rest = path.partition(".")
        if key not in row and any_case:
            alike = [name for name in row if name.lower() == key.lower()]
            key = alike[0] if len(alike) == 1 else key
        if key not in row:
            raise KeyError(path)
        return lookup(row[key], rest, any_case=any_case) if dot else row[key]
    key, dot, rest = path.partition(".")
    if isinstance(row, list | tuple) and re.fullmatch(r"[0-9]{1,9}", key) and int(key) < len(row):
        return lookup(row[int(key)], rest, any_case=any_case) if dot else row[int(key)]
    raise KeyError(path)


def columns(row: Row) -> str:
    """Name the columns of a row, those of objects in brackets."""
    named = [
        f"{key} ({', '.join(map(str, value))})" if isinstance(value, Mapping) else str(key)
        for key, value in row.items()
    ]
    return ", ".join(named[:30]) + (f" and {len(named) - 30} more" if len(named) > 30 else "")


def recognise(row: Row) -> tuple[RowLayout, Any, Any, Any]:
    """Return the known layout of a row, and its parts of the question, raw answer and raw solution, None for none.

    Raises:
        ValueError: no known layout.
    """
    there = {name.lower() for name in row}
    for layout in LAYOUTS:
        if not layout.needs <= there:
            continue
        try:
            question = [lookup(row, path, any_case=True) for path in layout.question]
            answer, solution = (_find(row, path) for path in (layout.answer, layout.solution))
            lookup(row, layout.answer or str(layout.solution), any_case=True)
        except KeyError:
            continue
        return layout, question, answer, solution
    raise ValueError(
        f"no layout that is known: this row has {columns(row)}; known are {'; '.join(map(str, LAYOUTS))}; "
        "or say which columns are which: fields={'question': ..., 'answer': ..., 'solution': ...}"
    )


def _find(row: Row, path: str | None) -> Any:
    try:
        return None if path is None else lookup(row, path, any_case=True)
    except KeyError:
        return None


def question_text(parts: Sequence[Any]) -> str:
    """Return the text of a question, of which chat messages are the last of the user.

    Raises:
        ValueError: no text.
    """
    texts = []
    for part in parts:
        if isinstance(part, list | tuple) and part and all(isinstance(message, Mapping) for message in part):
            said = [message.get("content") for message in part if message.get("role") == "user"]
            if not said:
                raise ValueError("the question is a chat without a message of the user")
            part = said[-1]
        if not isinstance(part, str):
            raise ValueError(f"the question is no text but {type(part).__name__}")
        texts.append(part)
    if not "".join(texts).strip():
        raise ValueError("the question is empty")
    return whole_text(" ".join(text.strip() for text in texts) if len(texts) > 1 else texts[0])


def solution_text(value: Any) -> str:
    """Return the text of a worked solution, the first of several; "" for none.

    Raises:
        ValueError: no text.
    """
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        raise ValueError(f"the solution is no text but {type(value).__name__}")
    return whole_text(value)


def reference(value: Any) -> str:
    """Return a reference answer as one would write it.

    A number is written without exponent and without ``.0``; a list of one answer is that answer, one of several
    is a list of answers, ``a, b``.

    Raises:
        NoReference: None, not a number, or a text such as "proof" that says that there is none.
        ValueError: neither a text nor a number nor a list of these.
    """
    if isinstance(value, str) and value.startswith('["') and value.endswith('"]'):
        with suppress(ValueError):
            value = read_json(value)
    if isinstance(value, list | tuple):
        if not value:
            raise NoReference("an empty list of answers")
        return ", ".join(map(_one, value))
    return _one(value)


def _one(value: Any) -> str:
    if value is None:
        raise NoReference("no answer (null)")
    if isinstance(value, bool):
        raise ValueError(f"the answer is a truth value ({value}); write the word that is expected, such as yes")
    if isinstance(value, int | float | Decimal):
        if not math.isfinite(value):
            raise NoReference(f"no answer ({value})")
        text = format(Decimal(repr(value)) if isinstance(value, float) else Decimal(value), "f")
        return "0" if not value else text.rstrip("0").rstrip(".") if "." in text else text
    if not isinstance(value, str):
        raise ValueError(f"the answer is neither a text nor a number but {type(value).__name__}")
    plain = _WRAPPING.sub("", value).strip().removesuffix(".").strip().lower()
    if plain in _NO_REFERENCE or set(plain) <= {"?"}:
        raise NoReference(f"no answer ({value.strip()[:40]!r})")
    return whole_text(value)


def whole_text(text: str) -> str:
    """Return a text.

    Raises:
        ValueError: it holds half a character, which no tokenizer reads.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"half a character (\\u{ord(text[error.start]):04x}) in a text") from None
    return text


def known_columns(names: Iterable[str]) -> str:
    """Say which columns a data set has, and how to name others."""
    return f"it needs {', '.join(names)}, or fields={{'question': ..., 'answer': ...}} that name others"
