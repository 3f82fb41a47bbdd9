"""Rows take the places of those that end: what they say does not change, batches stay full, little is kept."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pytest
import torch
from tiny_models import make_model
from torch import nn
from transformers import MambaConfig, MambaForCausalLM

from oreo_agents.episodes.generate import Sample, Sampling, generate, make_choices
from oreo_agents.episodes.sources import row_source
from oreo_agents.networks import checkpoints
from oreo_agents.networks.checkpoints import base_model
from oreo_agents.networks.kv_cache import BatchCache, Prefix
from oreo_agents.networks.policy import CausalPolicy

# Tokens of an answer to questions of a school book: half of them are short, and some are four times as long.
LENGTHS = np.random.default_rng(0).lognormal(2.0, 0.6, 360).round().clip(1, 60).astype(int)
PROMPTS = [[5 + k % 7, 6, *range(7, 7 + k % 5)] for k in range(len(LENGTHS))]


def stop_after(length: int, tokens: Sequence[int]) -> int | None:
    return length if len(tokens) >= length else None


STOPS = [partial(stop_after, int(length)) for length in LENGTHS]


def steps(policy: CausalPolicy) -> list[int]:
    """Note the rows of each forward pass over one token of each, from now on."""
    rows: list[int] = []

    def note(module: nn.Module, arguments: tuple, keywords: dict) -> None:
        tokens = keywords["input_ids"] if "input_ids" in keywords else arguments[0]
        if tokens.shape[1] == 1:
            rows.append(len(tokens))

    base_model(policy.model).register_forward_pre_hook(note, with_kwargs=True)
    return rows


@pytest.fixture
def policy() -> CausalPolicy:
    policy = CausalPolicy(make_model("llama", context=128))
    assert policy.resumes
    return policy


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_says_the_same_whatever_stands_beside_it(policy: CausalPolicy, temperature: float):
    def say(chosen: Sequence[int], batch_size: int) -> list[tuple[list[int], int]]:
        sampling = Sampling(temperature=temperature, max_new_tokens=70, batch_size=batch_size)
        sources = [row_source(0, k, 0) for k in chosen] if temperature else None
        caches = [Prefix() for _ in chosen]
        prompts, stops = [PROMPTS[k] for k in chosen], [STOPS[k] for k in chosen]
        samples = generate(policy, prompts, (), sampling, sources=sources, stops=stops, caches=caches)
        for k, sample in zip(chosen, samples, strict=True):
            assert len(sample.tokens) == LENGTHS[k] and len(sample.cache) == len(PROMPTS[k]) + LENGTHS[k] - 1
        return [(sample.tokens, len(sample.cache)) for sample in samples]

    some = range(40)
    refilled = say(some, 8)
    assert refilled == say(some, 64)
    assert say([7, 31], 64) == [refilled[7], refilled[31]]


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("family", ["llama", "mamba"])
def test_a_row_hangs_on_its_own_source_alone(family: str, constrained: bool):
    """Whatever the size of batches and the order of prompts, and whether or not the policy goes on from a cache."""
    small = MambaConfig(vocab_size=300, hidden_size=16, num_hidden_layers=2)
    policy = CausalPolicy(make_model(family) if family == "llama" else MambaForCausalLM(small).eval())
    assert policy.resumes == (family == "llama")
    count = 9
    trees = [make_choices([[10, 11, 12, 2], [10, 13, 2], [20 + k % 5, 2], [21, 22, 23, 24, 2]]) for k in range(count)]

    def said(order: Sequence[int], batch_size: int) -> dict[int, Sample]:
        given = {"choices": [trees[k] for k in order]} if constrained else {"stops": [STOPS[k] for k in order]}
        samples = generate(
            policy,
            [PROMPTS[k] for k in order],
            (2,),
            Sampling(temperature=0.7, max_new_tokens=8, batch_size=batch_size),
            sources=[row_source(0, k, 0) for k in order],
            caches=[Prefix()] * count,
            **given,
        )
        return dict(zip(order, samples, strict=True))

    alone = said(range(count), 1)
    for batch_size in (1, 3, 64):
        found = said(np.random.default_rng(batch_size).permutation(count).tolist(), batch_size)
        for k, one in alone.items():
            other = found[k]
            assert (one.tokens, one.ended, one.stopped, one.dropped) == (
                other.tokens, other.ended, other.stopped, other.dropped,
            )  # fmt: skip
            assert len(one.cache) == len(other.cache)
            for numbers in ("logprobs", "log_policy"):
                assert getattr(other, numbers) == pytest.approx(getattr(one, numbers), abs=1e-5)


def test_what_was_read_of_rows_that_were_refilled_can_be_gone_on_from(policy: CausalPolicy):
    some = range(30)
    prompts, limits = [PROMPTS[k] for k in some], Sampling(temperature=0, max_new_tokens=70, batch_size=8)
    first = generate(policy, prompts, (), limits, stops=[STOPS[k] for k in some], caches=[Prefix()] * len(some))
    longer = [[*prompt, *sample.tokens, 9, 8] for prompt, sample in zip(prompts, first, strict=True)]
    few = Sampling(temperature=0, max_new_tokens=4)
    second = generate(policy, longer, (), few, caches=[sample.cache for sample in first])
    anew = generate(policy, longer, (), few)
    for one, other in zip(second, anew, strict=True):
        assert one.tokens == other.tokens and one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_batches_of_ragged_answers_stay_full(policy: CausalPolicy):
    rows = steps(policy)
    generate(policy, PROMPTS, (), Sampling(temperature=0, max_new_tokens=70, batch_size=8), stops=STOPS)
    assert max(rows) == 8
    assert np.mean(rows) / 8 >= 0.9
    # Each batch would have gone on until its longest answer ended.
    alone = sum(int(LENGTHS[start : start + 8].max()) - 1 for start in range(0, len(LENGTHS), 8))
    assert len(rows) < 0.6 * alone


@pytest.fixture
def in_bfloat16() -> Iterator[None]:
    """Compute as on a GPU."""
    before, checkpoints._BFLOAT16_ON = checkpoints._BFLOAT16_ON, {"cpu"}
    yield
    checkpoints._BFLOAT16_ON = before


def test_keys_and_values_are_kept_in_the_type_that_products_have(policy: CausalPolicy, in_bfloat16: None):
    [sample] = generate(policy, [PROMPTS[0]], (), Sampling(temperature=0, max_new_tokens=20), caches=[Prefix()])
    [known] = sample.cache.chunks[:1]
    assert known.element_size() == 2
    cache = BatchCache(policy.plain, [sample.cache], torch.device("cpu"))
    assert {state.element_size() for layer in cache._cache.layers for state in (layer.keys, layer.values)} == {2}
    # Read with other products it is of their type again.
    checkpoints._BFLOAT16_ON = set()
    prompt = [*PROMPTS[0], *sample.tokens]
    [again] = generate(policy, [prompt], (), Sampling(temperature=0, max_new_tokens=4), caches=[sample.cache])
    [anew] = generate(policy, [prompt], (), Sampling(temperature=0, max_new_tokens=4))
    assert again.logprobs == pytest.approx(anew.logprobs, abs=0.1)


def test_many_turns_are_few_chunks():
    prefix = Prefix()
    chunks = [torch.full((1 + k % 7, 2, 1, 1), float(k)) for k in range(1000)]
    most = 0
    for chunk in chunks:
        prefix = prefix.then(chunk)
        most = max(most, len(prefix.chunks))
    assert most <= 24 and torch.equal(torch.cat(prefix.chunks), torch.cat(chunks))


def test_columns_that_no_row_needs_are_left_out(policy: CausalPolicy):
    widths: list[int] = []

    def note(module: nn.Module, arguments: tuple, keywords: dict) -> None:
        widths.append(keywords["attention_mask"].shape[-1])

    base_model(policy.model).register_forward_pre_hook(note, with_kwargs=True)
    prompts = [PROMPTS[k % 40] for k in range(120)]
    stops = [STOPS[k % 40] for k in range(120)]
    generate(policy, prompts, (), Sampling(temperature=0, max_new_tokens=70, batch_size=4), stops=stops)
    assert len(widths) > 250 and max(widths) < 100
