"""KTO through the algorithm class: its KL reference point, and the loss against plain numbers."""

import logging
import math

import numpy as np
import pytest
import torch
from tabular import tiny_models

from oreo_algos.algos import Kto
from oreo_algos.algos.kto import ReferencePoint, mismatched_pairs
from oreo_algos.algos.saying import warn_once
from oreo_algos.batch import collate

ALGORITHM = Kto(beta=0.4, desirable_weight=1.5, undesirable_weight=0.8)


@pytest.fixture(autouse=True)
def not_warned_yet():
    warn_once.cache_clear()


@pytest.fixture
def answer(make_episode):
    """Build a single-turn episode of two steps from its prompt and completion."""

    def build(prompt, completion, reward=1.0):
        steps = [0] * (len(completion) - 1) + [1] if len(completion) > 1 else [0]
        return make_episode([-1] * len(prompt) + steps, [0.0] * steps[-1] + [reward], tokens=[*prompt, *completion])

    return build


@pytest.fixture
def answers(answer):
    rng = np.random.default_rng(5)
    return [
        answer(rng.integers(1, 50, rng.integers(1, 5)), rng.integers(1, 50, rng.integers(1, 6)), float(rng.integers(2)))
        for _ in range(9)
    ]


def log_ratio(models, episode):
    batch = collate([episode])
    return (models.policy.score(batch).logprobs - models.reference.score(batch).logprobs).sum().item()


def in_micro_batches(size):
    return lambda episodes: [collate(episodes[i : i + size]) for i in range(0, len(episodes), size)]


def parts(pairs):
    """[(prompt, completion)] of mismatched pairs."""
    return [(pair.tokens[pair.step_id < 0].tolist(), pair.tokens[pair.step_id >= 0].tolist()) for pair in pairs]


# --- mismatched pairs


def test_the_prompt_of_an_episode_meets_the_completion_of_the_next(answer):
    episodes = [answer([1], [10, 11]), answer([2, 2], [20]), answer([3, 3, 3], [30, 31, 32])]
    assert parts(mismatched_pairs(episodes, max_length=100)) == [
        ([1], [20]),
        ([2, 2], [30, 31, 32]),
        ([3, 3, 3], [10, 11]),
    ]


def test_every_token_of_a_mismatched_completion_is_an_action_and_none_of_its_prompt(answer):
    pairs = mismatched_pairs([answer([1], [10, 11, 12]), answer([2, 2], [20])], max_length=100)
    assert [pair.step_id.tolist() for pair in pairs] == [[-1, 0], [-1, -1, 0, 0, 0]]


def test_two_samples_of_one_prompt_are_no_mismatched_pair(answer):
    episodes = [answer([1], [10]), answer([1], [11]), answer([2], [20])]
    assert parts(mismatched_pairs(episodes, max_length=100)) == [([1], [20]), ([2], [10])]


def test_pairs_longer_than_the_context_are_left_out(answer):
    episodes = [answer([1], [10, 11, 12]), answer([2, 2], [20]), answer([3, 3], [30])]
    assert parts(mismatched_pairs(episodes, max_length=4)) == [([1], [20]), ([2, 2], [30])]


def test_an_observation_after_the_first_action_allows_no_mismatched_pair(answer, make_episode):
    several_turns = make_episode([-1, 0, -1, 1], [0.0, 1.0])
    assert mismatched_pairs([answer([1], [10]), several_turns], max_length=100) is None


# --- KL reference point


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [1, 2, 4, 9])
def test_the_reference_point_is_the_mean_over_the_whole_step_whatever_the_micro_batches(answers, answer, size, seed):
    models = tiny_models(seed)
    others = answers[1:] + answers[:1]
    crossed = []
    for own, other in zip(answers, others, strict=True):
        prompt, completion = own.tokens[own.step_id < 0].tolist(), other.tokens[other.step_id >= 0].tolist()
        crossed.append(log_ratio(models, answer(prompt, completion)))
    kl = ALGORITHM.begin_step(answers, models, in_micro_batches(size))
    assert kl.nats.item() == pytest.approx(max(np.mean(crossed), 0), rel=1e-9)
    assert not kl.nats.requires_grad


def test_the_kl_is_logged_in_nats_a_token_as_of_every_algorithm(answers, answer):
    models = tiny_models(1)
    pairs = mismatched_pairs(answers, 99)
    point = ALGORITHM.begin_step(answers, models, in_micro_batches(2))
    assert point.tokens == pytest.approx(np.mean([pair.num_action_tokens for pair in pairs]))
    found = ALGORITHM.losses(collate(answers), models, point).metrics
    assert found["kl"] == pytest.approx(point.nats.item() / point.tokens)


