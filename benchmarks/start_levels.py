"""What is to be gained from stronger and weaker starts: OREO, rejection sampling and KTO, and how many tasks are mixed.

    python benchmarks/start_levels.py [--worlds 10 11 ...] [--levels 30 50 ...]
    python benchmarks/start_levels.py --networks [--worlds ...] [--levels ...] [--out FOLDER] [--only-report]

In each world of ``miniature.py`` (boxes) starts of about 30, 50, 70 and 85% are made by better and worse demonstrators:
how often they read a verb right. The first form has no networks: as in ``population.py`` the policy is one number a
verb, and descends each loss on 8 solutions of each of 400 problems. With ``--networks`` it is ``oreo run``, with the
settings of ``experiment=miniature`` but for numbers of tasks, samples and steps of the value alone; there ``untrained``
is a start of about 40% that had too few demonstrations of the usual demonstrators. All algorithms learn from the same
samples; a task is mixed where its samples at temperature 1 succeed and fail.

Printed, means over worlds with t-intervals, greedy on test problems: the start, the share of mixed tasks, and for each
algorithm its gain in points, that over the share of mixed tasks, and that over what the start misses.

Killed and started again, networks go on.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import population
from runs import entries, find, finished, mean_with_interval, oreo

ALGOS = ("oreo", "rejection", "kto")
LOSSES = {
    "oreo": partial(population.oreo, beta=0.03, alpha=0.003),
    "rejection": population.rejection,
    "kto": population.kto,
}
LEVELS: dict[str, dict[str, Any]] = {
    "30": {"reliability": [0.05, 0.45], "clean_share": 0},
    "50": {"clean_share": 0.2},
    "60, the usual": {},
    "70": {"clean_share": 0.65},
    "85": {"clean_share": 0.9},
    "untrained": {},
}
PROBLEMS, SAMPLES = 400, 8

Row = dict[str, float]
"""Of a start in a world: ``start`` and each algorithm, percent; ``mixed``, a share."""


def descended(level: str, world: int) -> Row:
    """Descend each loss without a network."""
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in LEVELS[level].items()}
    train, test = (population.environment(world, "boxes", split, **options) for split in ("train", "test"))
    data = population.draw(train, PROBLEMS, SAMPLES, world)
    right = data.of_problem(data.success.double())
    found = {
        "start": population.accuracy(test, data.reference),
        "mixed": float(((right > 0) & (right < 1)).double().mean()),
    }
    return found | {
        name: population.accuracy(test, population.descend(data, loss(data))) for name, loss in LOSSES.items()
    }


def run(level: str, world: int, out: Path) -> None:
    """Train the start and the algorithms, unless that has been done."""
    asked = ["experiment=miniature", "env.options.answer=boxes", f"algos=[{','.join(ALGOS)}]", "workers=1"]
    asked += [f"collect.tasks={PROBLEMS}", f"collect.samples={SAMPLES}", "evaluate.tasks=400"]
    asked += ["algorithms.oreo.value_warmup_steps=500"]
    asked += [f"env.options.{name}={json.dumps(value, separators=(',', ':'))}" for name, value in LEVELS[level].items()]
    asked += ["sft.demonstrations=3000"] if level == "untrained" else []
    oreo(out / f"{level.partition(',')[0]}-{world}", "run", *asked, f"env.options.world={world}")


def trained(level: str, world: int, out: Path) -> Row | None:
    """Read what networks came to; None where they are not there."""
    folder = out / f"{level.partition(',')[0]}-{world}"
    if not finished([folder]):
        return None
    found = entries([folder])
    counts = json.loads((folder / "data" / "episodes" / "metadata.json").read_text(encoding="utf-8"))["counts"]
    greedy = {name: find(found, name) for name in ("sft", *ALGOS)}
    row = {name: 100 * entry.accuracy for name, entry in greedy.items() if entry is not None}
    return row | {"start": row["sft"], "mixed": counts["mixed_tasks"] / counts["tasks"]}


def lines(level: str, rows: Sequence[Row]) -> Iterator[str]:
    """Write the lines of a level."""

    def cell(numbers: Sequence[float], form: str) -> str:
        return mean_with_interval(numbers, form)

    shared = [level, str(len(rows)), cell([row["start"] for row in rows], "{:.1f}")]
    shared.append(cell([100 * row["mixed"] for row in rows], "{:.0f}"))
    for algo in ALGOS:
        gains = np.array([row[algo] - row["start"] for row in rows])
        mixed, missing = (np.array([row["mixed"] for row in rows]), np.array([100 - row["start"] for row in rows]))
        cells = [cell(gains.tolist(), "{:+.1f}"), cell((gains / mixed).tolist(), "{:+.0f}")]
        cells.append(cell((100 * gains / missing).tolist(), "{:.0f}"))
        yield f"| {' | '.join([*shared, algo, *cells])} |"
        shared = [""] * 4


def main() -> None:
    """Run what is missing, a world after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", type=int, default=list(range(10, 16)))
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--networks", action="store_true", help="train networks")
    parser.add_argument("--out", type=Path, default=Path("outputs/start_levels"), help="of the networks")
    parser.add_argument("--only-report", action="store_true", help="train none, print what is finished")
    options = parser.parse_args()
    if options.networks and not options.only_report:
        options.out.mkdir(parents=True, exist_ok=True)
        for world in options.worlds:
            for level in options.levels:
                run(level, world, options.out)
    print("| start | worlds | greedy, % | mixed, % | | gain | a mixed task | of what is missing, % |")
    print("|---|---:|---|---|---|---|---|---|")
    for level in options.levels:
        if options.networks:
            rows = [row for world in options.worlds if (row := trained(level, world, options.out)) is not None]
        else:
            rows = [] if level == "untrained" else [descended(level, world) for world in options.worlds]
        if rows:
            print("\n".join(lines(level, rows)), flush=True)


if __name__ == "__main__":
    main()
