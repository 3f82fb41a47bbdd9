"""What rejection sampling gains in games: more training, which episodes are won, or credit for single actions.

    python benchmarks/rejection_gain.py RUN ... [--arms ...] [--nll 0.03] [--out FOLDER] [--only-report]

RUN is a finished ``oreo run experiment=alfworld-generated`` (one of each seed), of which the supervised start and the
collected episodes are taken. From that start learn, greedy games of both splits beside the run's own ``sft``,
``rejection`` and ``oreo``:

    all         every episode, as likelihood: more training on what the policy does anyway
    shuffled    as many episodes as were won, drawn from all, whichever they are: labels shuffled among episodes
    within      labels shuffled among the samples of each game: which games are shown, and not which episodes
    wins        what was won, for as many updates at OREO's rate as ``oreo`` has
    oreo-wins   OREO as in RUN, and ``--nll`` times the negative log-likelihood of what was won

``all`` and the shuffled ones read about as many tokens as ``rejection`` of the run, at its rate. Killed and started
again, it goes on.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from runs import finished, oreo

from oreo_agents.evaluation.statistics import Answers, RunKey, accuracy, compare
from oreo_algos import EpisodeBuffer

ENV = ["env=alfworld-small", "env.path=generated", "env.options.houses=0", "policy=tiny"]
IMITATION = ["algo=rejection", "algo.policy_lr=5e-4", "algo.batch_size=16"]
OREO = [
    *("algo=oreo", "algo.policy_lr=2e-4", "algo.value_lr=6e-4", "algo.epochs=2", "algo.batch_size=16"),
    *("algo.value_warmup_steps=200", "algo.alpha=0.01"),
]
ARMS = {
    "all": [*IMITATION, "algo.epochs=3"],
    "shuffled": [*IMITATION, "algo.epochs=6"],
    "within": [*IMITATION, "algo.epochs=6"],
    "wins": [*IMITATION, "algo.policy_lr=2e-4", "algo.epochs=4"],
    "oreo-wins": OREO,
}
RELABELLED = ("all", "shuffled", "within")


def labels(arm: str, won: Sequence[bool], tasks: Sequence[int], rng: np.random.Generator) -> list[bool]:
    """Return what an arm calls won, of each episode.

    Args:
        arm: one of ``RELABELLED``.
        won: of each episode.
        tasks: number of the task of each episode.
        rng: of the shuffles.
    """
    found, groups = np.array(won, bool), np.array(tasks)
    if arm == "all":
        return [True] * len(found)
    if arm == "shuffled":
        groups = np.zeros_like(groups)
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        found[own] = found[rng.permutation(own)]
    return found.tolist()


def relabelled(run: Path, arm: str, folder: Path) -> Path:
    """Write the episodes of a run with an arm's labels, unless they are there."""
    if not (folder / "metadata.json").exists():
        buffer = EpisodeBuffer.load(run / "data" / "episodes")
        columns = buffer.columns
        called = labels(arm, columns.success.tolist(), columns.task.tolist(), np.random.default_rng(0))
        episodes = [
            replace(e, success=success, info={k: v for k, v in e.info.items() if k != "success"})
            for e, success in zip(buffer, called, strict=True)
        ]
        EpisodeBuffer(episodes, tokenizer_fingerprint=buffer.tokenizer_fingerprint).save(folder)
    return folder


def train(run: Path, arm: str, nll: float, out: Path) -> None:
    """Train and evaluate an arm unless that has been done."""
    data = relabelled(run, arm, out / f"data-{arm}") if arm in RELABELLED else run / "data" / "episodes"
    asked = [*ENV, *ARMS[arm], f"policy.path={run / 'sft' / 'policy'}", f"data={data}"]
    if arm == "oreo-wins":
        asked.append(f"algo.nll_weight={nll:g}")
    oreo(out / arm, "train", *asked, "evaluate.tasks=500", "workers=1")


def answers(folders: Sequence[Path], algo: str) -> Answers:
    """Read an algorithm's greedy games of all splits, by run."""
    found: dict[RunKey, dict[str, float]] = {}
    for number, folder in enumerate(folders):
        for file in sorted((folder / algo).glob("items-*-greedy.jsonl")):
            rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
            found.setdefault(RunKey(seed=number), {}).update({row["task_id"]: float(row["correct"]) for row in rows})
    return found


def paired(first: Answers, second: Answers) -> str:
    """Write a paired difference, points."""
    found = compare(first, second)
    return "" if found is None else f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def table(runs: Sequence[Path], out: Path) -> str:
    """Return what is finished in all runs."""
    found = {f"{name}, of the run": answers(runs, name) for name in ("sft", "rejection", "oreo")}
    for arm in ARMS:
        folders = [out / run.name / arm for run in runs]
        if len(finished(folders)) == len(runs):
            found[arm] = answers(folders, "oreo" if arm == "oreo-wins" else "rejection")
    others = list(found.values())[:3]
    lines = ["| learns from | greedy, % | - sft | - rejection | - oreo |", "|---|---|---|---|---|"]
    for name, own in found.items():
        made = accuracy(own)
        cells = [name, f"{100 * made.mean:.1f} [{100 * made.low:.1f}, {100 * made.high:.1f}]"]
        cells += ["" if own is other else paired(own, other) for other in others]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="one of each seed")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument(
        "--nll", type=float, default=0.03, help="weight of the likelihood of what was won, in oreo-wins"
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/rejection_gain"))
    parser.add_argument("--only-report", action="store_true", help="run nothing")
    options = parser.parse_args()
    for arm in [] if options.only_report else options.arms:
        for run in options.runs:
            train(run, arm, options.nll, options.out / run.name)
    print(table(options.runs, options.out))


if __name__ == "__main__":
    main()
