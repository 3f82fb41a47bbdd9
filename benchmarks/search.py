"""Which rule of choice makes a search pay: every rule over the same samples, in the worlds of benchmarks/miniature.py.

    python benchmarks/search.py [--worlds 10 11 ...] [--answers boxes exact] [--split test] [--tasks 250] [--out FOLDER]
    python benchmarks/search.py --only-report

For each world and kind of answer, unless it lies there: ``oreo run`` trains the start and OREO; 64 samples a task of
both policies at the temperature of the searches, V of each by OREO's value, log pi and the answer that it comes to, are
drawn once (``<answer>-<world>-<split>-<policy>/``, some tasks a file; killed and started again, it goes on). Then every
rule chooses among the first, second, ... K of them, which is what the searches of the suite do: a task counts the share
of its 64 / K choices that are right. Printed: accuracy less that of greedy and of a majority of as many samples, in
points, paired by task, with intervals over worlds (of one world over tasks). Rules and tau are chosen on world 20,
split dev; claims are made on 10 to 15.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import yaml
from miniature import TUNED
from numpy.typing import NDArray
from runs import oreo

from oreo_agents import CausalPolicy, PromptFormat, Sampling, TokenValue
from oreo_agents.evaluation.statistics import RunKey, accuracy, compare
from oreo_agents.search import Player
from oreo_agents.search.log_policy import log_policy_of
from oreo_agents.search.scoring import Scored

DRAWS, TEMPERATURE = 64, 0.7
AT_ONCE = 25
SIZES = (2, 4, 8, 16, 32, 64)
TAUS = (0.03, 0.05, 0.1, 0.2, 0.3, 1.0)
POLICIES = ("sft", "oreo")
_LEAST = ("workers=1", "evaluate.tasks=300")

Sheet = dict[str, NDArray[Any]]
"""Of the samples of one policy in one world: arrays [tasks, draws], and ``greedy_*`` [tasks]."""


def fill(run: Path, name: str, split: str, tasks: int, folder: Path) -> None:
    """Draw the samples of one policy for as many tasks as are missing, a few at a time."""
    folder.mkdir(exist_ok=True)
    while (done := len(load(folder).get("tokens", ()))) < tasks:
        draw(run, name, split, range(done, min(done + AT_ONCE, tasks)), folder / f"{done:05}.npz")


def load(folder: Path) -> Sheet:
    """Read what was drawn."""
    pieces = [dict(np.load(path)) for path in sorted(folder.glob("*.npz"))]
    return {what: np.concatenate([piece[what] for piece in pieces]) for what in (pieces[0] if pieces else ())}


def draw(run: Path, name: str, split: str, tasks: range, path: Path) -> None:
    """Draw the samples of some tasks, and write down what rules may ask of them, and whether they are right."""
    env = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["env"]
    folder = str(run / name / "policy")
    policy = CausalPolicy.from_pretrained(folder)
    player = Player(
        partial(gym.make, env["id"], split=split, disable_env_checker=True, **env["options"]),
        policy,
        PromptFormat.from_pretrained(folder),
        tasks,
        Sampling(max_new_tokens=env.get("max_new_tokens") or 256, batch_size=256),
        seed=1,
        value=TokenValue.from_pretrained(str(run / "oreo" / "value")),
    )
    found: dict[str, list[Any]] = {}
    for prefix, key in (("greedy_", (1, 0.0)), ("", (DRAWS, TEMPERATURE))):
        for drawn, judged, answers in zip(
            player.samples(*key), player.final_values(*key), player.final_answers(*key), strict=True
        ):
            numbers = {answer: number for number, answer in enumerate(dict.fromkeys(answers)) if answer is not None}
            row = {
                "correct": [episode.success for episode in drawn],
                "sound": [bool(episode.info.get("sound")) for episode in drawn],
                "ended": [episode.terminated for episode in drawn],
                "value": [judgement.value for judgement in judged],
                "log_policy": log_policy_of(policy, drawn),
                "tokens": [episode.num_action_tokens for episode in drawn],
                "answer": [numbers.get(answer, -1) for answer in answers],
            }
            for what, column in row.items():
                found.setdefault(prefix + what, []).append(column)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **{what: np.array(rows) for what, rows in found.items()})
    part.rename(path)


# Rules: which of K samples is taken, as weights [tasks, choices, K] that add up to 1.

Rule = Callable[[Sheet], NDArray[np.float64]]


def one(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the first of the greatest scores."""
    return np.eye(scores.shape[-1])[scores.argmax(axis=-1)]


