"""What is to be gained from stronger and weaker starts: OREO, rejection sampling and KTO, and how many tasks are mixed.

    python benchmarks/start_levels.py [--worlds 10 11 12] [--levels ...] [--out FOLDER] [--only-report]

In each world of ``miniature.py`` (boxes) starts of about 30, 50, 70 and 85% are made by better and worse demonstrators
(how often they read a verb right), and one of about 40% by too few demonstrations of the usual ones. From each start,
with the settings of ``experiment=miniature`` but for numbers of tasks, samples and steps of the value alone, all
algorithms learn from the same episodes. A task is mixed where its samples at temperature 1 succeed and fail. Printed,
means over worlds with t-intervals, greedy on test problems: the start, the share of mixed tasks, and for each algorithm
its gain in points, that over the share of mixed tasks (points were all mixed), and over what the start misses.

Killed and started again, it goes on.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from runs import difference, entries, find, finished, mean_with_interval, oreo, percent

from oreo_agents.evaluation.results import Entry

ALGOS = ("oreo", "rejection", "kto")
LEVELS = {
    "30": ["env.options.reliability=[0.05,0.45]", "env.options.clean_share=0"],
    "50": ["env.options.clean_share=0.2"],
    "70": ["env.options.clean_share=0.65"],
    "85": ["env.options.clean_share=0.9"],
    "untrained": ["sft.demonstrations=3000"],
}
SETTINGS = [
    *("experiment=miniature", "env.options.answer=boxes", f"algos=[{','.join(ALGOS)}]", "workers=1"),
    *("collect.tasks=400", "collect.samples=8", "evaluate.tasks=400", "algorithms.oreo.value_warmup_steps=500"),
]


def folder_of(out: Path, level: str, world: int) -> Path:
    """Return where the run of a level in a world is."""
    return out / f"{level}-{world}"


def mixed_share(folder: Path) -> float:
    """Return the share of tasks with successes and failures among the samples that the algorithms learned from."""
    counts = json.loads((folder / "data" / "episodes" / "metadata.json").read_text(encoding="utf-8"))["counts"]
    return float(counts["mixed_tasks"]) / float(counts["tasks"])


def gains(first: Entry, start: Entry) -> list[float]:
    """Return what was gained in each world, in points, in the order of the runs."""
    return [100 * (row["accuracy"] - other["accuracy"]) for row, other in zip(first.rows, start.rows, strict=True)]


def table(out: Path, levels: Sequence[str], worlds: Sequence[int]) -> str:
    """Return what is finished."""
    lines = [
        "| start | worlds | greedy, % | mixed, % | algorithm | gain | a mixed task | of what is missing, % |",
        "|---|---:|---|---|---|---|---|---|",
    ]
    for level in levels:
        folders = finished([folder_of(out, level, world) for world in worlds])
        if not folders:
            continue
        found = entries(folders)
        start = find(found, "sft")
        assert start is not None
        mixed = [mixed_share(folder) for folder in folders]
        shared = [level, str(len(folders)), percent(start)]
        shared.append(mean_with_interval([100 * share for share in mixed], "{:.0f}"))
        for algo in ALGOS:
            entry = find(found, algo)
            assert entry is not None
            own = gains(entry, start)
            missing = [100 * (1 - row["accuracy"]) for row in start.rows]
            cells = [algo, difference(entry, start)]
            cells.append(mean_with_interval([gain / share for gain, share in zip(own, mixed, strict=True)], "{:+.1f}"))
            cells.append(mean_with_interval([100 * g / m for g, m in zip(own, missing, strict=True)], "{:.0f}"))
            lines.append(f"| {' | '.join([*shared, *cells])} |")
            shared = ["", "", "", ""]
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, a world after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", type=int, default=[10, 11, 12])
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--out", type=Path, default=Path("outputs/start_levels"))
    parser.add_argument("--only-report", action="store_true", help="run nothing")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for world in [] if options.only_report else options.worlds:
        for level in options.levels:
            asked = [*SETTINGS, *LEVELS[level], f"env.options.world={world}"]
            oreo(folder_of(options.out, level, world), "run", *asked)
    print(table(options.out, options.levels, options.worlds))


if __name__ == "__main__":
    main()