def test_a_reference_point_below_0_is_0(answers):
    """With policy and reference exchanged the mean changes its sign, so one of the two estimates is 0."""
    models = tiny_models()
    swapped = tiny_models()
    swapped.policy, swapped.reference = models.reference, models.policy
    both = [ALGORITHM.begin_step(answers, each, in_micro_batches(9)).nats.item() for each in (models, swapped)]
    assert min(both) == 0 < max(both)


@pytest.mark.parametrize("case", ["a single episode", "one prompt", "too long"])
def test_without_a_mismatched_pair_the_reference_point_is_0_and_the_log_says_so_once(answer, case, caplog):
    models = tiny_models()
    episodes = [answer([1], [10, 11]), answer([1], [12, 13])]
    if case == "a single episode":
        episodes = episodes[:1]
    if case == "too long":
        episodes[1] = answer([2], [12, 13])
        models.policy.max_length = 2
    with caplog.at_level(logging.WARNING, logger="oreo_algos"):
        for _ in range(2):
            kl = ALGORITHM.begin_step(episodes, models, in_micro_batches(1))
            assert kl.nats.item() == 0
    assert caplog.messages == [
        "kto: a step whose batch has no mismatched pair (its prompts are all equal, or every pair is longer "
        "than the policy's context), so its KL reference point is 0"
    ]
    assert ALGORITHM.losses(collate(episodes), models, kl).metrics["kl"] == 0


@pytest.mark.parametrize("seed", range(4))
def test_with_several_turns_it_is_the_matched_mean_clamped_at_0_and_the_log_says_so_once(random_episodes, seed, caplog):
    models, episodes = tiny_models(seed), random_episodes(7)
    expected = max(np.mean([log_ratio(models, episode) for episode in episodes]), 0)
    with caplog.at_level(logging.WARNING, logger="oreo_algos"):
        for size in (2, 7):
            kl = ALGORITHM.begin_step(episodes, models, in_micro_batches(size))
            assert kl.nats.item() == pytest.approx(expected, rel=1e-9)
    assert [record.message for record in caplog.records] == [
        "kto: episodes of several turns, so the KL reference point is the mean of the matched log-ratios "
        "of a step's batch, clamped at 0"
    ]


def test_with_a_single_turn_nothing_is_logged(answers, caplog):
    ALGORITHM.begin_step(answers, tiny_models(), in_micro_batches(9))
    assert not caplog.records


# --- loss


def test_loss_and_metrics_equal_plain_numbers(answers):
    models, kl = tiny_models(), 0.3
    ratios = [log_ratio(models, episode) for episode in answers]
    logprobs = [models.policy.score(collate([episode])).logprobs.sum().item() for episode in answers]
    desirable = [episode.rewards[-1] > 0 for episode in answers]
    assert 0 < sum(desirable) < len(answers)
    loss = [
        1.5 * (1 - 1 / (1 + math.exp(-0.4 * (ratio - kl))))
        if good
        else 0.8 * (1 - 1 / (1 + math.exp(-0.4 * (kl - ratio))))
        for ratio, good in zip(ratios, desirable, strict=True)
    ]
    losses = ALGORITHM.losses(collate(answers), models, ReferencePoint(torch.tensor(kl), 6.0))
    assert losses.terms["policy"].item() == pytest.approx(np.mean(loss), rel=1e-6)
    good, bad = np.array(desirable), ~np.array(desirable)
    expected = {
        "kl": kl / 6,
        "rewards/reference_point": 0.4 * kl,
        "rewards/chosen": 0.4 * np.mean(np.array(ratios)[good]),
        "rewards/rejected": 0.4 * np.mean(np.array(ratios)[bad]),
        "logps/chosen": np.mean(np.array(logprobs)[good]),
        "logps/rejected": np.mean(np.array(logprobs)[bad]),
    }
    scored = [models.policy.score(collate([episode])).entropy.sum().item() for episode in answers]
    expected["entropy"] = sum(scored) / sum(episode.num_action_tokens for episode in answers)
    assert losses.metrics == pytest.approx(expected, rel=1e-6)


def test_an_outcome_that_does_not_occur_has_no_metric(answer):
    losses = ALGORITHM.losses(collate([answer([1], [2], 0.0)]), tiny_models(), ReferencePoint(torch.tensor(0.0), 1.0))
    assert set(losses.metrics) == {"entropy", "kl", "rewards/reference_point", "rewards/rejected", "logps/rejected"}
