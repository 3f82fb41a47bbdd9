"""What rejection sampling gains in games: more training, which episodes are won, or credit for single actions.

    python benchmarks/rejection_gain.py RUN ... [--arms ...] [--nll 0.03] [--houses 0 1 2] [--out FOLDER]
    python benchmarks/rejection_gain.py RUN ... --only-report

RUN is a finished ``oreo run experiment=alfworld-generated`` (one of each seed), of which the supervised start and the
collected episodes are taken. Beside the run's own ``sft``, ``rejection``, ``oreo`` and ``sft-more`` learn from them:

    all         every episode, by likelihood: more training on what the policy does anyway
    shuffled    as many episodes as were won, whichever they are: labels shuffled among episodes
    within      labels shuffled among the samples of each game: which games are shown, and not which episodes
    wins        what was won, at OREO's rate and for as many updates as ``oreo`` makes
    oreo-wins   OREO as in RUN, and ``--nll`` times the negative log-likelihood of what was won

``all`` and the shuffled ones read about as many tokens as ``rejection`` of the run, at its rate. All play the games of
both splits greedily, in the houses of ``path=generated:SEED`` for each seed of ``--houses``. Killed, it
goes on.
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

GAMES = ["env=alfworld-small", "env.options.houses=0", "policy=tiny", "workers=1"]
IMITATION = ["algo=rejection", "algo.batch_size=16"]
ARMS = {
    "all": [*IMITATION, "algo.policy_lr=5e-4", "algo.epochs=3"],
    "shuffled": [*IMITATION, "algo.policy_lr=5e-4", "algo.epochs=6"],
    "within": [*IMITATION, "algo.policy_lr=5e-4", "algo.epochs=6"],
    "wins": [*IMITATION, "algo.policy_lr=2e-4", "algo.epochs=4"],
    "oreo-wins": [
        *("algo=oreo", "algo.policy_lr=2e-4", "algo.value_lr=6e-4", "algo.epochs=2", "algo.batch_size=16"),
        *("algo.value_warmup_steps=200", "algo.alpha=0.01"),
    ],
}
RELABELLED = ("all", "shuffled", "within")
OF_THE_RUN = ("sft", "rejection", "oreo", "sft-more")


def labels(arm: str, won: Sequence[bool], tasks: Sequence[int], rng: np.random.Generator) -> list[bool]:
    """Return whether an arm, one of ``RELABELLED``, calls each episode won, given its outcome and its task's number."""
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
        won, tasks = buffer.columns.success.tolist(), buffer.columns.task.tolist()
        called = labels(arm, won, tasks, np.random.default_rng(0))
        episodes = [
            replace(e, success=success, info={k: v for k, v in e.info.items() if k != "success"})
            for e, success in zip(buffer, called, strict=True)
        ]
        EpisodeBuffer(episodes, tokenizer_fingerprint=buffer.tokenizer_fingerprint).save(folder)
    return folder


def train(run: Path, arm: str, nll: float, out: Path) -> None:
    """Train an arm unless that has been done."""
    data = relabelled(run, arm, out / f"data-{arm}") if arm in RELABELLED else run / "data" / "episodes"
    asked = [*ARMS[arm], f"policy.path={run / 'sft' / 'policy'}", f"data={data}"]
    if arm == "oreo-wins":
        asked.append(f"algo.nll_weight={nll:g}")
    oreo(out / arm, "train", *GAMES, "env.path=generated", *asked, "evaluate.tasks=1")


def policy_of(run: Path, name: str, out: Path) -> Path:
    """Return where the policy of an arm, or of one of ``OF_THE_RUN``, is."""
    if name in OF_THE_RUN:
        return run / name / "policy"
    return out / name / ("oreo" if name == "oreo-wins" else "rejection") / "policy"


def answers(runs: Sequence[Path], name: str, houses: Sequence[int], out: Path) -> Answers:
    """Read the games that the policies of this name played, by run; {} unless all are there."""
    found: dict[RunKey, dict[str, float]] = {}
    for number, run in enumerate(runs):
        for seed in houses:
            folder = out / run.name / f"{name}-houses-{seed}"
            if not finished([folder]):
                return {}
            for file in sorted(folder.rglob("items-*-greedy.jsonl")):
                rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
                games = {f"{seed}/{row['task_id']}": float(row["correct"]) for row in rows}
                found.setdefault(RunKey(seed=number), {}).update(games)
    return found


def paired(first: Answers, second: Answers) -> str:
    """Write a paired difference, points."""
    found = compare(first, second)
    return "" if found is None else f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def table(runs: Sequence[Path], houses: Sequence[int], out: Path) -> str:
    """Return what is finished in all runs."""
    names = [*(f"{name}, of the run" for name in OF_THE_RUN), *ARMS]
    read = {name: answers(runs, name.partition(",")[0], houses, out) for name in names}
    found = {name: own for name, own in read.items() if own}
    others = [name for name in found if name.partition(",")[0] in (*OF_THE_RUN, "wins")]
    lines = [f"| | greedy, % | {' | '.join(f'- {name}' for name in others)} |", f"|---|---|{'---|' * len(others)}"]
    for name, own in found.items():
        made = accuracy(own)
        cells = [name, f"{100 * made.mean:.1f} [{100 * made.low:.1f}, {100 * made.high:.1f}]"]
        cells += ["" if name == other else paired(own, found[other]) for other in others]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train and play what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="one of each seed")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--nll", type=float, default=0.03, help="weight of the likelihood of wins in oreo-wins")
    parser.add_argument("--houses", nargs="+", type=int, default=[0, 1, 2], help="seeds of the houses that are played")
    parser.add_argument("--out", type=Path, default=Path("outputs/rejection_gain"))
    parser.add_argument("--only-report", action="store_true", help="run nothing")
    options = parser.parse_args()
    for name in [] if options.only_report else [*OF_THE_RUN, *options.arms]:
        for run in options.runs:
            out = options.out / run.name
            if name in ARMS:
                train(run, name, options.nll, out)
            for seed in options.houses:
                played = [f"env.path=generated:{seed}", f"policy.path={policy_of(run, name, out)}"]
                oreo(out / f"{name}-houses-{seed}", "eval", *GAMES, *played, "evaluate.tasks=500", "search=[greedy]")
    print(table(options.runs, options.houses, options.out))


if __name__ == "__main__":
    main()
