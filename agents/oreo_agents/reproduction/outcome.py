"""What came of the runs of a table or figure, beside what the paper says: tables, rows of numbers, a picture.

Knows: rows of results, intervals (``statistics``). Does not know: how runs are made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from oreo_agents.evaluation.formats import comma_separated, markdown
from oreo_agents.evaluation.plots import legend_below, save, seeds_in_words
from oreo_agents.evaluation.records import entry_record
from oreo_agents.evaluation.results import Entry, compare_entries, load_entries
from oreo_agents.evaluation.statistics import Comparison
from oreo_agents.evaluation.styles import colour, marker
from oreo_agents.evaluation.tables import interval, percent, points
from oreo_agents.reproduction.studies import Column, Row, Scale, Study


@dataclass(frozen=True)
class Outcome:
    """A table or figure of which some or all runs are done.

    Attributes:
        study: which.
        scale: of the runs.
        results: by title of a column, the ``results.json`` of its finished runs.
        asked: runs that each column is to have.
    """

    study: Study
    scale: Scale
    results: Mapping[str, Sequence[Path]]
    asked: int

    @cached_property
    def columns(self) -> list[Column]:
        """Those that this scale has."""
        return [column for column in self.study.columns if self.scale in column.stages]

    @cached_property
    def entries(self) -> dict[tuple[str, str], Entry]:
        """What came of each column and row, by their titles; those of which nothing is done are not there."""
        found = {}
        for column in self.columns:
            # A world is a repetition: what tells runs of it apart is averaged over.
            entries = load_entries(self.results[column.title], over=["env.options"])
            for row in self.study.rows:
                for entry in entries:
                    if (entry.name, entry.search, entry.split) == (row.algo, row.search, column.split):
                        found[column.title, row.title] = entry
        return found

    def compared(self, column: Column, row: Row) -> Comparison | None:
        """Compare a row with the base, on the same tasks and runs; None of the base itself."""
        own, base = (self.entries.get((column.title, title)) for title in (row.title, self.study.base))
        return None if own is None or base is None or own is base else compare_entries(own, base)

    def tables(self) -> list[Table]:
        """Return a table for each column: the paper's number, ours, and the difference from the base."""
        tables = []
        for column in self.columns:
            table = Table(title=f"{self.study.title}: {column.title}; here {column.here[self.scale]}")
            table.add_column("", no_wrap=True)
            base = f"- {self.study.base}"
            for name in ("paper (theirs)", "ours (%)", "95% interval", "runs", "n", base, "95% interval", "p"):
                table.add_column(name, justify="right")
            table.add_column("tokens/task", justify="right")
            table.add_column("train CPU min", justify="right")
            for row in self.study.rows:
                table.add_row(*self._cells(column, row))
            tables.append(table)
        return tables

    def _cells(self, column: Column, row: Row) -> list[str]:
        published = row.published.get(column.title)
        theirs = "" if published is None else f"{published:.1f}"
        entry, compared = self.entries.get((column.title, row.title)), self.compared(column, row)
        if entry is None:
            return [row.title, theirs, "not run", *[""] * 8]
        n = str(sum(one["n"] for one in entry.rows))
        tokens, minutes = entry.mean("tokens_per_task"), entry.cpu_minutes
        cells = [row.title, theirs, percent(entry.accuracy), interval(entry), str(len(entry.rows)), n]
        if compared is None:
            cells += ["", "", ""]
        else:
            cells += [points(compared.mean), f"{points(compared.low)} to {points(compared.high)}"]
            cells += [f"{compared.p_value:.2g}"]
        return [*cells, *("" if number is None else f"{number:.{k}f}" for number, k in ((tokens, 0), (minutes, 1)))]

    def notes(self) -> list[str]:
        """Say what is not as in the paper, and what is missing."""
        notes = [f"Not as in the paper: {text}." for text in self.study.deviations.get(self.scale, ())]
        for column in self.columns:
            done = len(self.results[column.title])
            if done < self.asked:
                notes.append(f"{column.title}: {done} of {self.asked} runs are done.")
        if self.asked == 1:
            notes.append("One run: the intervals are of its tasks alone, other seeds are not in them.")
        return notes

    def records(self) -> list[dict[str, Any]]:
        """Return the numbers: a row for each of a column and a row of the study."""
        records = []
        for column in self.columns:
            for row in self.study.rows:
                record: dict[str, Any] = {"study": self.study.name, "column": column.title, "title": row.title}
                record["published"] = row.published.get(column.title)
                if (entry := self.entries.get((column.title, row.title))) is not None:
                    record |= entry_record(entry)
                if (compared := self.compared(column, row)) is not None:
                    record |= {"base": self.study.base, "difference": compared.mean, "difference_low": compared.low}
                    record |= {"difference_high": compared.high, "p": compared.p_value}
                records.append(record)
        return records

    def write(self, folder: Path) -> list[Path]:
        """Write ``NAME.md``, ``NAME.csv`` and ``NAME.png``, and return their paths."""
        paths = [folder / f"{self.study.name}.{ending}" for ending in ("md", "csv", "png")]
        text = [f"# {self.study.title}\n", *map(markdown, self.tables()), *(f"- {note}" for note in self.notes())]
        text += ["", f"![{self.study.title}]({paths[2].name})", ""]
        paths[0].write_text("\n".join(text), encoding="utf-8")
        paths[1].write_text(comma_separated(self.records()), encoding="utf-8")
        self._draw(paths[2])
        return paths

    def _draw(self, path: Path) -> None:
        """Draw ours with 95% intervals, full, and what the paper says, hollow: a panel for each column."""
        height = 4.2 if self.study.axis else 1.6 + 0.45 * len(self.study.rows)
        figure = Figure(figsize=(1.5 + 4.8 * len(self.columns), height), layout="constrained")
        for axes, column in zip(figure.subplots(1, len(self.columns), squeeze=False)[0], self.columns, strict=True):
            if self.study.axis:
                self._draw_lines(axes, column)
            else:
                self._draw_dots(axes, column)
            found = [entry for (title, _), entry in self.entries.items() if title == column.title]
            count = len(self.results[column.title])
            seeds = f"{count} run{'s' * (count != 1)}, {seeds_in_words(found)}" if found else "not run"
            axes.set_title(f"{column.title}\nhere {column.here[self.scale]}\n{seeds}; 95% intervals", fontsize="small")
            axes.grid(alpha=0.3)
        legend_below(figure, figure.axes[0].get_legend_handles_labels()[0])
        figure.suptitle(self.study.title, fontsize="medium")
        save(figure, path)

    def _draw_dots(self, axes: Axes, column: Column) -> None:
        for k, row in enumerate(self.study.rows):
            hue = colour(row.algo)
            if row.published.get(column.title) is not None:
                place = row.published[column.title]
                axes.plot([place], [k], "D", mfc="white", mec=hue, label="paper (theirs)" if k == 0 else None)
            if (entry := self.entries.get((column.title, row.title))) is not None:
                mean, ends = _bars([entry])
                style: dict[str, Any] = {"fmt": marker(row.search), "color": hue, "capsize": 2}
                axes.errorbar(mean, [k], xerr=ends, label="ours" if k == 0 else None, **style)
        axes.set_yticks(range(len(self.study.rows)), [row.title for row in self.study.rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 102)
        axes.set_xlabel("accuracy (%)")

    def _draw_lines(self, axes: Axes, column: Column) -> None:
        lines = list(dict.fromkeys(line for row in self.study.rows for line in row.lines))
        for k, line in enumerate(lines):
            rows = [row for row in self.study.rows if line in row.lines]
            # Lines of one algorithm are told apart by their order.
            hue = colour(rows[0].algo) if len({row.algo for row in self.study.rows}) > 1 else f"C{k}"
            theirs = [(row.x, row.published[column.title]) for row in rows if column.title in row.published]
            if len(theirs) > 1:
                x, y = zip(*theirs, strict=True)
                axes.plot(x, y, "D--", color=hue, mfc="white", lw=1, label=f"{line}, paper (theirs)")
            own = [row for row in rows if (column.title, row.title) in self.entries]
            if own:
                mean, ends = _bars([self.entries[column.title, row.title] for row in own])
                axes.errorbar(
                    [row.x for row in own], mean, yerr=ends, color=hue, fmt="o-", capsize=2, label=f"{line}, ours"
                )
        axes.set_xticks(sorted({row.x for row in self.study.rows}))
        axes.set_xlabel(self.study.axis)
        axes.set_ylabel("accuracy (%)")


def _bars(entries: Sequence[Entry]) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracies, [N], and how far their intervals reach below and above, [2, N], percent."""
    mean = 100 * np.array([entry.accuracy for entry in entries])
    ends = 100 * np.array([entry.interval or (entry.accuracy, entry.accuracy) for entry in entries]).T
    return mean, np.maximum([mean - ends[0], ends[1] - mean], 0)
