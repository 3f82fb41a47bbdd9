"""Tables, targets and plots of the miniature worlds, from the run folders that ``miniature.py`` left.

Knows: what is compared with what, and the targets. Does not know: how a run is made.
Means are over worlds, in brackets 95% t-intervals over worlds; differences are paired by world and problem.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runs import (
    about,
    cpu_minutes,
    difference,
    entries,
    figure_interval,
    find,
    finished,
    mean_with_interval,
    percent,
    value_figures,
)

from oreo_agents.evaluation.plots import plot_accuracy, plot_budgets
from oreo_agents.evaluation.results import Entry, Evaluation
from oreo_agents.evaluation.run_settings import RowSettings
from oreo_agents.evaluation.statistics import RunKey

# Heading, and the name of the figure in value.json.
FIGURES = {
    "AUC, final": "auc/final",
    "within-question ordering, 50%": "ordering/50%",
    "within-question ordering, final": "ordering/final",
    "ECE, final": "ece/final",
    "explained variance, final": "explained_variance/final",
    "step AUC within episodes, V": "steps/explicit_auc_within_episodes",
    "step AUC within episodes, beta l": "steps/implicit_auc_within_episodes",
    "first wrong step found, V": "localisation/explicit",
    "first wrong step found, beta l": "localisation/implicit",
    "first wrong step found, chance": "localisation/chance",
}
GUIDED_SEARCHES = ("weighted_vote", "step_beam")


def write_report(out: Path, answers: Sequence[str], worlds: Sequence[int], guided: Sequence[str], results: Path) -> str:
    """Write ``report.md``, ``results.json`` and plots of all finished runs to ``results``; return the report."""
    results.mkdir(parents=True, exist_ok=True)
    parts: list[str] = ["# Miniature worlds\n"]
    document: dict[str, Any] = {"about": about()}
    for answer in answers:
        found = _Records(out, answer, worlds, guided)
        if found.algorithms:
            parts += found.lines()
            document[answer] = found.document()
            plot_accuracy(found.algorithms, results / f"accuracy-{answer}.png")
            plot_budgets(found.searches, results / f"search-{answer}.png")
    text = "\n".join(parts)
    (results / "report.md").write_text(text, encoding="utf-8")
    (results / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return text


def redraw(results: Path) -> None:
    """Draw the plots anew from the ``results.json`` of an earlier report: they need neither run folders nor items.

    A world counts as one run, with as many right answers as it had: means and intervals depend on nothing else.
    """
    document = json.loads((results / "results.json").read_text(encoding="utf-8"))
    for answer in (name for name in document if name != "about"):
        plot_accuracy(_recorded(document[answer]["algorithms"]), results / f"accuracy-{answer}.png")
        plot_budgets(_recorded(document[answer]["search"]), results / f"search-{answer}.png")


def _recorded(records: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Return the entries that ``_record`` wrote down."""
    found = []
    for record in records:
        keys = [RunKey(str(row["world"]), row["seed"]) for row in record["rows"]]
        settings = [RowSettings({}, row["seed"], whole=True) for row in record["rows"]]
        pairs = zip(keys, record["rows"], settings, strict=True)
        entry = Entry(
            record["algo"],
            record["search"],
            "oreo/Arithmetic-v0",
            "test",
            list(record["rows"]),
            {
                key: {str(k): float(k < row["correct"]) for k in range(row["n"])}
                for key, row in zip(keys, record["rows"], strict=True)
            },
            [(Evaluation(Path(), row, each), key) for key, row, each in pairs],
            budget=record["budget"],
            name=record["algo"],
        )
        found.append(entry)
    return found


