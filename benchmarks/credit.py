"""Where a value can help at all: OREO's policy loss with an exact value and with means of samples, without a network.

    python benchmarks/credit.py [--worlds 10 11 ...] [--problems 500] [--solutions 16] [--alpha 0.003] [--beta 0.03]

As in ``population.py`` the policy is one number a verb of a miniature world, and descends OREO's policy loss on the
solutions of others. V is exact (what rewards and log-ratios to come are, given all that was seen), the exact chance of
success alone (``reward``), the mean reward of all solutions (``oreo-constant``), of the problem's, or of those that
came to the same total before the same verb. The greedy policy's chance of success on 1,000 test problems, from all that
may happen: what is not there with an exact value, no learned one can find. The settings:

    usual       three to five verbs, as in ``miniature.py``
    long        eight to ten
    events      after each verb, with a chance of .3, a whole box is added or lost, and everybody sees it
    mixture     a third each of the solutions by the start, by an expert (.97 right), and by one who is right half
                as often as the start
    all         long, with events, of a mixture
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from population import Data, binary_kl, descend, environment
from torch import Tensor

from oreo_agents.evaluation.statistics import RunKey, compare
from oreo_algos.losses import oreo_policy_loss
from oreo_envs.arithmetic import ArithmeticEnv, Problem

EVENT_CHANCE, EXPERT = 0.3, 0.97
MIDDLE = 128
"""Place of total 0 in arrays of totals."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """What the problems and the solvers are like.

    Attributes:
        verbs: least and greatest number of verbs.
        event: chance that a box is added or lost after a verb.
        mixed: three kinds of solvers in place of one.
    """

    verbs: tuple[int, int] = (3, 5)
    event: float = 0.0
    mixed: bool = False


SETTINGS = {
    "usual": Setting(),
    "long": Setting(verbs=(8, 10)),
    "events": Setting(event=EVENT_CHANCE),
    "mixture": Setting(mixed=True),
    "all": Setting((8, 10), EVENT_CHANCE, True),
}


@dataclass(frozen=True)
class Credit:
    """Solutions with what V may know of each of their states.

    Attributes:
        data: the solutions; ``chance`` is that of the whole mixture, given what was read before.
        solvers: probability of each kind of solver given what was read before, float [A, E, K].
        rates: probability that a solver of a kind reads a verb right, float [A, verbs].
        state: number of (problem, verb, total), int [E, K], -1 on padding.
    """

    data: Data
    solvers: Tensor
    rates: Tensor
    state: Tensor


def world_of(world: int, setting: Setting, split: str) -> ArithmeticEnv:
    """Make the environment of a setting."""
    env = environment(world, "boxes", split)
    env.rules = replace(env.rules, verbs_per_problem=setting.verbs)
    return env


def solvers_of(env: ArithmeticEnv, setting: Setting) -> Floats:
    """Return how often each kind of solver reads each verb right, [A, verbs]; the first is the start."""
    start = np.asarray(env.reliabilities)
    return np.stack([start, np.full_like(start, EXPERT), start / 2]) if setting.mixed else start[None]


def _shifted(values: Floats, by: int) -> Floats:
    """Return ``values`` of the totals that are greater by so much."""
    return np.roll(values, -by)


def _after_event(values: Floats, setting: Setting, box: int) -> Floats:
    """Return what a total is worth before the event that follows it."""
    either = (_shifted(values, box) + _shifted(values, -box)) / 2
    return (1 - setting.event) * values + setting.event * either


def chances(problem: Problem, rates: Floats, setting: Setting) -> Floats:
    """Return the chance of success before each verb and at the end at every total, [K + 1, totals]."""
    assert problem.box is not None
    totals = np.arange(2 * MIDDLE) - MIDDLE
    found = [(totals // problem.box == problem.answer).astype(float)]
    for verb, amount in reversed(list(zip(problem.verbs, problem.amounts, strict=True))):
        after = _after_event(found[0], setting, problem.box)
        right, tempting = problem.world.right[verb].change(amount), problem.world.tempting[verb].change(amount)
        found.insert(0, rates[verb] * _shifted(after, right) + (1 - rates[verb]) * _shifted(after, tempting))
    return np.stack(found)


def draw(env: ArithmeticEnv, setting: Setting, problems: int, solutions: int, seed: int) -> Credit:
    """Draw solutions of train problems."""
    rng = np.random.default_rng(seed)
    rates = solvers_of(env, setting)
    longest = setting.verbs[1]
    rows: dict[str, list[NDArray[np.generic]]] = {}
    for index in range(problems):
        problem = env.problem(index)
        verbs, amounts = np.array(problem.verbs), problem.amounts
        k, box = len(verbs), problem.box
        worth = np.stack([chances(problem, rate, setting) for rate in rates])
        kind = rng.integers(len(rates), size=solutions)
        right = rng.random((solutions, k)) < rates[kind][:, verbs]
        events = rng.choice(
            [-1, 0, 1], size=(solutions, k), p=[setting.event / 2, 1 - setting.event, setting.event / 2]
        )
        change = np.array(
            [
                [w[v].change(a) for v, a in zip(verbs, amounts, strict=True)]
                for w in (env.world.tempting, env.world.right)
            ]
        )
        moves = change[right.astype(int), np.arange(k)] + events * box
        totals = problem.start + np.concatenate([np.zeros((solutions, 1), int), moves.cumsum(axis=1)], axis=1)
        likelihood = np.where(right[None], rates[:, None, verbs], 1 - rates[:, None, verbs])
        before = np.concatenate([np.ones((len(rates), solutions, 1)), likelihood.cumprod(axis=2)], axis=2)
        posterior = before / before.sum(axis=0)
        at = worth[:, np.arange(k + 1), totals + MIDDLE]
        pad = ((0, 0), (0, longest - k))
        row = {
            "verb": np.pad(np.tile(verbs, (solutions, 1)), pad),
            "right": np.pad(right, pad),
            "mask": np.pad(np.ones((solutions, k), bool), pad),
            "success": at[0, :, -1] > 0.5,
            "chance": np.pad((posterior * at).sum(axis=0)[:, :-1], pad),
            "problem": np.full(solutions, index),
            "state": np.pad(
                (index * 16 + np.arange(k)) * 2 * MIDDLE + totals[:, :-1] + MIDDLE, pad, constant_values=-1
            ),
            "solvers": np.pad(posterior[:, :, :-1], ((0, 0), *pad)).transpose(1, 2, 0),
        }
        for name, column in row.items():
            rows.setdefault(name, []).append(column)
    stacked = {name: torch.from_numpy(np.concatenate(columns)) for name, columns in rows.items()}
    state, solvers = stacked.pop("state"), stacked.pop("solvers").permute(2, 0, 1)
    data = Data(**stacked, best=stacked["chance"], reference=torch.from_numpy(rates[0]))
    return Credit(data, solvers, torch.from_numpy(rates), state)


def exact(credit: Credit, policy: Tensor, beta: float) -> Tensor:
    """Return what V learns from: rewards less ``beta`` times the log-ratios to come, in the mean, [E, K]."""
    data = credit.data
    lost = binary_cross(credit.rates, data.reference, policy)[:, data.verb] * data.mask
    ahead = lost.flip(2).cumsum(2).flip(2)
    return data.chance + beta * (credit.solvers * ahead).sum(dim=0)


def binary_cross(rates: Tensor, reference: Tensor, policy: Tensor) -> Tensor:
    """Return log pi_ref - log pi in the mean over the readings of each kind of solver, nats, [A, verbs]."""
    return rates * (reference / policy).log() + (1 - rates) * ((1 - reference) / (1 - policy)).log()


def reward(credit: Credit, policy: Tensor, beta: float) -> Tensor:
    """Return the chance of success, which leaves log-ratios to come out, [E, K]."""
    return credit.data.chance


def constant(credit: Credit, policy: Tensor, beta: float) -> Tensor:
    """Return the mean reward of all, [E, K]."""
    return torch.full_like(credit.data.chance, credit.data.success.double().mean().item())


def question(credit: Credit, policy: Tensor, beta: float) -> Tensor:
    """Return the mean reward of the problem's, [E, K]."""
    return credit.data.of_problem(credit.data.success.double())[:, None].expand_as(credit.data.chance)


