"""A policy on a server: the truth passes, every lie is found, and a server that is away loses nothing."""

import logging
import threading
from typing import Any

import numpy as np
import pytest
from fake_vllm import FakeVllm

from oreo_agents.engines import line as line_module
from oreo_agents.engines.line import ServerError
from oreo_agents.engines.proof import at, next_logprobs
from oreo_agents.episodes.generate import Sample, Sampling, generate, make_choices
from oreo_agents.episodes.sampler import Turn
from oreo_agents.networks.policy import CausalPolicy

END = 2
PROMPTS = [[3 + i, 4, 5 + i % 3] for i in range(6)]


def sources(count: int = len(PROMPTS)) -> list[np.random.Generator | None]:
    return [np.random.default_rng([7, i]) for i in range(count)]


def own_logprobs(policy: CausalPolicy, prompt: list[int], sample: Sample, temperature: float) -> np.ndarray:
    logprobs = next_logprobs(policy, [*prompt, *sample.tokens], len(prompt), temperature)
    return at(logprobs, sample.tokens).numpy()


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_samples_are_those_of_the_policy(fake, meet, policies, temperature):
    sampler = meet(fake)
    how = Sampling(temperature=temperature, max_new_tokens=20)
    samples = sampler.generate(PROMPTS, {END}, how, sources=sources() if temperature else None)
    assert sampler.largest_difference < 1e-4
    for prompt, sample in zip(PROMPTS, samples, strict=True):
        np.testing.assert_allclose(sample.logprobs, own_logprobs(policies[0], prompt, sample, temperature), atol=1e-4)
        assert sample.ended == (sample.tokens[-1] == END) and (sample.ended or len(sample.tokens) == 20)
    again = sampler.generate(PROMPTS, {END}, how, sources=sources() if temperature else None)
    assert [sample.tokens for sample in again] == [sample.tokens for sample in samples]
    if not temperature:
        assert [s.tokens for s in samples] == [s.tokens for s in generate(policies[0], PROMPTS, {END}, how)]


def test_a_row_without_a_source_is_greedy(fake, meet, policies):
    how = Sampling(temperature=1.0, max_new_tokens=6)
    [sample] = meet(fake).generate(PROMPTS[:1], {END}, how, sources=[None])
    assert sample.tokens == generate(policies[0], PROMPTS[:1], {END}, how, sources=[None])[0].tokens
    assert fake.asked[-1]["temperature"] == 0 and "seed" not in fake.asked[-1]


def test_what_is_asked_leaves_nothing_to_a_generation_config(fake, meet):
    meet(fake).generate(PROMPTS[:1], {END, 9}, Sampling(temperature=0.7, max_new_tokens=5), sources=sources(1))
    asked = fake.asked[-1]
    assert asked["prompt"] == PROMPTS[0] and asked["stop_token_ids"] == [END, 9] and asked["cache_salt"] == "a"
    plain = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "ignore_eos": True, "n": 1}
    assert {name: asked[name] for name in plain} == plain
    assert asked["seed"] == int(np.random.default_rng([7, 0]).integers(2**63))


def test_a_turn_ends_with_its_limit_and_with_the_context(fake, meet, policies):
    sampler = meet(fake)
    prompt = list(range(3, 60))
    how = Sampling(temperature=1.0, max_new_tokens=30)
    [sample] = sampler.generate([prompt], (), how, sources=sources(1), spoken=[28])
    assert len(sample.tokens) == 2
    [sample] = sampler.generate([prompt], (), how, sources=sources(1))
    assert len(sample.tokens) == policies[0].max_length - len(prompt)
    with pytest.raises(ValueError, match="64 tokens cannot be continued in a context of 64"):
        sampler.generate([list(range(3, 67))], (), how, sources=sources(1))


def test_a_server_with_a_shorter_context_shortens_the_policys(policies, meet):
    with FakeVllm(policies[0], context=40) as server:
        sampler = meet(server)
        assert sampler.max_length == 40
        [sample] = sampler.generate([[5] * 30], (), Sampling(max_new_tokens=30), sources=sources(1))
        assert len(sample.tokens) == 10


@pytest.mark.parametrize("step_tokens", [1, 4, 64])
def test_stops_cut_where_they_would_here(fake, meet, step_tokens):
    sampler = meet(fake, step_tokens=step_tokens)

    def stop(tokens: Any) -> int | None:
        seen.append(len(tokens))
        return len(tokens) - 1 if len(tokens) >= 6 else None

    seen: list[int] = []
    how = Sampling(max_new_tokens=20)
    samples = sampler.generate(PROMPTS[:3], (), how, sources=sources(3), stops=[stop] * 3)
    assert {len(s.tokens) for s in samples} == {5} and all(s.stopped and not s.ended for s in samples)
    assert sorted(seen) == sorted([1, 2, 3, 4, 5, 6] * 3)  # each length once, as in `generate`
    drawn = {1: 6, 4: 8, 64: 20}[step_tokens]
    assert {len(s.tokens) + s.dropped for s in samples} == {drawn}


