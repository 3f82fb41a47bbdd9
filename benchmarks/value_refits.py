"""What a value of the policy that is searched with is worth: V learned anew on samples of OREO's own policy.

    python benchmarks/value_refits.py [--worlds 10 11 ...] [--runs FOLDER] [--sizes 5000 20000] [--out FOLDER]
    python benchmarks/value_refits.py --only-report

In each world of ``temperature.py --claims`` (``--runs``) samples of OREO's policy at temperature 1 are drawn once, 8
a train question, and of 300 test questions to judge by. Rows: OREO's V as it was trained; V learned on the episodes of
the start policy that OREO learned from; V learned on the policy's own samples, from its weights and an empty head or
carried on from OREO's V, by squares (what OREO's warm-up does), by cross-entropy, or with lambda-returns; or on as many
right as wrong ones of all samples (``errors``). Each learns for 1,000 updates of 32 episodes. Printed: within-question
ordering (the share of pairs of a right and a wrong sample of one question that V orders right) where half and where all
steps are done, and Brier's score, means over worlds with t-intervals, and paired with OREO's V.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import yaml
from runs import mean_with_interval
from scipy.special import expit
from torch import Tensor
from torch.nn import functional as F

from oreo_agents import CausalPolicy, PromptFormat, Sampling, TokenValue
from oreo_agents.episodes.collect import CollectSettings, collect
from oreo_agents.value_quality.figures import Reading, measure
from oreo_agents.value_quality.path import read_paths
from oreo_algos import Episode, EpisodeBuffer
from oreo_algos.batch import collate
from oreo_algos.losses import lambda_value_loss, masked_episode_mean, oreo_value_loss
from oreo_algos.segments import regroup, reward_to_go, step_values

UPDATES, ROWS, RATE = 1_000, 32, 2e-3
SAMPLES, TESTED = 8, 300
FIGURES = ("ordering/50%", "ordering/final", "brier/50%", "brier/final")

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of V before each token, rewards and the mask, [B, T]."""


