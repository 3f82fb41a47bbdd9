"""What runs leave behind, read back: rows of ``results.json`` and, beside them, which task was solved.

Knows: the files of run folders, and which rows are of one thing. Does not know: tables, plots.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from oreo_agents.episodes.ungraded import is_graded
from oreo_agents.evaluation.budget import contender_label
from oreo_agents.evaluation.round_names import round_name, split_round
from oreo_agents.evaluation.row_means import averaged, mean_counts
from oreo_agents.evaluation.run_settings import RowSettings, differing, read_document, row_settings, under, written
from oreo_agents.evaluation.statistics import Comparison, RunKey, accuracy, compare, wilson_interval
from oreo_envs.checks import closest
from oreo_envs.limits import files_below, read_json

# Names that may be asked for whatever the runs are.
_ALWAYS = ("algo", "search", "env", "env.options", "split", "seed", "budget")


@dataclass(frozen=True)
class Evaluation:
    """One row of a ``results.json``.

    Attributes:
        path: of the file.
        row: as it stands there.
        settings: that it depends on.
        over: those that it is averaged over with others.
        training: what the training of the network took, of all its rounds; empty where it was trained elsewhere.
    """

    path: Path
    row: dict[str, Any]
    settings: RowSettings
    over: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def world(self) -> str:
        """Which tasks there are: options of the environment, and other settings of it that are averaged over."""
        others = {name: value for name, value in self.over.items() if name == "env.path"}
        return json.dumps((self.row.get("env_options") or {}) | others, sort_keys=True)


@dataclass(frozen=True)
class Entry:
    """One algorithm in one setting with one search on one split, over all runs given.

    Attributes:
        algo: name of the algorithm, with the settings that tell it from others of its name.
        search: name of the search.
        env: environment id.
        split: of the environment.
        rows: of ``results.json``, one a run.
        answers: by run and task, for the runs whose items are there.
        evaluations: that it is made of and the run that each is of: the same run for all of a checkpoint, which may
            have been evaluated with several seeds.
        kinds: of the tasks, where the environment tells kinds apart.
        kind: of the tasks; "": all of them.
        budget: generated tokens a task that decided the size of the search; None: none did.
        name: of the algorithm alone.
        settings: those in ``algo``, by name.
        texts: the same as they are written there.
    """

    algo: str
    search: str
    env: str
    split: str
    rows: list[dict[str, Any]]
    answers: dict[RunKey, dict[str, float]]
    evaluations: list[tuple[Evaluation, RunKey]] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    kind: str = ""
    budget: int | None = None
    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    repeated: int = 0
    """Evaluations of checkpoints that had been evaluated before: no runs of their own."""
    duplicates: Mapping[str, list[Path]] = field(default_factory=dict)
    """What was trained twice with one seed: how it is said, and the folders."""

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs, each once."""
        return sorted({run.seed for _, run in self.evaluations})

    @property
    def cpu_minutes(self) -> float | None:
        """Processor time of a row's own training, a mean over runs; that of the start is in that of ``sft`` alone."""
        known = [each.training["cpu_seconds"] for each, _ in self.evaluations if "cpu_seconds" in each.training]
        return float(np.mean(known)) / 60 if known and len(known) == len(self.evaluations) else None

    @property
    def shared(self) -> dict[str, Any]:
        """Settings that are not the algorithm's own, such as how many samples were collected."""
        own = ("algo", "value_of", "network", "iteration", "searches")
        return {name: value for name, value in self.settings.items() if name.partition(".")[0] not in own}

    @property
    def sizes(self) -> str:
        """Sizes of the search in the runs, such as "8" or "2 x 4"; "": it has none."""
        return ", ".join(dict.fromkeys(str(row["size"]) for row in self.rows if "size" in row))

    @cached_property
    def units(self) -> dict[RunKey, dict[str, float]]:
        """Answers by what is independent: a seed of a world, whatever settings are averaged over within it."""
        whole = {run for each, run in self.evaluations if each.settings.whole}
        keys = {run: replace(run, copy=0) if run in whole else run for run in self.answers}
        return _by_unit([(keys[run], own) for run, own in self.answers.items()])

    @property
    def accuracy(self) -> float:
        """Mean over runs; where there are several worlds, over worlds."""
        if len(self.answers) == len(self.rows):
            return accuracy(self.units).mean
        return float(np.mean([row["accuracy"] for row in self.rows]))

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of the accuracy, see ``statistics``; None for several runs whose answers are not all there."""
        if len(self.answers) == len(self.rows):
            estimate = accuracy(self.units)
            return estimate.low, estimate.high
        alone = len(self.rows) == 1 and not self.repeated
        return wilson_interval(self.rows[0]["correct"], self.rows[0]["n"]) if alone else None

    def by_kind(self) -> list["Entry"]:
        """Return an entry for each kind of task; none where the environment does not tell kinds apart."""
        kinds = sorted({kind for row in self.rows for kind in row.get("kinds", ())})
        return [self._of_kind(kind) for kind in kinds]

    def _of_kind(self, kind: str) -> "Entry":
        rows = [row["kinds"][kind] for row in self.rows if kind in row.get("kinds", ())]
        found = {
            run: {task: x for task, x in own.items() if self.kinds.get(task) == kind}
            for run, own in self.answers.items()
        }
        return replace(self, rows=rows, answers={run: own for run, own in found.items() if own}, kind=kind)

    @property
    def refusals(self) -> dict[str, float]:
        """Refused actions a task by reason, mean over runs; {} where nobody says why."""
        told = [row["invalid_reasons"] for row in self.rows if "invalid_reasons" in row]
        return mean_counts(told, len([row for row in self.rows if "invalid_per_task" in row]))

    def mean(self, name: str) -> float | None:
        """Mean over runs of another number of the rows, None where there is none."""
        values = [row[name] for row in self.rows if row.get(name) is not None]
        return float(np.mean(values)) if values else None


def find_results(folder: Path) -> list[Path]:
    """Return the ``results.json`` of a run folder, or all below a folder of runs.

    Raises:
        FileNotFoundError: there is none.
    """
    found = [folder / "results.json"] if (folder / "results.json").exists() else files_below(folder, "results.json")
    if not found:
        raise FileNotFoundError(
            f"{folder}: no results.json there or below; give folders that `oreo run`, `oreo train` or `oreo eval` wrote"
        )
    return found


def load_entries(
    runs: Sequence[Path], *, group_by: Sequence[str] | None = None, over: Sequence[str] = (), rows: str = "results"
) -> list[Entry]:
    """Read ``results.json`` files and the items beside them.

    Rows are of one entry where their runs differ in the seed alone; every other setting in which runs differ makes
    entries of their own, named by it. At one budget a search may have had another size in each run. A checkpoint that
    was evaluated several times in one environment is one run, whose answers are means; so are checkpoints that were
    trained in the same way with the same seed.

    Args:
        runs: files.
        group_by: settings that make entries; the others are averaged over. None: all that differ.
        over: settings to average over, such as ``env.options.world``. A name stands for all settings below it.
        rows: which: ``results``, of tasks, or ``pairs``.

    Raises:
        ValueError: a name is none of a setting of these runs.
    """
    found = load_evaluations(runs, by_seed="seed" in (group_by or ()), rows=rows)
    if not found:
        return []
    _require_known([*(group_by or ()), *over], found)
    differs = settings_that_differ(found)

    def asked(name: str, names: Sequence[str]) -> bool:
        return any(under(name, start) for start in names)

    chosen = [n for n in differs if not asked(n, over) and (group_by is None or asked(n, group_by))]
    joined = [name for name in differs if name not in chosen]
    entries: dict[tuple[Any, ...], list[Evaluation]] = {}
    for each in found:
        row, values = each.row, each.settings.values
        own = {name: values[name] for name in chosen if name in values}
        key = (row["algo"], repr(own), row["search"], row["env"], row["split"], row.get("budget"))
        each = replace(each, over={name: values[name] for name in joined if name in values})
        entries.setdefault(key, []).append(each)
    others = {name: [each.settings.values.get(name) for each in found] for name in chosen}
    made = [_entry(several, chosen, others) for several in entries.values()]
    # Rows of one algorithm stand together, in the order in which algorithms first appear.
    names, labels = ([getattr(entry, part) for entry in made] for part in ("name", "algo"))
    return sorted(made, key=lambda entry: (names.index(entry.name), labels.index(entry.algo)))


def load_evaluations(runs: Sequence[Path], *, by_seed: bool = False, rows: str = "results") -> list[Evaluation]:
    """Read the rows of ``results.json`` files, each with the settings that it depends on.

    Args:
        runs: files.
        by_seed: count the seed among the settings.
        rows: see ``load_entries``.
    """
    found, paths = [], dict[str, Any]()
    for path in runs:
        document = read_document(path, counted=True)
        for row in document.get(rows, ()):
            settings = row_settings(path.parent, row)
            values = dict(settings.values) | ({"seed": settings.seed} if by_seed else {})
            if "checkpoint" in row and "sft.demonstrations" not in values and values.get("policy.path"):
                # The same weights in two places are one network.
                values["policy.path"] = paths.setdefault(row["checkpoint"], values["policy.path"])
            training = _training(document.get("training") or {}, row["algo"])
            found.append(Evaluation(path, row, replace(settings, values=values), training=training))
    return found


def _training(summaries: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, float]:
    """Return the steps and the processor time (s) of a network, rounds before it included."""
    algorithm, number = split_round(name)
    found = [summaries.get(round_name(algorithm, k), {}) for k in range(1, number + 1)]
    known = [key for key in ("cpu_seconds", "steps") if all(key in one for one in found)]
    return {key: sum(one[key] for one in found) for key in known}


def settings_that_differ(found: Sequence[Evaluation]) -> list[str]:
    """Return the names of settings in which evaluations of the same tasks differ."""
    places: dict[tuple[str, str], list[tuple[str, RowSettings]]] = {}
    for each in found:
        places.setdefault((each.row["env"], each.row["split"]), []).append((each.row["algo"], each.settings))
    return list(dict.fromkeys(name for rows in places.values() for name in differing(rows)))


def _require_known(names: Sequence[str], found: Sequence[Evaluation]) -> None:
    """Refuse names that are no setting of any run.

    Raises:
        ValueError: by the name.
    """
    known = list(dict.fromkeys(name for each in found for name in each.settings.values))
    for name in names:
        if name not in _ALWAYS and not any(under(setting, name) for setting in known):
            raise ValueError(f"these runs have no setting {name!r}{closest(name, known)}; see their config.yaml")


def _entry(evaluations: Sequence[Evaluation], chosen: Sequence[str], values: Mapping[str, Sequence[Any]]) -> Entry:
    """Put the evaluations of one algorithm, setting, search and split together, those of one network into one run.

    Args:
        evaluations: of the entry.
        chosen: settings that make entries.
        values: of these settings anywhere, so that paths are told apart.
    """
    first = evaluations[0]
    row = first.row
    settings = {name: first.settings.values[name] for name in chosen if name in first.settings.values}
    texts = {name: written(name, value, values[name]) for name, value in settings.items()}
    entry = Entry(" ".join([row["algo"], *texts.values()]), row["search"], row["env"], row["split"], [], {})
    entry = replace(entry, budget=row.get("budget"), name=row["algo"], settings=settings, texts=texts)
    copies: Counter[tuple[str, int]] = Counter()
    duplicates: dict[str, list[Path]] = {}
    networks = _networks(evaluations)
    for networks_of_run in _runs(networks):
        same = list(chain.from_iterable(networks_of_run))
        world, seed = same[0].world, same[0].settings.seed
        run = RunKey(world, seed, copies[world, seed])
        copies[world, seed] += 1
        if len(networks_of_run) > 1 or (run.copy and not same[0].over):
            folders = [each.path.parent for each in (same if len(networks_of_run) > 1 else evaluations)
                       if each.settings.seed == seed and each.world == world]  # fmt: skip
            duplicates[f"{entry.algo}, {row['search']}, seed {seed}"] = list(dict.fromkeys(folders))
        entry.evaluations.extend((each, run) for each in same)
        found = [read_items(each.path, each.row) for each in same]
        answered: dict[str, list[bool]] = {}
        for item in chain.from_iterable(found):
            answered.setdefault(item["task_id"], []).append(item["correct"])
            if item.get("kind") is not None:
                entry.kinds[item["task_id"]] = item["kind"]
        merged = averaged([each.row for each in same])
        if all(found):
            entry.answers[run] = {task: _mean(several) for task, several in answered.items()}
            if len(same) > 1:
                n, correct = len(answered), sum(entry.answers[run].values())
                merged |= {"n": n, "correct": correct, "accuracy": correct / n}
        entry.rows.append(merged)
    repeated = len(evaluations) - len(networks)
    return replace(entry, repeated=repeated, duplicates=duplicates)


def _networks(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """Group evaluations by world and weights; records of earlier releases do not tell the weights."""
    found: dict[tuple[Any, ...], list[Evaluation]] = {}
    for each in evaluations:
        weights = each.row.get("checkpoint") or str(each.path)
        found.setdefault((each.world, weights, each.row.get("value_checkpoint")), []).append(each)
    return list(found.values())


def _runs(networks: Sequence[list[Evaluation]]) -> list[list[list[Evaluation]]]:
    """Group networks that were trained in the same way with one seed; without a configuration nothing tells."""
    found: dict[tuple[Any, ...], list[list[Evaluation]]] = {}
    for number, network in enumerate(networks):
        first = network[0]
        alone = None if first.settings.whole else number
        found.setdefault((first.world, first.settings.seed, repr(first.over), alone), []).append(network)
    return list(found.values())


def compare_entries(first: Entry, second: Entry) -> Comparison | None:
    """Compare two entries on the tasks and runs that both have; None without any.

    Runs are paired by world and seed: one of the one with each of the other, such as a start that runs share; where
    both have several of a seed, those of equal settings that are averaged over, or else those of one folder.
    """
    pairs: dict[tuple[RunKey, RunKey], RunKey] = {}
    for each, run in first.evaluations:
        unit = (run.world, each.settings.seed)
        others = [
            (other, run2)
            for other, run2 in second.evaluations
            if (run2.world, other.settings.seed) == unit
            and all(other.over.get(name, value) == value for name, value in each.over.items())
        ]
        own = {r for e, r in first.evaluations if (r.world, e.settings.seed) == unit}
        if len(own) > 1 and len({run2 for _, run2 in others}) > 1:
            others = [(other, run2) for other, run2 in others if other.path == each.path]
        for other, run2 in others:
            if run in first.answers and run2 in second.answers:
                copy = 0 if each.settings.whole and other.settings.whole else len(pairs)
                pairs.setdefault((run, run2), RunKey(*unit, copy))
    both = {pair: first.answers[pair[0]].keys() & second.answers[pair[1]].keys() for pair in pairs}
    sides = []
    for side, answers in enumerate((first.answers, second.answers)):
        shared = {pair: {task: answers[pair[side]][task] for task in sorted(both[pair])} for pair in pairs}
        sides.append(_by_unit([(pairs[pair], own) for pair, own in shared.items() if own]))
    return compare(*sides)


def _by_unit(found: Iterable[tuple[RunKey, Mapping[str, float]]]) -> dict[RunKey, dict[str, float]]:
    """Return the answers by unit and task: means over what one unit, such as a seed, answered in several settings."""
    several: dict[RunKey, dict[str, list[float]]] = {}
    for unit, answers in found:
        for task, answer in answers.items():
            several.setdefault(unit, {}).setdefault(task, []).append(answer)
    return {unit: {task: _mean(all_of) for task, all_of in own.items()} for unit, own in several.items()}


def _mean(values: Sequence[float]) -> float:
    return float(values[0] if len(values) == 1 else np.mean(values))


def read_items(path: Path, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the graded items of a row of a ``results.json``; [] where they are not beside it.

    Raises:
        ValueError: a line is damaged.
    """
    label = contender_label(row["search"], row.get("budget"))
    file = path.parent / row["algo"] / f"items-{row['split']}-{label}.jsonl"
    items = []
    for number, line in enumerate(file.read_bytes().splitlines() if file.exists() else (), start=1):
        try:
            item = read_json(line)
            _ = str(item["task_id"]), float(item["correct"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(
                f"{file}, line {number}: no answer that can be read ({type(error).__name__}: {error}); remove the "
                "file: the command that made this run answers again"
            ) from None
        items.append(item)
    return [item for item in items if is_graded(item)]
