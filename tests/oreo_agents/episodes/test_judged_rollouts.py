"""Rollouts: rewards, ends and limits, and to which action they belong."""

import pytest
from short_talks import CHAT, DIALOGUE_ENV, FORMATS, PLAIN, QUESTION_ENV, QuestionEnv, make_policy, maker, play

from oreo_agents.episodes import sampler as sampler_module
from oreo_agents.episodes.generate import Sample, Sampling
from oreo_agents.episodes.rollout import RolloutCounts, rollout

pytestmark = pytest.mark.usefixtures("short_talks")


@FORMATS
def test_spans_cut_the_messages_into_the_texts_of_the_steps(prompt_format, script):
    script(prompt_format, "one\ntwo\n#### 3")
    episode = play(QUESTION_ENV, prompt_format, [3])[0]
    content = episode.messages[-1]["content"]
    assert content == "one\ntwo\n#### 3"
    texts = [episode.messages[m]["content"][a:b] for m, a, b in episode.action_spans.tolist()]
    assert texts == ["one\n", "two\n", "#### 3"]
    for k, text in enumerate(texts):
        assert prompt_format.decode(episode.tokens[episode.step_id == k].tolist()) == text


@pytest.mark.parametrize(("answer", "reward"), [("#### 3", 1.0), ("#### 4", 0.0)])
def test_the_reward_falls_on_the_last_action(script, answer: str, reward: float):
    script(PLAIN, f"one\ntwo\n{answer}")
    episode = play(QUESTION_ENV, PLAIN, [3])[0]
    assert episode.rewards.tolist() == [0.0, 0.0, reward]
    assert episode.terminated and not episode.truncated
    assert episode.info["success"] is bool(reward) and episode.info["answer"] == answer[-1]


def test_what_follows_a_final_answer_is_cut_from_tokens_and_text(script):
    script(PLAIN, "one\n#### 3\nand more\nand more")
    episode = play(QUESTION_ENV, PLAIN, [3])[0]
    assert episode.rewards.tolist() == [0.0, 1.0]
    assert episode.messages[-1]["content"] == "one\n#### 3\n"
    assert PLAIN.decode(episode.tokens[episode.step_id >= 0].tolist()) == "one\n#### 3\n"
    assert PLAIN.end_of_turn not in episode.tokens
    assert episode.terminated


def test_an_answer_that_ends_without_a_final_answer_is_closed_and_graded(script):
    # "The answer is 3." announces no complete final answer, but graded at the end it may still be right.
    script(PLAIN, "one\nno idea")
    counts = RolloutCounts()
    episode = play(QUESTION_ENV, PLAIN, [3], counts=counts)[0]
    assert episode.terminated and not episode.truncated
    assert episode.rewards.tolist() == [0.0, 0.0] and len(episode.action_spans) == 2
    assert episode.tokens[-1] == PLAIN.end_of_turn and episode.step_id[-1] == 1
    assert counts.cut_off == 0


def test_the_reward_of_a_closing_empty_action_goes_to_the_last_action(script, monkeypatch):
    monkeypatch.setattr(QuestionEnv, "_judge", lambda self, index, response: (True, {"success": True}))
    script(PLAIN, "one\nsomething")
    assert play(QUESTION_ENV, PLAIN, [3])[0].rewards.tolist() == [0.0, 1.0]


def test_an_empty_response_is_one_action_of_its_end_token(script):
    script(PLAIN, "")
    episode = play(QUESTION_ENV, PLAIN, [3])[0]
    assert episode.terminated and episode.rewards.tolist() == [0.0]
    assert episode.step_id.tolist()[-1] == 0 and episode.num_action_tokens == 1
    assert episode.action_spans.tolist() == [[1, 0, 0]]


def test_a_response_cut_off_by_a_limit_is_truncated_and_counted(script):
    script(PLAIN, "one\ntwo...")
    counts = RolloutCounts()
    episode = play(QUESTION_ENV, PLAIN, [3], counts=counts)[0]
    assert episode.truncated and not episode.terminated and not episode.success
    assert episode.rewards.tolist() == [0.0, 0.0]
    assert counts == RolloutCounts(prompts_too_long=0, cut_off=1)


@pytest.mark.parametrize("said", ["one\n#### 3", "#### 3", "one\n\\boxed{4}, no: #### 3"])
def test_an_answer_that_a_limit_may_have_cut_is_truncated_and_not_graded(script, said: str):
    """What would come next might be the rest of 31."""
    script(PLAIN, f"{said}...")
    counts = RolloutCounts()
    episode = play(QUESTION_ENV, PLAIN, [3], counts=counts)[0]
    assert episode.truncated and not episode.terminated and not episode.success and counts.cut_off == 1
    assert not episode.rewards.any() and episode.info["answer"] is None and "grade_reason" not in episode.info
    # The text is part of the episode all the same.
    assert episode.messages[-1]["content"] == said and episode.num_steps == 1 + said.count("\n")
    assert PLAIN.decode(episode.tokens[episode.step_id >= 0].tolist()) == said


