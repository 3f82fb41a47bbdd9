"""Every algorithm, the learned value and search with it, in small worlds of word problems.

    python benchmarks/miniature.py [--worlds 10 11 ...] [--answers boxes exact] [--jobs 2] [--out FOLDER]
    python benchmarks/miniature.py --only-report

Runs the command `oreo` for each world and kind of answer, in folders under ``--out``:

    <answer>-<world>                 oreo run experiment=miniature: all algorithms from one start and one buffer
    <answer>-<world>-refit           oreo train algo.value_only=true: OREO's value, also on samples of OREO's policy
    <answer>-<world>-value-<name>    oreo eval what=value: a value on fresh samples of a policy
    <answer>-<world>-search-<name>   oreo eval search=[...] budget=[...]: the searches with that value
    boxes-<world>-rounds             oreo run rounds=3: rejection sampling and OREO, iterated

Names are sft and oreo, those policies with the value that OREO trained, and oreo-refit, OREO's policy with the value of
the second row.

Killed and started again, it goes on. Then it prints tables of means over worlds with t-intervals, and what the targets
came to, from the records in these folders, and writes both and plots to ``--results``. Worlds are paired: in each, all
algorithms share start, episodes and held-out problems.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oreo_agents.plots import plot_accuracy, plot_budgets
from oreo_agents.report import compare_entries
from oreo_agents.results import Entry, load_entries
from oreo_agents.statistics import seed_interval

GUIDED = {"sft": ("sft", ""), "oreo": ("oreo", ""), "oreo-refit": ("oreo", "-refit")}
"""By name: whose policy, and which run's value."""

