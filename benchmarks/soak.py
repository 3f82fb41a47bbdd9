"""The suite for hours in one process: collect, train, evaluate, grade, over and over, with kills beside it.

    python benchmarks/soak.py --minutes 60

Each round runs the commands in this process, in a folder of its own that is removed after it, grades answers that ask
the symbolic core, and kills a training in a fork, which is then let live (see ``kills.py``). Memory, open descriptors,
threads, child processes and the files that a round leaves must not grow: a row a round, and at the end how much each
number has grown from the second quarter of the rounds to the last.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import kills

COLUMNS = ("rss_mb", "descriptors", "threads", "children", "files")
ROUND = [
    ["collect", *kills.SMALL, *kills.PARTS, "hydra.run.dir=collected"],
    ["train", *kills.SMALL, *kills.OREO, "data=collected/data/episodes", "hydra.run.dir=run"],
    ["eval", "run/oreo", "search=[greedy,best_of_n]", "evaluate.tasks=4", "hydra.run.dir=eval"],
    ["report", "run", "--out", "out"],
]


def grade_some(number: int) -> None:
    """Ask the symbolic core, right and wrong."""
    from oreo_envs.grading import grade

    for k in range(2, 12):
        root = number % 50 + k
        assert grade(rf"\boxed{{\sqrt{{{4 * root}}}}}", rf"2\sqrt{{{root}}}").correct
        assert not grade(rf"\boxed{{\sqrt{{{4 * root + 1}}}}}", rf"2\sqrt{{{root}}}").correct


def measure(folder: Path) -> dict[str, float]:
    """Return what is to stay as it is."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split()
    return {
        "rss_mb": int(status.partition("VmRSS:")[2].split()[0]) / 1024,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "children": len(children),
        "files": sum(path.is_file() for path in folder.rglob("*")),
    }


def round_of(number: int, root: Path, base: Path) -> dict[str, float]:
    """Do all of it once."""
    from oreo_agents.runs import cli

    folder = root / "round"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.chdir(folder)
    with (root / "soak.log").open("a", encoding="utf-8") as log:
        out, sys.stdout = sys.stdout, log
        try:
            for command in ROUND:
                sys.argv = ["oreo", *(text.format(base=base) for text in command)]
                cli.main()
        finally:
            sys.stdout = out
    grade_some(number)
    found = measure(folder)
    rng = random.Random(number)
    case, broken = kills.CASES["train"], root / "broken"
    kills.prepare(broken, case)
    kills.run(broken, base, case, die_at=rng.randint(1, 150))
    if ended := kills.run(broken, base, case).status:
        raise SystemExit(f"round {number}: a killed training ended with {ended}, see {broken / 'fork.log'}")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run for so long, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    options = parser.parse_args(arguments)
    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    kills.load([kills.START])
    here, until = Path.cwd(), time.monotonic() + options.minutes * 60
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        root = Path(name).resolve()
        base = root / "start"
        kills.prepare(base, kills.START)
        if status := kills.run(base, base, kills.START).status:
            raise SystemExit(f"the start ended with {status}, see {base / 'fork.log'}")
        print(f"| round | minutes | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 2)}", flush=True)
        began = time.monotonic()
        while time.monotonic() < until:
            rows.append(round_of(len(rows), root, base))
            cells = [f"{rows[-1][column]:.0f}" for column in COLUMNS]
            print(f"| {len(rows)} | {(time.monotonic() - began) / 60:.1f} | {' | '.join(cells)} |", flush=True)
        os.chdir(here)
    quarter = max(len(rows) // 4, 1)
    early, late = rows[quarter : 2 * quarter] or rows[:1], rows[-quarter:]
    grown = [f"{median(r[c] for r in late) - median(r[c] for r in early):+.0f}" for c in COLUMNS]
    print(f"| grown | | {' | '.join(grown)} |")


if __name__ == "__main__":
    main()
