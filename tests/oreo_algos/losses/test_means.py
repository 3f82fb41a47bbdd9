"""Means over tokens and over episodes: the likelihood of what is imitated, and the mean of episode means."""

import math

import pytest
import torch
from ragged_batches import ragged

from oreo_algos.losses import masked_episode_mean, nll_loss


def test_nll_is_the_mean_over_loss_tokens():
    logprobs = torch.tensor([[0.0, -1.0, -2.0], [0.0, -4.0, math.nan]], requires_grad=True)
    mask = torch.tensor([[False, True, True], [False, True, False]])
    loss = nll_loss(logprobs, mask)
    assert loss.item() == pytest.approx(7 / 3)
    loss.backward()
    torch.testing.assert_close(logprobs.grad, mask * -torch.ones(1) / 3)


def test_nll_with_weights_is_the_weighted_mean_and_ignores_what_weighs_nothing():
    logprobs = torch.tensor([[0.0, -1.0, -2.0], [-math.inf, -4.0, math.nan]], requires_grad=True)
    weights = torch.tensor([[0.0, 1.0, 0.5], [0.0, 2.0, 0.0]])
    loss = nll_loss(logprobs, weights)
    assert loss.item() == pytest.approx((1 + 1 + 8) / 3.5)
    loss.backward()
    torch.testing.assert_close(logprobs.grad, -weights / 3.5)


def test_nll_refuses_bad_arguments():
    with pytest.raises(ValueError, match="there is no token to imitate"):
        nll_loss(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"logprobs \[2, 3\], weights \[2, 4\]"):
        nll_loss(torch.zeros(2, 3), torch.ones(2, 4, dtype=torch.bool))


def test_masked_episode_mean_equals_a_loop():
    x, _, _, mask = ragged(seed=7)
    rows = [[v for v, kept in zip(*pair, strict=True) if kept] for pair in zip(x, mask, strict=True)]
    expected = sum(sum(row) / len(row) for row in rows) / len(rows)
    assert masked_episode_mean(x, mask).item() == pytest.approx(expected.item(), rel=1e-12)


def test_masked_episode_mean_takes_any_pattern_and_ignores_the_rest():
    x = torch.tensor([[1.0, math.nan, 3.0], [math.inf, 5.0, math.nan]], requires_grad=True)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    mean = masked_episode_mean(x, mask)
    assert mean.item() == 3.5
    mean.backward()
    assert x.grad.tolist() == [[0.25, 0, 0.25], [0, 0.5, 0]]


def test_masked_episode_mean_refuses_an_episode_without_entry():
    with pytest.raises(ValueError, match=r"at least one entry; rows \[0\] have none"):
        masked_episode_mean(torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"x \[1, 2\], mask \[1, 3\]"):
        masked_episode_mean(torch.zeros(1, 2), torch.ones(1, 3, dtype=torch.bool))
