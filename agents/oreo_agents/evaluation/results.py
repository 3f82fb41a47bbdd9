"""What a run leaves behind, read back: rows of ``results.json`` and, beside them, which task was solved.

Knows: the files of run folders. Does not know: tables, plots.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from oreo_agents.evaluation.budget import contender_label
from oreo_agents.evaluation.statistics import seed_interval, wilson_interval


def round_name(algorithm: str, number: int) -> str:
    """Return the name of a round, from 1, of an algorithm in results and folders."""
    return algorithm if number == 1 else f"{algorithm}-round{number}"


def split_round(name: str) -> tuple[str, int]:
    """Return the algorithm and the number of the round that ``round_name`` made a name of."""
    match = re.fullmatch(r"(.+)-round(\d+)", name)
    return (match[1], int(match[2])) if match else (name, 1)


@dataclass(frozen=True)
class Entry:
    """One algorithm with one search on one split, over all runs given.

    Attributes:
        algo: name of the algorithm.
        search: name of the search.
        env: environment id.
        split: of the environment.
        rows: of ``results.json``, one a run.
        solved: by run (seed and environment options) and task id, whether the task was solved.
        kind: of the tasks; "": all of them.
        budget: generated tokens a task that decided the size of the search; None: none did.
    """

    algo: str
    search: str
    env: str
    split: str
    rows: list[dict[str, Any]]
    solved: dict[str, dict[str, bool]]
    kind: str = ""
    budget: int | None = None

    @property
    def sizes(self) -> str:
        """Sizes of the search in the runs, such as "8" or "2 x 4"; "": it has none."""
        return ", ".join(dict.fromkeys(str(row["size"]) for row in self.rows if "size" in row))

    @property
    def accuracy(self) -> float:
        """Mean over runs."""
        return float(np.mean([row["accuracy"] for row in self.rows]))

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the accuracy: Wilson over all answers, or that over runs where it is wider."""
        low, high = wilson_interval(sum(row["correct"] for row in self.rows), sum(row["n"] for row in self.rows))
        if len(self.rows) == 1:
            return low, high
        low_of_runs, high_of_runs = seed_interval([row["accuracy"] for row in self.rows])
        return min(low, low_of_runs), max(high, high_of_runs)

    def by_kind(self) -> list["Entry"]:
        """Return an entry for each kind of task; none where the environment does not tell kinds apart."""
        kinds = sorted({kind for row in self.rows for kind in row.get("kinds", ())})
        return [
            replace(self, rows=[row["kinds"][kind] for row in self.rows if kind in row.get("kinds", ())], kind=kind)
            for kind in kinds
        ]

    def mean(self, name: str) -> float | None:
        """Mean over runs of another number of the rows, None where there is none."""
        values = [row[name] for row in self.rows if row.get(name) is not None]
        return float(np.mean(values)) if values else None


def find_results(folder: Path) -> list[Path]:
    """Return the ``results.json`` of a run folder, or all below a folder of runs.

    Raises:
        FileNotFoundError: there is none.
    """
    found = [folder / "results.json"] if (folder / "results.json").exists() else sorted(folder.rglob("results.json"))
    if not found:
        raise FileNotFoundError(
            f"{folder}: no results.json there or below; give folders that `oreo run`, `oreo train` or `oreo eval` wrote"
        )
    return found


def load_entries(runs: Sequence[Path]) -> list[Entry]:
    """Read ``results.json`` files and the items beside them.

    Rows that differ only by seed or environment options are one entry: at one budget a search may have had another size
    in each. An algorithm that was run with several settings
    becomes several, named after the settings that differ.
    """
    found = [(path, row) for path in runs for row in json.loads(path.read_text(encoding="utf-8"))["results"]]
    names = _names([row for _, row in found])
    entries: dict[tuple[str, str, str, str, int | None], Entry] = {}
    for (path, row), name in zip(found, names, strict=True):
        budget = row.get("budget")
        key = (name, row["search"], row["env"], row["split"])
        entry = entries.setdefault((*key, budget), Entry(*key, [], {}, budget=budget))
        entry.rows.append(row)
        label = contender_label(row["search"], budget)
        items = path.parent / row["algo"] / f"items-{row['split']}-{label}.jsonl"
        if items.exists():
            run = json.dumps([row["seed"], row.get("env_options")], sort_keys=True)
            answered = [json.loads(line) for line in items.read_text(encoding="utf-8").splitlines()]
            entry.solved[run] = {item["task_id"]: item["correct"] for item in answered}
    # Rows of one algorithm stand together, in the order in which algorithms first appear.
    order = list(dict.fromkeys(names))
    return sorted(entries.values(), key=lambda entry: order.index(entry.algo))


def load_skipped(path: Path) -> dict[str, str]:
    """Return the algorithms that a run left out, and why."""
    return dict(json.loads(path.read_text(encoding="utf-8")).get("skipped", {}))


def _names(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Name the algorithm of each row, with the settings in which it differs from others of its name."""
    names = []
    for row in rows:
        settings = row.get("settings", {})
        # Rows of `oreo eval` do not know the settings that trained their checkpoint.
        others = [other["settings"] for other in rows if other["algo"] == row["algo"] and other.get("settings")]
        different = [key for key in settings if any(other.get(key) != settings[key] for other in others)]
        names.append(" ".join([row["algo"], *(f"{key}={settings[key]}" for key in different)]))
    return names
