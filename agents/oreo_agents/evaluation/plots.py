"""Pictures of results: accuracy with intervals, and against generated tokens, budgets and processor time.

Knows: matplotlib. Does not know: where results come from. Colours are algorithms, markers are searches, everywhere;
every point has its 95% interval, every picture says of which tasks and seeds it is.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter, ScalarFormatter

from oreo_agents.evaluation.results import Entry
from oreo_agents.evaluation.round_names import split_round
from oreo_agents.evaluation.styles import DPI, colour, legible, line, marker, shades, tone
from oreo_agents.evaluation.tables import places
from oreo_algos.storage.atomic import replace_file

Hue = str | tuple[float, float, float]

# A name of more characters is broken into lines.
_WIDE = 45

# Two numbers of tokens that differ less are one place on an axis.
_ONE_PLACE = 1.5


def plot_accuracy(entries: Sequence[Entry], path: Path) -> Path | None:
    """Draw the accuracy of each algorithm and search with its 95% interval as dots, the best above.

    A search at several budgets is a curve, see ``plot_budgets``. Returns None without entries.
    """
    entries = [entry for entry in entries if entry.budget is None]
    if not entries:
        return None
    panels = _panels(entries)
    labels = [list(dict.fromkeys(entry.algo for entry in found)) for found in panels.values()]
    searches = list(dict.fromkeys(entry.search for entry in entries))
    step = max(0.32, 0.17 * len(searches))
    heights = [step * len(own) + 1.0 for own in labels]
    figure = Figure(figsize=(8, sum(heights) + 0.4), layout="constrained")
    drawn = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (place, found) in zip(drawn, panels.items(), strict=True):
        order = _sorted(found)
        for k, search in enumerate(searches):
            aside = (k - (len(searches) - 1) / 2) * 0.7 / len(searches)
            for entry in found:
                if entry.search == search:
                    _dot(axes, entry, order.index(entry.algo) + aside, colour(entry.name), vertical=True)
        axes.set_yticks(range(len(order)), [fill(row, _WIDE) for row in order], fontsize=_fitting(order))
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.set_xlim(0, 100)
        axes.set_xlabel("accuracy (%)")
        axes.grid(axis="x", alpha=0.3)
        _title(axes, f"Accuracy on {place[0]}, split {place[1]}", found)
    _legend_of_searches(figure, searches)
    return save(figure, path)


def plot_search(entries: Sequence[Entry], path: Path) -> Path | None:
    """Draw accuracy against the tokens generated for a task.

    Returns:
        None unless searches generated numbers of tokens at three places or more: with two, a picture of accuracy says
        as much.
    """
    entries = [entry for entry in entries if entry.budget is None and entry.mean("tokens_per_task")]
    tokens = sorted(_tokens(entry) for entry in entries)
    if sum(b / a > _ONE_PLACE for a, b in pairwise(tokens)) < 2 or len({entry.search for entry in entries}) < 2:
        return None
    panels, hues = _panels(entries), shades(entry.algo for entry in entries)
    # Rows that generated equally much would hide one another.
    aside = {algo: 1 + 0.02 * (k - (len(hues) - 1) / 2) for k, algo in enumerate(hues)}
    figure = Figure(figsize=(9, 4 * len(panels)), layout="constrained")
    for axes, (place, found) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True):
        for entry in found:
            _dot(axes, entry, _tokens(entry) * aside[entry.algo], hues[entry.algo])
        _token_axis(axes, [round(_tokens(entry)) for entry in found])
        axes.set_ylim(bottom=0)
        axes.set_ylabel("accuracy (%)")
        _title(axes, f"Accuracy and generated tokens on {place[0]}, split {place[1]}", found)
    _legend_of_rows(figure, hues)
    _legend_of_searches(figure, list(dict.fromkeys(entry.search for entry in entries)))
    return save(figure, path)


def plot_budgets(entries: Sequence[Entry], path: Path) -> Path | None:
    """Draw accuracy with its 95% interval against the tokens that were generated, one line a search.

    Each algorithm has a panel. A search without a size, such as greedy decoding, has one accuracy whatever the budget:
    a broken line across the panel, its interval a band.

    Returns:
        ``path``, or None when nothing was evaluated at a budget.
    """
    budgets = sorted({entry.budget for entry in entries if entry.budget is not None})
    if not budgets:
        return None
    by_algo: defaultdict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.mean("tokens_per_task"):
            by_algo[entry.env, entry.split, entry.algo].append(entry)
    searches = list(dict.fromkeys(entry.search for entry in entries))
    columns = min(3, len(by_algo))
    height = -(-len(by_algo) // columns)
    figure = Figure(figsize=(1.8 + 4.2 * columns, 4.2 * height), layout="constrained")
    panels = figure.subplots(height, columns, sharey=True, squeeze=False).ravel()
    for axes, ((env, split, algo), found) in zip(panels, by_algo.items(), strict=False):
        for k, search in enumerate(searches):
            hue = tone(found[0].name, k, len(searches))
            for entry in found:
                if entry.search == search and entry.budget is None:
                    axes.axhline(100 * entry.accuracy, color=hue, linestyle=line(k + 1), linewidth=1)
                    low, high = entry.interval or (entry.accuracy, entry.accuracy)
                    axes.axhspan(100 * low, 100 * high, color=hue, alpha=0.1, linewidth=0)
            curve = sorted((e for e in found if e.search == search and e.budget is not None), key=_tokens)
            if curve:
                style: dict[str, Any] = {
                    "marker": marker(search),
                    "capsize": 2,
                    "markersize": 5,
                    "elinewidth": 0.7,
                    "color": hue,
                }
                axes.errorbar([_tokens(entry) for entry in curve], *_points(curve), **style)
        _token_axis(axes, budgets)
        # The largest budget is in the picture even where no search used it up.
        axes.set_xlim(right=max(axes.get_xlim()[1], 1.05 * budgets[-1]))
        _title(axes, f"{algo}\n{env}, split {split}", found)
    for axes in panels[len(by_algo) :]:
        axes.set_axis_off()
    for axes in panels[::columns]:
        axes.set_ylabel("accuracy (%)")
    at_budgets = {entry.search for entry in entries if entry.budget is not None}
    for k, search in enumerate(searches):
        style = {"marker": marker(search)} if search in at_budgets else {"linestyle": line(k + 1)}
        panels[0].plot([], [], color=str(0.8 * k / max(len(searches) - 1, 1)), label=search, **style)
    figure.legend(loc="outside right upper", fontsize="small")
    return save(figure, path)


def plot_cost(entries: Sequence[Entry], path: Path) -> Path | None:
    """Draw greedy accuracy against processor minutes of a row's own training, rounds of an algorithm joined by a line.

    Returns:
        None unless two entries or more tell what their training took.
    """
    entries = [entry for entry in entries if entry.search == "greedy" and entry.cpu_minutes]
    panels = {place: found for place, found in _panels(entries).items() if len(found) > 1}
    if not panels:
        return None
    hues = shades(entry.algo for found in panels.values() for entry in found)
    figure = Figure(figsize=(9, 4 * len(panels)), layout="constrained")
    for axes, (place, found) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True):
        rounds: defaultdict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in found:
            _dot(axes, entry, _minutes(entry), hues[entry.algo])
            rounds[split_round(entry.name)[0], " ".join(entry.texts.values())].append(entry)
        for (name, _), several in rounds.items():
            several.sort(key=_minutes)
            axes.plot([_minutes(e) for e in several], [100 * e.accuracy for e in several], color=colour(name), lw=1)
        minutes = [_minutes(entry) for entry in found]
        if max(minutes) > 20 * min(minutes):
            axes.set_xscale("log")
        else:
            axes.set_xlim(0, 1.1 * max(minutes))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_ylim(bottom=0)
        start = "; sft is the start, which all others come after" * any(entry.name == "sft" for entry in found)
        axes.set_xlabel(f"processor minutes of a row's own training{start}")
        axes.set_ylabel("accuracy (%), greedy")
        axes.grid(alpha=0.3)
        _title(axes, f"Accuracy and cost of training on {place[0]}, split {place[1]}", found)
    _legend_of_rows(figure, hues)
    return save(figure, path)


def _panels(entries: Sequence[Entry]) -> dict[tuple[str, str], list[Entry]]:
    """Return the entries of each environment and split."""
    return {place: [e for e in entries if (e.env, e.split) == place] for place in places(entries)}


def _sorted(entries: Sequence[Entry]) -> list[str]:
    """Return the rows, the best first: by greedy decoding where there is any, else by the best search."""
    rows: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        rows[entry.algo].append(entry)
    greedy = any(entry.search == "greedy" for entry in entries)

    def best(algo: str) -> float:
        return max((e.accuracy for e in rows[algo] if e.search == "greedy" or not greedy), default=-1.0)

    return sorted(rows, key=best, reverse=True)


def _dot(axes: Axes, entry: Entry, place: float, hue: Hue, *, vertical: bool = False) -> None:
    """Draw an entry with its interval; ``place`` is where, along the axis that is not accuracy."""
    [accuracy], ends = _points([entry])
    style: dict[str, Any] = {"fmt": marker(entry.search), "color": hue, "capsize": 2, "markersize": 6}
    style |= {"markerfacecolor": "white"} if entry.interval is None else {}
    if vertical:
        axes.errorbar([accuracy], [place], xerr=ends, **style)
    else:
        axes.errorbar([place], [accuracy], yerr=ends, **style)


def _points(entries: Sequence[Entry]) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracies, [N], and how far their intervals reach below and above, [2, N], in percent; 0 without one."""
    accuracies = np.array([100 * entry.accuracy for entry in entries])
    low, high = 100 * np.array([entry.interval or (entry.accuracy, entry.accuracy) for entry in entries]).T
    return accuracies, np.maximum([accuracies - low, high - accuracies], 0)


