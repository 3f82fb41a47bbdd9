import math

import pytest
import torch
from ragged_batches import ragged
from torch.nn import functional as F

from oreo_algos.losses import (
    dpo_hinge_loss,
    dpo_loss,
    ipo_loss,
    kto_loss,
    oreo_policy_loss,
    oreo_value_loss,
    residuals,
)

OREO_LOSSES = [oreo_value_loss, oreo_policy_loss]


def loop_residuals(values, log_ratio, returns, mask, beta):
    """Residuals of each episode as lists, by the sums of the paper."""
    rows = []
    for row in range(len(mask)):
        length = int(mask[row].sum())
        rows.append(
            [
                values[row, k].item()
                - returns[row, k].item()
                + beta * sum(log_ratio[row, i].item() for i in range(k, length))
                for k in range(length)
            ]
        )
    return rows


# --- OREO


@pytest.mark.parametrize("loss", OREO_LOSSES)
@pytest.mark.parametrize("beta", [0.03, 1.0])
def test_oreo_losses_equal_a_loop(loss, beta):
    arguments = ragged()
    rows = loop_residuals(*arguments, beta)
    expected = sum(sum(r * r for r in row) / len(row) for row in rows) / len(rows)
    assert loss(*arguments, beta=beta).item() == pytest.approx(expected, rel=1e-12)


def test_residuals_equal_a_loop_and_are_zero_on_padding():
    arguments = ragged(seed=1)
    found = residuals(*arguments, beta=0.2)
    rows = loop_residuals(*arguments, 0.2)
    for row, expected in enumerate(rows):
        assert found[row, : len(expected)].tolist() == pytest.approx(expected)
        assert (found[row, len(expected) :] == 0).all()


def test_value_residual_vanishes_at_the_soft_optimum():
    """One decision, two answers: V* and pi* are known in closed form."""
    beta, reward = 0.5, torch.tensor([1.0, 0.0])
    ref = torch.tensor([0.25, 0.75])
    v_star = beta * torch.logsumexp(ref.log() + reward / beta, dim=0)
    log_ratio = (reward - v_star) / beta  # log pi* - log pi_ref
    assert (ref * log_ratio.exp()).sum().item() == pytest.approx(1.0)
    mask = torch.ones(2, 1, dtype=torch.bool)
    arguments = (v_star.expand(2, 1), log_ratio[:, None], reward[:, None], mask)
    for loss in OREO_LOSSES:
        assert loss(*arguments, beta=beta).item() == pytest.approx(0.0, abs=1e-10)


def test_residuals_vanish_at_the_soft_optimum_of_two_decisions():
    """Four answers of two binary tokens, a reward on both: dynamic programming gives V* and pi*."""
    beta = 0.3
    first, second = torch.tensor([0.2, 0.0]).double(), torch.tensor([[1.0, 0.0], [0.0, 0.5]]).double()
    ref = torch.tensor([[0.3, 0.7], [0.6, 0.4], [0.1, 0.9]]).double()  # at the root, after 0, after 1
    v_second = beta * torch.logsumexp(ref[1:].log() + second / beta, dim=1)
    v_first = beta * torch.logsumexp(ref[0].log() + (first + v_second) / beta, dim=0)
    ratio_first = (first + v_second - v_first) / beta
    ratio_second = (second - v_second[:, None]) / beta
    answers = [(a, b) for a in (0, 1) for b in (0, 1)]
    values = torch.stack([torch.stack([v_first, v_second[a]]) for a, _ in answers])
    log_ratio = torch.stack([torch.stack([ratio_first[a], ratio_second[a, b]]) for a, b in answers])
    returns = torch.stack([torch.stack([first[a] + second[a, b], second[a, b]]) for a, b in answers])
    found = residuals(values, log_ratio, returns, torch.ones(4, 2, dtype=torch.bool), beta=beta)
    assert found.abs().max().item() < 1e-12


def test_value_gradient_is_that_of_the_frozen_policy_and_passes_gradcheck():
    values, log_ratio, returns, mask = ragged(seed=2)
    values.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: oreo_value_loss(v, log_ratio, returns, mask, beta=0.4), values)


def test_value_loss_sends_no_gradient_to_the_policy():
    values, log_ratio, returns, mask = ragged(seed=2)
    values.requires_grad_(), log_ratio.requires_grad_()
    oreo_value_loss(values, log_ratio, returns, mask, beta=0.4).backward()
    assert log_ratio.grad is None
    assert torch.equal(values.grad != 0, mask)


