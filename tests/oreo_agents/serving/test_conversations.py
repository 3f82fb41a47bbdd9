"""What a question is answered with: by the question alone, whatever is answered beside it."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from oreo_agents.episodes import sampler as sampler_module
from oreo_agents.episodes.generate import Sample, Sampling
from oreo_agents.networks.kv_cache import Prefix
from oreo_agents.search import Admissible, BestOfN, Greedy, Majority, Player, Sampled, Search, StepBeam
from oreo_agents.serving.answering import LocalEngine, Reply
from oreo_agents.serving.conversations import ConversationEnv, Question
from oreo_agents.serving.settings import known_searches

Ask = Callable[..., Question]
FREE = [pytest.param(search, id=name) for name, search in known_searches().items() if name != "admissible"]


class AnyTask(ConversationEnv):
    """The same question under every number."""

    num_tasks = 10


def texts(replies: list[Reply]) -> list[str]:
    return [reply.text for reply in replies]


@pytest.mark.parametrize("search", FREE)
def test_an_answer_depends_on_its_question_alone(search: Search, engine: LocalEngine, ask: Ask):
    questions = [ask(seed=0), ask("Tom has 21 marbles.", seed=1, max_tokens=9), ask(seed=0), ask(seed=2)]
    together = engine.answer(search, questions)
    assert texts(together) == [engine.answer(search, [question])[0].text for question in questions]
    assert together[0].text == together[2].text
    assert all(reply.answer_tokens <= question.max_tokens for reply, question in zip(together, questions, strict=True))
    if not isinstance(search, Greedy):
        assert type(search).__name__ == "MajorityOfKActions" or together[0].text != together[3].text


@pytest.mark.parametrize("search", [Greedy(), StepBeam(), *known_searches().values()], ids=repr)
def test_it_is_what_a_player_of_that_seed_answers(search: Search, engine: LocalEngine, ask: Ask):
    question = ask(seed=5, task=3, commands=("a", "b"))
    turns = search.unfit(played=False) is not None
    player = Player(
        lambda: AnyTask(question, () if turns else engine.delimiters),
        engine.policy, engine.prompt_format, [3], Sampling(max_new_tokens=24), seed=5, value=engine.value,
    )  # fmt: skip
    [answer] = search.answer(player)
    [reply] = engine.answer(search, [question])
    assert answer is not None
    assert reply.text == answer.episode.messages[-1]["content"]
    assert reply.generated == answer.tokens
    assert len(reply.candidates) == max(len(answer.candidates), len(answer.turns[-1]) if answer.turns else 1)


def test_steps_add_up_and_their_values_are_those_along_the_transcript(engine: LocalEngine, ask: Ask):
    [reply] = engine.answer(Sampled(), [ask(seed=4, max_tokens=100)])
    assert "".join(step.text for step in reply.steps) == reply.text and len(reply.steps) > 1
    rises = [step.advantage for step in reply.steps]
    assert reply.start_value is not None
    assert reply.start_value + sum(rises) == pytest.approx(reply.steps[-1].value)
    # The value after the first step, read anew.
    assert engine.value is not None
    until = int(np.flatnonzero(reply.episode.step_id == 1)[0])
    [value], _ = engine.value.values_after([reply.episode.tokens[:until].tolist()], [Prefix()])
    assert reply.steps[0].value == pytest.approx(float(value), abs=1e-4)


def test_the_candidates_are_what_was_chosen_from(engine: LocalEngine, ask: Ask):
    [reply] = engine.answer(BestOfN(samples=4), [ask(seed=1, max_tokens=6)])
    [chosen] = [candidate for candidate in reply.candidates if candidate.chosen]
    assert len(reply.candidates) == 4 and chosen.text == reply.text
    assert reply.steps[-1].value == pytest.approx(chosen.value, abs=1e-4)
    if not reply.finished:  # then none of them is
        assert chosen.score == max(candidate.score for candidate in reply.candidates)
    assert reply.generated > reply.answer_tokens and reply.value_tokens > 0
    [voted] = engine.answer(Majority(samples=3), [ask(seed=1)])
    assert [candidate.value for candidate in voted.candidates] == [None] * 3
    [proposed] = engine.answer(known_searches()["best_of_k_actions"], [ask(seed=1)])
    assert sum(candidate.votes for candidate in proposed.candidates) == 8
    assert [candidate.text for candidate in proposed.candidates if candidate.chosen] == [proposed.text]
    [alone] = engine.answer(Greedy(), [ask()])
    assert [candidate.text for candidate in alone.candidates] == [alone.text]


@pytest.mark.parametrize("search", [Sampled(), BestOfN(samples=3), StepBeam(), known_searches()["best_of_k_actions"]])
def test_an_answer_ends_before_a_stop(search: Search, engine: LocalEngine, ask: Ask):
    whole = engine.answer(search, [ask(seed=3, max_tokens=60)])[0].text
    stop = whole[len(whole) // 2 :][:2]
    [reply] = engine.answer(search, [ask(seed=3, max_tokens=60, stops=("never said", stop))])
    assert reply.finished and stop not in reply.text
    assert "".join(step.text for step in reply.steps) == reply.text
    if isinstance(search, Sampled):
        assert reply.text == whole[: whole.find(stop)]
        assert reply.generated < 60


def test_only_given_commands_are_said(engine: LocalEngine, ask: Ask):
    [reply] = engine.answer(Admissible(), [ask(commands=("go north", "take lamp"))])
    assert reply.text in ("go north", "take lamp") and reply.finished


@pytest.mark.parametrize("search", FREE)
def test_nobody_who_left_is_answered_for_long(search: Search, engine: LocalEngine, ask: Ask):
    gone = ask(seed=0, max_tokens=200, cancelled=lambda: True)
    stays = ask(seed=0)
    left, answered = engine.answer(search, [gone, stays])
    assert left.answer_tokens <= 2
    assert answered.text == engine.answer(search, [stays])[0].text


def test_steps_are_told_as_they_come(engine: LocalEngine, ask: Ask):
    heard: list[tuple[str, float | None]] = []
    question = ask(seed=4, max_tokens=100, on_step=lambda text, value: heard.append((text, value)))
    [reply] = engine.answer(Sampled(), [question])
    assert len(heard) >= len(reply.steps) - 1 > 0
    assert all(reply.text.startswith(text) and value is not None for text, value in heard)
    assert heard[0][1] == pytest.approx(reply.steps[0].value, abs=1e-4)
    [same] = engine.answer(Sampled(), [dataclasses.replace(question, on_step=None)])
    assert same.text == reply.text


def test_tokens_of_an_answer_have_their_log_probabilities(engine: LocalEngine, ask: Ask):
    [reply] = engine.answer(Sampled(temperature=0.7), [ask(seed=2)])
    assert "".join(text for text, _ in reply.token_logprobs) == reply.text
    assert all(number <= 0 for _, number in reply.token_logprobs)


def test_v_of_what_was_said(engine: LocalEngine):
    said = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "one. two\nthree"}]
    [found] = engine.values([said])
    assert [step.text for step in found.steps] == ["one. ", "two\n", "three"]
    more = [*said, {"role": "user", "content": "y"}, {"role": "assistant", "content": "four"}]
    [longer] = engine.values([more])
    assert [step.message for step in longer.steps] == [1, 1, 1, 3]
    assert [step.value for step in longer.steps[:2]] == pytest.approx(
        [step.value for step in found.steps[:2]], abs=1e-4
    )
    with pytest.raises(ValueError, match="at least one message of the assistant"):
        engine.values([said[:1]])


def test_nobody_looks_ahead_in_a_conversation(engine: LocalEngine, ask: Ask):
    with pytest.raises(ValueError, match=r"lookahead=true .* nobody knows what a user will say"):
        engine.answer(dataclasses.replace(known_searches()["best_of_k_actions"], lookahead=True), [ask()])


def test_a_search_by_v_is_refused_without_one(engine: LocalEngine, ask: Ask):
    blind = LocalEngine(engine.policy, engine.prompt_format)
    with pytest.raises(ValueError, match="BestOfN: it reads V"):
        blind.answer(BestOfN(), [ask()])
    [reply] = blind.answer(Majority(samples=2), [ask()])
    assert reply.start_value is None and reply.steps[0].value is None
    assert "Reply(" in repr(reply) and "\n" not in repr(reply)
    with pytest.raises(ValueError, match="there is none here"):
        blind.values([[{"role": "assistant", "content": "x"}]])


@pytest.mark.parametrize("search", [Greedy(), Sampled(), BestOfN(samples=2), StepBeam(keep=1, expand=2)], ids=repr)
def test_a_final_answer_ends_an_answer_where_it_did_in_training(
    search: Search, engine: LocalEngine, ask: Ask, monkeypatch: pytest.MonkeyPatch
):
    heard: list[str] = []
    ends = LocalEngine(engine.policy, engine.prompt_format, engine.value, delimiters=("\n",), ends_at_answer=True)
    text = "2 + 3 = 5\n#### 5\nand on\nand on\n"
    script = engine.prompt_format.encode(text)
    question = ask(max_tokens=len(script), on_step=lambda text, value: heard.append(text))
    monkeypatch.setattr(sampler_module, "generate", partial(say, script, len(question.tokens)))
    [reply] = ends.answer(search, [question])
    assert reply.text == "2 + 3 = 5\n#### 5\n" and reply.finished and reply.answer_tokens < len(script)
    if isinstance(search, Greedy):
        assert heard == ["2 + 3 = 5\n", reply.text]
    [goes_on] = engine.answer(search, [question])
    assert goes_on.text == text and not goes_on.finished


def say(script: list[int], opening: int, policy: Any, prompts: Any, *_: Any, stops: Any, **__: Any) -> list[Sample]:
    """Go on with a script, as ``generate`` would with a policy that says nothing else."""
    found = []
    for prompt, stop in zip(prompts, stops, strict=True):
        sample, left = Sample([], []), script[len(prompt) - opening :]
        for token in left:
            sample.tokens.append(token)
            sample.logprobs.append(0.0)
            length = stop(sample.tokens)
            if length is not None and length < len(left):
                sample.stop_at(length)
                break
        found.append(sample)
    return found
