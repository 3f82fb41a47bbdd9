"""A bar for a terminal.

Knows: that nothing is drawn where nobody looks. Does not know: what takes so long.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Bar:
    """Counts episodes as they end."""

    def __init__(self, draw: Any = None) -> None:
        """Draw with a function of solved, counted and failed episodes; None: nothing."""
        self._draw = draw
        self._solved = self._counted = self._failed = 0

    def add(self, row: Any) -> None:
        """Count a row."""
        self._solved += row.success and row.counted
        self._counted += row.counted
        self._failed += row.error is not None
        if self._draw is not None:
            self._draw(self._solved, self._counted, self._failed)


@contextmanager
def bar(description: str, total: int, shown: bool | None) -> Iterator[Bar]:
    """Show a bar on standard error; ``shown``: None where it is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not (console.is_terminal if shown is None else shown):
        yield Bar()
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[told]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total, told="")

        def draw(solved: int, counted: int, failed: int) -> None:
            told = f"{solved} of {counted} solved" + (f", {failed} errors" if failed else "")
            progress.update(task, completed=counted + failed, told=told)

        yield Bar(draw)