@pytest.mark.parametrize("said", ["one\n#### 3\n...", "one\n\\boxed{3}...", "#### 3\n#### 4...", "one\n#### 3"])
def test_an_answer_that_is_whole_is_graded_also_where_a_limit_comes_right_behind_it(script, said: str):
    script(PLAIN, said)
    episode = play(QUESTION_ENV, PLAIN, [3])[0]
    assert episode.terminated and episode.success and episode.total_reward == 1.0


@pytest.mark.parametrize("max_new_tokens", range(1, 30))
def test_no_limit_on_tokens_turns_an_answer_into_another(monkeypatch, max_new_tokens: int):
    """One text, cut at every token: the answer 1234, and never 1, 12 or 123."""
    tokens = [*PLAIN.encode("so it is\n#### 1234\n"), PLAIN.end_of_turn]

    def say(policy, prompts, *rest, **options):
        cut = tokens[:max_new_tokens]
        return [Sample(list(cut), [0.0] * len(cut), cut == tokens) for _ in prompts]

    monkeypatch.setattr(sampler_module, "generate", say)
    episode = play(QUESTION_ENV, PLAIN, [3])[0]
    assert episode.info["answer"] in (None, "1234")
    assert episode.terminated == (episode.info["answer"] is not None)


def test_a_turn_of_a_game_that_a_limit_cut_is_not_judged(script):
    script(PLAIN, "first", "second, which is longer...")
    episode = play(DIALOGUE_ENV, PLAIN, [1])[0]
    assert episode.truncated and not episode.success and not episode.rewards.any() and episode.num_steps == 2


def test_steps_beyond_the_environments_limit_are_cut_and_counted(script):
    script(PLAIN, "a\nb\nc\n#### 3")
    counts = RolloutCounts()
    episode = play(QUESTION_ENV, PLAIN, [3], options={"max_steps": 2}, counts=counts)[0]
    assert episode.truncated and episode.num_steps == 2 and counts.cut_off == 1
    assert episode.messages[-1]["content"] == "a\nb\n"


def test_an_observation_that_fills_the_context_ends_the_episode_as_cut_off(script):
    script(PLAIN, "first", "second")
    counts = RolloutCounts()
    options = {"observation": "x " * 60}
    episode = play(DIALOGUE_ENV, PLAIN, [1], policy=make_policy(context=64), options=options, counts=counts)[0]
    assert episode.truncated and episode.num_steps == 1 and counts.cut_off == 1
    assert episode.num_tokens < 64


def test_prompts_that_fill_the_context_are_skipped_counted_and_reported(caplog: pytest.LogCaptureFixture):
    counts = RolloutCounts()
    done: list[int] = []
    policy = make_policy(context=64)
    played = rollout(
        maker(QUESTION_ENV, long=True), policy, PLAIN, range(6), Sampling(max_new_tokens=4), seed=0,
        counts=counts, progress=done.append,
    )  # fmt: skip
    assert sorted(slot for slot, _ in played) == [0, 2, 4]
    assert counts.prompts_too_long == 3 and sum(done) == 6
    counts.report("collection")
    assert "collection: 3 rollouts skipped, their prompt fills the policy's context" in caplog.text
    assert "collection: 3 rollouts were cut off by a limit" in caplog.text


def test_nothing_is_reported_when_nothing_went_wrong(caplog: pytest.LogCaptureFixture):
    RolloutCounts().report("collection")
    assert not caplog.records


def test_the_turn_that_answers_an_observation_gets_the_reward(script):
    script(CHAT, "hm", "a longer one")
    episode = play(DIALOGUE_ENV, CHAT, [1])[0]
    assert episode.rewards.tolist() == [0.0, 1.0]
    assert [message["role"] for message in episode.messages] == ["user", "assistant", "user", "assistant"]
    assert episode.action_spans.tolist() == [[1, 0, 2], [3, 0, 12]]


def test_info_says_who_played_and_keeps_scalars_only(script):
    script(PLAIN, "#### 3")
    [(_, episode)] = rollout(
        maker(QUESTION_ENV), make_policy(), PLAIN, [3], Sampling(temperature=0.7), seed=11, info={"policy": "sft"}
    )
    assert episode.info["seed"] == 11 and episode.info["temperature"] == 0.7 and episode.info["policy"] == "sft"
    assert episode.env_id == QUESTION_ENV and episode.task_id == "question/3"
    assert "messages" not in episode.info and "index" not in episode.info
