"""Two algorithms over three seeds, and how to read the table.

The same on the command line: ``oreo train -m algo=dpo,rejection seed=0,1,2 experiment=...``, which ends in the report.
"""

import sys
from collections import defaultdict
from pathlib import Path

from oreo_agents import load_results
from oreo_agents.evaluation.report import report
from oreo_agents.runs.cli import main as oreo

# As small as it gets: what it teaches is how to compare, not who wins.
SMALL = ["experiment=smoke", "collect.tasks=64", "evaluate.tasks=100", "search=[greedy]", "algos=[dpo,rejection]"]


def main(folder: Path = Path("outputs/examples/compare_algorithms")) -> None:
    """Run, report, read."""
    for seed in range(3):
        sys.argv = ["oreo", "run", *SMALL, f"seed={seed}", f"hydra.run.dir={folder / f'seed-{seed}'}"]
        oreo()

    # Every row minus `rejection`, seeds as the unit: an interval that holds 0 says "nothing is known".
    report([folder], folder, base="rejection")

    accuracies = defaultdict(list)
    for row in load_results(folder):
        accuracies[row["algo"]].append(round(row["accuracy"], 2))
    for name, found in accuracies.items():
        print(f"{name:<10} mean {sum(found) / len(found):.2f}, by seed {found}")
    print("pictures:", *sorted(path.name for path in (folder / "plots").glob("*.png")))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
