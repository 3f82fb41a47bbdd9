"""What rejection sampling gains by in word problems, without a network; ``rejection_gain.py`` asks it of games.

    python benchmarks/imitation.py [--worlds 10 11 ...] [--problems 400]

As in ``population.py`` the policy is one number a verb of a miniature world (boxes), and descends each loss on 16
solutions of each problem: the likelihood of all, of as many as succeed whichever they are, of those that succeed; OREO
at the alpha of its recipe; and OREO with that likelihood beside it (``algo.nll_weight``). Printed, means over worlds
with t-intervals: greedy accuracy on 500 test problems, and that less the start, less rejection and less OREO.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from population import Data, accuracy, descend, draw, environment, oreo, rejection
from runs import mean_with_interval
from torch import Tensor

from oreo_algos.losses import nll_loss, partial_episode_mean

Loss = Callable[[Tensor], Tensor]
TESTED = 500


def likelihood(data: Data, *, shuffled: bool) -> Loss:
    """Likelihood of all solutions, or of those that others' success falls on."""
    order = torch.randperm(len(data.success), generator=torch.Generator().manual_seed(0))
    imitated = data.success[order] if shuffled else torch.ones_like(data.success)
    weights = (data.mask & imitated[:, None]).double()
    return lambda policy: nll_loss(data.logprobs(policy), weights)


def oreo_and_wins(data: Data, nll_weight: float = 0.0) -> Loss:
    """OREO, and as much of the negative log-likelihood of successes."""
    plain, won = oreo(data, alpha=0.003), data.mask & data.success[:, None]
    return lambda policy: plain(policy) + nll_weight * partial_episode_mean(-data.logprobs(policy), won)


LOSSES: dict[str, Callable[[Data], Loss]] = {
    "all": partial(likelihood, shuffled=False),
    "shuffled": partial(likelihood, shuffled=True),
    "rejection": rejection,
    "oreo": oreo_and_wins,
    **{f"oreo, nll_weight {w:g}": partial(oreo_and_wins, nll_weight=w) for w in (0.001, 0.003, 0.01, 0.03, 0.1)},
}


def main() -> None:
    """Draw, descend, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", type=int, default=list(range(10, 16)))
    parser.add_argument("--problems", type=int, default=400, help="train problems")
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    for world in options.worlds:
        data = draw(environment(world, "boxes", "train"), options.problems, 16, world)
        test = environment(world, "boxes", "test")
        found.setdefault("start", []).append(accuracy(test, data.reference, TESTED))
        for name, loss in LOSSES.items():
            found.setdefault(name, []).append(accuracy(test, descend(data, loss(data)), TESTED))
    others = ("start", "rejection", "oreo")
    print(f"| learns | greedy, % | {' | '.join(f'- {other}' for other in others)} |\n|---|---|---|---|---|")
    for name, own in found.items():
        cells = [name, mean_with_interval(own, "{:.1f}")]
        for other in others:
            less = (np.array(own) - np.array(found[other])).tolist()
            cells.append("" if name == other else mean_with_interval(less, "{:+.1f}"))
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