SEARCHES = ("greedy", "majority", "weighted_vote", "best_of_n", "step_beam")
BUDGETS = (107, 213, 426)  # about 2.5, 5 and 10 answers of 43 tokens
ROUNDS = 3


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", type=int, default=list(range(10, 16)))
    parser.add_argument("--answers", nargs="+", choices=("boxes", "exact"), default=["boxes", "exact"])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worlds at a time, one core each")
    parser.add_argument("--search-tasks", type=int, default=250, help="held-out problems of the search study")
    parser.add_argument("--out", type=Path, default=Path("outputs/miniature"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "miniature")
    parser.add_argument("--only-report", action="store_true", help="run nothing")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.only_report:
        run_all(options)
    text, document = report(options.out, options.answers, options.worlds, options.results)
    print(text)
    (options.results / "report.md").write_text(text, encoding="utf-8")
    (options.results / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


# Running


@dataclass(frozen=True)
class World:
    """One world with one kind of answer: its folders and what is run in them."""

    out: Path
    answer: str
    number: int
    search_tasks: int

    @property
    def run(self) -> Path:
        """Folder of the main run; those of the others begin with its name."""
        return self.out / f"{self.answer}-{self.number}"

    @property
    def here(self) -> list[str]:
        """Settings of the world."""
        return [f"env.options.answer={self.answer}", f"env.options.world={self.number}"]

    def algorithms(self) -> None:
        """Train and evaluate every algorithm."""
        oreo(self.run, "run", "experiment=miniature", *self.here, "workers=1")

    def refit(self) -> None:
        """Train OREO's value on, with its policy held fixed, on the first episodes and on samples of that policy."""
        here = ["env=miniature", "policy=tiny", *self.here, f"policy.path={self.run / 'oreo' / 'policy'}"]
        samples = Path(f"{self.run}-samples")
        oreo(samples, "collect", *here, "seed=1")
        both = f"data=[{self.run / 'data' / 'episodes'},{samples / 'data' / 'episodes'}]"
        value = [f"value.path={self.run / 'oreo' / 'value'}", "algo.value_only=true", "algo.value_warmup_steps=0"]
        oreo(Path(f"{self.run}-refit"), "train", *here, *value, both, "algo.epochs=3", "evaluate.tasks=1")

    def guide(self) -> None:
        """Measure the values, and search with them."""
        for name, (policy, fitted) in GUIDED.items():
            here = ["env=miniature", "policy=tiny", *self.here, f"policy.path={self.run / policy / 'policy'}"]
            here += [f"value.path={Path(f'{self.run}{fitted}') / 'oreo' / 'value'}"]
            reference = f"reference.path={self.run / 'sft' / 'policy'}"
            oreo(Path(f"{self.run}-value-{name}"), "eval", "what=value", *here, reference)
            asked = [f"search=[{','.join(SEARCHES)}]", f"budget=[{','.join(map(str, BUDGETS))}]"]
            asked += [f"evaluate.tasks={self.search_tasks}", f"label={name}"]
            oreo(Path(f"{self.run}-search-{name}"), "eval", *here, *asked)

    def iterate(self) -> None:
        """Go on for further rounds, from what the main run has done in the first."""
        if self.answer != "boxes":
            return
        rounds = Path(f"{self.run}-rounds")
        for name in ("start", "sft", "data", "rejection", "oreo"):
            if not (rounds / name).exists():
                shutil.copytree(self.run / name, rounds / f".{name}", dirs_exist_ok=True)
                (rounds / f".{name}").rename(rounds / name)
        asked = ["algos=[rejection,oreo]", f"rounds={ROUNDS}", "workers=1"]
        oreo(rounds, "run", "experiment=miniature", *self.here, *asked)


def run_all(options: argparse.Namespace) -> None:
    """Do everything that is missing, the same stage of all worlds before the next one."""
    worlds = [
        World(options.out, answer, world, options.search_tasks)
        for answer in options.answers
        for world in options.worlds
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        for stage in (World.algorithms, World.refit, World.guide, World.iterate):
            list(pool.map(stage, worlds))


def oreo(folder: Path, *arguments: str) -> None:
    """Run the command in a folder unless it has been done; raises when it fails, or when another one was done there."""
    done, text = folder / ".done", "\n".join(arguments)
    if done.exists():
        if done.read_text(encoding="utf-8") != text:
            raise RuntimeError(f"{folder} was made by another command; delete it, or choose another --out")
        return
    print(f"{folder.name}: oreo {' '.join(arguments)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "oreo_agents.cli", *arguments, f"hydra.run.dir={folder}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{finished.stdout[-2000:]}\n{finished.stderr[-4000:]}")
    done.write_text(text, encoding="utf-8")


# Reporting


def report(out: Path, answers: Sequence[str], worlds: Sequence[int], results: Path) -> tuple[str, dict[str, Any]]:
    """Return the report and, as JSON, the records it was made from; draw the plots."""
    results.mkdir(parents=True, exist_ok=True)
    parts = ["# Miniature worlds\n"]
    document: dict[str, dict[str, Any]] = {}
    for answer in answers:
        folders = _finished(out, answer, worlds, "")
        if not folders:
            continue
        entries = _entries(folders)
        plot_accuracy(entries, results / f"accuracy-{answer}.png")
        parts += [f"## {answer}: {len(folders)} worlds, greedy decoding\n", *algorithm_table(entries, _costs(folders))]
        document[answer] = {"algorithms": [_record(entry) for entry in entries]}
        values = {policy: _values(out, answer, worlds, policy) for policy in GUIDED}
        if all(values.values()):
            parts += [f"## {answer}: the value of OREO on fresh samples, T = 1\n", *value_table(values)]
            document[answer]["value"] = values
        folders = [f for policy in GUIDED for f in _finished(out, answer, worlds, f"-search-{policy}")]
        if folders:
            entries = _entries(folders)
            plot_budgets(entries, results / f"search-{answer}.png")
            parts += [f"## {answer}: search at equal tokens\n", *search_table(entries)]
            document[answer]["search"] = [_record(entry) for entry in entries]
        folders = _finished(out, answer, worlds, "-rounds")
        if folders:
            entries = _entries(folders)
            parts += [f"## {answer}: rounds, {len(folders)} worlds, greedy decoding\n"]
            parts += algorithm_table(entries, _costs(folders), base="rejection")
            document[answer]["rounds"] = [_record(entry) for entry in entries]
    return "\n".join(parts), document


def algorithm_table(entries: Sequence[Entry], costs: Mapping[str, float], base: str = "oreo") -> Iterator[str]:
    """Yield the lines of a table: accuracy, soundness, CPU minutes, and the paired difference of ``base`` to it."""
    first = next(entry for entry in entries if entry.algo == base)
    yield f"| algorithm | accuracy (%) | worlds | sound (%) | {base} - it, paired (points) | CPU minutes |"
    yield "|---|---:|---|---:|---:|---:|"
    for entry in entries:
        own = " ".join(f"{100 * row['accuracy']:.1f}" for row in entry.rows)
        difference = "" if entry is first else _difference(first, entry)
        yield (
            f"| {entry.algo} | {_mean([row['accuracy'] for row in entry.rows])} | {own} "
            f"| {100 * (entry.mean('sound') or 0):.1f} | {difference} | {costs.get(entry.algo, 0):.1f} |"
        )
    yield ""


def value_table(values: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Yield the lines of a table of the value's figures, a mean over worlds."""
    figures = {
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
    yield f"| | {' | '.join(values)} |"
    yield f"|---|{'---:|' * len(values)}"
    for heading, name in figures.items():
        cells = []
        for worlds in values.values():
            found = [world[name] for world in worlds if world.get(name) is not None]
            low, high = seed_interval(found) if len(found) > 1 else (np.nan, np.nan)
            cells.append(f"{np.mean(found):.3f} [{low:.3f}, {high:.3f}]" if found else "undefined")
        yield f"| {heading} | {' | '.join(cells)} |"
    yield ""


def search_table(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield the lines of a table: each search against majority vote at the same budget, and against greedy."""
    yield "| policy | search | budget | tokens | V tokens | accuracy (%) | - majority (points) | - greedy (points) |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for entry in entries:
        same = [other for other in entries if other.algo == entry.algo]
        vote = next((o for o in same if o.search == "majority" and o.budget == entry.budget), None)
        greedy = next(o for o in same if o.search == "greedy")
        yield (
            f"| {entry.algo} | {entry.search} | {entry.budget or ''} | {entry.mean('tokens_per_task'):.0f} "
            f"| {entry.mean('value_tokens_per_task') or 0:.0f} | {_mean([row['accuracy'] for row in entry.rows])} "
            f"| {'' if vote in (None, entry) else _difference(entry, vote)} "
            f"| {'' if entry is greedy else _difference(entry, greedy)} |"
        )
    yield ""


def _finished(out: Path, answer: str, worlds: Sequence[int], kind: str) -> list[Path]:
    folders = [out / f"{answer}-{world}{kind}" for world in worlds]
    return [folder for folder in folders if (folder / ".done").exists()]


def _entries(folders: Sequence[Path]) -> list[Entry]:
    return load_entries([folder / "results.json" for folder in folders])


def _values(out: Path, answer: str, worlds: Sequence[int], policy: str) -> list[dict[str, Any]]:
    """Read the figures of each world: their values by name."""
    documents = [
        json.loads((folder / "value.json").read_text(encoding="utf-8"))
        for folder in _finished(out, answer, worlds, f"-value-{policy}")
    ]
    return [{name: figure["value"] for name, figure in document["figures"].items()} for document in documents]


def _costs(folders: Sequence[Path]) -> dict[str, float]:
    """CPU minutes of training by algorithm, a mean over runs."""
    runs = [json.loads((f / "results.json").read_text(encoding="utf-8"))["training"] for f in folders]
    names = {name for run in runs for name in run}
    return {name: float(np.mean([run[name]["cpu_seconds"] for run in runs if name in run])) / 60 for name in names}


def _record(entry: Entry) -> dict[str, Any]:
    names = ("accuracy", "n", "correct", "sound", "tokens_per_task", "value_tokens_per_task")
    rows = [
        {"world": row["env_options"]["world"], **{name: row[name] for name in names if name in row}}
        for row in entry.rows
    ]
    return {"algo": entry.algo, "search": entry.search, "budget": entry.budget, "rows": rows}


def _mean(accuracies: Sequence[float]) -> str:
    mean = f"{100 * np.mean(accuracies):.1f}"
    if len(accuracies) == 1:
        return mean
    low, high = seed_interval(accuracies)
    return f"{mean} [{100 * low:.1f}, {100 * high:.1f}]"


def _difference(first: Entry, second: Entry) -> str:
    compared = compare_entries(first, second)
    if compared is None:
        return ""
    pooled, differences = compared
    low, high = seed_interval(differences) if len(differences) > 1 else (pooled.low, pooled.high)
    return f"{100 * np.mean(differences):+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


if __name__ == "__main__":
    main()
