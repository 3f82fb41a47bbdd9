"""Run folders to tables, files and plots.

Knows: what stands in a report. Does not know: how results came about, what is compared, how to draw.
Every interval and test is of ``statistics``, from answers by run and task.
"""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from oreo_agents.episodes.ungraded import WHY
from oreo_agents.evaluation.comparisons import Pair, comparison_pairs, comparison_tables
from oreo_agents.evaluation.examples import example_section
from oreo_agents.evaluation.failed_jobs import failed_table, load_failed
from oreo_agents.evaluation.formats import as_json, comma_separated, latex, markdown
from oreo_agents.evaluation.pair_tables import JUDGES, pair_tables
from oreo_agents.evaluation.records import entry_record, pair_record
from oreo_agents.evaluation.report_arguments import FORMATS, parser
from oreo_agents.evaluation.results import Entry, find_results, load_entries
from oreo_agents.evaluation.run_settings import load_held_out, load_skipped
from oreo_agents.evaluation.tables import accuracy_tables, choice_tables, kind_tables, refusal_tables, win_tables
from oreo_agents.terminal import Terminal
from oreo_algos.storage.atomic import write_text
from oreo_algos.training.metrics_writer import FILE_NAME, read_metrics
from oreo_algos.training.warning_log import FILE_NAME as WARNINGS_NAME
from oreo_algos.training.warning_log import Finding, read_warnings
from oreo_envs.visible import inline_markdown, visible

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> None:
    """``oreo report DIR...``: write the tables and the plots of these folders, and print the tables."""
    given = parser().parse_args(arguments)
    out = given.out or (given.folders[0] if len(given.folders) == 1 else Path("report"))
    left_out = report(
        given.folders,
        out,
        base=given.base,
        group_by=given.group_by,
        over=given.over,
        dev=given.dev,
        formats=given.format,
    )
    if left_out:
        for why in left_out:
            print(f"oreo: left out: {visible(why)}", file=sys.stderr)
        raise SystemExit(1)


def report(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    base: str | None = None,
    group_by: Sequence[str] | None = None,
    over: Sequence[str] = (),
    dev: str = "dev",
    formats: Sequence[str] = ("markdown",),
    quiet: bool = False,
) -> list[str]:
    """Write ``report.md`` for all runs under ``folders`` to ``out``, ``plots/`` if need be, and print the tables.

    What cannot be read of several folders or runs is left out, and said in the report.

    Args:
        folders: of runs, or of folders of runs.
        out: where to write.
        base: see ``comparison_pairs``.
        group_by: see ``load_entries``.
        over: see ``load_entries``.
        dev: split that chooses settings.
        formats: among ``FORMATS``: which files to write.
        quiet: print one line in place of the tables.

    Returns:
        What was left out, a sentence each.

    Raises:
        FileNotFoundError: no ``results.json`` below any of the folders.
        ValueError: there is no such base or setting, or nothing can be read.
    """
    out, found = Path(out).expanduser(), [Path(folder).expanduser() for folder in folders]
    runs, left_out = _runs_of(found)

    def load(runs: Sequence[Path], **how: Any) -> list[list[Entry]]:
        return [load_entries(runs, rows=rows, **how) for rows in ("results", "pairs")]

    try:
        entries, pairs = load(runs, group_by=group_by, over=over)
    except ValueError:
        damaged = {path: why for path in runs if (why := _refused(partial(load, [path]))) is not None}
        if len(damaged) in (0, len(runs)):
            raise
        runs = [path for path in runs if path not in damaged]
        left_out += damaged.values()
        entries, pairs = load(runs, group_by=group_by, over=over)
    base_of_tasks, base_of_pairs = _bases(entries, pairs, base)
    tables = [
        *accuracy_tables(entries),
        *kind_tables(entries),
        *refusal_tables(entries),
        *comparison_tables(entries, base_of_tasks),
        *win_tables(entries, dev),
        *choice_tables(entries, dev),
        *pair_tables(pairs),
        *comparison_tables(pairs, base_of_pairs, JUDGES),
    ]
    if failed := load_failed(found):
        tables.append(failed_table(failed))
    out.mkdir(parents=True, exist_ok=True)
    (out / "plots").mkdir(exist_ok=True)
    metrics, unread = _metrics([*entries, *pairs])
    left_out += unread
    plots = _draw(entries, [*entries, *pairs], metrics, out / "plots")
    if not plots:
        with suppress(OSError):  # somebody keeps other pictures there
            (out / "plots").rmdir()
    compared = comparison_pairs(entries, base_of_tasks) + comparison_pairs(pairs, base_of_pairs, JUDGES)
    told = [(pair, record) for pair in compared if (record := pair_record(pair)) is not None]
    records = [record for _, record in told]
    notes = [f"left out: {why}" for why in left_out] + _notes([*entries, *pairs], runs) + _disagreements(told)
    warnings = _grouped(_warnings(runs))
    console = Terminal(width=max(Terminal().width, 120), quiet=quiet)
    for table in tables:
        console.print(table)
    if notes:
        console.print(*notes, sep="\n")
    if warnings:
        console.print("Warnings", *warnings, sep="\n")
    if "markdown" in formats:
        text = [
            "# Report\n",
            f"Runs: {', '.join(inline_markdown(str(path.parent)) for path in runs)}\n",
            *map(markdown, tables),
        ]
        text += [f"{inline_markdown(note)}\n" for note in notes]
        if warnings:
            text.append("## Warnings\n\n" + "".join(f"- {inline_markdown(warning)}\n" for warning in warnings))
        if examples := example_section(entries):
            text.append(examples)
        text += [f"![{path.stem}](plots/{path.name})\n" for path in plots]
        write_text(out / "report.md", "\n".join(text))
    rows = [entry_record(entry) for entry in entries]
    ranked = [entry_record(entry) | {"margin": entry.mean("margin"), "beta": entry.mean("beta")} for entry in pairs]
    if "csv" in formats:
        write_text(out / "report.csv", comma_separated([*rows, *ranked]))
    if "latex" in formats:
        write_text(out / "report.tex", "\n".join(map(latex, tables)))
    if "json" in formats:
        document = {"rows": rows, "pairs": ranked, "comparisons": records, "notes": notes, "warnings": warnings}
        write_text(out / "report.json", as_json(document))
    endings = {"markdown": "md", "json": "json", "csv": "csv", "latex": "tex"}
    written = ", ".join(str(out / f"report.{endings[name]}") for name in FORMATS if name in formats)
    drawn = f", plots: {out / 'plots'}" * bool(plots)
    logged = f", curves: tensorboard --logdir {out}" * any(True for _ in out.rglob("events.out.tfevents.*"))
    Terminal(width=max(Terminal().width, 120)).print(f"report: {written}{drawn}{logged}")
    return left_out


