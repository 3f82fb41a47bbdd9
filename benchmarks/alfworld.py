"""The paper's Table 2 and Figure 4 on ALFWorld's games, with a small model from random weights.

    python benchmarks/alfworld.py [--seeds 0 1 2] [--jobs 2] [--experiment alfworld] [--out FOLDER] [SETTING ...]
    python benchmarks/alfworld.py --experiment alfworld-few
    python benchmarks/alfworld.py --experiment alfworld-gpu --jobs 3 --workers 3
    python benchmarks/alfworld.py --only-report

Runs the command `oreo` for each seed, in folders under ``--out`` (by default ``outputs/<experiment>``):

    seed-<seed>                 oreo run experiment=<experiment>: the start, every algorithm, the searches by V
    seed-<seed>-value-<split>   oreo eval what=value: the value of the best-of-K runs on fresh samples of its policy

Further settings, such as ``evaluate.splits=[valid_seen]``, go to every run, those of ``value_eval`` to the latter.
Killed and started again, it goes on. Then it prints tables over seeds and writes them with the figure to ``--results``,
by default ``results/<experiment>`` beside this script (``alfworld_report.py``). Within a seed all algorithms share
start, episodes and held-out games.
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from alfworld_report import write_report
from omegaconf import OmegaConf
from runs import oreo

EXPERIMENTS = ("alfworld", "alfworld-few", "alfworld-generated", "alfworld-gpu")

GUIDE = "oreo"
"""The algorithm whose policy is searched with, by its own value."""


@dataclass(frozen=True)
class Study:
    """What is run for each seed.

    Attributes:
        out: where the folders of the runs lie.
        experiment: of the configuration.
        settings: further ones.
        workers: processes of each seed, which train and evaluate its algorithms side by side.
    """

    out: Path
    experiment: str
    settings: tuple[str, ...]
    workers: int

    def run(self, seed: int) -> None:
        """Train and evaluate every algorithm, then measure the value."""
        of_value = [setting for setting in self.settings if setting.startswith("value_eval.")]
        others = [setting for setting in self.settings if setting not in of_value]
        folder = self.out / f"seed-{seed}"
        oreo(folder, "run", f"experiment={self.experiment}", *others, f"seed={seed}", f"workers={self.workers}")
        here = [
            "env=alfworld-small",
            "policy=tiny",
            *(setting for setting in others if setting.startswith("env.")),
        ]
        here += [f"seed={seed}", f"reference.path={folder / 'sft' / 'policy'}"]
        here += [f"{part}.path={folder / GUIDE / part}" for part in ("policy", "value")]
        games = OmegaConf.load(folder / "config.yaml").env.path
        here += [] if games is None else [f"env.path={games}"]
        for split in sorted({path.name.split("-")[1] for path in (folder / GUIDE).glob("items-*.jsonl")}):
            drawn = [f"value_eval.{name}" for name in (f"split={split}", "tasks=null", "samples=4")]
            measured = self.out / f"seed-{seed}-value-{split}"
            oreo(measured, "eval", "what=value", *here, *drawn, *of_value)


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="seeds at a time")
    parser.add_argument("--workers", type=int, default=1, help="processes a seed, a core each")
    parser.add_argument("--experiment", choices=EXPERIMENTS, default=EXPERIMENTS[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--only-report", action="store_true", help="run nothing")
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="for every run, as for `oreo run`")
    options = parser.parse_args()
    out = options.out or Path("outputs") / options.experiment
    results = options.results or Path(__file__).parent / "results" / options.experiment
    out.mkdir(parents=True, exist_ok=True)
    if not options.only_report:
        study = Study(out, options.experiment, tuple(options.settings), options.workers)
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(study.run, options.seeds))
    downloaded = options.experiment != "alfworld-generated"
    print(write_report(out, options.seeds, GUIDE, results, title=options.experiment, downloaded_games=downloaded))


if __name__ == "__main__":
    main()
