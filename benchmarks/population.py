"""What each loss does to a policy without a network, in seconds, beside what networks came to.

    python benchmarks/population.py [--worlds 10 11 ...] [--answer boxes] [--settings]

The policy is one number a verb of a miniature world: the probability of the right reading, else the tempting one. It
begins as the sloppy solvers that wrote the data, the reference, and descends each of the suite's own losses on many of
their solutions, with an exact value function, until it stands still. What is then its greedy accuracy is what the loss
asks for: no capacity, no optimiser, no noise of a learned value. Where the networks' column agrees (correlation over
worlds), the loss decides; where it does not, learning does.

``--settings`` prints OREO's temperature: accuracy by alpha and beta, and ``beta + alpha / (2 beta)``, which by the
second order of the loss around the reference is the KL temperature that stands in place of beta.

``--shifts`` prints AsymRE's accuracy by delta_v and TOPR's by its baseline.

The networks' numbers are those of ``results/miniature``. DQO is left out: its value has no closed form here.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from oreo_agents.evaluation.statistics import mean_interval
from oreo_algos.losses import (
    advantage_weights,
    dpo_loss,
    kto_loss,
    nll_loss,
    oreo_policy_loss,
    reinforce_loss,
    tapered_weights,
    weighted_nll_loss,
)
from oreo_envs.arithmetic import ArithmeticEnv, Problem, Reading

ROOT = Path(__file__).resolve().parents[1]
STEPS, RATE = 300, 0.05
PAIRS_OF_A_PROBLEM = 6
EXPECTILE = 0.7


@dataclass(frozen=True)
class Data:
    """Solutions of the sloppy solvers, K verbs at most.

    Attributes:
        verb: whose reading is chosen, int [E, K].
        right: the reading is the right one, bool [E, K].
        mask: True on verbs, bool [E, K].
        success: of the answer, bool [E].
        chance: probability of success before each verb, float [E, K].
        best: the expectile of the same, one verb after the other, float [E, K + 1]: what the value of IQL is.
        problem: whose solution, int [E].
        reference: probability that a verb is read right, float [verbs].
    """

    verb: Tensor
    right: Tensor
    mask: Tensor
    success: Tensor
    chance: Tensor
    best: Tensor
    problem: Tensor
    reference: Tensor

    def ratios(self, policy: Tensor) -> Tensor:
        """Return log pi - log pi_ref of each reading, nats, float [E, K], 0 on padding."""
        both = torch.stack([(1 - policy) / (1 - self.reference), policy / self.reference]).log()
        return both[self.right.long(), self.verb] * self.mask

    def logprobs(self, policy: Tensor) -> Tensor:
        """Return log pi of each reading, nats, float [E, K], 0 on padding."""
        return torch.stack([1 - policy, policy]).log()[self.right.long(), self.verb] * self.mask

    def of_problem(self, numbers: Tensor) -> Tensor:
        """Return the mean of a number of each solution over those of its problem, [E]."""
        sums = torch.zeros(int(self.problem.max()) + 1, dtype=numbers.dtype).index_add(0, self.problem, numbers)
        return (sums / self.problem.bincount())[self.problem]

    def divergence(self, policy: Tensor) -> Tensor:
        """Return KL(pi || ref) before each verb, nats, float [E, K], 0 on padding."""
        return binary_kl(policy, self.reference)[self.verb] * self.mask


def binary_kl(first: Tensor, second: Tensor) -> Tensor:
    """KL divergence of two coins, nats."""
    return first * (first / second).log() + (1 - first) * ((1 - first) / (1 - second)).log()


def environment(world: int, answer: str, split: str, **others: Any) -> ArithmeticEnv:
    """Make the environment of a miniature world, with other options where they are given."""
    options: dict[str, Any] = {}
    for name in ("arithmetic", "miniature"):
        options |= yaml.safe_load((ROOT / "configs" / "env" / f"{name}.yaml").read_text(encoding="utf-8"))["options"]
    return ArithmeticEnv(**options | others | {"world": world, "answer": answer, "split": split})


def readings(problem: Problem, right: tuple[bool, ...]) -> list[Reading]:
    """Read each verb of a problem right, or as is tempting."""
    world = problem.world
    return [
        (world.right if is_right else world.tempting)[verb] for verb, is_right in zip(problem.verbs, right, strict=True)
    ]


def succeeds(problem: Problem, right: tuple[bool, ...]) -> bool:
    """Say whether the answer is right when the verbs are read so."""
    return problem.answer_of(problem.totals(readings(problem, right))[-1]) == problem.answer


def expectile(first: np.ndarray, second: np.ndarray, chance: float) -> np.ndarray:
    """Return the ``EXPECTILE`` of two outcomes, of which the second has a chance."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    up = EXPECTILE * np.where(second >= first, chance, 1 - chance)
    down = (1 - EXPECTILE) * np.where(second >= first, 1 - chance, chance)
    return (up * high + down * low) / (up + down)


