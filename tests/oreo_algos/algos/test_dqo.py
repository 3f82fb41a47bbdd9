"""DQO against loops over tokens, and its place between the consistencies of OREO."""

import math

import pytest
import torch
from tabular import tiny_models
from test_oreo import BETA, log_ratio, mean, steps_of, value_before

from oreo_algos.algos import Dqo, Oreo
from oreo_algos.batch import collate
from oreo_algos.losses import lambda_value_loss, next_values, one_step_policy_loss, soft_lambda_returns


@pytest.fixture
def episodes(random_episodes):
    return random_episodes(6, seed=5)


def ragged(seed=0):
    """Values, log-ratios, rewards in float64, and a mask with rows of several lengths."""
    mask = torch.arange(5) < torch.tensor([[5], [1], [3]])
    floats = torch.randn(3, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (*(x.masked_fill(~mask, 0) for x in floats), mask)


def n_step_mixture(values, ratios, rewards, beta, trace):
    """The lambda-return by its definition: n-step returns, weighed (1 - lambda) lambda^(n-1), the rest on the last."""
    length = len(values)
    result = []
    for k in range(length):
        total, weight_left, so_far = 0.0, 1.0, 0.0
        for n in range(1, length - k + 1):
            so_far += rewards[k + n - 1] - beta * ratios[k + n - 1]
            if k + n == length:
                total += weight_left * so_far
            else:
                share = (1 - trace) * trace ** (n - 1)
                total += share * (so_far + values[k + n])
                weight_left -= share
        result.append(total)
    return result


@pytest.mark.parametrize("trace", [0.0, 0.4, 0.95, 1.0])
def test_lambda_returns_are_the_mixture_of_n_step_returns(trace):
    values, ratio, rewards, mask = ragged()
    found = soft_lambda_returns(values, ratio, rewards, mask, beta=0.3, trace=trace)
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        arguments = (x[row, :length].tolist() for x in (values, ratio, rewards))
        assert found[row, :length].tolist() == pytest.approx(n_step_mixture(*arguments, 0.3, trace))
        assert (found[row, length:] == 0).all()


def test_the_next_value_of_a_last_step_is_0():
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, math.nan, math.nan]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert next_values(values, mask).tolist() == [[2, 3, 0], [0, 0, 0]]


def test_what_stands_on_padding_reaches_neither_loss_nor_gradient():
    values, ratio, rewards, mask = ragged(1)
    dirty = [x.masked_fill(~mask, math.nan).requires_grad_() for x in (values, ratio, rewards)]
    for loss, reached in ((one_step_policy_loss, 1), (lambda_value_loss, 0)):
        options = {"beta": 0.3} if reached else {"beta": 0.3, "trace": 0.5, "importance_cap": 1.0}
        found = loss(*dirty, mask, **options)
        assert found.item() == loss(values, ratio, rewards, mask, **options).item()
        (gradient,) = torch.autograd.grad(found, dirty[reached])
        assert (gradient[~mask] == 0).all() and (gradient[mask] != 0).all()


def test_gradients_reach_one_network_each():
    values, ratio, rewards, mask = ragged(2)
    values.requires_grad_(), ratio.requires_grad_()
    one_step_policy_loss(values, ratio, rewards, mask, beta=0.3).backward()
    assert values.grad is None and ratio.grad is not None
    ratio.grad = None
    lambda_value_loss(values, ratio, rewards, mask, beta=0.3, trace=0.5, importance_cap=1.0).backward()
    assert ratio.grad is None and values.grad is not None


@pytest.mark.parametrize("loss", [one_step_policy_loss, lambda_value_loss])
def test_bad_arguments_are_refused(loss):
    options = {} if loss is one_step_policy_loss else {"trace": 0.5}
    values, ratio, rewards, mask = ragged()
    with pytest.raises(ValueError, match="beta must be > 0"):
        loss(values, ratio, rewards, mask, beta=0, **options)
    with pytest.raises(ValueError, match=r"shapes must be equal, got values \[3, 1\]"):
        loss(values[:, :1], ratio, rewards, mask, beta=0.1, **options)
    with pytest.raises(ValueError, match="at least one step"):
        loss(values, ratio, rewards, mask & False, beta=0.1, **options)
    with pytest.raises(ValueError, match=r"trace must be in \[0, 1\], got 2"):
        lambda_value_loss(values, ratio, rewards, mask, beta=0.1, trace=2)


@pytest.mark.parametrize(("trace", "cap"), [(0.0, None), (0.7, 1.0), (0.95, 0.01)])
def test_both_losses_equal_a_loop(episodes, trace, cap):
    models = tiny_models()
    squares = {"policy": [], "value": []}
    for episode in episodes:
        steps = steps_of(episode, "token")
        values = [value_before(models, episode, own[0]) for own, _ in steps]
        ratios = [log_ratio(models, episode, own[0]) for own, _ in steps]
        rewards = [reward for _, reward in steps]
        targets = n_step_mixture(values, ratios, rewards, BETA, trace)
        weights = [1.0 if cap is None else math.exp(min(sum(ratios[k:]), cap)) for k in range(len(steps))]
        squares["value"].append(
            mean(w * (v - target) ** 2 for w, v, target in zip(weights, values, targets, strict=True))
        )
        later = [*values[1:], 0.0]
        squares["policy"].append(
            mean((values[k] + BETA * ratios[k] - rewards[k] - later[k]) ** 2 for k in range(len(steps)))
        )
    found = Dqo(beta=BETA, trace=trace, importance_cap=cap).losses(collate(episodes), models)
    for name, rows in squares.items():
        assert found.terms[name].item() == pytest.approx(mean(rows), rel=1e-6)
        assert found.metrics[f"losses/{name}"] == found.terms[name].item()


def test_without_bootstrap_the_value_loss_is_that_of_oreo_and_with_it_alone_that_of_one_step(episodes):
    batch, models = collate(episodes), tiny_models()
    for trace, consistency in ((1.0, "path"), (0.0, "one_step")):
        found = Dqo(beta=BETA, trace=trace, importance_cap=None).losses(batch, models).terms
        expected = Oreo(beta=BETA, consistency=consistency, alpha=0).losses(batch, models).terms
        assert found["value"].item() == pytest.approx(expected["value"].item(), rel=1e-6)
    assert found["policy"].item() == expected["policy"].item()


@pytest.mark.parametrize("moved", [False, True])
def test_a_frozen_policy_gets_no_term(episodes, moved):
    models = tiny_models(moved=moved)
    expected = Dqo().losses(collate(episodes), models).terms["value"].item()
    models.policy_frozen = True
    found = Dqo().losses(collate(episodes), models)
    assert set(found.terms) == {"value"}
    assert found.terms["value"].item() == pytest.approx(expected, rel=1e-12)


def test_without_a_value_network_the_error_says_so(episodes):
    models = tiny_models()
    models.value = None
    with pytest.raises(ValueError, match="DQO needs a value network"):
        Dqo().losses(collate(episodes), models)
