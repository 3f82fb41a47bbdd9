"""Pictures of training: losses, what a value knows, entropy; accuracy on the way is in ``curve_plots``.

Knows: names of metrics, matplotlib. Does not know: where they were logged.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from oreo_agents.evaluation.plots import Hue, save
from oreo_agents.evaluation.styles import Line, shades

Rows = Sequence[Mapping[str, float]]

# One panel each: title, and the metrics in it with their line styles.
_EXPLAINED = "explained variance of V"
_SHARED: dict[str, dict[str, Line]] = {
    _EXPLAINED: {"train/bellman/explained_variance": "-"},
    "V before the end token: right (solid), wrong (dashed)": {
        "train/values/terminal_pos": "-",
        "train/values/terminal_neg": "--",
    },
    "entropy of the policy (nats)": {"train/entropy": "-"},
}
_LOSS = "train/loss"
_POLICY_LOSS = "train/losses/policy"
_COLUMNS = 3
_START = "sft"


def plot_training(metrics: Mapping[str, Sequence[Rows]], path: Path, about: str = "") -> Path | None:
    """Draw training curves: running means, and what they are of faintly behind them.

    Losses of two algorithms are of different things, so each algorithm has a panel of its own. What several share is
    drawn over the share of each training, for a start of a thousand steps would leave a line of twenty beside it
    nothing of the picture. Steps in which the value alone learns are shaded.

    Args:
        metrics: for each row of results, named by its algorithm and settings, the metrics of each of its runs, one
            mapping a step.
        path: where to write.
        about: of which seeds the runs are, for the title.

    Returns:
        ``path``, or None when there is nothing to draw.
    """
    metrics = {row: runs for row, runs in metrics.items() if any(len(rows) > 1 for rows in runs)}
    panels = [panel for panel in _panels(metrics) if panel[2]]
    if not panels:
        return None
    columns = min(_COLUMNS, len(panels))
    height = -(-len(panels) // columns)
    figure = Figure(figsize=(4 * columns + 2, 2.9 * height + 0.6), layout="constrained")
    drawn, hues = figure.subplots(height, columns, squeeze=False).ravel(), shades(metrics)
    for axes, (title, names, of) in zip(drawn, panels, strict=False):
        together = len({_algorithm(row) for row in of}) > 1
        if together:
            of = {row: [_in_percent(rows) for rows in runs] for row, runs in of.items()}
        for row, runs in of.items():
            for rows in runs:
                for name, style in names.items():
                    _draw(axes, rows, name, style, hues[row], faint=len(of) == len(runs) == len(names) == 1)
        if together and _START in of:
            _fit_to_others(axes, hues[_START])
        if title == _EXPLAINED:
            # Early values lie far below -1 and would hide the rest.
            axes.set_ylim(max(axes.get_ylim()[0], -1), 1)
        _shade_warmup(axes, [rows for runs in of.values() for rows in runs])
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("% of the steps" if together else "step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    for axes in drawn[len(panels) :]:
        axes.set_axis_off()
    for row, runs in metrics.items():
        figure.axes[0].plot(
            [], [], color=hues[row], label=fill(row if len(runs) == 1 else f"{row}, {len(runs)} runs", 45)
        )
    figure.legend(loc="outside right upper", fontsize="small")
    what = "running means weighted by tokens (explained variance: medians); shaded: V alone learns"
    figure.suptitle(f"Training{about and f', {about}'}: {what}", fontsize="medium")
    return save(figure, path)


def _panels(metrics: Mapping[str, Sequence[Rows]]) -> Iterator[tuple[str, dict[str, Line], dict[str, Sequence[Rows]]]]:
    """Yield titles, metrics with their lines, and the rows that have logged any of them."""

    def having(names: Iterable[str], rows_of: Iterable[str]) -> dict[str, Sequence[Rows]]:
        return {row: metrics[row] for row in rows_of if _logged(metrics[row], names)}

    for title, names in _SHARED.items():
        yield title, names, having(names, metrics)
    for algo in dict.fromkeys(map(_algorithm, metrics)):
        own = [row for row in metrics if _algorithm(row) == algo]
        yield f"loss of {algo}", {_LOSS: "-"}, having([_LOSS], own)


def _fit_to_others(axes: Axes, start: Hue) -> None:
    """Let those that come after the start fill the panel: it comes from far away, and its end alone has to be seen."""
    drawn = [(np.asarray(line.get_ydata(), dtype=float), line.get_color() == start) for line in axes.lines]
    values = np.concatenate([each[-1:] if of_start else each for each, of_start in drawn])
    margin = 0.05 * float(np.ptp(values)) or 0.05
    axes.set_ylim(values.min() - margin, values.max() + margin)


def _algorithm(row: str) -> str:
    return row.partition(" ")[0]


def _in_percent(rows: Rows) -> Rows:
    """Count steps in percent of the last."""
    last = max((row["step"] for row in rows), default=0) or 1
    return [{**row, "step": 100 * row["step"] / last} for row in rows]


def _logged(runs: Sequence[Rows], names: Iterable[str]) -> bool:
    """Whether some run has a curve of two points or more."""
    return any(sum(row.get(name) is not None for row in rows) > 1 for name in names for rows in runs)


def _draw(axes: Axes, rows: Rows, name: str, style: Line, hue: Hue, *, faint: bool) -> None:
    logged = zip(rows, _weights(rows), strict=True)
    known = [(row["step"], row[name], weight) for row, weight in logged if row.get(name) is not None]
    if len(known) < 2:
        return
    steps, values, weights = np.array(known, dtype=float).T
    if faint:
        axes.plot(steps, values, color=hue, alpha=0.2, linewidth=0.8)
    curve = _medians(values) if name in _SHARED[_EXPLAINED] else smooth(values, weights)
    axes.plot(steps, curve, linestyle=style, color=hue, linewidth=1.2)


def _weights(rows: Rows) -> list[float]:
    """Return the tokens of each step, so that a last batch of few examples counts as few; 1 where nothing tells."""
    totals = [row.get("train/num_tokens") for row in rows]
    known = [total for total in totals if total is not None]
    if len(known) < len(totals) or not known:
        return [1.0] * len(rows)
    return [max(after - before, 1e-9) for before, after in zip([0.0, *known], known, strict=False)]


def smooth(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted running mean over a twentieth of the curve, but no less than three of its points."""
    start, end = _windows(len(values))
    total, mass = (np.concatenate([[0.0], np.cumsum(part)]) for part in (values * weights, weights))
    return (total[end] - total[start]) / (mass[end] - mass[start])


def _medians(values: np.ndarray) -> np.ndarray:
    """Return running medians: a batch without a success has a ratio far from all others, and would be all of a mean."""
    return np.array([np.median(values[start:end]) for start, end in zip(*_windows(len(values)), strict=True)])


def _windows(count: int) -> tuple[np.ndarray, np.ndarray]:
    half = max(count // 40, 1)
    return np.maximum(np.arange(count) - half, 0), np.minimum(np.arange(count) + half + 1, count)


def _shade_warmup(axes: Axes, runs: Sequence[Rows]) -> None:
    """Shade the steps before the policy has a loss, of the run that waits longest, where all begin later."""
    waits = [next((k for k, row in enumerate(rows) if row.get(_POLICY_LOSS) is not None), 0) for rows in runs]
    if min(waits, default=0) > 0:
        ends = [(rows[k - 1]["step"] + rows[k]["step"]) / 2 for rows, k in zip(runs, waits, strict=True)]
        axes.axvspan(0, max(ends), color="0.5", alpha=0.15, linewidth=0)
