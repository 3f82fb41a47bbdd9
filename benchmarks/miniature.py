"""Every algorithm, the learned value and search with it, in small worlds of word problems.

    python benchmarks/miniature.py [--worlds 10 11 ...] [--answers boxes exact] [--jobs 2] [--out FOLDER]
    python benchmarks/miniature.py --only-report
    python benchmarks/miniature.py --redraw

Runs the command `oreo` for each world and kind of answer, in folders under ``--out``:

    <answer>-<world>                 oreo run experiment=miniature: all algorithms from one start and one buffer
    <answer>-<world>-refit           oreo train algo.value_only=true: OREO's value, also on samples of OREO's policy
    <answer>-<world>-value-<name>    oreo eval what=value: a value on fresh samples of a policy
    <answer>-<world>-search-<name>   oreo eval search=[...] budget=[...]: the searches with that value
    boxes-<world>-rounds             oreo run rounds=3: rejection sampling and OREO, iterated

Names are sft and oreo, those policies with the value that OREO trained, and oreo-refit, OREO's policy with the value of
the second row.

Killed and started again, it goes on. Then it prints tables of means over worlds with t-intervals, and what the targets
came to, from the records in these folders, and writes them with plots to ``--results`` (``miniature_report.py``).
Worlds are paired: in each, all algorithms share start, episodes and held-out problems.
"""

import argparse
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from miniature_report import redraw, write_report
from runs import oreo

GUIDED = {"sft": ("sft", ""), "oreo": ("oreo", ""), "oreo-refit": ("oreo", "-refit")}
"""By name: whose policy, and which run's value."""

SEARCHES = ("greedy", "majority", "weighted_vote", "best_of_n", "step_beam")
BUDGETS = (107, 213, 426)  # about 2.5, 5 and 10 answers of 43 tokens
ROUNDS = 3
# What dev problems of world 20 asked for beside the settings of experiment=miniature, see benchmarks/LOG.md.
_EXACT = {
    "rejection": "3e-4",
    "dpo": "3e-5",
    "dqo": "3e-3",
    "oreo": "2e-4",
    "oreo-step": "3e-4",
}
TUNED = {"boxes": [], "exact": [f"algorithms.{name}.policy_lr={rate}" for name, rate in _EXACT.items()]}


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
    parser.add_argument(
        "--redraw", action="store_true", help="only draw the plots anew, from results.json of --results"
    )
    options = parser.parse_args()
    if options.redraw:
        redraw(options.results)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.only_report:
        run_all(options)
    print(write_report(options.out, options.answers, options.worlds, tuple(GUIDED), options.results))


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
        oreo(self.run, "run", "experiment=miniature", *self.here, *TUNED[self.answer], "workers=1")

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


if __name__ == "__main__":
    main()
