"""Batched sampling against transformers' own decoding and against re-scoring."""

import numpy as np
import pytest
import torch
from tiny_models import VOCABULARY, make_episode, make_model

from oreo_agents.episodes import generate as generate_module
from oreo_agents.episodes.generate import Sampling, draw, generate, make_choices
from oreo_agents.episodes.sources import row_source
from oreo_agents.networks.policy import CausalPolicy
from oreo_algos.batch import collate

FAMILIES = ["llama", "qwen2", "gpt2", "gemma2"]
END = frozenset({2})
PROMPTS = [[5], [7, 8, 9, 10, 11, 12], [20, 21, 22], [7, 8, 9], [100, 101, 102, 103, 104, 105, 106, 107, 108]]
# Every third token ends a turn, so that rows finish at different times.
MANY_ENDS = frozenset(range(0, VOCABULARY, 3))


def make_policy(family: str, *, context: int = 64) -> CausalPolicy:
    return CausalPolicy(make_model(family, context=context))


def seeded(count: int = len(PROMPTS), seed: int = 0) -> list[np.random.Generator]:
    return [row_source(seed, index, 0) for index in range(count)]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_transformers_generate_token_for_token(family: str):
    policy = make_policy(family)
    greedy = Sampling(temperature=0, max_new_tokens=12)
    samples = generate(policy, PROMPTS, END, greedy)
    for prompt, sample in zip(PROMPTS, samples, strict=True):
        tokens = torch.tensor([prompt])
        output = policy.plain.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=False,
            max_new_tokens=12,
            eos_token_id=2,
            pad_token_id=1,
        )
        assert sample.tokens == output[0, len(prompt) :].tolist()
        assert sample.ended == (sample.tokens[-1] == 2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_recorded_logprobs_equal_a_rescoring_by_the_policy(family: str, temperature: float):
    policy = make_policy(family)
    samples = generate(
        policy, PROMPTS, MANY_ENDS, Sampling(temperature=temperature, max_new_tokens=9), sources=seeded()
    )
    assert len({len(sample.tokens) for sample in samples}) > 1
    episodes = [make_episode(p, s.tokens) for p, s in zip(PROMPTS, samples, strict=True)]
    scores = policy.score(collate(episodes)).logprobs
    for row, (prompt, sample) in enumerate(zip(PROMPTS, samples, strict=True)):
        rescored = scores[row, len(prompt) : len(prompt) + len(sample.tokens)].tolist()
        assert sample.logprobs == pytest.approx(rescored, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_finish_and_leave_do_not_change_the_others(family: str):
    policy = make_policy(family)
    greedy = Sampling(temperature=0, max_new_tokens=10)
    together = generate(policy, PROMPTS, MANY_ENDS, greedy)
    alone = [generate(policy, [prompt], MANY_ENDS, greedy)[0] for prompt in PROMPTS]
    assert [sample.tokens for sample in together] == [sample.tokens for sample in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_batches_of_two_return_the_samples_in_the_order_of_the_prompts():
    policy = make_policy("llama")
    whole = generate(policy, PROMPTS, END, Sampling(temperature=0, max_new_tokens=5))
    parts = generate(policy, PROMPTS, END, Sampling(temperature=0, max_new_tokens=5, batch_size=2))
    assert [sample.tokens for sample in parts] == [sample.tokens for sample in whole]


def test_temperature_logprobs_are_those_of_the_divided_logits():
    policy = make_policy("qwen2")
    prompt = [7, 8, 9]
    [sample] = generate(policy, [prompt], END, Sampling(temperature=0.5, max_new_tokens=6), sources=seeded(1))
    tokens = [*prompt, *sample.tokens]
    with torch.no_grad():
        logp = (policy.plain(torch.tensor([tokens])).logits[0] / 0.5).log_softmax(-1)
    expected = [logp[t - 1, tokens[t]].item() for t in range(len(prompt), len(tokens))]
    assert sample.logprobs == pytest.approx(expected, abs=1e-4)


def test_draws_follow_the_distribution():
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(20_000, 3)
    chosen, logprobs = draw(logits, 1.0, [np.random.default_rng(0)] * 20_000)
    shares = torch.bincount(chosen, minlength=3) / len(chosen)
    assert shares.tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.015)
    assert logprobs.exp().tolist() == pytest.approx(logits[0].exp()[chosen].tolist(), abs=1e-6)
    sharp, _ = draw(logits, 0.5, [np.random.default_rng(1)] * 20_000)
    weights = torch.tensor([0.25, 0.09, 0.04])
    found = torch.bincount(sharp, minlength=3) / len(sharp)
    assert found.tolist() == pytest.approx((weights / weights.sum()).tolist(), abs=0.015)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_rows_that_are_drawn_in_parts_get_what_they_get_together(temperature, monkeypatch):
    logits, found = torch.randn(7, 50), []
    for cells in (1, 120, 1 << 19):
        monkeypatch.setattr(generate_module, "_IN_CACHE", cells)
        shared = np.random.default_rng(5)
        found.append(draw(logits, temperature, [shared, None, *[shared] * 4, np.random.default_rng(6)]))
    assert all(torch.equal(a, b) for one in found[:2] for a, b in zip(one, found[2], strict=True))


def test_the_same_sources_give_the_same_samples_and_the_global_one_is_not_used():
    policy = make_policy("llama")
    sampling = Sampling(max_new_tokens=8)
    state = torch.get_rng_state()
    first, again, other = (generate(policy, PROMPTS, END, sampling, sources=seeded(seed=k)) for k in (1, 1, 2))
    assert [s.tokens for s in first] == [s.tokens for s in again] != [s.tokens for s in other]
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match=r"temperature 1\.0 draws tokens: give the source of each row"):
        generate(policy, PROMPTS, END, sampling)


@pytest.mark.parametrize("prompt", [[], [5] * 16, [5] * 20])
def test_a_prompt_that_is_empty_or_fills_the_context_is_refused(prompt: list[int]):
    policy = make_policy("llama", context=16)
    message = f"a prompt of {len(prompt)} tokens cannot be continued in a context of 16"
    with pytest.raises(ValueError, match=message):
        generate(policy, [[5, 6], prompt], END, Sampling())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_row_stops_at_the_token_limit_or_at_the_context(family: str):
    policy = make_policy(family, context=16)
    samples = generate(policy, [[5] * n for n in (2, 10, 15)], (), Sampling(temperature=0, max_new_tokens=8))
    assert [len(sample.tokens) for sample in samples] == [8, 6, 1]
    assert not any(sample.ended for sample in samples)


def test_an_end_token_is_kept_and_nothing_follows_it():
    policy = make_policy("llama")
    for sample in generate(policy, PROMPTS * 5, MANY_ENDS, Sampling(max_new_tokens=20), sources=seeded(25)):
        assert sample.ended == (sample.tokens[-1] in MANY_ENDS)
        assert not MANY_ENDS & set(sample.tokens[:-1])
        assert len(sample.tokens) == len(sample.logprobs)


def test_any_of_the_end_tokens_ends_a_turn():
    policy = make_policy("llama")
    [free] = generate(policy, [PROMPTS[0]], (), Sampling(temperature=0, max_new_tokens=5))
    stop = free.tokens[2]
    [stopped] = generate(policy, [PROMPTS[0]], {2, stop}, Sampling(temperature=0, max_new_tokens=5))
    assert stopped.tokens == free.tokens[: free.tokens.index(stop) + 1] and stopped.ended


def test_no_prompts_give_no_samples():
    assert generate(make_policy("llama"), [], END, Sampling()) == []


def test_each_token_is_read_once(monkeypatch: pytest.MonkeyPatch):
    policy = make_policy("llama")
    assert policy.reads_slowly is None  # tried once
    read: list[int] = []
    forward = policy.plain.forward

    def counted(tokens: torch.Tensor, **keywords):
        read.append(tokens.shape[1])
        return forward(tokens, **keywords)

    monkeypatch.setattr(policy.plain, "forward", counted)
    generate(policy, [[5, 6, 7]], (), Sampling(temperature=0, max_new_tokens=4))
    assert read == [3, 1, 1, 1]


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="temperature must not be negative, got -1"):
        Sampling(temperature=-1)
    with pytest.raises(ValueError, match="max_new_tokens and batch_size must be at least 1, got 0 and 128"):
        Sampling(max_new_tokens=0)