def draw(env: ArithmeticEnv, problems: int, solutions: int, seed: int) -> Data:
    """Draw solutions of train problems, with the chance of success before each verb from all ways of reading."""
    rng = np.random.default_rng(seed)
    reliability = np.asarray(env.reliabilities)
    longest = 5
    names = ("verb", "right", "mask", "success", "chance", "best", "problem")
    rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for index in range(problems):
        problem = env.problem(index)
        k = len(problem.verbs)
        rate = reliability[list(problem.verbs)]
        ways = list(product((False, True), repeat=k))
        won = np.array([succeeds(problem, way) for way in ways], np.float64).reshape((2,) * k)
        # before[i][way[:i]] is the chance of success once i verbs are read.
        before, best = [won], [won]
        for i in reversed(range(k)):
            before.insert(0, before[0][..., 0] * (1 - rate[i]) + before[0][..., 1] * rate[i])
            best.insert(0, expectile(best[0][..., 0], best[0][..., 1], rate[i]))
        for _ in range(solutions):
            way = tuple((rng.random(k) < rate).astype(int).tolist())
            pad = (0, longest - k)
            rows["verb"].append(np.pad(problem.verbs, pad))
            rows["right"].append(np.pad(np.array(way, bool), pad))
            rows["mask"].append(np.arange(longest) < k)
            rows["success"].append(won[way] > 0)
            rows["chance"].append(np.pad([float(before[i][way[:i]]) for i in range(k)], pad))
            rows["best"].append(np.pad([float(best[i][way[:i]]) for i in range(k + 1)], pad))
            rows["problem"].append(np.array(index))
    stacked = {name: torch.from_numpy(np.stack(values)) for name, values in rows.items()}
    return Data(**stacked, reference=torch.from_numpy(reliability))


def rejection(data: Data) -> Callable[[Tensor], Tensor]:
    """Imitation of the successes."""
    weights = (data.mask & data.success[:, None]).double()

    def loss(policy: Tensor) -> Tensor:
        return nll_loss(data.logprobs(policy), weights)

    return loss


def kto(data: Data, beta: float = 0.5) -> Callable[[Tensor], Tensor]:
    """KTO; a policy that is no network knows what KL(pi || ref) of its own answers is."""

    def loss(policy: Tensor) -> Tensor:
        reference_point = data.divergence(policy).detach().sum(dim=1).mean()
        return kto_loss(data.ratios(policy).sum(dim=1), data.success, reference_point, beta=beta)

    return loss


def dpo(data: Data, beta: float = 0.5) -> Callable[[Tensor], Tensor]:
    """DPO on pairs of a success and a failure at the same problem."""
    rng = np.random.default_rng(0)
    chosen: list[int] = []
    rejected: list[int] = []
    problem, success = data.problem.numpy(), data.success.numpy()
    for rows in np.split(np.arange(len(problem)), np.flatnonzero(np.diff(problem)) + 1):
        wins, losses = rows[success[rows]], rows[~success[rows]]
        if len(wins) and len(losses):
            chosen += rng.choice(wins, PAIRS_OF_A_PROBLEM).tolist()
            rejected += rng.choice(losses, PAIRS_OF_A_PROBLEM).tolist()

    def loss(policy: Tensor) -> Tensor:
        ratio = data.ratios(policy).sum(dim=1)
        return dpo_loss(ratio[chosen], ratio[rejected], beta=beta)

    return loss


