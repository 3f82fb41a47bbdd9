"""What a candidate is worth: V and the policy, weighed by hand."""

import math
from functools import partial
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
from tiny_models import make_episode, make_model, make_tokenizer

from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.sampler import LocalSampler
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.search import (
    Answer,
    BestOfKActions,
    BestOfN,
    Majority,
    Player,
    Resample,
    ResampleActions,
    StepBeam,
    scoring,
)
from oreo_agents.search.log_policy import log_policy_of
from oreo_agents.search.player import Judgement
from oreo_agents.search.scoring import drawn_scores
from oreo_agents.search.weighted_vote import WeightedVote
from oreo_envs.arithmetic import ArithmeticEnv

FORMAT = PromptFormat(make_tokenizer())
MAKE_ENV = partial(gym.make, "oreo/Arithmetic-v0", disable_env_checker=True)

VALUES, LOG_POLICY, TOKENS, VOTES = [0.9, 0.6, 0.5], [-8.0, -4.5, -1.0], [16, 3, 10], [1, 1, 6]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"tau": 0.0}, VALUES),
        ({"tau": 0.1, "prior": "policy"}, [0.1, 0.15, 0.4]),
        ({"tau": 0.01, "prior": "policy"}, [0.82, 0.555, 0.49]),
        ({"tau": 0.2, "prior": "policy_mean"}, [0.8, 0.3, 0.48]),
        ({"tau": 0.2, "prior": "votes"}, [0.9, 0.6, 0.5 + 0.2 * math.log(6)]),
    ],
)
@pytest.mark.parametrize("kind", [BestOfN, StepBeam, BestOfKActions])
def test_a_score_is_v_and_tau_times_the_log_prior(kind: Any, settings: dict[str, Any], expected: list[float]):
    search = kind(**settings)
    scores = search.scores(VALUES, log_policy=LOG_POLICY, tokens=TOKENS, votes=VOTES)
    assert scores == pytest.approx(expected)
    assert search.reads_policy == (settings["tau"] > 0 and settings.get("prior") != "votes")


def test_of_nothing_said_nothing_is_minus_infinity():
    assert BestOfN(tau=0.0).scores([1.0], log_policy=[-math.inf]) == pytest.approx([1.0])


def test_the_greatest_of_drawn_scores_is_a_draw_by_votes_and_v():
    tau, values, votes = 0.2, np.array([0.5, 0.3, 0.6]), np.array([2, 4, 1])
    source = np.random.default_rng(0)
    drawn = [int(drawn_scores(values, votes, tau, source).argmax()) for _ in range(4000)]
    weights = votes * np.exp(values / tau)
    assert np.bincount(drawn) / 4000 == pytest.approx(weights / weights.sum(), abs=0.03)
    assert drawn_scores(values, votes, 0.0, source) == pytest.approx(values)


def chosen(search: Any, seed: int = 0) -> str:
    """Say what a search takes of samples whose V, log pi and answers are those above; of "c" there are six."""
    return str(answered(search, seed).episode.info["answer"])


def answered(search: Any, seed: int = 0) -> Answer:
    answers = ["a", "b", *"cccccc"]
    places = [0, 1, *[2] * 6]
    player: Any = Player(ArithmeticEnv, None, None, [0], None, seed=seed)  # type: ignore[arg-type]
    key = (search.samples, search.temperature, False)
    info = {"generated_tokens": 1}
    player._samples[key] = [
        [make_episode([1], [2] * TOKENS[p], info={**info, "answer": a}) for p, a in zip(places, answers, strict=True)]
    ]
    player._final_values[key] = [[Judgement(VALUES[p], 1, None) for p in places]]  # type: ignore[arg-type]
    player._final_log_policy[key] = [[LOG_POLICY[p] for p in places]]
    [answer] = search.answer(player)
    assert answer is not None
    return cast(Answer, answer)


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (BestOfN(tau=0.0), "a"),
        (BestOfN(tau=0.05, prior="policy"), "a"),  # .5, .375, .45
        (BestOfN(tau=0.1, prior="policy"), "c"),  # .1, .15, .4
        (BestOfN(tau=2.0, prior="policy_mean"), "c"),  # -.1, -2.4, .3
        (BestOfN(tau=0.2, prior="votes"), "a"),  # .9, .6, .858
        (BestOfN(tau=0.3, prior="votes"), "c"),  # .9, .6, 1.04
        (WeightedVote(tau=0.0), "c"),  # .9, .6, 3.0
        (WeightedVote(tau=0.1), "a"),  # 1, .05, 6 * .018
        (WeightedVote(tau=0.3), "c"),  # 1, .37, 6 * .26
        (Resample(tau=0.0), "a"),
        (Majority(), "c"),
    ],
)
def test_searches_of_whole_answers_choose_by_it(search: Any, expected: str):
    assert chosen(search) == expected


