"""What the studies of many runs share: runs that are made once, their records, numbers with intervals.

Knows: run folders of ``oreo``, and the mark of those that are finished. Does not know: what is studied.
"""

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from oreo_agents.evaluation.results import Entry, compare_entries, load_entries
from oreo_agents.evaluation.statistics import mean_interval

_DONE = ".done"


def oreo(folder: Path, *arguments: str) -> None:
    """Run the command in a folder unless it has been done; raises when it fails, or when another one was done there."""
    done, text = folder / _DONE, "\n".join(arguments)
    if done.exists():
        if done.read_text(encoding="utf-8") != text:
            raise RuntimeError(f"{folder} was made by another command; delete it, or choose another --out")
        return
    print(f"{folder.name}: oreo {' '.join(arguments)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "oreo_agents.runs.cli", *arguments, f"hydra.run.dir={folder}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{finished.stdout[-2000:]}\n{finished.stderr[-4000:]}")
    done.write_text(text, encoding="utf-8")


def finished(folders: Sequence[Path]) -> list[Path]:
    """Return those of the folders whose command is done."""
    return [folder for folder in folders if (folder / _DONE).exists()]


def entries(folders: Sequence[Path], *over: str) -> list[Entry]:
    """Read the results of runs, those of several worlds together, and of several values of the settings named."""
    return load_entries([folder / "results.json" for folder in folders], over=["env.options", *over])


def find(
    found: Sequence[Entry], algo: str, search: str = "greedy", budget: int | None = None, split: str | None = None
) -> Entry | None:
    """Return the entry of an algorithm and a search, None without one."""
    for entry in found:
        if (entry.algo, entry.search, entry.budget) == (algo, search, budget) and split in (None, entry.split):
            return entry
    return None


def value_figures(folder: Path) -> dict[str, float | None]:
    """Read the figures of a value by name."""
    document = json.loads((folder / "value.json").read_text(encoding="utf-8"))
    return {name: figure["value"] for name, figure in document["figures"].items()}


def cpu_minutes(folders: Sequence[Path]) -> dict[str, float]:
    """Return CPU minutes of training by algorithm, a mean over runs."""
    runs = [json.loads((f / "results.json").read_text(encoding="utf-8"))["training"] for f in folders]
    names = sorted({name for run in runs for name in run})
    return {name: float(np.mean([run[name]["cpu_seconds"] for run in runs if name in run])) / 60 for name in names}


def about() -> dict[str, Any]:
    """Return what the numbers were measured with."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "commit": commit,
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": platform.machine(),
        "cores": os.cpu_count(),
    }


def percent(entry: Entry) -> str:
    """Write the accuracy of an entry in percent with its interval."""
    ends = "" if entry.interval is None else f" [{', '.join(f'{100 * end:.1f}' for end in entry.interval)}]"
    return f"{100 * entry.accuracy:.1f}{ends}"


def difference(first: Entry, second: Entry) -> str:
    """Write the paired difference of two entries in points with its interval."""
    found = compare_entries(first, second)
    return "" if found is None else f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def mean_with_interval(numbers: Sequence[float], form: str) -> str:
    """Write the mean of a number of each run with its t-interval; of a single run there is none."""
    ends = f" [{', '.join(form.format(end) for end in mean_interval(numbers))}]" if len(numbers) > 1 else ""
    return form.format(float(np.mean(numbers))) + ends


def figure_interval(runs: Sequence[dict[str, float | None]], name: str) -> str:
    """Write the mean of a figure of values over runs with its t-interval."""
    known = [value for run in runs if (value := run.get(name)) is not None]
    return mean_with_interval(known, "{:.3f}") if known else "undefined"
