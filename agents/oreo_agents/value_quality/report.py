"""The figures of a value as a folder: ``value.json``, ``report.md``, ``plots/``, ``value.html``, and tables to print.

Knows: which figure stands where. Does not know: how samples and figures were made.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from oreo_agents.evaluation.formats import markdown
from oreo_agents.terminal import Terminal
from oreo_agents.value_quality.figures import PLACES, Figure, Reading
from oreo_agents.value_quality.page import value_page
from oreo_agents.value_quality.plots import draw_plots
from oreo_algos.storage.atomic import replace_folder, write_text
from oreo_envs.visible import inline_markdown

# Columns of the table by place: heading, and first part of the names of their figures.
_COLUMNS = {
    "AUC": "auc",
    "within-question ordering": "ordering",
    "ECE": "ece",
    "Brier": "brier",
    "explained variance": "explained_variance",
}
_OTHERS = {
    "bellman/one_step": "Bellman residual, one step, mean absolute",
    "bellman/path": "Bellman residual, to the end, mean absolute",
    "steps/explicit_auc": "right and wrong steps told apart by V after - V before (AUC)",
    "steps/explicit_auc_within_episodes": "the same, within episodes",
    "steps/implicit_auc": "right and wrong steps told apart by beta l (AUC)",
    "steps/implicit_auc_within_episodes": "the same, within episodes",
    "localisation/explicit": "first wrong step has the lowest V after - V before (share)",
    "localisation/implicit": "first wrong step has the lowest beta l (share)",
    "localisation/chance": "the same for a step chosen at random",
}


def tables(figures: Mapping[str, Figure]) -> list[Table]:
    """Return the figures as two tables: those of states by place, and the others."""
    by_place = Table(title="V by share of the steps done, 95% intervals over questions")
    by_place.add_column("place")
    for heading in _COLUMNS:
        by_place.add_column(heading, justify="right")
    for place in PLACES:
        by_place.add_row(place, *(_number(figures[f"{name}/{place}"]) for name in _COLUMNS.values()))
    others = Table(title="Bellman equation and steps")
    others.add_column("figure")
    others.add_column("value", justify="right")
    for name, heading in _OTHERS.items():
        if name in figures:
            others.add_row(heading, _number(figures[name]))
    return [by_place, others]


def notes(readings: Sequence[Reading], figures: Mapping[str, Figure], *, referred: bool) -> list[str]:
    """Say what a reader must know to read the figures right; ``referred``: there was a reference."""
    said = []
    outcomes = {reading.episode.success for reading in readings}
    if len(outcomes) < 2:
        said.append(
            f"all {len(readings)} samples are {'right' if outcomes == {True} else 'wrong'}, so V has nothing to tell "
            "apart: take harder or easier tasks, another policy, or more samples"
        )
    for reason in dict.fromkeys(figure.reason for figure in figures.values() if figure.reason):
        names = [name for name, figure in figures.items() if figure.reason == reason]
        said.append(f"undefined, for {reason}: {', '.join(names)}")
    if not referred:
        said.append("no reference.path: log-ratios count as 0 in targets and residuals, and no implicit advantages")
    if all(reading.right is None for reading in readings):
        said.append("this environment cannot tell which steps are right: no figures of steps")
    cut_off = sum(reading.episode.truncated for reading in readings)
    if cut_off:
        said.append(f"{cut_off} samples were cut off by a limit: V at their end is read before their last token")
    return said


def write_report(
    folder: Path, facts: Mapping[str, Any], figures: Mapping[str, Figure], readings: Sequence[Reading]
) -> dict[str, Any]:
    """Write everything, ``value.json`` last, and print the tables.

    Args:
        folder: of the run.
        facts: how the figures came about, and the statistics of the samples.
        figures: by name, see ``figures.measure``.
        readings: what they were taken of.

    Returns:
        What ``value.json`` holds: the facts, notes and figures.
    """
    document = {
        **facts,
        "notes": notes(readings, figures, referred=facts["reference"] is not None),
        "figures": {name: _plain(figure) for name, figure in figures.items()},
    }
    shown = {name: str(document[name]) for name in ("policy", "value", "reference", "env", "split", "temperature")}
    shown["samples"] = (
        f"{document['episodes']} of {document['tasks']} questions, {100 * document['success_rate']:.1f}% right, "
        f"{document['mixed_tasks']} questions with both outcomes"
    )
    with replace_folder(folder / "plots") as temporary:
        plots = [path.name for path in draw_plots(readings, figures, temporary)]
    beta = None if document["reference"] is None else document["beta"]
    write_text(folder / "value.html", value_page(readings, facts=shown, beta=beta))
    console = Terminal(width=max(Terminal().width, 120))
    console.print(f"samples: {shown['samples']}")
    text = [
        "# How good the value is\n",
        "".join(f"- {name}: {inline_markdown(what)}\n" for name, what in shown.items()),
    ]
    for table in tables(figures):
        console.print(table)
        text.append(markdown(table))
    for note in document["notes"]:
        console.print(f"note: {note}")
        text.append(f"Note: {inline_markdown(note)}\n")
    text += [f"![{name}](plots/{name})\n" for name in plots]
    text += ["Episodes, each step coloured by its advantage: [value.html](value.html)\n"]
    write_text(folder / "report.md", "\n".join(text))
    write_text(folder / "value.json", json.dumps(document, indent=2, allow_nan=False) + "\n")
    console.print(f"report: {folder / 'report.md'}, steps in colour: {folder / 'value.html'}")
    return document


def _plain(figure: Figure) -> dict[str, Any]:
    """Return a figure as JSON: always a value, of the rest only what there is."""
    found = dataclasses.asdict(figure)
    return {name: found[name] for name in found if name == "value" or found[name] is not None}


def _number(figure: Figure) -> str:
    if figure.value is None:
        return "undefined"
    interval = "" if figure.low is None else f" [{figure.low:.3f}, {figure.high:.3f}]"
    return f"{figure.value:.3f}{interval}"