def test_policy_gradient_is_that_of_the_hand_frozen_expression():
    """Later log-ratios enter as numbers: finite differences move a step's own log-ratio only."""
    beta = 0.4
    values, log_ratio, returns, mask = ragged(seed=3)
    fixed = residuals(values, log_ratio, returns, mask, beta=beta) - beta * log_ratio

    def frozen(own):
        squares = (fixed + beta * own).square() * mask
        return (squares.sum(1) / mask.sum(1)).mean()

    log_ratio.requires_grad_()
    oreo_policy_loss(values, log_ratio, returns, mask, beta=beta).backward()
    epsilon = 1e-6
    for row, step in mask.nonzero().tolist():
        shift = torch.zeros_like(log_ratio)
        shift[row, step] = epsilon
        base = log_ratio.detach()
        slope = (frozen(base + shift) - frozen(base - shift)) / (2 * epsilon)
        assert log_ratio.grad[row, step].item() == pytest.approx(slope.item(), rel=1e-6, abs=1e-9)
    assert (log_ratio.grad[~mask] == 0).all()


def test_policy_gradient_of_a_step_is_its_own_residual_in_closed_form():
    beta = 0.4
    values, log_ratio, returns, mask = ragged(seed=4)
    log_ratio.requires_grad_()
    oreo_policy_loss(values, log_ratio, returns, mask, beta=beta).backward()
    residual = residuals(values, log_ratio.detach(), returns, mask, beta=beta)
    expected = 2 * beta * residual / mask.sum(1, keepdim=True) / len(mask)
    torch.testing.assert_close(log_ratio.grad, expected)


def test_policy_loss_sends_no_gradient_to_the_value():
    values, log_ratio, returns, mask = ragged(seed=3)
    values.requires_grad_(), log_ratio.requires_grad_()
    oreo_policy_loss(values, log_ratio, returns, mask, beta=0.4).backward()
    assert values.grad is None
    assert torch.equal(log_ratio.grad != 0, mask)


@pytest.mark.parametrize("loss", OREO_LOSSES)
def test_what_stands_on_padding_reaches_neither_loss_nor_gradient(loss):
    values, log_ratio, returns, mask = ragged(seed=5)
    clean = loss(values, log_ratio, returns, mask, beta=0.1)
    dirty = [tensor.masked_fill(~mask, math.nan).requires_grad_() for tensor in (values, log_ratio)]
    found = loss(*dirty, returns.masked_fill(~mask, math.inf), mask, beta=0.1)
    assert found.item() == clean.item()
    found.backward()
    reached = dirty[0] if loss is oreo_value_loss else dirty[1]
    assert (reached.grad[~mask] == 0).all()


@pytest.mark.parametrize("loss", OREO_LOSSES)
def test_more_padding_and_another_order_change_nothing(loss):
    arguments = ragged(seed=6)
    expected = loss(*arguments, beta=0.1).item()
    padded = [F.pad(argument, (0, 4)) for argument in arguments]
    shuffled = [argument[[3, 1, 4, 0, 2]] for argument in arguments]
    assert loss(*padded, beta=0.1).item() == pytest.approx(expected, rel=1e-14)
    assert loss(*shuffled, beta=0.1).item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("loss", OREO_LOSSES)
def test_an_episode_weighs_the_same_at_any_length(loss):
    """Residual 1 on five steps, residual 0 on one: the mean of episode means is 1/2, not 5/6."""
    values = torch.tensor([[1.0] * 5, [0.0] * 5])
    mask = torch.tensor([[True] * 5, [True] + [False] * 4])
    zeros = torch.zeros(2, 5)
    assert loss(values, zeros, zeros, mask, beta=0.1).item() == 0.5


@pytest.mark.parametrize("loss", OREO_LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_keeps_the_dtype(loss, dtype):
    *floats, mask = ragged()
    result = loss(*(tensor.to(dtype) for tensor in floats), mask, beta=0.1)
    assert result.dtype == dtype
    assert result.ndim == 0


@pytest.mark.parametrize("loss", [*OREO_LOSSES, residuals])
@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan])
def test_oreo_refuses_a_beta_that_is_not_positive(loss, beta):
    with pytest.raises(ValueError, match=r"beta must be > 0 \(reward units per nat\), got"):
        loss(*ragged(), beta=beta)


@pytest.mark.parametrize("loss", [*OREO_LOSSES, residuals])
def test_oreo_refuses_shapes_that_would_broadcast(loss):
    values, log_ratio, returns, mask = ragged()
    with pytest.raises(ValueError, match=r"shapes must be equal, got values \[5, 1\], log_ratio"):
        loss(values[:, :1], log_ratio, returns, mask, beta=0.1)


