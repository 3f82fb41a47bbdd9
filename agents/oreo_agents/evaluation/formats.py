"""Tables and rows as files: Markdown, LaTeX, CSV, JSON.

Knows: how each is written. Does not know: what the numbers mean.
"""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from oreo_envs.visible import inline_markdown

_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_TEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


def markdown(table: Table) -> str:
    """Write a table as Markdown."""
    align = ["---:" if column.justify == "right" else "---" for column in table.columns]
    rows = [map(inline_markdown, _header(table)), align, *(map(inline_markdown, row) for row in _rows(table))]
    return f"## {inline_markdown(str(table.title))}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def latex(table: Table) -> str:
    """Write a table as LaTeX, for ``\\usepackage{booktabs}``."""
    align = "".join("r" if column.justify == "right" else "l" for column in table.columns)
    rows = [" & ".join(map(_tex, row)) + r" \\" for row in _rows(table)]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(str(table.title))}}}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join(map(_tex, _header(table))) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tex(text: str) -> str:
    return re.sub(r"[\\~^&%$#_{}]", lambda match: _TEX[match[0]], text)


def comma_separated(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as CSV, with a column for every name in any of them; what is missing is empty."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict | bool) else value


def as_json(document: Any) -> str:
    """Write a document as JSON."""
    return json.dumps(document, indent=2) + "\n"


def _header(table: Table) -> list[str]:
    return [str(column.header) for column in table.columns]


def _rows(table: Table) -> list[list[str]]:
    return [list(row) for row in zip(*([str(cell) for cell in column.cells] for column in table.columns), strict=True)]