def oreo(data: Data, beta: float = 0.03, alpha: float = 0.01) -> Callable[[Tensor], Tensor]:
    """OREO, a verb a step: only at verbs has a solution a choice.

    The value that the first loss asks for is the mean of its targets under the reference,
    ``V(s_k) = P(success | s_k) + beta * sum_{i >= k} KL(ref || pi)``: readings do not hang on those before.
    """

    def loss(policy: Tensor) -> Tensor:
        ahead = (binary_kl(data.reference, policy)[data.verb] * data.mask).flip(1).cumsum(1).flip(1)
        return _oreo_loss(data, policy, data.chance + beta * ahead, beta, alpha)

    return loss


def constant(data: Data, beta: float = 0.03, alpha: float = 0.01) -> Callable[[Tensor], Tensor]:
    """OREO's policy loss with the mean reward as the value."""
    mean = torch.full_like(data.chance, data.success.double().mean().item())
    return lambda policy: _oreo_loss(data, policy, mean, beta, alpha)


def _oreo_loss(data: Data, policy: Tensor, values: Tensor, beta: float, alpha: float) -> Tensor:
    returns = data.success[:, None].double().expand_as(values)
    squares = oreo_policy_loss(values.detach(), data.ratios(policy), returns, data.mask, beta=beta)
    return squares + alpha * (data.divergence(policy).sum(dim=1) / data.mask.sum(dim=1)).mean()


def asymre(data: Data, delta_v: float = -0.1) -> Callable[[Tensor], Tensor]:
    """REINFORCE against the mean of a problem's solutions and a little less."""
    won = data.success.double()
    advantages = (won - data.of_problem(won) - delta_v)[:, None].expand_as(data.chance)
    return lambda policy: reinforce_loss(data.logprobs(policy), advantages, data.mask)


def topr(data: Data, baseline: float = 0.5) -> Callable[[Tensor], Tensor]:
    """REINFORCE in which failures count by how likely they still are."""
    advantages = data.success.double() - baseline

    def loss(policy: Tensor) -> Tensor:
        weights = tapered_weights(data.ratios(policy).sum(dim=1), advantages)
        whole = data.logprobs(policy).sum(dim=1, keepdim=True)
        return reinforce_loss(whole, advantages[:, None], data.mask[:, :1], weights=weights[:, None])

    return loss


def optimal_advantage(data: Data, beta: float = 0.03, value_beta: float = 0.5) -> Callable[[Tensor], Tensor]:
    """Regression on the advantage over the soft maximum of a problem's solutions."""
    won = data.success.double()
    advantages = (won - value_beta * data.of_problem((won / value_beta).exp()).log())[:, None]

    def loss(policy: Tensor) -> Tensor:
        ratio = data.ratios(policy).sum(dim=1, keepdim=True)
        return oreo_policy_loss(torch.zeros_like(advantages), ratio, advantages, data.mask[:, :1], beta=beta)

    return loss


def awr(data: Data, beta: float = 0.3) -> Callable[[Tensor], Tensor]:
    """Imitation weighed by what came of a solution, less the chance of success."""
    return _weighted(data, data.success[:, None].double() - data.chance, beta, 20.0)


def iql(data: Data, beta: float = 0.3) -> Callable[[Tensor], Tensor]:
    """Imitation weighed by how much a reading raised the expectile."""
    return _weighted(data, data.best[:, 1:] - data.best[:, :-1], beta, 100.0)


def _weighted(data: Data, advantages: Tensor, beta: float, bound: float) -> Callable[[Tensor], Tensor]:
    weights = advantage_weights(advantages, beta=beta, max_weight=bound)
    return lambda policy: weighted_nll_loss(data.logprobs(policy), weights, data.mask)


LOSSES = {
    "rejection": rejection,
    "kto": kto,
    "dpo": dpo,
    "oreo": oreo,
    "oreo-constant": constant,
    "asymre": asymre,
    "topr": topr,
    "optimal-advantage": optimal_advantage,
    "awr": awr,
    "iql": iql,
}