CONTINUATIONS = ([30, 2], [30, 31, 2], [40, 41, 42, 2])


def test_a_choice_is_drawn_with_its_share_of_the_probability():
    """Its log-probability is renormalised at each token, so those of all choices add up to 1."""
    policy = make_policy("llama")
    choices = [make_choices(CONTINUATIONS)] * 200
    samples = generate(
        policy, [PROMPTS[1]] * 200, END, Sampling(max_new_tokens=8), sources=seeded(200), choices=choices
    )
    found = {tuple(sample.tokens): sum(sample.logprobs) for sample in samples}
    assert set(found) == {tuple(tokens) for tokens in CONTINUATIONS}
    assert sum(torch.tensor(list(found.values())).exp()).item() == pytest.approx(1.0, abs=1e-4)
    assert all(sample.ended for sample in samples)


def test_the_greedy_choice_takes_the_likeliest_token_that_is_allowed():
    policy = make_policy("llama")
    others = [make_choices([[50, 2]]), make_choices(CONTINUATIONS), make_choices([[60, 61, 2]])]
    samples = generate(policy, PROMPTS[:3], END, Sampling(temperature=0, max_new_tokens=8), choices=others)
    assert samples[0].tokens == [50, 2] and samples[2].tokens == [60, 61, 2]
    logits = policy.plain(torch.tensor([PROMPTS[1]])).logits[0, -1]
    assert samples[1].tokens[0] == (30 if logits[30] > logits[40] else 40)
