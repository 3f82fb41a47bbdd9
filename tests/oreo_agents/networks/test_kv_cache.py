"""Kept keys and values against reading everything anew: forks, ragged lengths, several turns, counts, memory."""

import gc
from collections.abc import Callable, Sequence
from functools import partial, wraps

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_models import VOCABULARY, make_model, make_tokenizer
from torch import nn
from transformers import DynamicCache, MistralConfig, MistralForCausalLM

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_agents.episodes.generate import Sampling, generate
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.record import Record
from oreo_agents.networks import packing
from oreo_agents.networks.checkpoints import base_model
from oreo_agents.networks.kv_cache import BatchCache, Prefix, can_resume, pad_left
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_agents.search import BestOfN, Player, StepBeam
from oreo_agents.search.step_beam import _Beam, _Tree

RESUMING = pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "cohere"])
PROMPTS = [[5], [7, 8, 9, 10, 11, 12], [20, 21, 22], [7, 8, 9], [7, 8, 9]]
GREEDY = Sampling(temperature=0, max_new_tokens=5)
FORMAT = PromptFormat(make_tokenizer())
MAKE_ENV = partial(gym.make, "oreo/Arithmetic-v0", split="test", disable_env_checker=True)


def make_value(checkpoint: Callable[[str], str], family: str) -> TokenValue:
    value = TokenValue.from_policy(checkpoint(family))
    head = next(module for module in value.model.modules() if getattr(module, "out_features", 0) == 1)
    nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))
    return value


