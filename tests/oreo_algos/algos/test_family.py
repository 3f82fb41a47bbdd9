"""The family tree of docs/algorithms.md: what each algorithm does to a policy that still is the reference.

There every loss is REINFORCE: its gradient is that of ``-mean_i w_i log pi(response i)`` for weights that differ.
"""

import numpy as np
import pytest
import torch
from tabular import tiny_models

from oreo_algos import EpisodeBuffer
from oreo_algos.algos import (
    AsymRe,
    ConstantBaseline,
    DirectAdvantage,
    Dpo,
    Dqo,
    Grpo,
    ImplicitPrm,
    Kto,
    OptimalAdvantage,
    Oreo,
    Topr,
)
from oreo_algos.algos.kto import ReferencePoint
from oreo_algos.batch import collate
from oreo_algos.training.micro_batches import episodes_of

BETA = 0.3


@pytest.fixture
def models():
    return tiny_models(moved=False)


@pytest.fixture
def episodes(random_episodes, models):
    """Rewards of 0 and 1 at the end, sampled by the policy; both outcomes in each of two tasks."""
    found = []
    for number, e in enumerate(random_episodes(8, seed=7)):
        rewards = np.zeros(e.num_steps)
        rewards[-1] = number % 3 == 0
        said = models.policy.score(collate([e])).logprobs[0].detach().numpy()
        changes = {"task_id": f"task-{number % 2}", "rewards": rewards, "behavior_logprobs": said, "loss_mask": None}
        found.append(type(e)(**vars(e) | changes | {"success": bool(rewards[-1])}))
    return found


def gradient(models, loss):
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(models.policy.parameters()))])


def reinforce(models, episodes, weights):
    """The gradient of minus the mean of ``w_i log pi(response i)``."""
    logprobs = models.policy.score(collate(episodes)).logprobs.sum(dim=1)
    return gradient(models, -(torch.tensor(weights, dtype=logprobs.dtype) * logprobs).mean())


def first(algorithm, models, episodes, context=None):
    """The gradient of an algorithm on these episodes."""
    batch = collate(episodes, extra=algorithm.extra)
    return gradient(models, algorithm.losses(batch, models, context).terms["policy"])


def assert_same(found, expected):
    assert expected.norm() > 1e-3
    assert (found - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_a_constant_is_the_baseline(models, episodes, baseline):
    models.numbers = {"baseline": baseline}
    algorithm = ConstantBaseline(beta=BETA, alpha=0.0, granularity="response")
    weights = [2 * BETA * (e.total_reward - baseline) for e in episodes]
    assert_same(first(algorithm, models, episodes), reinforce(models, episodes, weights))


def test_a_held_value_is_the_baseline(models, episodes):
    algorithm = DirectAdvantage(beta=BETA, granularity="response")
    starts = [models.value.token_values(collate([e]))[0, int(np.argmax(e.step_id >= 0))].item() for e in episodes]
    weights = [2 / BETA * (e.total_reward - value) for e, value in zip(episodes, starts, strict=True)]
    assert_same(first(algorithm, models, episodes), reinforce(models, episodes, weights))


@pytest.mark.parametrize(
    ("algorithm", "context", "scale"),
    [(ImplicitPrm(beta=BETA), None, BETA), (Kto(beta=BETA), ReferencePoint(torch.tensor(0.0), 1.0), BETA / 2)],
    ids=["implicit-prm", "kto"],
)
def test_labels_are_compared_with_a_half(models, episodes, algorithm, context, scale):
    weights = [scale * (e.success - 0.5) for e in episodes]
    assert_same(first(algorithm, models, episodes, context), reinforce(models, episodes, weights))


@pytest.mark.parametrize("options", [{}, {"loss_type": "ipo"}, {"loss_type": "hinge"}])
def test_pairs_are_compared_with_each_other(models, episodes, options):
    algorithm = Dpo(beta=BETA, max_pairs=100, **options)
    pairs = algorithm.select(EpisodeBuffer(episodes), np.random.default_rng(0))
    rows = episodes_of(pairs)
    scale = {"ipo": 2 / BETA, "hinge": 2 * BETA}.get(options.get("loss_type"), BETA)
    length = [e.num_action_tokens if options.get("loss_type") == "ipo" else 1 for e in rows]
    weights = [scale * (1 if n % 2 == 0 else -1) / length[n] for n in range(len(rows))]
    assert_same(first(algorithm, models, rows), reinforce(models, rows, weights))


def test_a_group_is_compared_with_its_mean(models, episodes):
    algorithm = Grpo(scale_by_deviation=False)
    chosen = algorithm.select(EpisodeBuffer(episodes), np.random.default_rng(0))
    means = {task: np.mean([e.total_reward for e in episodes if e.task_id == task]) for task in ("task-0", "task-1")}
    weights = [(e.total_reward - means[e.task_id]) / e.num_action_tokens for e in chosen]
    assert len(chosen) == len(episodes)
    assert_same(first(algorithm, models, chosen), reinforce(models, chosen, weights))


@pytest.mark.parametrize(
    ("algorithm", "weight"),
    [
        (AsymRe(baseline=0.4, delta_v=-0.1), lambda reward, soft: reward - 0.4 + 0.1),
        (Topr(), lambda reward, soft: reward - 0.5),
        (OptimalAdvantage(beta=BETA, value_beta=0.2), lambda reward, soft: 2 * BETA * (reward - soft)),
    ],
    ids=["asymre", "topr", "optimal-advantage"],
)
def test_returns_are_compared_with_a_number_or_with_the_soft_maximum_of_the_task(models, episodes, algorithm, weight):
    chosen = algorithm.select(EpisodeBuffer(episodes), np.random.default_rng(0))
    returns = {task: [e.total_reward for e in episodes if e.task_id == task] for task in ("task-0", "task-1")}
    soft = {task: 0.2 * np.log(np.mean(np.exp(np.array(own) / 0.2))) for task, own in returns.items()}
    weights = [weight(e.total_reward, soft[e.task_id]) for e in episodes]
    assert_same(first(algorithm, models, chosen), reinforce(models, episodes, weights))


def test_one_step_residuals_are_one_family_everywhere(episodes):
    """Not at the reference alone: OREO's one-step policy loss, DQO's, and direct advantage times beta squared."""
    models, batch = tiny_models(), collate(episodes)
    one_step = {
        "oreo": Oreo(beta=BETA, alpha=0.0, consistency="one_step"),
        "dqo": Dqo(beta=BETA),
        "direct": DirectAdvantage(beta=BETA, granularity="token"),
    }
    found = {name: each.losses(batch, models).metrics["losses/policy"] for name, each in one_step.items()}
    assert found["oreo"] == pytest.approx(found["dqo"], rel=1e-9)
    assert found["direct"] * BETA**2 == pytest.approx(found["dqo"], rel=1e-9)
