"""A search of one's own beside those that are there, all choosing among the same samples by OREO's value.

``MedianVote`` distrusts the greatest V, which may be that of a rare error: it takes the answer of the vote, but only
among samples whose V is at least the median.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import yaml

from oreo_agents import CausalPolicy, PromptFormat, Sampling, TokenValue
from oreo_agents.evaluation.evaluate import evaluate
from oreo_agents.runs.cli import main as oreo
from oreo_agents.search import BestOfN, Greedy, Majority
from oreo_agents.search.samples import SampleSearch
from oreo_algos import Episode


@dataclass(frozen=True, kw_only=True)
class MedianVote(SampleSearch):
    """A majority vote of the half of the samples that V thinks better."""

    needs_value = True

    def choose(self, episodes: Sequence[Episode], values: np.ndarray, answers: Sequence[str | None]) -> int:
        """Return the index of the answer to give; the outcome of the samples must not be looked at."""
        better = [i for i, value in enumerate(values) if value >= np.median(values)]
        votes = [answers[i] for i in better]
        return max(better, key=lambda i: (answers[i] is not None, votes.count(answers[i])))


def main(folder: Path = Path("outputs/examples/search_by_value")) -> None:
    """Train a small OREO, then answer the same tasks in four ways."""
    sys.argv = ["oreo", "run", "experiment=smoke", "algos=[oreo]", "search=[greedy]", f"hydra.run.dir={folder}"]
    oreo()

    # The value guides the policy that it was fitted to first: the start.
    policy = CausalPolicy.from_pretrained(str(folder / "sft" / "policy"))
    value = TokenValue.from_pretrained(str(folder / "oreo" / "value"))
    env = yaml.safe_load((folder / "config.yaml").read_text())["env"]
    answered = evaluate(
        partial(gym.make, env["id"], split="test", **env["options"]),
        policy,
        PromptFormat.from_pretrained(str(folder / "sft" / "policy")),
        {"greedy": Greedy(), "majority": Majority(), "best_of_n": BestOfN(), "median_vote": MedianVote()},
        range(64),
        Sampling(max_new_tokens=128),
        seed=0,
        value=value,
    )
    for name, items in answered:
        tokens = sum(item.tokens for item in items) / len(items)
        print(f"{name:<12} {sum(item.correct for item in items):>2} of {len(items)} solved, {tokens:.0f} tokens a task")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
