"""The table of layouts in docs/data.md is that of the registry."""

import re
from pathlib import Path

import pytest

from oreo_agents.formats.labels import LABELS
from oreo_agents.formats.registry import LAYOUTS

PAGE = Path(__file__).parents[3] / "docs" / "data.md"


def table() -> dict[str, list[str]]:
    text = PAGE.read_text(encoding="utf-8").partition("| layout | columns |")[2].partition("\n\n")[0]
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip(" `"): row for row in rows}


def test_each_layout_is_in_the_table_in_their_order():
    assert [*table()] == [layout.name for layout in LAYOUTS]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_row_names_the_columns(layout):
    *_, columns, becomes = table()[layout.name]
    for names in layout.columns:
        wanted = ["a verdict"] if names == "|".join(LABELS) else [f"`{name}`" for name in names.split("|")]
        assert all(name in columns for name in wanted), (names, columns)
    assert becomes.strip(" |")


def test_the_verdicts_are_named():
    said = re.search(r"\*A verdict\* is one of the columns `([^`]*)`", PAGE.read_text(encoding="utf-8"))
    assert said is not None and said[1].split(", ") == [*LABELS]
