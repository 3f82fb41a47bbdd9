"""The effective temperature that OREO logs, of ragged episodes with observations, against counts."""

import math

import pytest
import torch
from tabular import tiny_models
from test_oreo import GRANULARITIES, mean, steps_of

from oreo_algos.algos import ConstantBaseline, Oreo
from oreo_algos.batch import collate

BETA, ALPHA = 0.3, 0.2


@pytest.fixture
def episodes(random_episodes):
    return random_episodes(6, seed=5)


def tokens_of(episode):
    return sum(int(k >= 0) for k in episode.step_id)


def expected(episodes, granularity, alpha=ALPHA):
    """By counting the steps of the loss and the action tokens."""
    return mean(
        BETA + alpha / (2 * BETA * tokens_of(episode) / len(steps_of(episode, granularity))) for episode in episodes
    )


@GRANULARITIES
@pytest.mark.parametrize("make", [Oreo, ConstantBaseline])
def test_each_level_logs_that_of_its_steps(make, granularity, episodes):
    algorithm, models = make(beta=BETA, alpha=ALPHA, granularity=granularity), tiny_models()
    algorithm.begin_run(models, episodes)
    logged = algorithm.losses(collate(episodes), models).metrics["temperature/effective"]
    assert logged == pytest.approx(expected(episodes, granularity), rel=1e-6)
    if granularity == "token":
        assert logged == pytest.approx(BETA + ALPHA / (2 * BETA))


def test_with_all_gradients_the_squares_that_a_log_ratio_is_in_count(episodes):
    algorithm = Oreo(beta=BETA, alpha=ALPHA, consistency="full_gradient")
    logged = algorithm.losses(collate(episodes), tiny_models()).metrics["temperature/effective"]
    assert logged == pytest.approx(mean(BETA + ALPHA / (BETA * (tokens_of(episode) + 1)) for episode in episodes))


def test_it_follows_an_alpha_that_is_adapted(episodes):
    algorithm, models = Oreo(beta=BETA, alpha=ALPHA, kl_target=0.1), tiny_models()
    algorithm.begin_run(models, episodes)
    models.numbers["log_alpha"] = math.log(0.5)
    logged = algorithm.losses(collate(episodes), models).metrics["temperature/effective"]
    assert logged == pytest.approx(expected(episodes, "token", alpha=0.5), rel=1e-6)


def test_a_policy_that_is_not_trained_has_none(episodes):
    models = tiny_models(moved=False)
    models.policy_frozen = True
    with torch.no_grad():
        assert "temperature/effective" not in Oreo(beta=BETA).losses(collate(episodes), models).metrics