def descend(data: Data, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the policy at which the loss stands still, float [verbs]."""
    logits = torch.logit(data.reference).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(torch.sigmoid(logits)).backward()
        optimizer.step()
    return torch.sigmoid(logits.detach())


def accuracy(env: ArithmeticEnv, policy: Tensor, problems: int = 1_000) -> float:
    """Return the greedy accuracy of a policy on held-out problems, %."""
    asked = [env.problem(index) for index in range(problems)]
    right = (policy > 0.5).tolist()
    return 100 * float(np.mean([succeeds(problem, tuple(right[verb] for verb in problem.verbs)) for problem in asked]))


def networks(answer: str) -> dict[str, dict[int, float]]:
    """Return the networks' greedy accuracies of results/miniature by algorithm and world, %."""
    found = json.loads((ROOT / "benchmarks" / "results" / "miniature" / "results.json").read_text(encoding="utf-8"))
    return {
        rows["algo"]: {row["world"]: 100 * row["accuracy"] for row in rows["rows"]}
        for rows in found[answer]["algorithms"]
        if rows["search"] == "greedy"
    }


def compare(data: dict[int, Data], tests: dict[int, ArithmeticEnv], answer: str) -> None:
    """Print the table of losses."""
    nets = networks(answer)
    print(f"| greedy, %, {answer}, worlds {' '.join(map(str, data))} | population | networks | r over worlds |")
    print("|---|---|---|---:|")
    start = {world: accuracy(tests[world], rows.reference) for world, rows in data.items()}
    made = {"sft": start} | {
        name: {world: accuracy(tests[world], descend(rows, loss(rows))) for world, rows in data.items()}
        for name, loss in LOSSES.items()
    }
    for name, by_world in made.items():
        mine = list(by_world.values())
        theirs = [nets[name][world] for world in data if world in nets.get(name, {})]
        if len(theirs) == len(mine) > 2 and np.std(mine) > 0:
            agreement = f"{np.corrcoef(mine, theirs)[0, 1]:.2f}"
        else:
            agreement = "-"
        print(f"| {name} | {_row(mine)} | {_row(theirs)} | {agreement} |")


def _row(values: list[float]) -> str:
    if not values:
        return "-"
    if len(values) < 2:
        return " ".join(f"{value:.1f}" for value in values)
    low, high = mean_interval(values)
    return f"{np.mean(values):.1f} [{low:.1f}, {high:.1f}]: {' '.join(f'{value:.1f}' for value in values)}"


def temperatures(data: dict[int, Data], tests: dict[int, ArithmeticEnv]) -> None:
    """Print OREO's accuracy by its two temperatures."""
    print("| beta | alpha | beta + alpha / (2 beta) | oreo | oreo-constant |")
    print("|---:|---:|---:|---|---|")
    for beta, alpha in product((0.1, 0.03, 0.01), (0.1, 0.01, 0.001, 0.0)):
        cells = [
            _row([accuracy(tests[world], descend(rows, loss(rows, beta, alpha))) for world, rows in data.items()])
            for loss in (oreo, constant)
        ]
        print(f"| {beta} | {alpha} | {beta + alpha / (2 * beta):.3f} | {' | '.join(cells)} |")


def shifts(data: dict[int, Data], tests: dict[int, ArithmeticEnv]) -> None:
    """Print what a baseline does: AsymRE's delta_v, TOPR's number."""
    print("| loss | baseline | accuracy |")
    print("|---|---:|---|")
    for loss, numbers in ((asymre, (-1.0, -0.5, -0.2, -0.1, 0.0, 0.1)), (topr, (0.1, 0.25, 0.5, 0.75))):
        for number in numbers:
            made = [accuracy(tests[world], descend(rows, loss(rows, number))) for world, rows in data.items()]
            print(f"| {loss.__name__} | {number} | {_row(made)} |")


def main() -> None:
    """Draw, descend, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", type=int, default=list(range(10, 16)))
    parser.add_argument("--answer", choices=("boxes", "exact"), default="boxes")
    parser.add_argument("--problems", type=int, default=2_000, help="train problems")
    parser.add_argument("--solutions", type=int, default=16, help="of each problem")
    parser.add_argument("--settings", action="store_true", help="OREO's accuracy by alpha and beta")
    parser.add_argument("--shifts", action="store_true", help="AsymRE and TOPR by their baselines")
    options = parser.parse_args()
    torch.manual_seed(0)
    data = {
        world: draw(environment(world, options.answer, "train"), options.problems, options.solutions, world)
        for world in options.worlds
    }
    tests = {world: environment(world, options.answer, "test") for world in options.worlds}
    if options.settings:
        temperatures(data, tests)
    elif options.shifts:
        shifts(data, tests)
    else:
        compare(data, tests, options.answer)


if __name__ == "__main__":
    main()
