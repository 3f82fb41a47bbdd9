"""OREO with a constant in place of the learned value, against a loop, and against OREO whose value says the same."""

import dataclasses

import pytest
import torch
from tabular import tiny_models
from test_oreo import ALPHA, BETA, GRANULARITIES, log_ratio, mean, steps_of

from oreo_algos import EpisodeBuffer, TrainerConfig, train
from oreo_algos.algos import ConstantBaseline, Oreo
from oreo_algos.batch import collate
from oreo_algos.training.metrics_writer import read_metrics


@pytest.fixture
def episodes(random_episodes):
    return random_episodes(6, seed=5)


def begun(episodes, models=None, **options):
    algorithm = ConstantBaseline(beta=BETA, alpha=ALPHA, **options)
    models = models or tiny_models()
    algorithm.begin_run(models, episodes)
    return algorithm, models


@GRANULARITIES
def test_the_loss_equals_a_loop_with_the_mean_reward_for_every_value(episodes, granularity):
    algorithm, models = begun(episodes, granularity=granularity)
    constant = mean(episode.rewards.sum().item() for episode in episodes)
    squares = []
    for episode in episodes:
        steps = steps_of(episode, granularity)
        row = []
        for k in range(len(steps)):
            later = [t for own, _ in steps[k:] for t in own]
            ratio = BETA * sum(log_ratio(models, episode, t) for t in later)
            row.append((constant + ratio - sum(reward for _, reward in steps[k:])) ** 2)
        squares.append(mean(row))
    assert algorithm.losses(collate(episodes), models).metrics["losses/policy"] == pytest.approx(mean(squares), 1e-5)


@GRANULARITIES
def test_gradients_are_those_of_oreo_with_a_value_that_says_the_constant(episodes, granularity):
    class Flat(torch.nn.Module):
        def token_values(self, batch):
            return torch.full((batch.tokens.shape[0], batch.tokens.shape[1] + 1), 0.3, dtype=torch.float64)

    gradients = []
    for learned in (True, False):
        models = tiny_models()
        if learned:
            models = dataclasses.replace(models, value=Flat())
            algorithm = Oreo(granularity=granularity, beta=BETA, alpha=ALPHA)
        else:
            algorithm, models = begun(episodes, models, granularity=granularity, baseline=0.3)
        algorithm.losses(collate(episodes), models).terms["policy"].backward()
        gradients.append([parameter.grad for parameter in models.policy.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-8)


def test_it_trains_without_a_value_network_and_goes_on_after_a_stop(random_episodes, tmp_path):
    buffer = EpisodeBuffer(random_episodes(14))
    algorithm = ConstantBaseline(policy_lr=0.01, batch_size=5, epochs=2)
    config = TrainerConfig(checkpoint_every=2)

    def run(folder, stop_at=None):
        models = dataclasses.replace(tiny_models(moved=False), value=None)

        def evaluate(step):
            if step == stop_at:
                raise KeyboardInterrupt
            return {}

        every = dataclasses.replace(config, evaluate_every=1)
        train(algorithm, models, buffer, every, folder, evaluate=evaluate)
        return models.policy.state_dict(), read_metrics(folder)

    whole, metrics = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", stop_at=4)
    again, metrics_again = run(tmp_path / "stopped")
    torch.testing.assert_close(whole, again, rtol=0, atol=0)
    assert metrics == metrics_again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1.0}, "alpha"),
        ({"beta": 0.0}, "beta"),
        ({"granularity": "line"}, "granularity"),
        ({"kl": "no"}, "kl"),
    ],
)
def test_an_impossible_setting_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ConstantBaseline(**options)
