"""Advantage-weighted imitation: closed forms of the value and of the policy, one step and two."""

import dataclasses

import numpy as np
import pytest
import torch
from bandit import ANSWERS, QUESTION, REWARDS, SHARES, answered, bandit_buffer, bandit_episode, bandit_models, descend
from tabular import tiny_models

from oreo_algos import Episode, EpisodeBuffer
from oreo_algos.algos import AdvantageWeighted
from oreo_algos.batch import collate

WON = float(SHARES @ REWARDS)


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_on_one_question_both_are_in_closed_form(expectile):
    """V is the expectile of the returns, pi(y) the share of y in the data times exp((r(y) - V) / beta), normalised."""
    algorithm = AdvantageWeighted(beta=0.8, expectile=expectile)
    models = descend(algorithm, bandit_models(np.full(4, 0.25)), bandit_buffer())
    value = expectile * WON / (expectile * WON + (1 - expectile) * (1 - WON))
    assert models.value.table[QUESTION].item() == pytest.approx(value, abs=5e-3)
    share = SHARES * np.exp((np.array(REWARDS) - value) / 0.8)
    np.testing.assert_allclose(answered(models), share / share.sum(), atol=5e-3)


def test_a_weight_is_bounded():
    """With a bound of 1 what is better counts no more than what is as good as the state."""
    models = descend(AdvantageWeighted(max_weight=1.0), bandit_models(np.full(4, 0.25)), bandit_buffer())
    share = SHARES * np.minimum(np.exp((np.array(REWARDS) - WON) / 0.3), 1)
    np.testing.assert_allclose(answered(models), share / share.sum(), atol=5e-3)


def two_steps():
    """A choice of 1 or 2, then one of 3 or 4: after 1 one of three wins, after 2 none does."""
    rows = [((1, 3), 1.0)] * 1 + [((1, 4), 0.0)] * 2 + [((2, 3), 0.0)] * 3
    return EpisodeBuffer(
        Episode(
            tokens=[QUESTION, *tokens],
            step_id=[-1, 0, 1],
            rewards=[0.0, reward],
            terminated=True,
            truncated=False,
            task_id="question",
            env_id="oreo/Bandit-v0",
        )
        for tokens, reward in rows
    )


@pytest.mark.parametrize(("expectile", "trace"), [(0.5, 1.0), (0.5, 0.0), (0.8, 0.0)])
def test_of_two_steps_the_value_is_that_of_the_choices_to_come(expectile, trace):
    """Bootstrapped, V before the first choice is the expectile of V after it, so it stands for the better choices."""
    algorithm = AdvantageWeighted(expectile=expectile, trace=trace)
    models = descend(algorithm, bandit_models(np.full(4, 0.25)), two_steps())

    def of_two(chance, high):
        return expectile * chance * high / (expectile * chance + (1 - expectile) * (1 - chance))

    after = of_two(1 / 3, 1.0)
    start = of_two(1 / 6, 1.0) if trace else of_two(1 / 2, after)
    found = models.value.table.detach()
    assert found[1].item() == pytest.approx(after, abs=5e-3) and found[2].item() == pytest.approx(0, abs=5e-3)
    assert found[QUESTION].item() == pytest.approx(start, abs=5e-3)


def test_tokens_that_may_not_be_imitated_are_not(random_episodes):
    models = tiny_models()
    algorithm = AdvantageWeighted(granularity="step")
    episodes = [dataclasses.replace(e, loss_mask=np.zeros(e.num_tokens, bool)) for e in random_episodes(5)]
    losses = algorithm.losses(collate(episodes), models)
    losses.terms["policy"].backward()
    assert losses.terms["policy"].item() == 0 and not any(p.grad.any() for p in models.policy.parameters())
    assert losses.terms["value"].item() > 0


@pytest.mark.parametrize("granularity", ["token", "step", "response"])
def test_the_loss_is_a_loop_over_tokens(granularity, random_episodes):
    models, episodes = tiny_models(), random_episodes(6, seed=3)
    algorithm = AdvantageWeighted(granularity=granularity, beta=0.5, max_weight=3.0)
    rows = []
    for episode in episodes:
        batch = collate([episode])
        logprobs = models.policy.score(batch).logprobs[0]
        values = models.value.token_values(batch)[0]
        action = np.flatnonzero(episode.step_id >= 0)
        row = []
        for t in action:
            k = episode.step_id[t]
            first = {"token": t, "step": np.flatnonzero(episode.step_id == k)[0], "response": action[0]}[granularity]
            to_go = episode.rewards[0 if granularity == "response" else k :].sum()
            if episode.loss_mask is None or episode.loss_mask[t]:
                weight = min(np.exp((to_go - values[first].item()) / 0.5), 3.0)
                row.append(-weight * logprobs[t].item())
        rows.append(np.mean(row) if row else 0.0)
    found = algorithm.losses(collate(episodes), models)
    assert found.terms["policy"].item() == pytest.approx(np.mean(rows), rel=1e-5)
    assert 0 < found.metrics["weights/clipped"] < 1


def test_a_warm_up_trains_the_value_only():
    models = dataclasses.replace(bandit_models(), policy_frozen=True)
    losses = AdvantageWeighted().losses(collate(list(bandit_buffer())), models)
    assert set(losses.terms) == {"value"} and "entropy" not in losses.metrics


def test_rewards_need_not_be_0_and_1():
    buffer = EpisodeBuffer(bandit_episode(answer, 100.0 * answer - 250) for answer in ANSWERS)
    models = descend(AdvantageWeighted(), bandit_models(np.full(4, 0.25)), buffer, steps=20)
    assert torch.isfinite(models.policy.table).all()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("beta", 0.0, "AdvantageWeighted.beta must be > 0, got 0"),
        ("max_weight", -1.0, r"max_weight must be > 0, got -1"),
        ("expectile", 1.0, r"expectile must be in \(0, 1\), got 1"),
        ("trace", 1.5, r"trace must be in \[0, 1\], got 1.5"),
        ("value_warmup_steps", -1, "value_warmup_steps must not be negative, got -1"),
        ("granularity", "steps", "granularity must be one of token, step, response.*did you mean 'step'"),
    ],
)
def test_an_impossible_setting_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        AdvantageWeighted(**{field: value})
