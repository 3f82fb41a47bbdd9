"""Pictures of results: accuracy with intervals, accuracy against generated tokens, training curves.

Knows: matplotlib. Does not know: where results come from.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from oreo_agents.evaluation.results import Entry

# One panel each: title, and the metrics in it with their line styles.
_PANELS = {
    "loss": {"train/loss": "-"},
    "explained variance of V": {"train/bellman/explained_variance": "-"},
    "V before the end token: right (solid), wrong (dashed)": {
        "train/values/terminal_pos": "-",
        "train/values/terminal_neg": "--",
    },
    "entropy of the policy (nats)": {"train/entropy": "-"},
}

# Of a logarithmic axis, as a share of its range: room for the label of a tick.
_TICK_WIDTH = 0.08


def plot_accuracy(entries: Sequence[Entry], path: Path) -> Path | None:
    """Draw the accuracy of each algorithm and search with its 95% interval; returns None without entries.

    A search at several budgets is a curve and no bar, see ``plot_budgets``.
    """
    entries = [entry for entry in entries if entry.budget is None]
    if not entries:
        return None
    searches = list(dict.fromkeys(entry.search for entry in entries))
    labels = list(dict.fromkeys(_label(entry, entries) for entry in entries))
    figure = Figure(figsize=(max(6, 1.3 * len(labels)), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(searches)
    for k, search in enumerate(searches):
        shown = [entry for entry in entries if entry.search == search]
        places = [labels.index(_label(entry, entries)) + (k - (len(searches) - 1) / 2) * width for entry in shown]
        heights, errors = _points(shown)
        axes.bar(places, heights, width, yerr=errors, capsize=2, label=search)
    if len(labels) > 6:
        axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    else:
        axes.set_xticks(range(len(labels)), labels)
    axes.set_ylabel("accuracy (%), 95% interval")
    axes.set_ylim(0, 100)
    figure.legend(loc="outside upper center", ncols=len(searches))
    return _save(figure, path)


def plot_search(entries: Sequence[Entry], path: Path) -> Path | None:
    """Draw accuracy against the tokens generated for a task; returns None unless some algorithm has two searches."""
    entries = [entry for entry in entries if entry.budget is None]
    by_algo: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.mean("tokens_per_task"):
            by_algo[_label(entry, entries)].append(entry)
    if max((len(found) for found in by_algo.values()), default=0) < 2:
        return None
    markers = dict(zip(dict.fromkeys(entry.search for entry in entries), cycle("osD^vP*X<>hp"), strict=False))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for k, (algo, found) in enumerate(by_algo.items()):
        for entry in found:
            axes.plot(entry.mean("tokens_per_task") or 0, 100 * entry.accuracy, markers[entry.search], color=_colour(k))
        axes.plot([], [], "s", color=_colour(k), label=algo)
    for search, marker in markers.items():
        axes.plot([], [], marker, color="grey", label=search)
    _count_tokens(axes, legible([round(entry.mean("tokens_per_task") or 1, -1) or 1 for entry in entries]))
    axes.set_ylabel("accuracy (%)")
    figure.legend(loc="outside right upper", fontsize="small")
    return _save(figure, path)


def plot_budgets(entries: Sequence[Entry], path: Path) -> Path | None:
    """Draw accuracy with its 95% interval against the tokens that were generated, one line a search.

    Each algorithm has a panel. A search without a size, such as greedy decoding, has one accuracy whatever the budget:
    a dashed line across the panel.

    Returns:
        ``path``, or None when nothing was evaluated at a budget.
    """
    budgets = sorted({entry.budget for entry in entries if entry.budget is not None})
    if not budgets:
        return None
    by_algo: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.mean("tokens_per_task"):
            by_algo[_label(entry, entries)].append(entry)
    colours = {search: _colour(k) for k, search in enumerate(dict.fromkeys(entry.search for entry in entries))}
    figure = Figure(figsize=(1 + 4.5 * len(by_algo), 4), layout="constrained")
    panels = figure.subplots(1, len(by_algo), sharey=True, squeeze=False)[0]
    for axes, (algo, found) in zip(panels, by_algo.items(), strict=True):
        for search, colour in colours.items():
            for entry in found:
                if entry.search == search and entry.budget is None:
                    axes.axhline(100 * entry.accuracy, color=colour, linestyle="--", linewidth=1)
            line = [entry for entry in found if entry.search == search and entry.budget is not None]
            line.sort(key=lambda entry: entry.mean("tokens_per_task") or 0)
            if line:
                tokens = [entry.mean("tokens_per_task") or 0 for entry in line]
                axes.errorbar(tokens, *_points(line), fmt="o-", capsize=2, markersize=4, color=colour)
        _count_tokens(axes, budgets)
        # The largest budget is in the picture even where no search used it up.
        axes.set_xlim(right=max(axes.get_xlim()[1], 1.05 * budgets[-1]))
        axes.set_title(algo, fontsize="medium")
    panels[0].set_ylabel("accuracy (%), 95% interval")
    at_budgets = {entry.search for entry in entries if entry.budget is not None}
    for search, colour in colours.items():
        panels[0].plot([], [], "o-" if search in at_budgets else "--", color=colour, label=search)
    figure.legend(loc="outside right upper", fontsize="small")
    return _save(figure, path)


def plot_training(metrics: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], path: Path) -> Path | None:
    """Draw smoothed training curves.

    Args:
        metrics: for each algorithm, the metrics of each of its runs, one mapping a step.
        path: where to write.

    Returns:
        ``path``, or None when there is nothing to draw.
    """
    if not metrics:
        return None
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(2, 2).flat, _PANELS.items(), strict=True):
        for k, runs in enumerate(metrics.values()):
            for rows in runs:
                for name, style in names.items():
                    points = np.array([(row["step"], row[name]) for row in rows if row.get(name) is not None])
                    if len(points) > 1:
                        axes.plot(points[:, 0], _smooth(points[:, 1]), style, color=_colour(k), linewidth=1)
        if title.startswith("explained variance"):
            # Early values lie far below -1 and would hide the rest.
            axes.set_ylim(max(axes.get_ylim()[0], -1), 1)
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("step")
    for k, algo in enumerate(metrics):
        axes.plot([], [], color=_colour(k), label=algo)
    figure.legend(loc="outside right upper", fontsize="small")
    return _save(figure, path)


def _colour(number: int) -> tuple[float, ...]:
    """Return one of the ten usual colours, then of their pale sisters; further lines begin again."""
    pale, hue = divmod(number % 20, 10)
    return matplotlib.colormaps["tab20"](2 * hue + pale)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Return the running mean over a twentieth of the curve, narrower at its ends."""
    half = max(len(values) // 40, 1)
    total = np.concatenate([[0.0], np.cumsum(values)])
    start = np.maximum(np.arange(len(values)) - half, 0)
    end = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (total[end] - total[start]) / (end - start)


def _label(entry: Entry, entries: Sequence[Entry]) -> str:
    """Name an algorithm, with its environment and split where several are shown."""
    several = len({(other.env, other.split) for other in entries}) > 1
    return f"{entry.algo}\n{entry.env} {entry.split}" if several else entry.algo


def _points(entries: Sequence[Entry]) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracies, [N], and how far their intervals reach below and above, [2, N], in percent; 0 without one."""
    accuracies = np.array([100 * entry.accuracy for entry in entries])
    low, high = 100 * np.array([entry.interval or (entry.accuracy, entry.accuracy) for entry in entries]).T
    return accuracies, np.maximum([accuracies - low, high - accuracies], 0)


def _count_tokens(axes: Axes, ticks: Sequence[float]) -> None:
    """Make the horizontal axis one of generated tokens, logarithmic, with plain numbers at ``ticks``."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(ticks)
    axes.set_xlabel("tokens generated for a task")


def legible(ticks: Sequence[float]) -> list[float]:
    """Return positive numbers in order, without those whose labels would cover one another on a logarithmic axis."""
    kept: list[float] = []
    for tick in sorted(ticks):
        if not kept or tick / kept[-1] > (max(ticks) / min(ticks)) ** _TICK_WIDTH:
            kept.append(tick)
    return kept


def _save(figure: Figure, path: Path) -> Path:
    with matplotlib.rc_context({"savefig.dpi": 110}):
        figure.savefig(path)
    return path