def state(credit: Credit, policy: Tensor, beta: float) -> Tensor:
    """Return the mean reward of those in the same state, of a state that one was in as of its problem, [E, K]."""
    numbers, place = credit.state.unique(return_inverse=True)
    won = credit.data.success.double()[:, None].expand_as(credit.data.chance)
    zeros = torch.zeros(len(numbers), dtype=torch.float64)
    count = zeros.index_add(0, place.ravel(), torch.ones_like(won).ravel())
    means = zeros.index_add(0, place.ravel(), won.ravel()) / count
    return torch.where(count[place] > 1, means[place], question(credit, policy, beta))


VALUES = {"exact": exact, "reward": reward, "state": state, "question": question, "constant": constant}


def loss_of(credit: Credit, value: Callable[..., Tensor], beta: float, alpha: float) -> Callable[[Tensor], Tensor]:
    """Return OREO's policy loss with a value."""
    data = credit.data
    returns = data.success[:, None].double().expand_as(data.chance)

    def loss(policy: Tensor) -> Tensor:
        values = value(credit, policy.detach(), beta)
        squares = oreo_policy_loss(values, data.ratios(policy), returns, data.mask, beta=beta)
        divergence = binary_kl(policy, data.reference)[data.verb] * data.mask
        return squares + alpha * (divergence.sum(dim=1) / data.mask.sum(dim=1)).mean()

    return loss


