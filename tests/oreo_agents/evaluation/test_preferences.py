"""Held-out pairs: which there are, how they are ranked, what the numbers are worth."""

import math

import numpy as np
import pytest
import torch
from tiny_models import draw_episodes, make_episode, make_model

from oreo_agents.evaluation.preferences import (
    DevPairs,
    HeldOut,
    PairSettings,
    Ranking,
    answer_logprobs,
    answer_values,
    held_out_pairs,
)
from oreo_agents.evaluation.statistics import wilson_interval
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_algos import EpisodeBuffer, Models
from oreo_algos.batch import collate
from oreo_algos.segments import final_values


def answer(task: str, last: int, good: bool, pair: str | None = None, length: int = 2):
    info = {} if pair is None else {"pair": pair}
    steps = [list(range(5, 5 + length)), [last]]
    return make_episode([3, 4], *steps, task_id=task, rewards=[0.0, float(good)], success=good, info=info)


@pytest.fixture(scope="module")
def networks() -> tuple[CausalPolicy, CausalPolicy]:
    return CausalPolicy(make_model("llama", seed=0)), CausalPolicy(make_model("llama", seed=1))


def pairs_buffer(count: int = 6) -> EpisodeBuffer:
    return EpisodeBuffer(
        answer(f"t{n}", 7 + n + 10 * good, good, f"p{n}", length=1 + n) for n in range(count) for good in (True, False)
    )


def test_named_pairs_stay_and_one_is_drawn_of_other_tasks_that_have_both_outcomes():
    named = [answer("a", 7, False, "p"), answer("a", 8, True, "p"), answer("a", 9, True), answer("b", 7, True)]
    others = [answer("c", 7, good) for good in (True, True, False, False)]
    buffer = EpisodeBuffer([*named, *others])
    first, second = held_out_pairs(buffer)
    assert first == (1, 0) and second[0] in (4, 5) and second[1] in (6, 7)
    assert held_out_pairs(buffer) == [first, second]
    with pytest.raises(ValueError, match="1 episodes of 1 tasks hold no preference pair"):
        held_out_pairs(buffer[3:4])


def test_pairs_that_no_context_holds_are_left_out_and_counted():
    buffer = pairs_buffer()
    held = HeldOut.of(buffer, 2 + 3 + 1)
    assert len(held.pairs) == 3 and held.too_long == 3
    assert held.answers == [0, 1, 2, 3, 4, 5] and held.task_ids() == ["t0", "t1", "t2"]
    assert len(HeldOut.of(buffer, 64, most=2).pairs) == 2
    with pytest.raises(ValueError, match="not one of 6 held-out pairs fits into the context of 3 tokens"):
        HeldOut.of(buffer, 3)


def test_answers_are_scored_as_one_by_one_whatever_goes_into_a_batch(networks):
    policy, _ = networks
    buffer = EpisodeBuffer(draw_episodes(9))
    held = HeldOut(buffer, [(0, 1), (2, 3), (8, 5)])
    single = [policy.score(collate([buffer[i]])).logprobs.sum().item() for i in held.answers]
    for max_tokens in (1, 30, 10_000):
        np.testing.assert_allclose(answer_logprobs(policy, held, max_tokens), single, atol=1e-4)


def test_v_is_read_before_the_last_token(tmp_path):
    make_model("llama").save_pretrained(tmp_path)
    value = TokenValue.from_policy(str(tmp_path), device=torch.device("cpu"), dtype=torch.float32)
    with torch.no_grad():
        value.plain.score.weight.normal_(generator=torch.Generator().manual_seed(0))
    buffer = pairs_buffer()
    held = HeldOut.of(buffer, 64)
    batch = collate(list(buffer))
    expected = final_values(value.token_values(batch), batch).tolist()
    np.testing.assert_allclose(answer_values(value, held, 20), expected, atol=1e-5)


def test_a_share_of_pairs_with_its_interval_and_ties_count_half():
    ranking = Ranking(np.array([1.0, 2.0, 0.0, -1.0]), np.array([0.0, 2.0, 1.0, -3.0]), np.arange(4))
    said = ranking.summary()
    assert (said["n"], said["correct"], said["accuracy"], said["ties"]) == (4, 2.5, 0.625, 1)
    assert said["margin"] == pytest.approx(0.5) and (said["chosen"], said["rejected"]) == (0.5, 0.0)
    margins = np.array([1.0, 0.0, -1.0, 2.0])
    assert said["margin_high"] - said["margin"] == pytest.approx(1.96 * margins.std() / 2)


@pytest.mark.parametrize("right", [0, 3, 10])
def test_without_ties_the_interval_is_wilsons(right: int):
    chosen = np.array([1.0] * right + [-1.0] * (10 - right))
    said = Ranking(chosen, np.zeros(10), np.arange(10)).summary()
    assert (said["wilson_low"], said["wilson_high"]) == pytest.approx(wilson_interval(right, 10))


def test_pairs_of_one_prompt_are_no_independent_evidence():
    chosen, zeros = np.repeat([1.0, -1.0, 1.0, 1.0], 5), np.zeros(20)
    apart = Ranking(chosen, zeros, np.arange(20)).summary()
    together = Ranking(chosen, zeros, np.repeat(np.arange(4), 5)).summary()
    assert together["accuracy"] == apart["accuracy"] == 0.75
    assert (together["wilson_low"], together["wilson_high"]) == pytest.approx(wilson_interval(3, 4))
    assert together["margin_low"] < apart["margin_low"]
    alone = Ranking(chosen[:5], zeros[:5], np.zeros(5, int)).summary()
    assert alone["margin_low"] is None and alone["wilson_low"] == pytest.approx(wilson_interval(1, 1)[0])


def test_a_score_that_is_no_number_is_said():
    with pytest.raises(ValueError, match="1 of 2 held-out pairs have no finite score"):
        Ranking(np.array([math.nan, 1.0]), np.zeros(2), np.arange(2)).summary()


def test_the_curve_starts_at_a_coin_and_then_ranks_by_the_ratio_to_the_start(networks):
    policy, other = networks
    held = HeldOut.of(pairs_buffer(), 64)
    models = Models(CausalPolicy(make_model("llama", seed=0)))
    dev = DevPairs(held, "Chat-v0/pairs-x", models, beta=0.5, max_tokens=50)
    start = dev(0)
    assert start.score == 0.5 and start.metrics["eval/Chat-v0/pairs-x/reward_margin"] == 0.0
    models.policy.load_state_dict(other.state_dict())
    found = dev(3)
    ratios = answer_logprobs(other, held, 50) - answer_logprobs(policy, held, 50)
    expected = held.compare(0.5 * ratios).summary()
    assert found.score == expected["accuracy"]
    assert found.metrics["eval/Chat-v0/pairs-x/reward_margin"] == pytest.approx(expected["margin"], abs=1e-4)
    assert found.metrics["eval/Chat-v0/pairs-x/pairs"] == 6
    with torch.no_grad():
        next(models.policy.parameters()).fill_(math.nan)
    assert math.isnan(dev(4).score)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"share": 1.0}, "above 0 and below 1"),
        ({"share": "a"}, "must be a number"),
        ({"share": 0.1, "data": "x"}, "give one"),
        ({"beta": 0.0}, "beta must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, told: str):
    with pytest.raises(ValueError, match=told):
        PairSettings(**given)