class _Records:
    """What is finished of one kind of answer."""

    def __init__(self, out: Path, answer: str, worlds: Sequence[int], guided: Sequence[str]) -> None:
        """Read it."""

        def done(kind: str) -> list[Path]:
            return finished([out / f"{answer}-{world}{kind}" for world in worlds])

        self.answer = answer
        self.algorithms, self.costs = entries(done("")), cpu_minutes(done(""))
        self.rounds, self.round_costs = entries(done("-rounds")), cpu_minutes(done("-rounds"))
        self.searches = entries([folder for name in guided for folder in done(f"-search-{name}")])
        self.values = {name: [value_figures(folder) for folder in done(f"-value-{name}")] for name in guided}
        self.values = {name: figures for name, figures in self.values.items() if figures}

    def lines(self) -> Iterator[str]:
        """Yield the lines of the report."""
        yield f"## {self.answer}: algorithms, greedy decoding, {_worlds(self.algorithms)} worlds\n"
        yield from algorithm_table(self.algorithms, self.costs, ["oreo"])
        if self.values:
            count = max(map(len, self.values.values()))
            yield f"## {self.answer}: V on fresh samples at T = 1, {count} worlds\n"
            yield from value_table(self.values)
        if self.searches:
            yield f"## {self.answer}: search at equal tokens, {_worlds(self.searches)} worlds\n"
            yield from search_table(self.searches)
        if self.rounds:
            yield f"## {self.answer}: rounds, greedy decoding, {_worlds(self.rounds)} worlds\n"
            yield from algorithm_table(self.rounds, self.round_costs, ["oreo", "rejection"])
        yield f"## {self.answer}: targets\n"
        yield "| target | measured |"
        yield "|---|---|"
        yield from (f"| {target} | {measured} |" for target, measured in self.targets())
        yield ""

    def targets(self) -> Iterator[tuple[str, str]]:
        """Yield each target that something was measured for, and that."""
        oreo = find(self.algorithms, "oreo")
        for name, wanted in (
            ("rejection", "at least +5 points"),
            ("oreo-constant", "above 0: the value earns its place"),
        ):
            other = find(self.algorithms, name)
            if oreo and other:
                yield f"OREO - {name}, greedy: {wanted}", difference(oreo, other)
        for name, worlds in self.values.items():
            yield f"V, {name}: final AUC at least .9", figure_interval(worlds, "auc/final")
            yield f"V, {name}: final ordering within questions at least .85", figure_interval(worlds, "ordering/final")
        for name in dict.fromkeys(entry.algo for entry in self.searches):
            wanted = 10 if name == "sft" else 5
            for search in GUIDED_SEARCHES:
                at = [e for e in self.searches if (e.algo, e.search) == (name, search)]
                for entry in at:
                    vote = find(self.searches, name, "majority", entry.budget)
                    greedy = find(self.searches, name)
                    if vote and greedy:
                        yield (
                            f"{name}, {search}, {entry.budget} tokens: +{wanted} on majority, not below greedy",
                            f"{difference(entry, vote)} and {difference(entry, greedy)}",
                        )

    def document(self) -> dict[str, Any]:
        """Return the records as JSON."""
        return {
            "algorithms": [_record(entry) for entry in self.algorithms],
            "settings": {entry.algo: entry.rows[0].get("settings") for entry in self.algorithms},
            "cpu_minutes": self.costs,
            "value": self.values,
            "search": [_record(entry) for entry in self.searches],
            "rounds": [_record(entry) for entry in self.rounds],
        }


def algorithm_table(found: Sequence[Entry], costs: Mapping[str, float], bases: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a table: accuracy, soundness, CPU minutes, paired differences of ``bases`` to each."""
    yield f"| algorithm | accuracy (%) | each world | sound (%) | {' | '.join(f'{b} - it' for b in bases)} | CPU min |"
    yield f"|---|---:|---|---:|{'---:|' * len(bases)}---:|"
    for entry in found:
        own = " ".join(f"{100 * row['accuracy']:.1f}" for row in entry.rows)
        sound = mean_with_interval([100 * row["sound"] for row in entry.rows], "{:.1f}")
        differences = []
        for base in bases:
            first = find(found, base)
            differences.append("" if first is None or first is entry else difference(first, entry))
        cost = f"{costs[entry.algo]:.1f}" if entry.algo in costs else ""
        accuracy = percent(entry)
        yield f"| {entry.algo} | {accuracy} | {own} | {sound} | {' | '.join(differences)} | {cost} |"
    yield ""


def value_table(values: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Yield the lines of a table of figures, a column for each policy and value."""
    yield f"| | {' | '.join(values)} |"
    yield f"|---|{'---:|' * len(values)}"
    for heading, name in FIGURES.items():
        yield f"| {heading} | {' | '.join(figure_interval(worlds, name) for worlds in values.values())} |"
    yield ""


def search_table(found: Sequence[Entry]) -> Iterator[str]:
    """Yield the lines of a table: each search against majority vote at the same budget, and against greedy."""
    yield "| policy | search | budget | tokens | V tokens | accuracy (%) | - majority (points) | - greedy (points) |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for entry in found:
        vote, greedy = find(found, entry.algo, "majority", entry.budget), find(found, entry.algo)
        differences = ["" if o is None or o is entry else difference(entry, o) for o in (vote, greedy)]
        tokens = [entry.mean("tokens_per_task") or 0, entry.mean("value_tokens_per_task") or 0]
        cells = [entry.algo, entry.search, str(entry.budget or ""), *(f"{count:.0f}" for count in tokens)]
        yield f"| {' | '.join([*cells, percent(entry), *differences])} |"
    yield ""


def _worlds(found: Sequence[Entry]) -> int:
    return max(len(entry.rows) for entry in found)


def _record(entry: Entry) -> dict[str, Any]:
    names = ("seed", "accuracy", "n", "correct", "sound", "tokens_per_task", "value_tokens_per_task", "size")
    rows = [
        {"world": row["env_options"]["world"], **{name: row[name] for name in names if name in row}}
        for row in entry.rows
    ]
    return {"algo": entry.algo, "search": entry.search, "budget": entry.budget, "rows": rows}