def test_choices_are_renormalised_over_what_is_allowed(fake, meet, policies):
    tree = make_choices([[9, 10, END], [9, 11, 12, END], [13, END]])
    sampler = meet(fake)
    samples = sampler.generate(PROMPTS, {END}, Sampling(), sources=sources(), choices=[tree] * len(PROMPTS))
    said = {tuple(sample.tokens) for sample in samples}
    assert said <= {(9, 10, END), (9, 11, 12, END), (13, END)} and len(said) > 1
    for prompt, sample in zip(PROMPTS, samples, strict=True):
        logprobs = next_logprobs(policies[0], [*prompt, *sample.tokens], len(prompt), 1.0)
        node = tree
        for place, token in enumerate(sample.tokens):
            expected = float(logprobs[place, token] - logprobs[place, list(node)].logsumexp(0))
            assert sample.logprobs[place] == pytest.approx(expected, abs=1e-4)
            node = node[token]
    # What alone may come next is not asked for.
    assert all(len(asked["allowed_token_ids"]) > 1 for asked in fake.asked if "allowed_token_ids" in asked)


AT_THE_START = {
    "no server of vLLM": "no JSON .*look at sampler.url",
    "wrong name": "has no model 'tiny' .*it has somebody else",
    "two names": r"has several models \(tiny, b\): say which by sampler.model=NAME",
    "token wanted": "wants another token .*OREO_SAMPLER_TOKEN",
    "other model": "answers as model 'other', and 'tiny' was asked",
    "text": "without token ids .*vLLM 0.10.2 or newer",
    "other vocabulary": r"without token ids of this policy's vocabulary \(300 tokens\)",
    "other prompt": r"read another prompt than was sent \(9 tokens in place of 8\)",
    "no logprobs": "no log-probability for each of its 8 tokens",
    "fewer logprobs": "no log-probability for each of its 8 tokens",
    "impossible logprobs": "no log-probability for each",
    "other form": "in another form than vLLM's",
    "cut answers": "cut an answer after 3 of 8 tokens: its context is shorter .*--max-model-len of at least 16",
    "own stop": "stopped at a token that ends nothing here.*--generation-config vllm",
    "raw": "before the temperature; start it with --logprobs-mode processed_logprobs",
    "top_k": "a part of the vocabulary .*--generation-config vllm",
}


@pytest.mark.parametrize("lie", AT_THE_START)
def test_a_lie_at_the_start_is_a_sentence(fake, meet, lie):
    fake.lie = lie
    with pytest.raises(ServerError, match=AT_THE_START[lie]) as error:
        meet(fake, model=None if lie == "two names" else "tiny")
    assert fake.url in str(error.value) and "\n" not in str(error.value)


def test_other_weights_are_found_at_the_start(fake, meet):
    with pytest.raises(ServerError, match=r"other weights .*sampler.command, or sampler.reload=true"):
        meet(fake, policy=1)


LATER = {
    "other prompt": "read another prompt",
    "text": "without token ids",
    "other model": "answers as model 'other'",
    "runs on": r"went on after the end token \d+: it does not know stop_token_ids",
    "cut answers": "cut an answer after 3 of 20 tokens",
    "fewer logprobs": "no log-probability for each",
}


@pytest.mark.parametrize("lie", LATER)
def test_a_lie_in_any_answer_is_a_sentence(fake, meet, lie):
    sampler = meet(fake)
    fake.lie = lie
    ends = {END} if lie != "runs on" else {*range(2, 150)}
    with pytest.raises(ServerError, match=LATER[lie]):
        sampler.generate(PROMPTS, ends, Sampling(max_new_tokens=20), sources=sources())


@pytest.mark.parametrize("lie", ["hotter", "raw", "top_k later"])
def test_rows_that_no_shard_holds_are_audited_too(fake, meet, lie):
    sampler = meet(fake)
    fake.lie = lie
    rows = 70
    with pytest.raises(ServerError, match=r"differ by up to \d"):
        sampler.generate([PROMPTS[0]] * rows, {END}, Sampling(temperature=0.7, max_new_tokens=4), sources=sources(rows))