@pytest.mark.parametrize(
    ("search", "scores"),
    [
        (BestOfN(tau=0.1), [0.1, 0.15, 0.4]),
        (BestOfN(tau=0.0), VALUES),
        (WeightedVote(tau=0.3), [1.0, math.exp(-1.0), math.exp(-4 / 3)]),
        (Majority(), [None] * 3),
    ],
)
def test_the_number_that_decided_is_told(search: Any, scores: list[float | None]):
    found = [candidate.score for candidate in answered(search).candidates[:3]]
    assert found == (scores if None in scores else pytest.approx(scores))


def test_a_resampled_answer_is_drawn_anew_for_another_seed_and_alike_for_the_same():
    search = Resample(tau=0.3)
    found = [chosen(search, seed) for seed in range(100)]
    assert found[:9] == [chosen(search, seed) for seed in range(9)]
    weights = np.exp(np.array(VALUES) / 0.3) * [1, 1, 6]
    shares = [found.count(name) / 100 for name in "abc"]
    assert shares == pytest.approx(weights / weights.sum(), abs=0.12)


@pytest.mark.parametrize("kind", [BestOfN, StepBeam, BestOfKActions, WeightedVote, Resample, ResampleActions])
def test_a_tau_that_weighs_nothing_is_refused(kind: Any):
    with pytest.raises(ValueError, match=r"tau must be at least 0 .*; 0: V alone decides\), got -0.1"):
        kind(tau=-0.1)
    with pytest.raises(ValueError, match="tau must be finite"):
        kind(tau=math.inf)
    with pytest.raises(ValueError, match=r"tau must be a number, got nan"):
        kind(tau=math.nan)


def test_an_unknown_prior_is_refused_and_the_closest_one_named():
    with pytest.raises(ValueError, match=r"prior must be one of policy, policy_mean, votes, got 'vote'; .*'votes'"):
        BestOfN(prior="vote")  # type: ignore[arg-type]


# Log-probabilities are those at temperature 1, whatever tokens were drawn at and whoever drew them.


class Silent(LocalSampler):
    """Says what a server does: log-probabilities at the temperature of the sampling, and no others."""

    def generate(self, *given: Any, **how: Any) -> Any:
        samples = super().generate(*given, **how)
        for sample in samples:
            sample.log_policy = None
        return samples


def make_player(sampler: type[LocalSampler] = LocalSampler) -> Player:
    policy = CausalPolicy(make_model("llama", context=128))
    limits = Sampling(max_new_tokens=12, batch_size=8)
    return Player(MAKE_ENV, policy, FORMAT, range(2), limits, seed=0, sampler=sampler(policy))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_log_pi_of_steps_is_at_temperature_1_for_greedy_and_drawn_ones_alike(temperature: float):
    player, silent = make_player(), make_player(Silent)
    [records] = player.begin()
    sources = [None, player.source(records[1], 0)]
    samples = player.continue_turns(records, temperature, sources, one_step=False)
    told = player.log_policy(records, samples)
    for sample, number in zip(samples, told, strict=True):
        assert sample.log_policy is not None and sum(sample.log_policy) == number
        drawn = temperature not in (1.0,) and sample is samples[1]
        assert (sample.logprobs != sample.log_policy) == drawn
    read = silent.log_policy(records, silent.continue_turns(records, temperature, sources[:1] * 2, one_step=False))
    assert read[0] == pytest.approx(told[0], rel=1e-4)
    for sample in samples:
        sample.log_policy = None
    assert player.log_policy(records, samples) == pytest.approx(told, rel=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_log_pi_of_whole_answers_is_at_temperature_1(temperature: float):
    player = make_player()
    drawn = player.samples(2, temperature)
    for episodes, said in zip(drawn, player.final_log_policy(2, temperature), strict=True):
        unknown = [episode for episode in episodes if episode.info.update(temperature=None) is None]
        assert said == pytest.approx(log_policy_of(player.policy, unknown), rel=1e-4)
        at_temperature = [float(episode.behavior_logprobs.sum()) for episode in episodes]
        assert (said == pytest.approx(at_temperature, rel=1e-4)) == (temperature == 1.0)


def test_long_answers_are_warned_of_once_where_log_pi_would_drown_v(caplog):
    scoring._say_long.cache_clear()
    values, log_policy = [0.9, 0.1], [-60.0, -20.0]
    for search in (BestOfN(prior="policy_mean"), BestOfN(tau=0), BestOfN()):
        search.scores(values, log_policy=log_policy, tokens=[40, 40] if search == BestOfN() else [400, 400])
    assert not caplog.records
    for _ in range(2):
        BestOfN().scores(values, log_policy=log_policy, tokens=[400, 300])
    assert ["prior=policy_mean" in record.getMessage() for record in caplog.records] == [True]
