"""AsymRE on one question, whose fixed points and gradients are known."""

import numpy as np
import pytest
import torch
from bandit import REWARDS, SHARES, answered, bandit_buffer, bandit_models, descend, logit_gradient

from oreo_algos.algos import AsymRe
from oreo_algos.batch import collate

MEAN = float(SHARES @ REWARDS)


def gradient_by_hand(policy, value):
    """``pi(y) * E_mu[r - V] - mu(y) * (r(y) - V)``: that of the loss in the logits of a softmax."""
    share = SHARES * (np.array(REWARDS) - value)
    return policy * share.sum() - share


@pytest.mark.parametrize(
    ("baseline", "delta_v"), [("question", -0.1), ("question", 0.2), ("data", -0.3), ("state", -0.1), (0.25, 0.0)]
)
def test_the_gradient_is_that_of_the_softmax(baseline, delta_v):
    policy = np.array([0.1, 0.2, 0.3, 0.4])
    models = bandit_models(policy)
    algorithm = AsymRe(baseline=baseline, delta_v=delta_v)
    examples = algorithm.select(bandit_buffer(), np.random.default_rng(0))
    algorithm.losses(collate(examples), models).terms["policy"].backward()
    value = (MEAN if isinstance(baseline, str) else baseline) + delta_v
    np.testing.assert_allclose(logit_gradient(models), gradient_by_hand(policy, value), atol=1e-7)


def limit(delta_v):
    """``(a(y) - c)+ / (E_mu[r] - V)``, a(y) = mu(y) (r(y) - V), c"""
    if delta_v >= 0:
        return np.eye(4)[np.argmax(SHARES * np.array(REWARDS))]
    share = SHARES * (np.array(REWARDS) - MEAN - delta_v)
    low, high = -1.0, 1.0
    for _ in range(60):
        level = (low + high) / 2
        low, high = (level, high) if np.maximum(share - level, 0).sum() > -delta_v else (low, level)
    return np.maximum(share - low, 0) / -delta_v


@pytest.mark.parametrize("delta_v", [-0.6, -0.2, -0.1, 0.0, 0.2])
def test_it_ends_at_the_data_weighed_by_advantages_less_a_level(delta_v):
    """The logits move by ``mu (r - V) - pi (E_mu[r] - V)`` until those of the answers that are left move alike."""
    models = bandit_models(np.full(4, 0.25))
    plain = torch.optim.SGD(models.policy.parameters(), lr=3.0)
    found = answered(descend(AsymRe(delta_v=delta_v), models, bandit_buffer(), optimizer=plain))
    np.testing.assert_allclose(found, limit(delta_v), atol=1e-3)


def test_advantages_add_up_to_the_shift():
    algorithm = AsymRe(delta_v=-0.1)
    losses = algorithm.losses(collate(algorithm.select(bandit_buffer(), np.random.default_rng(0))), bandit_models())
    assert losses.metrics["advantages/mean"] == pytest.approx(0.1, abs=1e-6)
    assert losses.metrics["advantages/positive"] == pytest.approx(MEAN)


def test_questions_whose_samples_are_all_alike_teach_nothing_alone():
    buffer = bandit_buffer(rewards=(1.0, 1.0, 1.0, 1.0))
    for baseline in ("question", "data", "state", 1.0):
        with pytest.raises(ValueError, match="no task has samples of different returns; collect more samples"):
            AsymRe(baseline=baseline).select(buffer, np.random.default_rng(0))
    assert len(AsymRe(baseline=0.5).select(buffer, np.random.default_rng(0))) == len(buffer)
