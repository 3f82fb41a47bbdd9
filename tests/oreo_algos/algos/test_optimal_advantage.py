"""Regression on the optimal advantage: it ends at the soft optimum, and its limits are other algorithms."""

import dataclasses

import numpy as np
import pytest
import torch
from bandit import (
    ANSWERS,
    COUNTS,
    SHARES,
    answered,
    bandit_buffer,
    bandit_episode,
    bandit_models,
    descend,
    logit_gradient,
)
from tabular import tiny_models

from oreo_algos import EpisodeBuffer
from oreo_algos.algos import ConstantBaseline, OptimalAdvantage
from oreo_algos.algos.baselines import soft_values
from oreo_algos.batch import collate

PAID = (0.0, 1.0, -0.5, 0.25)


def soft_value(beta, rewards=PAID):
    return beta * np.log(SHARES @ np.exp(np.array(rewards) / beta))


def test_with_one_temperature_and_samples_of_the_anchor_it_ends_at_the_soft_optimum():
    """pi*(y) = ref(y) exp((r(y) - V*) / beta), where every residual is 0."""
    beta = 0.5
    algorithm = OptimalAdvantage(beta=beta, value_beta=beta)
    models = descend(algorithm, bandit_models(), bandit_buffer(rewards=PAID))
    optimum = SHARES * np.exp((np.array(PAID) - soft_value(beta)) / beta)
    assert optimum.sum() == pytest.approx(1)
    np.testing.assert_allclose(answered(models), optimum, atol=1e-3)


def test_the_gradient_is_that_of_the_squares_with_two_temperatures():
    policy, reference = np.array([0.1, 0.5, 0.3, 0.1]), np.array([0.25, 0.25, 0.3, 0.2])
    models = bandit_models(policy, reference)
    algorithm = OptimalAdvantage(beta=0.2, value_beta=0.7)
    examples = algorithm.select(bandit_buffer(rewards=PAID), np.random.default_rng(0))
    losses = algorithm.losses(collate(examples, extra=algorithm.extra), models)
    losses.terms["policy"].backward()
    residual = 0.2 * np.log(policy / reference) - (np.array(PAID) - soft_value(0.7))
    assert losses.terms["policy"].item() == pytest.approx(SHARES @ residual**2, rel=1e-6)
    pull = 2 * 0.2 * SHARES * residual
    np.testing.assert_allclose(logit_gradient(models), pull - policy * pull.sum(), atol=1e-7)


def test_the_anchor_may_be_who_made_the_samples():
    mu = np.array([0.4, 0.3, 0.2, 0.1])
    buffer = EpisodeBuffer(
        bandit_episode(answer, reward, behavior_logprobs=[0.0, np.log(p)])
        for answer, reward, count, p in zip(ANSWERS, PAID, COUNTS, mu, strict=True)
        for _ in range(count)
    )
    policy, reference = np.array([0.1, 0.5, 0.3, 0.1]), np.array([0.25, 0.25, 0.3, 0.2])
    for anchor, base in (("behavior", mu), ("reference", reference)):
        algorithm = OptimalAdvantage(beta=0.2, value_beta=0.7, anchor=anchor)
        examples = algorithm.select(buffer, np.random.default_rng(0))
        losses = algorithm.losses(collate(examples, extra=algorithm.extra), bandit_models(policy, reference))
        residual = 0.2 * np.log(policy / base) - (np.array(PAID) - soft_value(0.7))
        assert losses.terms["policy"].item() == pytest.approx(SHARES @ residual**2, rel=1e-6)


@pytest.mark.parametrize(("temperature", "limit"), [(1e-6, 1.0), (1e6, float(SHARES @ PAID))])
def test_the_soft_value_lies_between_the_mean_and_the_best(temperature, limit):
    buffer = bandit_buffer(rewards=PAID)
    assert soft_values(buffer, temperature)(0, buffer[0]) == pytest.approx(limit, abs=1e-5)
    assert soft_value(0.5) == pytest.approx(soft_values(buffer, 0.5)(3, buffer[3])[0])


def test_large_it_is_the_constant_baseline_of_a_question_at_response_level(random_episodes):
    """The limit of a large value temperature, without the regulariser."""
    buffer = EpisodeBuffer(random_episodes(12))
    gradients = []
    for algorithm in (
        OptimalAdvantage(beta=0.3, value_beta=1e5),
        ConstantBaseline(granularity="response", baseline="question", beta=0.3, alpha=0.0, kl="k3"),
    ):
        models = dataclasses.replace(tiny_models(), value=None)
        examples = algorithm.select(buffer, np.random.default_rng(0))
        algorithm.begin_run(models, examples)
        algorithm.losses(collate(examples, extra=algorithm.extra), models).terms["policy"].backward()
        gradients.append([parameter.grad for parameter in models.policy.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-6)


def test_one_sample_a_question_teaches_nothing():
    single = EpisodeBuffer(bandit_episode(1, float(i % 2), task_id=f"question-{i}") for i in range(4))
    with pytest.raises(ValueError, match="no task has samples of different returns"):
        OptimalAdvantage().select(single, np.random.default_rng(0))


@pytest.mark.parametrize("field", ["beta", "value_beta"])
def test_a_temperature_is_positive(field):
    with pytest.raises(ValueError, match=f"OptimalAdvantage.{field} must be > 0, got 0"):
        OptimalAdvantage(**{field: 0})
