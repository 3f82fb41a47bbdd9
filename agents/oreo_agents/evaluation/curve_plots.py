"""Pictures of learning curves: accuracy on dev tasks while a network is trained, against steps and processor time.

Knows: names of metrics, matplotlib. Does not know: where they were logged.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from oreo_agents.evaluation.plots import Hue, save
from oreo_agents.evaluation.styles import shades

Rows = Sequence[Mapping[str, float]]

_ACCURACY = re.compile(r"eval/(?P<place>.+)/accuracy")
_SECONDS = "eval/cpu_seconds"

# Of both columns: the label of the axis, and where on it a row of metrics is.
_AGAINST: dict[str, Callable[[Mapping[str, float]], float | None]] = {
    "optimiser step": lambda row: row["step"],
    "processor minutes of training, evaluations not counted": lambda row: (
        None if row.get(_SECONDS) is None else row[_SECONDS] / 60
    ),
}


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
    found = {row: [places for places in runs if places] for row, runs in found.items()}
    found = {row: runs for row, runs in found.items() if runs}
    places = dict.fromkeys(place for runs in found.values() for run in runs for place in run)
    if not places:
        return None
    figure = Figure(figsize=(12, 4.2 * len(places)), layout="constrained")
    hues = shades(found)
    grid = figure.subplots(len(places), len(_AGAINST), squeeze=False, sharey="row")
    for place, row_of_axes in zip(places, grid, strict=True):
        counts = set[int]()
        for axes, (label, position) in zip(row_of_axes, _AGAINST.items(), strict=True):
            for row, runs in found.items():
                for run in runs:
                    counts |= {round(point[f"eval/{place}/n"]) for point in run.get(place, [])}
                    _draw(axes, run.get(place, []), place, position, hues[row])
            axes.set_xlabel(label)
            axes.grid(alpha=0.3)
            axes.set_ylim(0, 100)
        row_of_axes[0].set_ylabel("accuracy (%), greedy")
        row_of_axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        n = " to ".join(map(str, sorted({min(counts), max(counts)})))
        row_of_axes[0].set_title(f"{place}, n = {n} a point", fontsize="medium")
        row_of_axes[1].set_title(about, fontsize="medium")
    for row, runs in found.items():
        label = fill(row if len(runs) == 1 else f"{row}, {len(runs)} runs", 45)
        grid[0][0].plot([], [], color=hues[row], marker="o", markersize=3, label=label)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.suptitle(
        "Accuracy while learning; bands: 95% intervals of each point; rings: best points", fontsize="medium"
    )
    return save(figure, path)


def _points(rows: Rows) -> dict[str, list[Mapping[str, float]]]:
    """Return the rows with an accuracy of each environment and split that was asked more than once."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None and (match := _ACCURACY.fullmatch(name)):
                found.setdefault(match["place"], []).append(row)
    return {place: own for place, own in found.items() if len(own) > 1}


def _draw(
    axes: Axes,
    points: Rows,
    place: str,
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
    name = f"eval/{place}/accuracy"
    accuracy, low, high = ([100 * point[f"{name}{end}"] for _, point in known] for end in ("", "_low", "_high"))
    axes.plot(at, accuracy, color=hue, marker="o", markersize=3, linewidth=1.2)
    axes.fill_between(at, low, high, color=hue, alpha=0.12, linewidth=0)
    best = max(range(len(at)), key=lambda k: (accuracy[k], -k))
    axes.plot(at[best], accuracy[best], marker="o", markersize=9, markerfacecolor="none", color=hue)
