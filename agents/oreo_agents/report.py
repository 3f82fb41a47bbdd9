"""Run folders to one table and plots.

Knows: where a run leaves ``results.json``, items and metrics. Does not know: how they came about.
One run gives a Wilson interval over tasks; several runs of the same thing (seeds, worlds) give a t-interval over runs,
which contains the noise of training too.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

from oreo_agents.statistics import Comparison, compare_paired, seed_interval, wilson_interval
from oreo_algos.metrics import read_metrics

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_CURVES = {
    "train/loss": "loss",
    "train/bellman/explained_variance": "explained variance of V",
    "train/values/terminal_pos": "V before the end token, right",
    "train/values/terminal_neg": "V before the end token, wrong",
}


@dataclass(frozen=True)
class Entry:
    """One algorithm with one search on one split, over all runs given.

    Attributes:
        algo: name of the algorithm.
        search: name of the search.
        env: environment id.
        split: of the environment.
        rows: of ``results.json``, one a run.
        solved: by run (seed and environment options), whether each task was solved.
    """

    algo: str
    search: str
    env: str
    split: str
    rows: list[dict[str, Any]]
    solved: dict[str, list[bool]]

    @property
    def accuracy(self) -> float:
        """Mean over runs."""
        return float(np.mean([row["accuracy"] for row in self.rows]))

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the accuracy."""
        if len(self.rows) == 1:
            return wilson_interval(self.rows[0]["correct"], self.rows[0]["n"])
        return seed_interval([row["accuracy"] for row in self.rows])

    def mean(self, name: str) -> float | None:
        """Mean over runs of another number of the rows, None where there is none."""
        values = [row[name] for row in self.rows if row.get(name) is not None]
        return float(np.mean(values)) if values else None