def greedy_chance(env: ArithmeticEnv, policy: Tensor, setting: Setting, problems: int = 1_000) -> float:
    """Return the greedy policy's chance of success, a mean over test problems."""
    rates = (policy > 0.5).double().numpy()
    asked = [env.problem(index) for index in range(problems)]
    return float(np.mean([chances(problem, rates, setting)[0, problem.start + MIDDLE] for problem in asked]))


def compared(first: Sequence[float], second: Sequence[float]) -> str:
    """Write a paired difference over worlds, points."""
    rows = [{RunKey(str(w)): {"mean": x} for w, x in enumerate(numbers)} for numbers in (first, second)]
    found = compare(*rows)
    assert found is not None
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def main() -> None:
    """Draw, descend, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", type=int, default=list(range(10, 16)))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--problems", type=int, default=500, help="train problems")
    parser.add_argument("--solutions", type=int, default=16, help="of each problem")
    parser.add_argument("--alpha", type=float, default=0.003)
    parser.add_argument("--beta", type=float, default=0.03)
    options = parser.parse_args()
    against = ("reward", "question", "state")
    columns = ["start", "all right", *VALUES, *(f"exact - {other}" for other in against)]
    print(
        f"| {options.problems} problems x {options.solutions} | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}"
    )
    for name in options.settings:
        setting = SETTINGS[name]
        found: dict[str, list[float]] = {}
        for world in options.worlds:
            credit = draw(world_of(world, setting, "train"), setting, options.problems, options.solutions, seed=world)
            test = world_of(world, setting, "test")
            for which, policy in (
                ("start", credit.data.reference),
                ("all right", torch.ones_like(credit.data.reference)),
            ):
                found.setdefault(which, []).append(greedy_chance(test, policy, setting))
            for which, value in VALUES.items():
                policy = descend(credit.data, loss_of(credit, value, options.beta, options.alpha))
                found.setdefault(which, []).append(greedy_chance(test, policy, setting))
        cells = [f"{100 * np.mean(numbers):.1f}" for numbers in found.values()]
        cells += [compared(found["exact"], found[other]) for other in against]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
