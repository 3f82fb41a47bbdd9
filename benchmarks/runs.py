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

from oreo_agents.evaluation.report import compare_entries
from oreo_agents.evaluation.results import Entry, load_entries
from oreo_agents.evaluation.statistics import seed_interval

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


def entries(folders: Sequence[Path]) -> list[Entry]:
    """Read the results of runs."""
    return load_entries([folder / "results.json" for folder in folders])


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


def percent(shares: Sequence[float]) -> str:
    """Write a mean of shares in percent with its t-interval."""
    return interval(shares, 100, "{:.1f}")


def difference(first: Entry, second: Entry) -> str:
    """Write the paired difference of two entries in points: a t-interval over runs, or of one run over tasks."""
    compared = compare_entries(first, second)
    if compared is None:
        return ""
    pooled, differences = compared
    if len(differences) > 1:
        return interval(differences, 100, "{:+.1f}")
    return f"{100 * pooled.difference:+.1f} [{100 * pooled.low:+.1f}, {100 * pooled.high:+.1f}]"


def interval(numbers: Sequence[float], scale: float, form: str) -> str:
    """Write a mean with its t-interval; of a single number there is none."""
    mean = form.format(scale * float(np.mean(numbers)))
    if len(numbers) < 2:
        return mean
    low, high = seed_interval(numbers)
    return f"{mean} [{form.format(scale * low)}, {form.format(scale * high)}]"


def figure_interval(runs: Sequence[dict[str, float | None]], name: str) -> str:
    """Write the mean of a figure of values over runs with its t-interval."""
    known = [run[name] for run in runs if run.get(name) is not None]
    return interval([value for value in known if value is not None], 1, "{:.3f}") if known else "undefined"
