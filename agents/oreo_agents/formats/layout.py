"""A layout of rows: how it is recognised, and how a row becomes episodes.

Knows: columns, names of layouts, what to say of a row that fits none. Does not know: files, what columns mean.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oreo_agents.formats.draft import Draft

Row = Mapping[str, Any]


class Watched(dict[str, Any]):
    """A row that knows which of its columns were asked for."""

    def __init__(self, row: Row) -> None:
        """Watch a row."""
        super().__init__(row)
        self._read: set[str] = {"source"}

    def __getitem__(self, name: str) -> Any:
        """Return a column, and note it."""
        self._read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a column, and note it."""
        self._read.add(name)
        return super().get(name, default)

    def unread(self, label: str | None) -> list[str]:
        """Return the columns that hold something and were not asked for, but for the one that ``label`` lies in."""
        own = (label or "").partition(".")[0]
        return [name for name, value in self.items() if name not in self._read and name != own and value is not None]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How some rows are written.

    Attributes:
        name: as ``--format`` takes it.
        columns: that every row has; ``a|b``: either.
        about: whose rows these are, in a few words.
        read: makes the drafts of a row; raises ValueError, without the place.
        fits: whether a row that has the columns is one; None: always.
        one_of: names the series that a row is of, where a file holds each episode once a series; None: nothing does.
    """

    name: str
    columns: tuple[str, ...]
    about: str
    read: Callable[[Row], list[Draft]]
    fits: Callable[[Row], bool] | None = None
    one_of: Callable[[Row], str | None] = lambda row: None

    def missing(self, row: Row) -> list[str]:
        """Return the columns that a row lacks; one that is null is not there."""
        return [names for names in self.columns if all(row.get(name) is None for name in names.split("|"))]

    def is_of(self, row: Row) -> bool:
        """Whether a row is written so."""
        return not self.missing(row) and (self.fits is None or self.fits(row))


def columns_of(row: Row) -> str:
    """Say which columns a row has."""
    names = list(row)
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"the columns {', '.join(names[:20])}{more}" if names else "no column"


def recognise(row: Row, layouts: Sequence[Layout]) -> Layout:
    """Return the first layout that a row is written in.

    Raises:
        ValueError: none; says which come close.
    """
    for layout in layouts:
        if layout.is_of(row):
            return layout
    raise ValueError(f"no layout fits {columns_of(row)}. {_rows_within(row)}{near(row, layouts)}")


def _rows_within(row: Row) -> str:
    """Say which columns seem to hold the rows themselves, as they do in a file that is one object."""
    for name, value in row.items():
        if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            return f"{name} holds {len(value)} objects: if these are the rows, save that list alone as a .json file. "
    return ""


def near(row: Row, layouts: Sequence[Layout]) -> str:
    """Say which layouts come closest to a row, and what it would take."""
    fewest = sorted(layouts, key=lambda layout: len(layout.missing(row)) / len(layout.columns))[:3]
    if not fewest[0].missing(row):
        names = " or ".join(f"--format {one.name} ({one.about})" for one in fewest if not one.missing(row))
        return (
            "The columns are there, but what they hold is not of that kind: a bare answer, say, is a task and no "
            f"episode (env=qa env.path=FOLDER); to read it all the same say {names}"
        )
    told = [f"{one.name} needs {', '.join(one.columns).replace('|', ' or ')} ({one.about})" for one in fewest]
    return f"The closest: {'; '.join(told)}. `oreo data formats` lists all"


def named(name: str, layouts: Sequence[Layout]) -> Layout:
    """Return a layout by its name.

    Raises:
        ValueError: there is none.
    """
    for layout in layouts:
        if layout.name == name:
            return layout
    names = [layout.name for layout in layouts]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"--format {name}: no such layout{hint}; known: auto, {', '.join(names)}")