def finished(sheet: Sheet, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave out unfinished samples where there is another."""
    return np.where(sheet["ended"] | ~sheet["ended"].any(axis=-1, keepdims=True), scores, -np.inf)


def same(sheet: Sheet) -> NDArray[np.bool_]:
    """Say which samples give the same answer, [..., K, K]; one without an answer is alone."""
    answer = sheet["answer"]
    alike = (answer[..., :, None] == answer[..., None, :]) & (answer[..., :, None] >= 0)
    return alike | np.eye(answer.shape[-1], dtype=bool)


def votes(sheet: Sheet) -> NDArray[np.int64]:
    """Count the samples with the same answer."""
    return same(sheet).sum(axis=-1)


def majority(sheet: Sheet) -> NDArray[np.float64]:
    """Take the commonest answer."""
    return one(np.where(sheet["answer"] >= 0, votes(sheet), 0).astype(float))


def scored(sheet: Sheet, **settings: Any) -> NDArray[np.float64]:
    """Take the greatest ``V + tau * log prior``."""
    scores = Scored.scores(
        _Rule(**settings),
        sheet["value"],
        log_policy=sheet["log_policy"],
        tokens=sheet["tokens"],
        votes=votes(sheet),
    )
    return one(finished(sheet, scores))


class _Rule(Scored):
    """Settings of a rule."""

    answer = size = sized = None  # type: ignore[assignment]


def weighted(sheet: Sheet, tau: float) -> NDArray[np.float64]:
    """Take the answer of the greatest sum of V, or of ``exp(V / tau)``."""
    voters = sheet["ended"] & (sheet["answer"] >= 0)
    weight = np.exp((sheet["value"] - sheet["value"].max()) / tau) if tau else np.maximum(sheet["value"], 0)
    total = (same(sheet) * (weight * voters)[..., None, :]).sum(axis=-1)
    return one(finished(sheet, np.where(voters, total, -1.0)))


def resampled(sheet: Sheet, tau: float) -> NDArray[np.float64]:
    """Draw by ``exp(V / tau)``."""
    scores = finished(sheet, sheet["value"])
    weights = np.exp((scores - scores.max(axis=-1, keepdims=True)) / tau)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def rules() -> dict[str, Rule]:
    """Return all rules by name."""
    found: dict[str, Rule] = {
        "one sample": lambda sheet: np.full(sheet["value"].shape, 1 / sheet["value"].shape[-1]),
        "majority": majority,
        "best_of_n tau=0": partial(scored, tau=0.0),
        "weighted_vote tau=0": partial(weighted, tau=0.0),
    }
    for prior in ("policy", "policy_mean", "votes"):
        found |= {f"best_of_n {prior} tau={tau:g}": partial(scored, tau=tau, prior=prior) for tau in TAUS}
    found["log pi alone"] = partial(scored, tau=1e6, prior="policy")
    found |= {f"weighted_vote tau={tau:g}": partial(weighted, tau=tau) for tau in TAUS}
    return found | {f"resample tau={tau:g}": partial(resampled, tau=tau) for tau in TAUS}


def shares(sheet: Sheet, rule: Rule, size: int, what: str) -> NDArray[np.float64]:
    """Return how often the choice among ``size`` samples is right, by task, [tasks]."""
    cut = {
        name: column.reshape(len(column), -1, size) for name, column in sheet.items() if not name.startswith("greedy_")
    }
    return np.asarray((rule(cut) * cut[what]).sum(axis=-1).mean(axis=-1))


def table(sheets: Sequence[Sheet], title: str, what: str, only: str = "") -> str:
    """Write the rules against greedy and against a majority of as many samples."""

    def answers(rows: Sequence[NDArray[np.float64]]) -> dict[RunKey, dict[str, float]]:
        return {RunKey(str(w)): {str(t): float(x) for t, x in enumerate(row)} for w, row in enumerate(rows)}

    def cell(first: Any, second: Any) -> str:
        found = compare(first, second)
        assert found is not None
        return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"

    greedy = answers([sheet[f"greedy_{what}"][:, 0].astype(float) for sheet in sheets])
    lines = [f"### {title}, {what}; greedy {100 * accuracy(greedy).mean:.1f}%, {len(sheets)} worlds", ""]
    for label, against in (("greedy", None), ("a majority of as many", "majority")):
        lines += [f"| less {label} | {' | '.join(f'K={size}' for size in SIZES)} |", f"|---|{'---:|' * len(SIZES)}"]
        for name, rule in rules().items():
            if name == against or (only and only not in name and name not in ("majority", "best_of_n tau=0")):
                continue
            cells = []
            for size in SIZES:
                base = greedy
                if against is not None:
                    base = answers([shares(sheet, rules()[against], size, what) for sheet in sheets])
                cells.append(cell(answers([shares(sheet, rule, size, what) for sheet in sheets]), base))
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Train and draw what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", type=int, default=list(range(10, 16)))
    parser.add_argument("--answers", nargs="+", choices=("boxes", "exact"), default=["boxes"])
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--split", default="test")
    parser.add_argument("--tasks", type=int, default=250)
    parser.add_argument("--only", default="", help="print only rules whose name holds this")
    parser.add_argument("--out", type=Path, default=Path("outputs/search"))
    parser.add_argument("--only-report", action="store_true", help="train and draw nothing")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for answer in options.answers:
        sheets: dict[str, list[Sheet]] = {name: [] for name in options.policies}
        for world in options.worlds:
            run = options.out / f"{answer}-{world}"
            here = [f"env.options.answer={answer}", f"env.options.world={world}"]
            if not options.only_report:
                oreo(run, "run", "experiment=miniature", *here, *TUNED[answer], "algos=[oreo]", *_LEAST)
            for name in options.policies:
                folder = options.out / f"{answer}-{world}-{options.split}-{name}"
                if not options.only_report:
                    fill(run, name, options.split, options.tasks, folder)
                if sheet := load(folder):
                    sheets[name].append(sheet)
        for name, found in sheets.items():
            for what in ("correct", "sound") if found else ():
                print(table(found, f"{answer}, {name}, {options.split}", what, options.only))


if __name__ == "__main__":
    main()
