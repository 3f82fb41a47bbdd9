"""Pictures of learning curves: accuracy on dev tasks, or of ranking held-out pairs, while a network is trained, against
steps and processor time.

Knows: names of metrics, matplotlib. Does not know: where they were logged.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from oreo_agents.evaluation.plots import Hue, save
from oreo_agents.evaluation.styles import shades

Rows = Sequence[Mapping[str, float]]

_ACCURACY = re.compile(r"(?P<place>eval/.+)/(?P<judge>reward_|value_)?accuracy")
_JUDGES = {"reward_": "pairs ranked by the implicit reward", "value_": "pairs ranked by V"}
_SECONDS = "eval/cpu_seconds"
_START = "sft"

# Of both columns: the label of the axis, and where on it a row of metrics is.
_AGAINST: dict[str, Callable[[Mapping[str, float]], float | None]] = {
    "optimiser step": lambda row: row["step"],
    "processor minutes of training, evaluations not counted": lambda row: (
        None if row.get(_SECONDS) is None else row[_SECONDS] / 60
    ),
}


@dataclass(frozen=True, order=True)
class _Measure:
    """What was measured on the way: of which tasks or pairs, and of pairs by whom."""

    place: str
    judge: str = ""

    @property
    def name(self) -> str:
        """Of the metric."""
        return f"{self.place}/{self.judge}accuracy"

    @property
    def count(self) -> str:
        """Of the metric that tells of how many tasks or pairs."""
        return f"{self.place}/{'pairs' if self.judge else 'n'}"

    @property
    def title(self) -> str:
        said = self.place.removeprefix("eval/")
        return f"{said},\n{_JUDGES[self.judge]}" if self.judge else said


def plot_curves(metrics: Mapping[str, Sequence[Rows]], path: Path, about: str = "") -> Path | None:
    """Draw accuracy with its 95% interval against steps and against processor time; a ring is a run's best point.

    Args:
        metrics: for each row of results, named by its algorithm and settings, the metrics of each of its runs.
        path: where to write.
        about: of which seeds the runs are, for the title.

    Returns:
        ``path``, or None when no run was evaluated twice on the way.
    """
    found = {row: [_points(rows) for rows in runs] for row, runs in metrics.items()}
    found = {row: [measures for measures in runs if measures] for row, runs in found.items()}
    found = {row: runs for row, runs in found.items() if runs}
    measures = dict.fromkeys(measure for runs in found.values() for run in runs for measure in run)
    if not measures:
        return None
    # The steps of the start are other steps, and often many more.
    parts = [part for part in ([r for r in found if r != _START], [r for r in found if r == _START]) if part]
    panels = [(one, part) for one in measures for part in parts if any(one in run for r in part for run in found[r])]
    figure = Figure(figsize=(12, 3.8 * len(panels) + 0.4), layout="constrained")
    hues = shades(found)
    grid = figure.subplots(len(panels), len(_AGAINST), squeeze=False, sharey="row")
    for (measure, part), both in zip(panels, grid, strict=True):
        runs = [(row, run.get(measure, [])) for row in part for run in found[row]]
        counts = {round(point[measure.count]) for _, points in runs for point in points}
        top = max(point[f"{measure.name}_high"] for _, points in runs for point in points)
        n = " to ".join(map(str, sorted({min(counts), max(counts)})))
        for axes, (label, position) in zip(both, _AGAINST.items(), strict=True):
            for row, points in runs:
                _draw(axes, points, measure.name, position, hues[row])
            axes.set_xlabel(label)
            axes.grid(alpha=0.3)
            axes.set_ylim(0, min(105 * top + 2, 101))
            title = f"{measure.title}{', the start' * (part == [_START])}, n = {n} a point"
            axes.set_title(title, fontsize="medium")
        if measure.judge:
            for axes in both:
                axes.axhline(50, color="0.5", linestyle=":", linewidth=1)  # a coin
        both[0].set_ylabel("ranked right (%)" if measure.judge else "accuracy (%), greedy")
        both[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    for row, of_row in found.items():
        label = fill(row if len(of_row) == 1 else f"{row}, {len(of_row)} runs", 45)
        grid[0][0].plot([], [], color=hues[row], marker="o", markersize=3, label=label)
    figure.legend(loc="outside right upper", fontsize="small")
    what = "bands: 95% intervals of each point; rings: best points"
    figure.suptitle(f"Accuracy while learning{about and f', {about}'}; {what}", fontsize="medium")
    return save(figure, path)


def _points(rows: Rows) -> dict[_Measure, list[Mapping[str, float]]]:
    """Return the rows with an accuracy of each measure that was taken more than once; what diverged has none."""
    found: dict[_Measure, list[Mapping[str, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None and math.isfinite(value) and (match := _ACCURACY.fullmatch(name)):
                found.setdefault(_Measure(match["place"], match["judge"] or ""), []).append(row)
    return {measure: own for measure, own in found.items() if len(own) > 1}


def _draw(
    axes: Axes,
    points: Rows,
    name: str,
    position: Callable[[Mapping[str, float]], float | None],
    hue: Hue,
) -> None:
    known: list[tuple[float, Mapping[str, float]]] = []
    for point in points:
        where = position(point)
        if where is not None:
            known.append((where, point))
    if not known:
        return
    at = [where for where, _ in known]
    accuracy, low, high = ([100 * point[f"{name}{end}"] for _, point in known] for end in ("", "_low", "_high"))
    axes.plot(at, accuracy, color=hue, marker="o", markersize=3, linewidth=1.2)
    axes.fill_between(at, low, high, color=hue, alpha=0.12, linewidth=0)
    best = max(range(len(at)), key=lambda k: (accuracy[k], -k))
    axes.plot(at[best], accuracy[best], marker="o", markersize=9, markerfacecolor="none", color=hue)
