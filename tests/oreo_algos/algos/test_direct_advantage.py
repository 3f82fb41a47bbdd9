"""Direct advantage against loops and its stationary point: the value is that of the data, and is held."""

import logging

import numpy as np
import pytest
import torch
from tabular import TablePolicy, TableValue, tiny_models
from test_oreo import BETA, log_ratio, mean, steps_of, value_before

from oreo_algos import EpisodeBuffer, Models, TrainerConfig, train
from oreo_algos.algos import DirectAdvantage
from oreo_algos.batch import collate
from oreo_algos.losses import advantage_regression_loss, one_step_policy_loss, step_advantages
from oreo_algos.training.metrics_writer import read_metrics

BANDIT = [(1, 1.0), (1, 1.0), (1, 0.0), (1, 1.0), (2, 0.0), (2, 1.0), (3, 0.0), (3, 0.0)]
"""Actions and rewards in the one state of the bandit, token 0."""


@pytest.fixture
def bandit(make_episode):
    return EpisodeBuffer(make_episode([-1, 0], [reward], tokens=[0, action]) for action, reward in BANDIT)


def learn(buffer, folder, **options):
    """From a reference that never takes action 0, a network that is a table."""
    models = Models(
        TablePolicy(torch.tensor([-30.0, 0.5, 0.0, -0.5]).repeat(4, 1)),
        TablePolicy(torch.tensor([-30.0, 0.5, 0.0, -0.5]).repeat(4, 1)),
        TableValue(4),
        policy_is_reference=True,
    )
    how = {"policy_lr": 0.2, "value_lr": 0.1, "batch_size": 100, "epochs": 100, "value_warmup_steps": 80} | options
    algorithm = DirectAdvantage(beta=1.0, max_grad_norm=1e9, **how)
    values = []
    config = TrainerConfig(evaluate_every=40, tracker="none")
    train(
        algorithm,
        models,
        buffer,
        config,
        folder,
        evaluate=lambda step: values.append(models.value.table.detach().clone()) or {},
    )
    return models, values


@pytest.mark.parametrize("level", ["token", "step", "response"])
def test_the_policy_loss_is_a_loop_over_steps(level, random_episodes):
    models, episodes = tiny_models(), random_episodes(6, seed=5)
    squares = []
    for episode in episodes:
        steps = steps_of(episode, level)
        values = [value_before(models, episode, own[0]) for own, _ in steps] + [0.0]
        gains = [reward + values[k + 1] - values[k] for k, (_, reward) in enumerate(steps)]
        ratios = [sum(log_ratio(models, episode, t) for t in own) for own, _ in steps]
        squares.append(mean((ratio - gain / BETA) ** 2 for ratio, gain in zip(ratios, gains, strict=True)))
    found = DirectAdvantage(beta=BETA, granularity=level).losses(collate(episodes), models)
    assert set(found.terms) == {"policy"}
    assert found.terms["policy"].item() == pytest.approx(mean(squares), rel=1e-6)
    assert found.metrics["losses/policy"] == found.terms["policy"].item()


def test_with_the_same_value_it_is_the_loss_of_dqo_over_beta_squared():
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(4) < torch.tensor([[4], [1], [3]])
    values, ratio, rewards = torch.randn(3, 3, 4, generator=generator)
    found = advantage_regression_loss(ratio, step_advantages(values, rewards, mask), mask, beta=0.3)
    assert found.item() == pytest.approx(one_step_policy_loss(values, ratio, rewards, mask, beta=0.3).item() / 0.09)


def test_what_stands_on_padding_reaches_nothing_and_bad_arguments_are_refused():
    mask = torch.tensor([[True, True], [True, False]])
    dirty = torch.tensor([[1.0, 2.0], [3.0, float("nan")]], requires_grad=True)
    advantages = step_advantages(dirty, dirty, mask)
    assert advantages.tolist() == [[2, 0], [0, 0]] and not advantages.requires_grad
    loss = advantage_regression_loss(dirty, advantages, mask, beta=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(((1 + 4) / 2 + 9) / 2)
    assert dirty.grad.tolist() == [[-0.5, 1.0], [3.0, 0.0]]
    with pytest.raises(ValueError, match="beta must be > 0"):
        advantage_regression_loss(dirty, advantages, mask, beta=0)
    with pytest.raises(ValueError, match="shapes must be equal"):
        step_advantages(dirty[:, :1], dirty, mask)


def test_in_the_warm_up_the_value_alone_regresses_on_what_followed(random_episodes):
    models, episodes = tiny_models(), random_episodes(5, seed=1)
    models.policy_frozen = True
    squares = []
    for episode in episodes:
        steps = steps_of(episode, "token")
        to_go = np.cumsum([reward for _, reward in steps][::-1])[::-1]
        squares.append(
            mean((value_before(models, episode, own[0]) - g) ** 2 for (own, _), g in zip(steps, to_go, strict=True))
        )
    found = DirectAdvantage(beta=BETA).losses(collate(episodes), models)
    assert set(found.terms) == {"value"}
    assert found.terms["value"].item() == pytest.approx(mean(squares), rel=1e-6)


def test_the_value_is_the_mean_outcome_and_held_and_the_policy_comes_to_its_stationary_point(bandit, tmp_path):
    """With ``w_a`` the share of action a: ``w_a (log pi_a/ref_a - A_a/beta)`` is the same multiple of every pi_a."""
    models, values = learn(bandit, tmp_path)
    mean_return = np.mean([reward for _, reward in BANDIT])
    assert values[0][0].item() != pytest.approx(mean_return, abs=1e-4)
    assert values[1][0].item() == pytest.approx(mean_return, abs=0.01)  # after 80 steps
    assert len(values) == 5 and torch.equal(values[1], values[2]) and torch.equal(values[1], values[3])
    policy = models.policy.table.detach()[0].softmax(dim=0)[1:]
    reference = torch.tensor([0.5, 0.0, -0.5]).softmax(dim=0)
    share, gain = torch.zeros(3), torch.zeros(3)
    for action, reward in BANDIT:
        share[action - 1] += 1 / len(BANDIT)
        gain[action - 1] += (reward - values[-1][0]) / len(BANDIT)
    slope = share * (policy / reference).log() - gain  # beta is 1
    assert (slope - policy * slope.sum()).abs().max() < 1e-3
    assert (policy - reference).abs().max() > 0.05
    rows = read_metrics(tmp_path)
    assert {"train/losses/value" in row for row in rows[:80]} == {True}
    assert {"train/losses/policy" in row for row in rows[80:]} == {True}
    assert "train/losses/policy" not in rows[0] and "train/losses/value" not in rows[80]


def test_without_a_warm_up_the_value_stays_as_it_was_given_and_that_is_said(bandit, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        models, _ = learn(bandit, tmp_path, value_warmup_steps=0, epochs=2)
    assert not models.value.table.any()
    assert "value_warmup_steps=0, so V is held as it was given" in caplog.text