def test_a_server_that_does_not_know_choices_is_found(fake, meet):
    sampler = meet(fake)
    fake.lie = "allows all"
    with pytest.raises(ServerError, match="not among the allowed ones: it does not know allowed_token_ids"):
        tree = make_choices([[9, END], [13, END]])
        sampler.generate(PROMPTS, {END}, Sampling(), sources=sources(), choices=[tree] * len(PROMPTS))


def test_a_context_that_is_shorter_than_said_is_found(policies, meet):
    with FakeVllm(policies[0], context=30, lie="cut context") as server:
        sampler = meet(server)
        assert sampler.max_length == 64
        with pytest.raises(ServerError, match="cut an answer after 20 of 30 tokens: its context is shorter"):
            sampler.generate([[5] * 10], (), Sampling(max_new_tokens=30), sources=sources(1))
        with pytest.raises(ServerError, match="refuses the request: 400, This model's maximum context length is 30"):
            sampler.generate([[5] * 40], (), Sampling(max_new_tokens=20), sources=sources(1))


def test_weights_that_are_stale_after_a_reload_are_found(fake, meet, policies):
    """A cache that keeps what old weights read answers the same prompts as before: the probe's."""
    meet(fake)
    fake.policy = policies[1]
    meet(fake, policy=1, version="b")  # a salt of its own: read anew
    fake.policy = policies[0]
    meet(fake)
    fake.lie, fake.policy = "stale", policies[0]
    meet(fake)
    fake.policy = policies[1]
    with pytest.raises(ServerError, match="old ones in its cache"):
        meet(fake, policy=1, version="b")


def test_errors_and_a_death_lose_nothing(fake, meet, caplog):
    how = Sampling(max_new_tokens=10)
    expected = meet(fake).generate(PROMPTS, {END}, how, sources=sources())
    sampler = meet(fake, in_flight=4, patience_s=60)
    fake.failures = 3
    with caplog.at_level(logging.WARNING):
        found = sampler.generate(PROMPTS, {END}, how, sources=sources())
    assert [s.tokens for s in found] == [s.tokens for s in expected]
    assert "answers 500 (EngineCore encountered an issue); it is asked again" in caplog.text
    assert f"{fake.url} is back" in caplog.text

    fake.delay = lambda body: 0.02
    back = threading.Timer(0.5, fake.start)
    threading.Timer(0.05, lambda: (fake.die(), back.start())).start()
    found = sampler.generate(PROMPTS * 3, {END}, how, sources=[s for _ in range(3) for s in sources()])
    assert [s.tokens for s in found] == [s.tokens for s in expected] * 3


def test_a_server_that_comes_back_with_other_weights_is_refused(fake, meet, policies):
    sampler = meet(fake, patience_s=60)
    fake.die()
    fake.policy = policies[1]
    back = threading.Timer(0.3, fake.start)
    back.start()
    with pytest.raises(ServerError, match="it has other weights"):
        sampler.generate(PROMPTS, {END}, Sampling(max_new_tokens=4), sources=sources())
    back.join()


def test_patience_has_an_end(fake, meet):
    sampler = meet(fake, patience_s=0.3, timeout_s=0.2)
    fake.lie = "hang"
    with pytest.raises(
        ServerError, match=r"no answer within 0.2 s, for 0.3 s \(sampler.patience_s\).*goes on from there"
    ):
        sampler.generate(PROMPTS, {END}, Sampling(max_new_tokens=4), sources=sources())
    fake.die()
    with pytest.raises(ServerError, match=r"cannot be reached .*for 0.3 s"):
        sampler.generate(PROMPTS, {END}, Sampling(max_new_tokens=4), sources=sources())


def test_a_server_that_was_never_there_is_not_waited_for_long(fake, meet, monkeypatch):
    monkeypatch.setattr(line_module, "_NEVER_THERE_S", 0.3)
    fake.die()
    with pytest.raises(ServerError, match=r"for 0.3 s .*Start the server first, or correct its address"):
        meet(fake)


def test_rows_come_back_as_they_end_and_are_bounded(fake, meet):
    sampler = meet(fake, in_flight=3)
    slow = threading.Event()
    fake.delay = lambda body: 0.0 * (body["prompt"] == PROMPTS[0] and slow.wait(20))
    stream = sampler.stream({END}, Sampling(max_new_tokens=4))
    for key, source in enumerate(sources()):
        stream.ask(key, Turn(PROMPTS[key], source))
    found: list[int] = []
    while len(found) < len(PROMPTS) - 1:
        found += [key for key, _ in stream.answers()]
    assert 0 not in found  # it is still on its way, and nobody waited for it
    slow.set()
    assert [key for key, _ in stream.answers()] == [0]
    assert stream.answers() == []
    assert fake.most_at_once <= 3
