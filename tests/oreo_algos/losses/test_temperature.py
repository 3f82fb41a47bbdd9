"""The effective temperature: against its closed form, and against where the real losses and regulariser stand still."""

import itertools

import pytest
import torch

from oreo_algos.losses import (
    effective_temperature,
    full_gradient_policy_loss,
    masked_episode_mean,
    one_step_policy_loss,
    oreo_policy_loss,
)

TOKENS = 4
ODDS = 3  # of symbol 1 against 0 under the reference
ADVANTAGE = 1e-6  # reward units: so small that the policy stays in the second order around the reference
LOSSES = {"path": oreo_policy_loss, "one_step": one_step_policy_loss, "full_gradient": full_gradient_policy_loss}


def test_the_closed_form_at_the_papers_numbers():
    for alpha, steps, tokens, expected in (
        (0.01, 36, 36, 0.03 + 0.01 / 0.06),  # token level: .197, of any length
        (0.01, 7, 7, 0.03 + 0.01 / 0.06),
        (0.1, 4, 36, 0.03 + 0.1 / (0.06 * 9)),  # step level: .215
        (0.3, 1, 36, 0.03 + 0.3 / (0.06 * 36)),  # response level: .169
        (0.0, 3, 5, 0.03),
    ):
        found = effective_temperature(0.03, alpha, torch.tensor([steps]), torch.tensor([tokens]))
        assert found.item() == pytest.approx(expected, rel=1e-6)


def test_it_is_a_mean_over_episodes_so_that_micro_batches_add_up():
    steps, tokens = torch.tensor([1, 4, 2]), torch.tensor([3, 4, 10])
    each = [effective_temperature(0.1, 0.2, steps[i : i + 1], tokens[i : i + 1]).item() for i in range(3)]
    assert each == pytest.approx([0.1 + 1 / 3, 0.1 + 1, 0.1 + 0.2])
    assert effective_temperature(0.1, 0.2, steps, tokens).item() == pytest.approx(sum(each) / 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0, torch.ones(2), torch.ones(2)), "beta must be > 0"),
        ((0.1, 1.0, torch.ones(2), torch.ones(3)), "shapes must be equal"),
        ((0.1, 1.0, torch.tensor([1, 0]), torch.ones(2)), "at least one step and one token"),
        ((0.1, 1.0, torch.ones(0), torch.ones(0)), "at least one step and one token"),
    ],
)
def test_what_has_no_temperature_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        effective_temperature(*arguments)


def observed_temperature(consistency, beta, alpha, tokens_a_step):
    """Advantage of symbol 1 over its log-odds against the reference's, where loss and regulariser stand still.

    Answers of four symbols, each 1 with odds 3 to 1 under the reference; all answers, as often as it gives them. The
    policy is a log-odds at each place.
    """
    drawn = torch.tensor(list(itertools.product(range(ODDS + 1), repeat=TOKENS)))
    ones = (drawn > 0).double()
    reference = ODDS / (ODDS + 1)
    by_step = (TOKENS // tokens_a_step, tokens_a_step)
    rewards = ADVANTAGE * ones.unflatten(1, by_step).sum(dim=2)
    returns = rewards.flip(1).cumsum(1).flip(1)
    values = ADVANTAGE * reference * torch.arange(TOKENS, 0, -tokens_a_step).expand(len(ones), -1)
    mask, every = torch.ones_like(rewards, dtype=torch.bool), torch.ones_like(ones, dtype=torch.bool)
    start = torch.full((TOKENS,), float(ODDS), dtype=torch.double).log()

    def gradient(logits):
        chance = torch.sigmoid(logits.detach()).requires_grad_()
        ratio = torch.where(ones > 0, chance / reference, (1 - chance) / (1 - reference)).log()
        kl = chance * (chance / reference).log() + (1 - chance) * ((1 - chance) / (1 - reference)).log()
        outcome = rewards if consistency == "one_step" else returns
        loss = LOSSES[consistency](values, ratio.unflatten(1, by_step).sum(dim=2), outcome, mask, beta=beta)
        (loss + alpha * masked_episode_mean(kl.expand_as(ones), every)).backward()
        return chance.grad

    # One step of Newton from the reference; the Jacobian by differences, for stopped gradients leave no other.
    h = 1e-5
    jacobian = torch.stack([(gradient(start + h * e) - gradient(start - h * e)) / (2 * h) for e in torch.eye(4)], dim=1)
    moved = -torch.linalg.solve(jacobian, gradient(start))
    return (ADVANTAGE / moved).tolist()


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("consistency", ["path", "one_step"])
@pytest.mark.parametrize("tokens_a_step", [1, 2, 4])
def test_the_real_losses_stand_still_at_it(consistency, tokens_a_step, alpha):
    beta = 0.03
    steps, tokens = torch.tensor([TOKENS // tokens_a_step]), torch.tensor([TOKENS])
    expected = effective_temperature(beta, alpha, steps, tokens).item()
    assert observed_temperature(consistency, beta, alpha, tokens_a_step) == pytest.approx([expected] * TOKENS, rel=1e-3)


def test_with_all_gradients_it_is_that_of_the_mean_place():
    """The i-th log-ratio is in i squares, so the places differ; the mean weight of the residual is what counts."""
    beta, alpha = 0.03, 0.01
    observed = observed_temperature("full_gradient", beta, alpha, 1)
    assert observed == pytest.approx([beta + alpha / (2 * beta * i) for i in range(1, 5)], rel=1e-3)
    whole = effective_temperature(beta, alpha, torch.tensor([4]), torch.tensor([4]), all_gradients=True).item()
    assert whole == pytest.approx(beta + alpha / (2 * beta * 2.5))
    assert min(observed) < whole < max(observed)