def squares(values: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """Squared distance to the reward to come."""
    return oreo_value_loss(values, torch.zeros_like(values), reward_to_go(rewards, mask), mask, beta=1.0)


def cross_entropy(values: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of the outcome, V being its log-odds."""
    found = F.binary_cross_entropy_with_logits(values, reward_to_go(rewards, mask), reduction="none")
    return masked_episode_mean(found.masked_fill(~mask, 0), mask)


def lambda_returns(values: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """Squared distance to lambda-returns, lambda .95 a token."""
    return lambda_value_loss(values, torch.zeros_like(values), rewards, mask, beta=1.0, trace=0.95)


@dataclass(frozen=True)
class Fit:
    """How V is learned.

    Attributes:
        data: start, own or errors.
        loss: see above.
        carried: from OREO's V.
    """

    data: str
    loss: Loss = squares
    carried: bool = False

    @property
    def name(self) -> str:
        """Of its row."""
        return f"{self.data}, {self.loss.__name__}{', carried on' if self.carried else ''}"


FITS = [
    Fit("start"),
    Fit("own"),
    Fit("own", cross_entropy),
    Fit("own", lambda_returns),
    Fit("own", carried=True),
    Fit("errors"),
]


def samples(run: Path, policy: Path, split: str, questions: int, folder: Path) -> EpisodeBuffer:
    """Draw samples of a policy, or read those that were drawn."""
    if (folder / "metadata.json").exists():
        return EpisodeBuffer.load(folder)
    env = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["env"]
    sampling = Sampling(temperature=1.0, max_new_tokens=env["max_new_tokens"], batch_size=256)
    drawn = collect(
        partial(gym.make, env["id"], split=split, disable_env_checker=True, **env["options"]),
        CausalPolicy.from_pretrained(str(policy)),
        PromptFormat.from_pretrained(str(policy)),
        range(questions),
        CollectSettings(samples=SAMPLES, sampling=sampling),
        seed=1,
        selection_seed=1,
        provenance={},
    )
    drawn.save(folder)
    return drawn


def errors_of(buffer: EpisodeBuffer) -> EpisodeBuffer:
    """Keep all errors and as many right ones, of the same questions where there are."""
    rng = np.random.default_rng(0)
    wrong = np.flatnonzero(~buffer.columns.success)
    right = rng.permutation(np.flatnonzero(buffer.columns.success))
    mixed = np.isin(buffer.columns.task[right], buffer.columns.task[wrong])
    kept = np.concatenate([right[mixed], right[~mixed]])[: len(wrong)]
    return buffer[np.sort(np.concatenate([wrong, kept]))]


def learn(value: TokenValue, buffer: EpisodeBuffer, loss: Loss, updates: int = UPDATES) -> None:
    """Train V in place."""
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(value.parameters(), lr=RATE, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / 50, 1 - step / updates))
    episodes = list(buffer)
    order = np.concatenate([rng.permutation(len(episodes)) for _ in range(updates * ROWS // len(episodes) + 1)])
    for step in range(updates):
        batch = collate([episodes[i] for i in order[step * ROWS : (step + 1) * ROWS]])
        steps = regroup(batch, "token")
        optimizer.zero_grad()
        loss(step_values(value.token_values(batch), steps), steps.rewards, steps.step_mask).backward()
        torch.nn.utils.clip_grad_norm_(value.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def judge(value: TokenValue, tests: Sequence[Episode], *, log_odds: bool = False) -> dict[str, float | None]:
    """Return the figures of V on the test samples."""
    paths = read_paths(value, tests, 256)
    if log_odds:
        paths = [replace(path, values=expit(path.values)) for path in paths]
    found = measure([Reading(*one) for one in zip(tests, paths, strict=True)], beta=0.0, implicit=False)
    return {name: found[name].value for name in FIGURES}


def study(run: Path, algo: str, sizes: Sequence[int], out: Path) -> None:
    """Fit and judge what is missing of one world."""
    out.mkdir(parents=True, exist_ok=True)
    policy, own_value = run / algo / "policy", run / algo / "value"
    tests = list(samples(run, policy, "test", TESTED, out / "test"))
    done = {path.stem for path in out.glob("*.json")}

    def note(name: str, value: TokenValue, *, log_odds: bool = False) -> None:
        figures = judge(value, tests, log_odds=log_odds)
        (out / f"{name}.json").write_text(json.dumps(figures), encoding="utf-8")

    if "OREO's V" not in done:
        note("OREO's V", TokenValue.from_pretrained(str(own_value)))
    for size in sizes:
        drawn = samples(run, policy, "train", size // SAMPLES, out / f"train-{size}")
        for fit in FITS:
            name = fit.name if fit.data == "start" else f"{fit.name}, {size}"
            if name in done:
                continue
            sources = {"own": lambda drawn=drawn: drawn, "errors": lambda drawn=drawn: errors_of(drawn)}
            sources["start"] = lambda: EpisodeBuffer.load(run / "data" / "episodes")
            torch.manual_seed(0)
            value = TokenValue.from_pretrained(str(own_value)) if fit.carried else TokenValue.from_policy(str(policy))
            learn(value, sources[fit.data](), fit.loss)
            note(name, value, log_odds=fit.loss is cross_entropy)
            done.add(name)


def report(folders: Sequence[Path]) -> str:
    """Write the table, means over worlds and differences from OREO's V."""
    worlds = [{path.stem: json.loads(path.read_text(encoding="utf-8")) for path in f.glob("*.json")} for f in folders]
    names = [name for name in dict.fromkeys(name for world in worlds for name in sorted(world)) if name != "OREO's V"]
    head = " | ".join(f"{figure} | less OREO's V" for figure in FIGURES)
    lines = [f"| V | worlds | {head} |", f"|---|---:|{'---|' * 2 * len(FIGURES)}"]
    for name in ["OREO's V", *names]:
        cells = []
        for figure in FIGURES:
            pairs = [(world[name][figure], world["OREO's V"][figure]) for world in worlds if name in world]
            known = [(mine, base) for mine, base in pairs if mine is not None and base is not None]
            if not known:
                cells += ["", ""]
                continue
            cells += [f"{np.mean([mine for mine, _ in known]):.3f}"]
            cells += [mean_with_interval([mine - base for mine, base in known], "{:+.3f}") if name in names else ""]
        lines.append(f"| {name} | {sum(name in world for world in worlds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Fit what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", type=int, default=list(range(10, 16)))
    parser.add_argument("--runs", type=Path, default=Path("outputs/temperature"), help="of temperature.py --claims")
    parser.add_argument("--algo", default="oreo-lower-alpha", help="whose policy, of those runs")
    parser.add_argument("--sizes", nargs="+", type=int, default=[5_000], help="samples")
    parser.add_argument("--out", type=Path, default=Path("outputs/value-refits"))
    parser.add_argument("--only-report", action="store_true", help="run nothing")
    options = parser.parse_args()
    folders = [options.out / f"world-{world}" for world in options.worlds]
    for world, folder in zip(options.worlds, folders, strict=True):
        if not options.only_report:
            study(options.runs / f"claim-{world}", options.algo, options.sizes, folder)
    print(report([folder for folder in folders if (folder / "OREO's V.json").exists()]))


if __name__ == "__main__":
    main()