def main(arguments: Sequence[str]) -> None:
    """``oreo report DIR...``: write the table and the plots of these folders, and print the table."""
    parser = argparse.ArgumentParser(prog="oreo report", description="One table and plots from run folders.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="run folders, or folders that hold some")
    parser.add_argument("--out", type=Path, help="where to write report.md and plots/; default: the only DIR, else .")
    options = parser.parse_args(arguments)
    out = options.out or (options.folders[0] if len(options.folders) == 1 else Path("report"))
    report(options.folders, out)


def report(folders: Sequence[Path], out: Path) -> None:
    """Write ``report.md`` and ``plots/`` for all runs under ``folders`` to ``out``, and print the tables.

    Raises:
        FileNotFoundError: no ``results.json`` below one of the folders.
    """
    runs = sorted({path for folder in folders for path in _results(folder)})
    entries = load_entries(runs)
    out.mkdir(parents=True, exist_ok=True)
    (out / "plots").mkdir(exist_ok=True)
    plots = [
        plot_accuracy(entries, out / "plots" / "accuracy.png"),
        plot_search(entries, out / "plots" / "search.png"),
        plot_training(runs, out / "plots" / "training.png"),
    ]
    tables = [*accuracy_tables(entries), *comparison_tables(entries)]
    text = ["# Report\n", f"Runs: {', '.join(str(path.parent) for path in runs)}\n"]
    console = Console(width=max(Console().width, 100))
    for table in tables:
        console.print(table)
        text.append(_markdown(table))
    text += [f"![{path.stem}](plots/{path.name})\n" for path in plots if path is not None]
    (out / "report.md").write_text("\n".join(text), encoding="utf-8")
    console.print(f"report: {out / 'report.md'}, plots: {out / 'plots'}, curves: tensorboard --logdir {out}")


def load_entries(runs: Sequence[Path]) -> list[Entry]:
    """Read ``results.json`` files and the items beside them, and group what differs only by seed or options."""
    entries: dict[tuple[str, str, str, str], Entry] = {}
    for path in runs:
        for row in json.loads(path.read_text(encoding="utf-8"))["results"]:
            key = (row["env"], row["split"], row["algo"], row["search"])
            env, split, algo, search = key
            entry = entries.setdefault(key, Entry(algo, search, env, split, [], {}))
            entry.rows.append(row)
            items = path.parent / algo / f"items-{search}.jsonl"
            if items.exists():
                run = json.dumps([row["seed"], row.get("env_options")], sort_keys=True)
                lines = items.read_text(encoding="utf-8").splitlines()
                entry.solved[run] = [json.loads(line)["correct"] for line in lines]
    return list(entries.values())


def accuracy_tables(entries: Sequence[Entry]) -> list[Table]:
    """Return a table of accuracies for each environment and split."""
    tables = []
    for env, split in dict.fromkeys((entry.env, entry.split) for entry in entries):
        table = Table(title=f"Accuracy (%) on {env}, split {split}")
        for name in ("algo", "search"):
            table.add_column(name)
        for name in ("runs", "n", "accuracy", "95% interval", "sound", "tokens/task"):
            table.add_column(name, justify="right")
        for entry in entries:
            if (entry.env, entry.split) == (env, split):
                table.add_row(*_accuracy_row(entry))
        tables.append(table)
    return tables


def _accuracy_row(entry: Entry) -> list[str]:
    low, high = entry.interval
    sound, tokens = entry.mean("sound"), entry.mean("tokens_per_task")
    return [
        entry.algo,
        entry.search,
        str(len(entry.rows)),
        str(sum(row["n"] for row in entry.rows)),
        _percent(entry.accuracy),
        f"{_percent(low)} to {_percent(high)}",
        "" if sound is None else _percent(sound),
        "" if tokens is None else f"{tokens:.0f}",
    ]


def comparison_tables(entries: Sequence[Entry]) -> list[Table]:
    """Return paired differences: OREO (else the first algorithm) to the others, and searches to majority vote."""
    tables = []
    greedy = [entry for entry in entries if entry.search == "greedy"]
    base = next((entry for entry in greedy if entry.algo == "oreo"), greedy[0] if greedy else None)
    if base is not None:
        others = [e for e in greedy if e is not base and (e.env, e.split) == (base.env, base.split)]
        pairs = [(f"{base.algo} - {other.algo}", base, other) for other in others]
        tables.append(_comparison_table("Greedy decoding, same tasks (points)", pairs))
    votes = {(e.env, e.split, e.algo): e for e in entries if e.search == "majority"}
    pairs = [
        (f"{e.algo}: {e.search} - majority", e, votes[e.env, e.split, e.algo])
        for e in entries
        if e.search not in ("majority", "greedy", "sampled") and (e.env, e.split, e.algo) in votes
    ]
    tables.append(_comparison_table("Search with the learned value, same tasks and samples (points)", pairs))
    return [table for table in tables if table.row_count]


def compare_entries(first: Entry, second: Entry) -> tuple[Comparison, list[float]] | None:
    """Compare two entries on the runs that both have; returns the pooled comparison and the difference of each run."""
    shared = [run for run in first.solved if run in second.solved]
    if not shared:
        return None
    pooled = compare_paired(
        [value for run in shared for value in first.solved[run]],
        [value for run in shared for value in second.solved[run]],
    )
    return pooled, [float(np.mean(first.solved[run]) - np.mean(second.solved[run])) for run in shared]


def _comparison_table(title: str, pairs: Sequence[tuple[str, Entry, Entry]]) -> Table:
    table = Table(title=title)
    table.add_column("comparison")
    for name in ("runs", "tasks", "difference", "95% interval", "McNemar p, pooled"):
        table.add_column(name, justify="right")
    for label, first, second in pairs:
        compared = compare_entries(first, second)
        if compared is None:
            continue
        pooled, differences = compared
        low, high = (pooled.low, pooled.high) if len(differences) == 1 else seed_interval(differences)
        table.add_row(
            label,
            str(len(differences)),
            str(pooled.n),
            f"{100 * np.mean(differences):+.1f}",
            f"{100 * low:+.1f} to {100 * high:+.1f}",
            f"{pooled.p_value:.2g}",
        )
    return table


def plot_accuracy(entries: Sequence[Entry], path: Path) -> Path | None:
    """Draw the accuracy of each algorithm and search with its interval."""
    if not entries:
        return None
    searches = list(dict.fromkeys(entry.search for entry in entries))
    labels = list(dict.fromkeys(_label(entry, entries) for entry in entries))
    figure, axes = plt.subplots(figsize=(max(6, 1.3 * len(labels)), 4), layout="constrained")
    width = 0.8 / len(searches)
    for k, search in enumerate(searches):
        shown = [entry for entry in entries if entry.search == search]
        places = [labels.index(_label(entry, entries)) + (k - (len(searches) - 1) / 2) * width for entry in shown]
        heights = [100 * entry.accuracy for entry in shown]
        bounds = [[100 * bound for bound in entry.interval] for entry in shown]
        errors = [[max(h - low, 0), max(high - h, 0)] for h, (low, high) in zip(heights, bounds, strict=True)]
        axes.bar(places, heights, width, yerr=np.array(errors).T, capsize=2, label=search)
    axes.set_xticks(range(len(labels)), labels, rotation=20, ha="right")
    axes.set_ylabel("accuracy (%), 95% interval")
    axes.set_ylim(bottom=0)
    axes.legend()
    return _save(figure, path)


def plot_search(entries: Sequence[Entry], path: Path) -> Path | None:
    """Draw accuracy against the tokens generated for a task."""
    by_algo: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.mean("tokens_per_task"):
            by_algo[_label(entry, entries)].append(entry)
    by_algo = defaultdict(list, {algo: found for algo, found in by_algo.items() if len(found) > 1})
    if not by_algo:
        return None
    markers = dict(zip(dict.fromkeys(e.search for e in entries), "osD^vP*X", strict=False))
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for k, (algo, found) in enumerate(by_algo.items()):
        for entry in found:
            axes.plot(entry.mean("tokens_per_task") or 0, 100 * entry.accuracy, markers[entry.search], color=f"C{k}")
        axes.plot([], [], color=f"C{k}", label=algo)
    for search, marker in markers.items():
        axes.plot([], [], marker, color="grey", label=search)
    axes.set_xscale("log")
    axes.set_xlabel("tokens generated for a task")
    axes.set_ylabel("accuracy (%)")
    axes.legend(fontsize="small", ncols=2)
    return _save(figure, path)


def plot_training(runs: Sequence[Path], path: Path) -> Path | None:
    """Draw the training curves of every algorithm of every run."""
    curves: defaultdict[str, list[tuple[str, list[float], list[float]]]] = defaultdict(list)
    for results in runs:
        for file in sorted(results.parent.glob("*/metrics.jsonl")):
            rows = read_metrics(file.parent)
            for name in _CURVES:
                points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
                if len(points) > 1:
                    curves[name].append((file.parent.name, [s for s, _ in points], [v for _, v in points]))
    if not curves:
        return None
    figure, grid = plt.subplots(2, 2, figsize=(10, 6), layout="constrained")
    colors: dict[str, str] = {}
    for axes, (name, title) in zip(grid.flat, _CURVES.items(), strict=True):
        for algo, steps, values in curves[name]:
            new = algo not in colors
            color = colors.setdefault(algo, f"C{len(colors)}")
            axes.plot(steps, values, color=color, alpha=0.7, linewidth=1, label=algo if new else None)
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("step")
    figure.legend(loc="outside right upper", fontsize="small")
    return _save(figure, path)


def _results(folder: Path) -> list[Path]:
    found = [folder / "results.json"] if (folder / "results.json").exists() else sorted(folder.rglob("results.json"))
    if not found:
        raise FileNotFoundError(
            f"{folder}: no results.json there or below; give folders that `oreo run`, `oreo train` or `oreo eval` wrote"
        )
    return found


def _label(entry: Entry, entries: Sequence[Entry]) -> str:
    """Name an algorithm, with its environment and split where several are shown."""
    several = len({(e.env, e.split) for e in entries}) > 1
    return f"{entry.algo}, {entry.env} {entry.split}" if several else entry.algo


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _markdown(table: Table) -> str:
    """Write a table as Markdown."""
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    header = [str(column.header) for column in table.columns]
    align = ["---:" if column.justify == "right" else "---" for column in table.columns]
    rows = [header, align, *zip(*cells, strict=True)]
    return f"## {table.title}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)
