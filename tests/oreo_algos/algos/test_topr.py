"""TOPR on one question: its gradient, where it ends, and whose probabilities the ratio is to."""

import logging

import numpy as np
import pytest
from bandit import (
    ANSWERS,
    COUNTS,
    REWARDS,
    SHARES,
    answered,
    bandit_buffer,
    bandit_episode,
    bandit_models,
    descend,
    logit_gradient,
)

from oreo_algos import EpisodeBuffer
from oreo_algos.algos import AsymRe, Topr
from oreo_algos.algos.saying import warn_once
from oreo_algos.batch import collate

POLICY = np.array([0.1, 0.5, 0.3, 0.1])
BASELINE = 0.25


def sampled_by(mu):
    """The data, whose log-probabilities were written down."""
    return EpisodeBuffer(
        bandit_episode(answer, reward, behavior_logprobs=[0.0, np.log(p)])
        for answer, reward, count, p in zip(ANSWERS, REWARDS, COUNTS, mu, strict=True)
        for _ in range(count)
    )


def gradient(buffer, models):
    algorithm = Topr(baseline=BASELINE)
    examples = algorithm.select(buffer, np.random.default_rng(0))
    losses = algorithm.losses(collate(examples, extra=algorithm.extra), models)
    losses.terms["policy"].backward()
    return logit_gradient(models), losses.metrics


def gradient_by_hand(mu):
    advantages = np.array(REWARDS) - BASELINE
    weights = np.where(advantages < 0, np.minimum(POLICY / mu, 1), 1)
    share = SHARES * weights * advantages
    return POLICY * share.sum() - share


@pytest.mark.parametrize("mu", [SHARES, np.array([0.7, 0.1, 0.1, 0.1])])
def test_the_gradient_is_that_of_the_softmax_with_truncated_ratios(mu):
    found, metrics = gradient(sampled_by(mu), bandit_models(POLICY))
    np.testing.assert_allclose(found, gradient_by_hand(mu), atol=1e-7)
    worse = np.array(REWARDS) < BASELINE
    mean = (COUNTS * np.minimum(POLICY / mu, 1))[worse].sum() / np.array(COUNTS)[worse].sum()
    assert metrics["weights/negative"] == pytest.approx(mean, abs=1e-6)


def test_without_log_probabilities_at_sampling_the_reference_stands_in_and_that_is_said(caplog):
    mu = np.array([0.7, 0.1, 0.1, 0.1])
    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        found, _ = gradient(bandit_buffer(), bandit_models(POLICY, reference=mu))
    np.testing.assert_allclose(found, gradient_by_hand(mu), atol=1e-7)
    Topr().select(bandit_buffer(), np.random.default_rng(0))
    assert caplog.text.count("10 of 10 episodes have no log-probabilities at sampling") == 1


def test_each_episode_has_its_own_where_it_is_known():
    known, mu = sampled_by(SHARES), np.array([0.7, 0.1, 0.1, 0.1])
    mixed = EpisodeBuffer([*known[:4], *bandit_buffer()[4:]])
    found, _ = gradient(mixed, bandit_models(POLICY, reference=mu))
    np.testing.assert_allclose(found, gradient_by_hand(np.where(np.array(ANSWERS) == 1, SHARES, mu)), atol=1e-7)


def test_it_ends_at_the_data_given_that_they_are_right_and_the_push_fades():
    """pi(y) = mu(y) A(y) / sum of that over the better ones, as rejection; the wrong ones no longer pull at the end."""
    models = descend(Topr(baseline=BASELINE), bandit_models(), bandit_buffer(), steps=200)
    right = SHARES * np.array(REWARDS)
    np.testing.assert_allclose(answered(models), right / right.sum(), atol=5e-3)


def test_what_is_unlearned_stops_counting_other_than_in_asymre():
    """Of a wrong answer that is as good as gone, the loss itself still pulls without the taper."""
    gone = np.array([1e-9, 0.6, 0.2, 0.2])
    buffer = sampled_by(SHARES)
    pulls = []
    for algorithm in (Topr(baseline=0.5), AsymRe(baseline=0.5, delta_v=0.0)):
        models = bandit_models(gone)
        examples = [e for e in algorithm.select(buffer, np.random.default_rng(0)) if e.tokens[1] == 1]
        algorithm.losses(collate(examples, extra=algorithm.extra), models).terms["policy"].backward()
        pulls.append(abs(logit_gradient(models)[0]))
    assert pulls[0] < 1e-8 and pulls[1] == pytest.approx(0.5, rel=1e-6)


def test_all_right_is_imitation_and_all_as_good_as_the_baseline_is_refused():
    won = bandit_buffer(rewards=(1.0, 1.0, 1.0, 1.0))
    assert len(Topr().select(won, np.random.default_rng(0))) == len(won)
    with pytest.raises(ValueError, match="returned just what it is compared with"):
        Topr(baseline="question").select(won, np.random.default_rng(0))


@pytest.mark.parametrize(("baseline", "said"), [(-1.0, "below"), (2.0, "above"), (0.0, ""), (0.5, ""), (1.0, "")])
@pytest.mark.parametrize("algorithm", [Topr, AsymRe])
def test_a_baseline_that_no_return_lies_around_is_said(algorithm, baseline, said, caplog):
    """Else wrong answers with a reward of 20 would be imitated beside right ones with 100, and nobody the wiser."""
    warn_once.cache_clear()
    for _ in range(2):
        algorithm(baseline=baseline).select(bandit_buffer(), np.random.default_rng(0))
    assert caplog.text.count(f"baseline={baseline:g} is {said} the return of each of the 10 episodes (0 to 1)") == (
        1 if said else 0
    )