def _title(axes: Axes, text: str, entries: Sequence[Entry]) -> None:
    """Write what is shown, of how many answers and of which seeds."""
    counts = sorted({sum(row["n"] for row in entry.rows) for entry in entries})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    uneven = ", not all of each row" if len({tuple(entry.seeds) for entry in entries}) > 1 else ""
    hollow = "; white: no interval, items missing" if any(entry.interval is None for entry in entries) else ""
    axes.set_title(f"{text}\n{n} a row, {seeds_in_words(entries)}{uneven}; 95% intervals{hollow}", fontsize="medium")


def seeds_in_words(entries: Sequence[Entry]) -> str:
    """Write the seeds of entries."""
    seeds = sorted({seed for entry in entries for seed in entry.seeds})
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def _legend_of_searches(figure: Figure, searches: Sequence[str]) -> None:
    if len(searches) > 1:
        handles = [_handle(marker(search), "0.35", search) for search in searches]
        legend_below(figure, handles)


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """Write a legend under the axes, in as few lines as its labels have room for."""
    for columns in range(min(len(handles), 5), 0, -1):
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize="small")
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def _legend_of_rows(figure: Figure, hues: Mapping[str, Hue]) -> None:
    handles = [_handle("s", hue, row) for row, hue in hues.items()]
    figure.legend(handles=handles, loc="outside right upper", fontsize="small")


def _fitting(rows: Sequence[str]) -> str:
    """Return the size of names: small where they take more than a line."""
    return "x-small" if max(map(len, rows)) > _WIDE else "medium"


def _handle(form: str, hue: Hue, label: str) -> Line2D:
    return Line2D([], [], linestyle="none", marker=form, color=hue, label=fill(label, _WIDE))


def _tokens(entry: Entry) -> float:
    return entry.mean("tokens_per_task") or 1.0


def _minutes(entry: Entry) -> float:
    return entry.cpu_minutes or 0.0


def _token_axis(axes: Axes, ticks: Sequence[float]) -> None:
    """Make the horizontal axis one of generated tokens, logarithmic, with plain numbers at ``ticks``."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(legible(ticks))
    axes.set_xlabel("tokens generated for a task")
    axes.grid(alpha=0.3)


def save(figure: Figure, path: Path) -> Path:
    """Write a picture."""
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format=path.suffix[1:])
    return path