@pytest.mark.parametrize("loss", [*OREO_LOSSES, residuals])
def test_oreo_refuses_an_episode_without_a_step(loss):
    values, log_ratio, returns, mask = ragged()
    mask[[1, 3]] = False
    with pytest.raises(ValueError, match=r"at least one step; rows \[1, 3\] have none"):
        loss(values, log_ratio, returns, mask, beta=0.1)


@pytest.mark.parametrize("loss", OREO_LOSSES)
def test_oreo_refuses_an_empty_batch_and_a_mask_of_numbers(loss):
    arguments = ragged()
    with pytest.raises(ValueError, match="the batch has no episode"):
        loss(*(argument[:0] for argument in arguments), beta=0.1)
    with pytest.raises(ValueError, match=r"the mask must be bool \[B, N\], got torch.int64"):
        loss(*arguments[:3], arguments[3].long(), beta=0.1)


# --- DPO


def test_dpo_equals_the_bradley_terry_likelihood():
    chosen, rejected, beta = [0.3, -2.0, 5.0], [0.1, 1.0, -7.0], 0.1
    expected = [-math.log(1 / (1 + math.exp(-beta * (c - r)))) for c, r in zip(chosen, rejected, strict=True)]
    found = dpo_loss(torch.tensor(chosen), torch.tensor(rejected), beta=beta)
    assert found.item() == pytest.approx(sum(expected) / 3, rel=1e-6)


def test_dpo_by_hand():
    """At equal log-ratios it is log 2; a margin of log(3) / beta makes the chosen one 3 to 1."""
    zero = torch.zeros(4)
    assert dpo_loss(zero, zero, beta=0.1).item() == pytest.approx(math.log(2))
    margin = torch.tensor([math.log(3) / 0.1])
    assert dpo_loss(margin, torch.zeros(1), beta=0.1).item() == pytest.approx(math.log(4 / 3))


def test_dpo_gradient_passes_gradcheck_and_pulls_apart():
    chosen, rejected = torch.randn(2, 4, dtype=torch.float64, generator=torch.manual_seed(0))
    chosen.requires_grad_(), rejected.requires_grad_()
    assert torch.autograd.gradcheck(lambda c, r: dpo_loss(c, r, beta=0.5), (chosen, rejected))
    dpo_loss(chosen, rejected, beta=0.5).backward()
    assert (chosen.grad < 0).all()
    torch.testing.assert_close(rejected.grad, -chosen.grad)


def test_dpo_stays_finite_far_from_the_reference():
    chosen = torch.tensor([-4000.0], requires_grad=True)
    loss = dpo_loss(chosen, torch.tensor([4000.0]), beta=1.0)
    loss.backward()
    assert loss.item() == 8000
    assert chosen.grad.item() == -1


def test_dpo_refuses_bad_arguments():
    with pytest.raises(ValueError, match="beta must be > 0"):
        dpo_loss(torch.zeros(2), torch.zeros(2), beta=0)
    with pytest.raises(ValueError, match=r"chosen_log_ratio \[2\], rejected_log_ratio \[1\]"):
        dpo_loss(torch.zeros(2), torch.zeros(1), beta=0.1)
    with pytest.raises(ValueError, match=r"chosen_log_ratio must be \[B\] with B > 0, got \[0\]"):
        dpo_loss(torch.zeros(0), torch.zeros(0), beta=0.1)
    with pytest.raises(ValueError, match=r"must be \[B\] with B > 0, got \[2, 3\]"):
        dpo_loss(torch.zeros(2, 3), torch.zeros(2, 3), beta=0.1)


def test_ipo_is_0_at_its_margin_and_pulls_back_beyond_it():
    """The margin to reach is 1 / (2 beta): 5 nats for 0.1."""
    chosen = torch.tensor([5.0, 7.0], requires_grad=True)
    loss = ipo_loss(chosen, torch.zeros(2), beta=0.1)
    assert loss.item() == pytest.approx(2.0)
    loss.backward()
    assert chosen.grad.tolist() == pytest.approx([0.0, 2.0])


def test_the_hinge_of_dpo_has_no_gradient_beyond_its_margin():
    chosen = torch.tensor([2.0, 30.0], requires_grad=True)
    loss = dpo_hinge_loss(chosen, torch.zeros(2), beta=0.1)
    assert loss.item() == pytest.approx(0.4)
    loss.backward()
    assert chosen.grad.tolist() == pytest.approx([-0.05, 0.0])