def sliding_window_model() -> MistralForCausalLM:
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = MistralConfig(
        vocab_size=VOCABULARY, num_key_value_heads=1, sliding_window=4, initializer_range=0.3, **shape
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MistralForCausalLM(config).eval()


def counted(network: CausalPolicy | TokenValue) -> list[int]:
    """Note the tokens of each forward pass of the trunk from now on, without padding."""
    read: list[int] = []

    def note(module: nn.Module, arguments: tuple, keywords: dict, output: object) -> None:
        tokens = keywords["input_ids"] if "input_ids" in keywords else arguments[0]
        mask = keywords.get("attention_mask")
        if mask is not None and mask.ndim == 4:  # what the last token attends to
            mask = mask[:, 0, -1]
        read.append(tokens.numel() if mask is None else int(mask[:, -tokens.shape[1] :].sum()))

    base_model(network.model).register_forward_hook(note, with_kwargs=True)
    return read


def anew(value: TokenValue, transcript: Sequence[int]) -> float:
    with torch.no_grad():
        return value.model(torch.tensor([transcript]), use_cache=False).logits[0, -1, 0].item()


def test_a_mask_that_is_made_here_is_the_one_that_transformers_makes():
    """Rows with holes where they are padded, after a row that was kept, and before one that joined."""
    model, device = CausalPolicy(make_model("llama")).plain, torch.device("cpu")
    assert model.config._attn_implementation == packing.NAME

    def said(makes_mask: bool) -> list[torch.Tensor]:
        def cache_of(*prefixes: Prefix) -> BatchCache:
            cache = BatchCache(model, prefixes, device)
            assert cache._makes_mask
            cache._makes_mask = makes_mask
            return cache

        def read(cache: BatchCache, rows: Sequence[Sequence[int]]) -> torch.Tensor:
            tokens, present = pad_left(rows, device)
            with torch.no_grad():
                found.append(model(tokens, **cache.reads(present)).logits[present.bool()])
            return tokens

        found: list[torch.Tensor] = []
        cache, other = cache_of(Prefix(), Prefix()), cache_of(Prefix())
        read(cache, [[5, 6, 7, 8], [9, 3]])
        kept = [Prefix((cache.newest([row], count)[0],)) for row, count in ((0, 4), (1, 2))]
        cache = cache_of(*kept)
        for rows in ([[7], [8, 9, 5]], [[5], [6]]):
            read(cache, rows)
        read(other, [[4, 4]])
        cache.join(other)
        for rows in ([[7], [8], [9]], [[5], [6], [7]]):
            read(cache, rows)
        return found

    for ours, theirs in zip(said(True), said(False), strict=True):
        assert torch.equal(ours, theirs)


@RESUMING
def test_two_turns_from_caches_are_those_of_whole_transcripts(family: str):
    policy = CausalPolicy(make_model(family))
    assert policy.resumes
    first = generate(policy, PROMPTS, (), GREEDY, caches=[Prefix()] * len(PROMPTS))
    transcripts = [
        [*prompt, *sample.tokens, *range(30, 31 + i)]
        for i, (prompt, sample) in enumerate(zip(PROMPTS, first, strict=True))
    ]
    second = generate(policy, transcripts, (), GREEDY, caches=[sample.cache for sample in first])
    for transcript, sample in zip(transcripts, second, strict=True):
        [alone] = generate(policy, [transcript], (), GREEDY)
        assert sample.tokens == alone.tokens
        assert sample.logprobs == pytest.approx(alone.logprobs, abs=1e-5)
        assert len(sample.cache) == len(transcript) + len(sample.tokens) - 1 and len(alone.cache) == 0


def test_forks_of_one_transcript_read_their_own_tokens_only_and_share_the_rest():
    policy = CausalPolicy(make_model("llama"))
    [parent] = generate(policy, [PROMPTS[1]], (), GREEDY, caches=[Prefix()])
    read = counted(policy)
    transcript = [*PROMPTS[1], *parent.tokens]
    sources = [np.random.default_rng(k) for k in range(3)]
    limits = Sampling(temperature=1.3, max_new_tokens=4)
    forks = generate(policy, [transcript] * 3, (), limits, sources=sources, caches=[parent.cache] * 3)
    assert read == [1, 3, 3, 3], "the last token of the parent once, then one token a fork"
    assert len({tuple(fork.tokens) for fork in forks}) == 3
    for fork in forks:
        assert fork.cache.chunks[0] is parent.cache.chunks[0]
        [end] = generate(policy, [[*transcript, *fork.tokens]], (), GREEDY, caches=[fork.cache])
        [alone] = generate(policy, [[*transcript, *fork.tokens]], (), GREEDY)
        assert end.logprobs == pytest.approx(alone.logprobs, abs=1e-5)


def test_what_a_stop_takes_back_is_not_kept():
    policy = CausalPolicy(make_model("llama"))

    def stop(tokens: Sequence[int]) -> int | None:
        return 1 if len(tokens) == 3 else None

    [sample] = generate(policy, [PROMPTS[1]], (), GREEDY, stops=[stop], caches=[Prefix()])
    assert sample.dropped == 2 and len(sample.cache) == len(PROMPTS[1])


def test_equal_prompts_are_read_once_and_say_what_they_say_alone():
    policy = CausalPolicy(make_model("llama"))
    prompts = [PROMPTS[1]] * 3 + [PROMPTS[0]] + [PROMPTS[2]] * 2
    numbers = range(len(prompts))
    limits = Sampling(temperature=1.3, max_new_tokens=6)
    alone = [generate(policy, [p], (), limits, sources=[np.random.default_rng(k)])[0] for k, p in enumerate(prompts)]
    read = counted(policy)
    together = generate(policy, prompts, (), limits, sources=[np.random.default_rng(k) for k in numbers])
    assert read == [6 + 1 + 3, *[6] * 5]
    for one, other in zip(together, alone, strict=True):
        assert one.tokens == other.tokens and one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_values_after_kept_prefixes_are_those_of_whole_transcripts(family: str, checkpoint):
    value = make_value(checkpoint, family)
    assert value.resumes
    _, prefixes = value.values_after(PROMPTS, [Prefix()] * len(PROMPTS))
    # Forks of ragged length, one that adds nothing, and one that was never read.
    transcripts = [[*PROMPTS[1], 40], [*PROMPTS[1], 41, 42, 43], [*PROMPTS[0], 44, 45], PROMPTS[2], [50, 51, 52]]
    known = [prefixes[1], prefixes[1], prefixes[0], prefixes[2], Prefix()]
    read = counted(value)
    values, longer = value.values_after(transcripts, known)
    assert read == [1 + 3 + 2 + 1 + 3]
    assert values.tolist() == pytest.approx([anew(value, row) for row in transcripts], abs=1e-5)
    assert [len(prefix) for prefix in longer] == [len(row) for row in transcripts]


def test_rows_that_move_and_room_that_grows_change_nothing():
    model = make_model("llama", context=256)
    rows = [[5, 6, 7], [8, 9], [10], [11, 12, 13, 14]]
    cache = BatchCache(model, [Prefix()] * 4, torch.device("cpu"))
    tokens = torch.tensor([[0] * (4 - len(row)) + row for row in rows])
    with torch.no_grad():
        model(tokens, **cache.reads((tokens > 0).long()))
        cache.select([3, 1])
        kept = [rows[3], rows[1]]
        for token in range(20, 120):
            new = torch.tensor([[token], [token + 100]])
            logits = model(new, **cache.reads(torch.ones_like(new))).logits[:, -1]
            kept = [[*row, int(t)] for row, t in zip(kept, new, strict=True)]
        for row, found in zip(kept, logits, strict=True):
            assert torch.allclose(found, model(torch.tensor([row])).logits[0, -1], atol=1e-4)


def test_a_model_with_a_sliding_window_keeps_nothing_and_is_right(tmp_path, checkpoint):
    model = sliding_window_model()
    assert not can_resume(model) and not can_resume(make_model("gemma2"))
    policy = CausalPolicy(model)
    prompts = [list(range(5, 15)), [20, 21, 22], list(range(5, 15))]
    samples = generate(policy, prompts, (), GREEDY, caches=[Prefix()] * 3)
    for prompt, sample in zip(prompts, samples, strict=True):
        tokens = torch.tensor([prompt])
        expected = model.generate(tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=5)
        assert sample.tokens == expected[0, len(prompt) :].tolist() and len(sample.cache) == 0
    model.save_pretrained(tmp_path)
    value = TokenValue.from_policy(str(tmp_path))
    nn.init.normal_(value.model.score.weight, generator=torch.Generator().manual_seed(0))
    values, prefixes = value.values_after(prompts, [Prefix()] * 3)
    assert values.tolist() == pytest.approx([anew(value, prompt) for prompt in prompts], abs=1e-5)
    assert not any(len(prefix) for prefix in prefixes)
    found = play(policy, value, StepBeam(keep=2, expand=2, temperature=1.0))
    assert all(answer.value_tokens > len(answer.episode.tokens) for answer in found)


def test_a_cache_that_a_policy_cannot_go_on_from_is_not_used():
    policy = CausalPolicy(make_model("gemma2"))
    assert not policy.resumes
    foreign = Prefix((torch.ones(2, 4, 1, 8),))
    samples = generate(policy, PROMPTS[1:3], (), GREEDY, caches=[foreign] * 2)
    expected = generate(policy, PROMPTS[1:3], (), GREEDY)
    assert [sample.tokens for sample in samples] == [sample.tokens for sample in expected]
    assert not any(len(sample.cache) for sample in samples)


def test_of_equal_prompts_the_first_is_read_with_what_is_known_of_it():
    policy = CausalPolicy(make_model("llama"))
    [known] = generate(policy, [PROMPTS[1][:4]], (), Sampling(temperature=0, max_new_tokens=1), caches=[Prefix()])
    read = counted(policy)
    one = Sampling(temperature=0, max_new_tokens=1)
    for caches in ([known.cache, Prefix()], [Prefix(), known.cache]):
        generate(policy, [PROMPTS[1]] * 2, (), one, caches=caches)
    assert read == [2, 6]


@pytest.mark.parametrize("error", [0.0, 1e-2])
def test_a_network_that_says_something_else_from_its_cache_is_found_out(error: float, monkeypatch: pytest.MonkeyPatch):
    model = make_model("llama")
    trunk = base_model(model)
    forward = trunk.forward

    @wraps(forward)
    def forgetful(*arguments: object, **options: object) -> object:
        resumed = any(isinstance(each, DynamicCache) and each.get_seq_length() > 0 for each in options.values())
        output = forward(*arguments, **options)
        output.last_hidden_state += error * resumed
        return output

    monkeypatch.setattr(trunk, "forward", forgetful)
    assert can_resume(model) == (error == 0)


def play(policy: CausalPolicy, value: TokenValue, search: StepBeam | BestOfN) -> list:
    limits = Sampling(max_new_tokens=30, batch_size=64)
    return search.answer(Player(MAKE_ENV, policy, FORMAT, range(3), limits, seed=0, value=value))


@pytest.mark.parametrize("search", [StepBeam(keep=2, expand=3, temperature=1.0), BestOfN(samples=3)], ids=str)
def test_both_networks_read_each_token_once_and_no_cache_outlives_its_search(search, checkpoint):
    policy, value = CausalPolicy(make_model("llama", context=400)), make_value(checkpoint, "llama")
    assert policy.resumes and value.resumes
    read, read_by_policy = counted(value), counted(policy)
    found = play(policy, value, search)
    assert sum(answer.value_tokens for answer in found) == sum(read)
    # The prompt once, and each token that was drawn at most once: those of duplicates and end tokens not at all.
    prompts = sum(int((answer.episode.step_id >= 0).argmax()) for answer in found)
    drawn = sum(answer.tokens for answer in found)
    assert prompts < sum(read) <= prompts + drawn
    assert prompts < sum(read_by_policy) <= prompts + drawn
    gc.collect()
    assert not any(type(thing) is Prefix and thing.chunks for thing in gc.get_objects())


def test_the_policy_reads_each_token_of_a_beam_of_many_steps_once(monkeypatch: pytest.MonkeyPatch, checkpoint):
    monkeypatch.setattr(FORMAT, "complete_step", lambda tokens, **_: 4 if len(tokens) == 5 else None)
    policy = CausalPolicy(make_model("llama", context=400))
    assert policy.resumes
    read = counted(policy)
    found = play(policy, make_value(checkpoint, "llama"), StepBeam(keep=2, expand=2, temperature=1.0))
    prompts = sum(int((answer.episode.step_id >= 0).argmax()) for answer in found)
    assert max(answer.episode.num_action_tokens for answer in found) > 12, "more than three steps"
    assert prompts < sum(read) <= prompts + sum(answer.tokens for answer in found)


def test_only_live_beams_hold_what_was_read():
    def record(**state: bool) -> Record:
        read = Prefix((torch.zeros(1, 2, 1, 1),))
        return Record(None, 0, {}, [5], 0, [0], [0.0], policy_cache=read, value_cache=read, **state)

    parent, going = record(), record()
    done = [record(terminated=True), record(truncated=True)]
    tree = _Tree([_Beam(parent)], [_Beam(going, score=0.9), *(_Beam(each, score=0.1) for each in done)])
    tree.keep(2)
    assert [each.record is going for each in tree.live] == [True] and len(going.policy_cache) == len(
        going.value_cache
    ) == 1
    assert not any(len(each.policy_cache) or len(each.value_cache) for each in [parent, *done])


def test_a_step_that_never_ends_is_cut_off_and_no_beam_waits_for_it(monkeypatch, checkpoint):
    monkeypatch.setattr(FORMAT, "complete_step", lambda tokens, **_: None)
    policy = CausalPolicy(make_model("llama", context=400))
    assert policy.resumes
    drawn = counted(policy)
    search = StepBeam(keep=2, expand=2, temperature=1.0, step_tokens=5)
    found = play(policy, make_value(checkpoint, "llama"), search)
    assert all(answer.episode.truncated and answer.episode.num_action_tokens <= 5 for answer in found)
    assert len(drawn) == 5, "the prompts, and four tokens more"
    with pytest.raises(ValueError, match="step_tokens must be at least 1"):
        StepBeam(step_tokens=0)
