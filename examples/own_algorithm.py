"""An algorithm of one's own, trained beside OREO on the same episodes: REINFORCE offline, tapered off policy.

After TOPR (Le Roux et al. 2025, arXiv:2503.14286): right answers are imitated as they are, wrong ones are pushed away
with the weight min(pi / ref, 1), so that what the policy would not say any more pushes no further.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import yaml

from oreo_agents import CausalPolicy, PromptFormat, Sampling
from oreo_agents.evaluation.evaluate import evaluate
from oreo_agents.runs.cli import main as oreo
from oreo_agents.search import Greedy
from oreo_algos import Batch, EpisodeBuffer, Models, TrainerConfig, train
from oreo_algos.algos import Losses
from oreo_algos.algos.base import EpisodeAlgorithm, score, transcript_log_ratio


@dataclass(frozen=True, kw_only=True)
class Topr(EpisodeAlgorithm):
    """Tapered off-policy REINFORCE.

    Attributes:
        wrong_weight: of wrong answers against right ones.
    """

    policy_lr: float = 3e-4
    wrong_weight: float = 0.3

    needs = frozenset({"reference"})

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """Mean over episodes of -weight * log pi."""
        scores = score(batch, models)
        taper = transcript_log_ratio(scores).detach().exp().clamp(max=1)
        weight = torch.where(batch.success, torch.ones_like(taper), -self.wrong_weight * taper)
        loss = -(weight * scores.logprobs.sum(dim=1)).mean()
        return Losses({"policy": loss}, {"taper": taper.mean().item()})


def main(folder: Path = Path("outputs/examples/own_algorithm")) -> None:
    """Let the command make a start, episodes and OREO; train on the same episodes from the same start; compare."""
    sys.argv = ["oreo", "run", "experiment=smoke", "algos=[oreo]", "search=[greedy]", f"hydra.run.dir={folder}"]
    oreo()

    start = str(folder / "sft" / "policy")
    policy = CausalPolicy.from_pretrained(start)
    models = Models(policy, reference=policy.frozen_copy())
    episodes = EpisodeBuffer.load(folder / "data" / "episodes")
    result = train(Topr(epochs=2, batch_size=32), models, episodes, TrainerConfig(), folder / "topr")
    print(f"{result.steps} steps, taper {result.metrics['train/taper']:.2f}")

    env = yaml.safe_load((folder / "config.yaml").read_text())["env"]
    [(_, items)] = evaluate(
        partial(gym.make, env["id"], split="test", **env["options"]),
        policy,
        PromptFormat.from_pretrained(start),
        {"greedy": Greedy()},
        range(32),
        Sampling(max_new_tokens=128),
        seed=0,
    )
    print(f"topr: {sum(item.correct for item in items)} of {len(items)} tasks solved; OREO's are in the table above")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