def test_smoothed_dpo_has_its_least_at_the_odds_of_the_labels():
    """With one label in ten wrong, nine to one is the best margin."""
    best = torch.tensor([math.log(9) / 0.1], dtype=torch.float64, requires_grad=True)
    dpo_loss(best, torch.zeros(1).double(), beta=0.1, label_smoothing=0.1).backward()
    assert best.grad.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", [ipo_loss, dpo_hinge_loss])
def test_the_variants_of_dpo_refuse_bad_arguments(loss):
    with pytest.raises(ValueError, match="beta must be > 0"):
        loss(torch.zeros(2), torch.zeros(2), beta=0)
    with pytest.raises(ValueError, match=r"chosen_log_ratio \[2\], rejected_log_ratio \[1\]"):
        loss(torch.zeros(2), torch.zeros(1), beta=0.1)
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 0.5\), got 0.5"):
        dpo_loss(torch.zeros(2), torch.zeros(2), beta=0.1, label_smoothing=0.5)


# --- KTO


def test_kto_equals_the_paper_written_with_plain_numbers():
    log_ratio, labels, kl, beta = [0.5, -1.5, 2.0, 0.0], [True, True, False, False], 0.7, 0.4
    weights = {True: 1.5, False: 0.8}
    expected = 0.0
    for ratio, label in zip(log_ratio, labels, strict=True):
        gain = ratio - kl if label else kl - ratio
        value = weights[label] / (1 + math.exp(-beta * gain))
        expected += (weights[label] - value) / 4
    found = kto_loss(
        torch.tensor(log_ratio),
        torch.tensor(labels),
        torch.tensor(kl),
        beta=beta,
        desirable_weight=1.5,
        undesirable_weight=0.8,
    )
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_kto_by_hand():
    """At the reference point every response is worth 1/2; a gain of log(3) / beta is worth 3/4."""
    ratio, label = torch.tensor([0.3, 0.3]), torch.tensor([True, False])
    assert kto_loss(ratio, label, 0.3, beta=0.1).item() == pytest.approx(0.5)
    ratio = torch.tensor([math.log(3) / 0.1] * 2)
    loss = kto_loss(ratio, label, 0.0, beta=0.1, desirable_weight=2.0, undesirable_weight=4.0)
    assert loss.item() == pytest.approx((2 * 0.25 + 4 * 0.75) / 2)


def test_kto_gradient_passes_gradcheck_and_never_reaches_the_reference_point():
    ratio = torch.randn(6, dtype=torch.float64, generator=torch.manual_seed(0)).requires_grad_()
    label = torch.tensor([True, False] * 3)
    kl = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    weights = {"desirable_weight": 1.3, "undesirable_weight": 0.6}
    assert torch.autograd.gradcheck(lambda r: kto_loss(r, label, kl.detach(), beta=0.5, **weights), ratio)
    kto_loss(ratio, label, kl, beta=0.5, **weights).backward()
    assert kl.grad is None
    assert torch.equal(ratio.grad < 0, label)


def test_kto_keeps_the_dtype_of_the_log_ratios():
    label = torch.tensor([True, False])
    assert kto_loss(torch.zeros(2), label, torch.tensor(0.1).double(), beta=0.1).dtype == torch.float32


def test_kto_refuses_bad_arguments():
    ratio, label = torch.zeros(2), torch.tensor([True, False])
    with pytest.raises(ValueError, match="beta must be > 0"):
        kto_loss(ratio, label, 0.0, beta=-1)
    with pytest.raises(ValueError, match=r"must be >= 0, got -1 and 1\.0"):
        kto_loss(ratio, label, 0.0, beta=0.1, desirable_weight=-1)
    with pytest.raises(ValueError, match=r"log_ratio \[2\], desirable \[1\]"):
        kto_loss(ratio, label[:1], 0.0, beta=0.1)
    with pytest.raises(ValueError, match=r"log_ratio must be \[B\] with B > 0, got \[0\]"):
        kto_loss(ratio[:0], label[:0], 0.0, beta=0.1)
    with pytest.raises(ValueError, match=r"desirable must be bool \[B\], got torch.int64"):
        kto_loss(ratio, label.long(), 0.0, beta=0.1)
    with pytest.raises(ValueError, match=r"kl must be a scalar, got shape \[2\]"):
        kto_loss(ratio, label, torch.zeros(2), beta=0.1)
