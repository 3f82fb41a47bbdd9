"""Evaluation: shared samples, values, skipped tasks, summaries."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_models import draw_episodes, make_model, make_tokenizer

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_agents.episodes import sampler as sampler_module
from oreo_agents.episodes.generate import Sample, Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.rollout import RolloutCounts
from oreo_agents.evaluation.evaluate import Item, evaluate, summarize
from oreo_agents.networks.kv_cache import Prefix
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_agents.search import BestOfN, Greedy, Majority, Player, Sampled, Search, WeightedVote
from oreo_agents.search.player import Judgement, final_state
from oreo_algos.batch import collate

FORMAT = PromptFormat(make_tokenizer())
MAKE_ENV = partial(gym.make, "oreo/Arithmetic-v0", split="test", disable_env_checker=True)
LIMITS = Sampling(max_new_tokens=12, batch_size=16)


def make_policy(context: int = 256) -> CausalPolicy:
    return CausalPolicy(make_model("llama", context=context))


@pytest.fixture
def value(checkpoint: Callable[[str], str]) -> TokenValue:
    network = TokenValue.from_policy(checkpoint("llama"))
    with torch.no_grad():
        network.model.score.weight.normal_(generator=torch.Generator().manual_seed(0))
    return network


def reference_answers(count: int) -> list[str]:
    env = MAKE_ENV().unwrapped
    return [str(env.problem(index).answer) for index in range(count)]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], list[float]]:
    """Let the policy answer with given texts; returns the temperatures that were asked for."""

    def install(texts: list[str]) -> list[float]:
        temperatures: list[float] = []

        def say(policy, prompts, end_ids, sampling, generator=None, **options):
            temperatures.append(sampling.temperature)
            spoken = [FORMAT.encode(texts.pop(0)) for _ in prompts]
            return [Sample([*tokens, FORMAT.end_of_turn], [0.0] * (len(tokens) + 1), True) for tokens in spoken]

        monkeypatch.setattr(sampler_module, "generate", say)
        return temperatures

    return install


def test_items_come_in_the_order_of_the_tasks_and_say_what_was_answered(script):
    right = reference_answers(3)
    script([f"#### {right[0]}", "#### 999", "no idea"])
    items = dict(evaluate(MAKE_ENV, make_policy(), FORMAT, {"greedy": Greedy()}, range(3), LIMITS, seed=0))["greedy"]
    assert [item.correct for item in items] == [True, False, False]
    assert [item.answer for item in items] == [right[0], "999", None]
    assert [item.task_id.rpartition("/")[2] for item in items] == ["0", "1", "2"]
    assert [item.sound for item in items] == [False, False, False]
    assert items[0].tokens == len(FORMAT.encode(f"#### {right[0]}")) + 1


def test_a_worked_solution_is_sound(script):
    from oreo_envs.arithmetic import solve

    problem = MAKE_ENV().unwrapped.problem(0)
    script([solve(problem, problem.readings)])
    [item] = dict(evaluate(MAKE_ENV, make_policy(), FORMAT, {"greedy": Greedy()}, [0], LIMITS, seed=0))["greedy"]
    assert item.correct and item.sound is True


def test_searches_of_equal_sampling_share_their_samples(script, value):
    right = reference_answers(1)[0]
    samples = [f"#### {right}", "#### 998", "#### 998", f"#### {right}", f"#### {right}"]
    temperatures = script([*samples, "#### 5"])
    searches = {
        "majority": Majority(samples=5, temperature=0.7),
        "best": BestOfN(samples=5, temperature=0.7),
        "greedy": Greedy(),
    }
    items = dict(evaluate(MAKE_ENV, make_policy(), FORMAT, searches, [0], LIMITS, seed=0, value=value))
    assert list(items) == ["majority", "best", "greedy"]
    assert temperatures == [0.7, 0.0]
    assert items["majority"][0].correct and items["majority"][0].answer == right
    # What was generated is counted whole for both, whichever sample is chosen.
    generated = sum(len(FORMAT.encode(text)) + 1 for text in samples)
    assert items["majority"][0].tokens == items["best"][0].tokens == generated


def test_best_of_n_answers_with_the_sample_of_highest_value(script, monkeypatch, value):
    script([f"#### {n}" for n in (1, 2, 3, 4, 5, 6)])
    scores = np.array([0.1, 0.9, 0.3, 0.2, 0.0, 0.7])
    calls: list[int] = []

    def judge(self, openings, continuations):
        calls.append(len(openings))
        return [Judgement(score, len(tokens), Prefix()) for score, tokens in zip(scores, continuations, strict=True)]

    monkeypatch.setattr(Player, "judge", judge)
    searches = {"best": BestOfN(tau=0, samples=3), "vote": WeightedVote(tau=0, samples=3)}
    found = dict(evaluate(MAKE_ENV, make_policy(), FORMAT, searches, [0, 1], LIMITS, seed=0, value=value))
    assert [item.answer for item in found["best"]] == [item.answer for item in found["vote"]] == ["2", "6"]
    assert calls == [6], "samples that two searches share are scored once"
    # The end token is never read.
    lengths = [len(FORMAT.encode(f"#### {n}")) for n in (1, 2, 3, 4, 5, 6)]
    expected = [sum(lengths[:3]), sum(lengths[3:])]
    assert [item.value_tokens for item in found["best"]] == [item.value_tokens for item in found["vote"]] == expected


def test_final_values_are_those_just_before_the_last_action_token_whatever_the_batch(value):
    episodes = draw_episodes(7)
    expected = []
    for episode in episodes:
        last = int(np.flatnonzero(episode.step_id >= 0)[-1])
        expected.append(value.token_values(collate([episode]))[0, last].item())
    for batch_size in (1, 3, 16):
        sampling = Sampling(batch_size=batch_size)
        player = Player(MAKE_ENV, make_policy(), FORMAT, [0], sampling, seed=0, value=value)
        player._samples[1, 0.7, False] = [[episode] for episode in episodes]
        found = [judgement for task in player.final_values(1, 0.7) for judgement in task]
        assert [judgement.value for judgement in found] == pytest.approx(expected, abs=1e-5)
        assert [judgement.read for judgement in found] == [len(final_state(episode)) for episode in episodes]


def test_tasks_whose_prompt_fills_the_context_are_unsolved_and_counted(value):
    counts = RolloutCounts()
    done: list[float] = []
    policy = make_policy(context=90)
    lengths = [len(FORMAT.opening(MAKE_ENV().reset(options={"index": i})[1]["messages"])) for i in range(12)]
    too_long = [length >= 90 for length in lengths]
    assert any(too_long) and not all(too_long)
    searches = {"best": BestOfN(samples=2, temperature=1.0), "majority": Majority(samples=2)}
    found = dict(
        evaluate(
            MAKE_ENV,
            policy,
            FORMAT,
            searches,
            range(12),
            LIMITS,
            seed=0,
            value=value,
            counts=counts,
            progress=done.append,
        )
    )
    for items in found.values():
        assert [item.tokens == 0 for item in items] == too_long
        assert not any(item.correct for item, skipped in zip(items, too_long, strict=True) if skipped)
    # Their temperatures differ, so every task was tried by both.
    assert counts.prompts_too_long == 2 * 2 * sum(too_long)
    assert sum(done) == pytest.approx(len(searches) * 12)


def test_of_equal_searches_one_is_done(monkeypatch, script):
    script(["#### 1", "#### 2"])
    done: list[float] = []
    answered: list[Search] = []
    original = Majority.answer
    monkeypatch.setattr(Majority, "answer", lambda self, player: answered.append(self) or original(self, player))
    searches = {"majority@30": Majority(samples=2), "majority@40": Majority(samples=2)}
    found = dict(evaluate(MAKE_ENV, make_policy(), FORMAT, searches, [0], LIMITS, seed=0, progress=done.append))
    assert list(found) == list(searches) and found["majority@30"] == found["majority@40"]
    assert len(answered) == 1 and sum(done) == pytest.approx(2)


def test_the_items_of_a_search_come_before_the_next_search_begins(script):
    temperatures = script(["#### 1", "#### 2"])
    searches = {"greedy": Greedy(), "sampled": Sampled()}
    found = evaluate(MAKE_ENV, make_policy(), FORMAT, searches, [0], LIMITS, seed=0)
    assert next(found)[0] == "greedy" and temperatures == [0.0]
    assert next(found)[0] == "sampled" and temperatures == [0.0, 1.0]


def test_the_same_seed_gives_the_same_items():
    policy = make_policy()
    first, again = (
        dict(evaluate(MAKE_ENV, policy, FORMAT, {"sampled": Sampled()}, range(4), LIMITS, seed=3)) for _ in range(2)
    )
    assert first == again


def test_a_search_by_value_without_a_value_is_refused():
    with pytest.raises(ValueError, match="search best needs a value network, and this policy has none"):
        dict(evaluate(MAKE_ENV, make_policy(), FORMAT, {"best": BestOfN()}, [0], LIMITS, seed=0))


def test_samples_of_a_dialogue_are_refused(monkeypatch):
    from oreo_envs.arithmetic import ArithmeticEnv

    monkeypatch.setattr(ArithmeticEnv, "step_delimiters", ())
    with pytest.raises(ValueError, match="search vote chooses among 8 finished episodes; a task that is played turn"):
        dict(evaluate(MAKE_ENV, make_policy(), FORMAT, {"vote": Majority()}, [0], LIMITS, seed=0))


def test_a_summary_is_counted_by_hand():
    items = [
        Item("a", True, True, 10, "1", value_tokens=4),
        Item("b", True, False, 20, "2", value_tokens=8),
        Item("c", False, False, 30, None),
        Item("d", False, None, 0, None),
    ]
    summary = summarize(items)
    assert (summary["n"], summary["correct"], summary["accuracy"]) == (4, 2, 0.5)
    assert summary["standard_error"] == pytest.approx(0.25)
    assert (summary["sound"], summary["tokens_per_task"], summary["value_tokens_per_task"]) == (0.25, 15.0, 3.0)
    assert summary["wilson_low"] < 0.5 < summary["wilson_high"]
    assert "sound" not in summarize([Item("a", True, None, 1, "1")])


def test_nothing_is_left_on_disk_by_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script):
    monkeypatch.chdir(tmp_path)
    script(["#### 1"])
    dict(evaluate(MAKE_ENV, make_policy(), FORMAT, {"greedy": Greedy()}, [0], LIMITS, seed=0))
    assert not list(tmp_path.iterdir())