def _runs_of(folders: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return the ``results.json`` below folders, and why there is none below some.

    Raises:
        FileNotFoundError, ValueError: there is none below any.
    """
    paths: set[Path] = set()
    refused: list[FileNotFoundError | ValueError] = []
    for folder in folders:
        try:
            paths |= {*find_results(folder)}
        except (FileNotFoundError, ValueError) as error:
            refused.append(error)
    if not paths:
        raise refused[0]
    return sorted(paths, key=_in_order), [*map(str, refused)]


def _refused(load: Callable[[], Any]) -> str | None:
    try:
        load()
    except ValueError as error:
        return str(error)
    return None


def _bases(entries: Sequence[Entry], pairs: Sequence[Entry], base: str | None) -> list[str | None]:
    """Return the base to compare tasks with, and that for pairs: each where there is such a row, or in neither."""
    kinds = [[name for entry in rows for name in (entry.algo, entry.name)] for rows in (entries, pairs)]
    return [base if base in names or not any(base in kind for kind in kinds) else None for names in kinds]


def _draw(
    entries: Sequence[Entry],
    trained: Sequence[Entry],
    metrics: Mapping[str, list[list[dict[str, float]]]],
    folder: Path,
) -> list[Path]:
    """Draw what there is to draw; pictures of an earlier report that no longer are any go."""
    # Folders that are wrong are told of before matplotlib is loaded.
    from oreo_agents.evaluation.curve_plots import plot_curves
    from oreo_agents.evaluation.plots import plot_accuracy, plot_budgets, plot_cost, plot_search, seeds_in_words
    from oreo_agents.evaluation.training_plots import plot_training

    drawn = {
        "accuracy": plot_accuracy(entries, folder / "accuracy.png"),
        "search": plot_search(entries, folder / "search.png"),
        "budgets": plot_budgets(entries, folder / "budgets.png"),
        "cost": plot_cost(entries, folder / "cost.png"),
        "training": plot_training(metrics, folder / "training.png", seeds_in_words(trained)),
        "curves": plot_curves(metrics, folder / "curves.png", seeds_in_words(trained)),
    }
    for name, path in drawn.items():
        if path is None:
            (folder / f"{name}.png").unlink(missing_ok=True)
    return [path for path in drawn.values() if path is not None]


def _notes(entries: Sequence[Entry], runs: Sequence[Path]) -> list[str]:
    """Say what the numbers do not tell."""
    notes = []
    if repeated := sum(entry.repeated for entry in entries):
        notes.append(
            f"{repeated} of the evaluations are of checkpoints that were evaluated before in the same environment: "
            "they count as the same runs, whose answers are means"
        )
    duplicates = {what: folders for entry in entries for what, folders in entry.duplicates.items()}
    for what, folders in duplicates.items():
        notes.append(
            f"{what}: trained more than once with equal settings, see {', '.join(map(str, folders))}; with a "
            "config.yaml these count as one run, whose answers are means, else as several"
        )
    if lost := sum(row.get("not_graded", 0) for entry in entries for row in entry.rows):
        notes.append(f"{lost} answers were not graded and are left out of n and of every number: {WHY}")
    notes += _chosen_taus(entries)
    told = {
        f"{name} learned from {_held_out(parts)}": None for path in runs for name, parts in load_held_out(path).items()
    }
    notes += told
    skipped = {name: reason for path in runs for name, reason in load_skipped(path).items()}
    return notes + [f"{name} was skipped: {reason}" for name, reason in skipped.items()]


def _chosen_taus(entries: Sequence[Entry]) -> list[str]:
    """Say which tau dev tasks have chosen for each search, those of several runs in turn."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for entry in entries:
        rows = [row for row in entry.rows if row.get("tau_of") is not None]
        if rows:
            taus = ", ".join(f"{tau:g}" for tau in dict.fromkeys(row["tau"] for row in rows))
            size = f" at {rows[0]['budget']} tokens" if rows[0].get("budget") is not None else ""
            rule = f"of {', '.join(f'{tau:g}' for tau in rows[0]['tau_of'])} by {rows[0]['tau_on']}"
            found.setdefault((entry.search, rule), {})[f"{taus} for {entry.name}{size}"] = None
    return [f"{search}: tau, chosen {rule}: {'; '.join(said)}" for (search, rule), said in found.items()]


def _held_out(parts: Sequence[Mapping[str, Any]]) -> str:
    """Say what was learned of held-out tasks."""
    episodes, tasks = (sum(int(part[name]) for part in parts) for name in ("episodes", "tasks"))
    splits = ", ".join(dict.fromkeys(split for part in parts for split in part["splits"]))
    return (
        f"{episodes} episodes of {tasks} held-out tasks (split {splits}, such as {parts[0]['example']}; "
        "allow_held_out=true): what it does on these measures nothing"
    )


def _disagreements(comparisons: Sequence[tuple[Pair, Mapping[str, Any]]]) -> list[str]:
    """Say why an interval and a p-value that stand beside each other need not agree, where they do not."""
    apart = [pair for pair, one in comparisons if (one["low"] > 0 or one["high"] < 0) != (one["p"] < 0.05)]
    if not apart:
        return []
    named = "; ".join(pair.whole_label for pair in apart[:3])
    return [
        f"{named}{'; ...' * (len(apart) > 3)}: the 95% interval and p disagree about whether this difference is "
        "significant. With one run they are computed by two different methods (Agresti and Min's approximate interval, "
        "McNemar's exact test), and close to p = 0.05 these can differ: treat it as undecided, and train more seeds"
    ]


def _grouped(found: Sequence[tuple[str, str, Finding]]) -> list[str]:
    """Write warnings, those of one name and algorithm in several runs as one, with the first one's text."""
    groups: dict[tuple[str, str], list[tuple[str, Finding]]] = {}
    for run, algo, finding in found:
        groups.setdefault((algo, finding.name), []).append((run, finding))
    lines = []
    for (algo, name), several in groups.items():
        (run, finding), *others = several
        where = f"{run}/{algo}" if run else algo
        also = f" and {len(others)} other run{'s' * (len(others) > 1)}" if others else ""
        lines.append(f"{where}{also}: {name}: {finding.text}")
    return lines


def _in_order(path: Path) -> list[tuple[float, str]]:
    """Order paths as people do: job 2 of a sweep before job 10."""
    return [(float(part) if part.isdecimal() else -1.0, part) for part in path.parts]


def _metrics(entries: Sequence[Entry]) -> tuple[dict[str, list[list[dict[str, float]]]], list[str]]:
    """Read the metrics of every run of every row; say of which they cannot be read."""
    found: dict[str, dict[Path, list[dict[str, float]]]] = {}
    unread: dict[str, None] = {}
    for entry in entries:
        for folder in [each.path.parent / entry.name for each, _ in entry.evaluations]:
            if (folder / FILE_NAME).exists() and folder not in found.setdefault(entry.algo, {}):
                try:
                    found[entry.algo][folder] = read_metrics(folder)
                except ValueError as error:
                    unread[str(error)] = None
    return {row: list(runs.values()) for row, runs in found.items()}, [*unread]


def _warnings(runs: Sequence[Path]) -> list[tuple[str, str, Finding]]:
    """Read the warnings of every run: its name where there are several, what it is about, and each."""
    found = []
    for results in runs:
        run = results.parent
        name = "" if len(runs) == 1 else run.name
        for file in [run / WARNINGS_NAME, *sorted(run.glob(f"*/{WARNINGS_NAME}"))]:
            about = "episodes" if file.parent == run else file.parent.name
            found += [(name, about, finding) for finding in read_warnings(file.parent)]
    return found
