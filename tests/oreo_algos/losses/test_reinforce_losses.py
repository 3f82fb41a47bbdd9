"""REINFORCE, tapered weights, weighted likelihood and expectiles against plain numbers."""

import math

import numpy as np
import pytest
import torch

from oreo_algos.losses import (
    advantage_weights,
    expectile_loss,
    reinforce_loss,
    tapered_weights,
    weighted_nll_loss,
)

LOGPROBS = torch.tensor([[-1.0, -2.0, -9.0], [-0.5, -9.0, -9.0]], dtype=torch.float64, requires_grad=True)
ADVANTAGES = torch.tensor([[0.5, -0.25, 7.0], [-1.0, 7.0, 7.0]], dtype=torch.float64)
MASK = torch.tensor([[True, True, False], [True, False, False]])


def test_reinforce_is_the_sum_over_steps_and_the_mean_over_episodes():
    loss = reinforce_loss(LOGPROBS, ADVANTAGES, MASK)
    assert loss.item() == pytest.approx(-((0.5 * -1 + -0.25 * -2) + (-1 * -0.5)) / 2)
    [gradient] = torch.autograd.grad(loss, LOGPROBS)
    assert gradient.tolist() == [[-0.25, 0.125, 0.0], [0.5, 0.0, 0.0]]


def test_weights_multiply_advantages_and_have_no_gradient():
    weights = torch.full((2, 1), 0.5, dtype=torch.float64, requires_grad=True)
    loss = reinforce_loss(LOGPROBS, ADVANTAGES, MASK, weights=weights)
    assert loss.item() == pytest.approx(reinforce_loss(LOGPROBS, ADVANTAGES, MASK).item() / 2)
    assert torch.autograd.grad(loss, weights, allow_unused=True) == (None,)


def test_the_taper_is_the_ratio_below_one_and_of_what_is_worse_only():
    ratio = torch.tensor([-1.0, 1.0, -1.0, 0.0, -50.0], requires_grad=True)
    weights = tapered_weights(ratio, torch.tensor([-1.0, -1.0, 1.0, 0.0, -0.1]))
    assert weights.tolist() == pytest.approx([math.exp(-1), 1.0, 1.0, 1.0, math.exp(-50)])
    assert not weights.requires_grad


def test_weights_of_advantages_are_bounded():
    weights = advantage_weights(torch.tensor([0.0, 0.6, -0.6, 500.0]), beta=0.3, max_weight=20.0)
    assert weights.tolist() == pytest.approx([1.0, math.exp(2), math.exp(-2), 20.0])


def test_weighted_likelihood_is_the_mean_over_tokens_then_episodes_and_not_divided_by_weights():
    loss = weighted_nll_loss(LOGPROBS, torch.tensor([[2.0, 0.5, 9.0], [3.0, 9.0, 9.0]]).double(), MASK)
    assert loss.item() == pytest.approx(((2 * 1 + 0.5 * 2) / 2 + 3 * 0.5) / 2)
    nothing = weighted_nll_loss(LOGPROBS, torch.ones(2, 3).double(), torch.zeros(2, 3, dtype=torch.bool))
    assert nothing.item() == 0


def expectile(targets, tau):
    """The root of ``tau * E[(G - v)+] = (1 - tau) * E[(v - G)+]``, by bisection."""
    low, high = min(targets), max(targets)
    for _ in range(100):
        middle = (low + high) / 2
        balance = sum((tau if g > middle else 1 - tau) * (g - middle) for g in targets)
        low, high = (middle, high) if balance > 0 else (low, middle)
    return low


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.7, 0.95])
def test_the_expectile_of_the_targets_is_where_the_loss_is_flat_and_lowest(tau):
    targets = np.random.default_rng(0).normal(size=9)
    value = torch.tensor([expectile(targets, tau)], dtype=torch.float64, requires_grad=True)
    rows, mask = torch.tensor(targets)[:, None], torch.ones(9, 1, dtype=torch.bool)

    def loss(v):
        return expectile_loss(v.expand(9)[:, None], rows, mask, expectile=tau)

    [gradient] = torch.autograd.grad(loss(value), value)
    assert gradient.item() == pytest.approx(0, abs=1e-7)
    assert all(loss(value + step) > loss(value) for step in (-0.01, 0.01))
    if tau == 0.5:
        assert value.item() == pytest.approx(targets.mean())
        assert loss(value).item() == pytest.approx(((targets - targets.mean()) ** 2).mean())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reinforce_loss(LOGPROBS, ADVANTAGES[:1], MASK), "shapes must be equal"),
        (lambda: reinforce_loss(LOGPROBS, ADVANTAGES, MASK & False), "needs at least one step"),
        (lambda: tapered_weights(torch.zeros(2, 1), torch.zeros(2, 1)), r"must be \[B\]"),
        (lambda: advantage_weights(ADVANTAGES, beta=0.0, max_weight=1.0), "beta must be > 0"),
        (lambda: advantage_weights(ADVANTAGES, beta=1.0, max_weight=0.0), "max_weight must be > 0, got 0"),
        (lambda: expectile_loss(LOGPROBS, ADVANTAGES, MASK, expectile=1.0), r"expectile must be in \(0, 1\), got 1"),
        (lambda: weighted_nll_loss(LOGPROBS, ADVANTAGES[:1], MASK), "shapes must be equal"),
    ],
)
def test_what_fits_not_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
