"""Attention to kept values that lie along the tokens: what torch's says, of every newest token of wide heads."""

from collections.abc import Sequence

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM

from oreo_agents.episodes.generate import Sampling, generate
from oreo_agents.networks import kept_attention
from oreo_agents.networks.kv_cache import BatchCache, Prefix, Room
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.readers import WholeReader

PROMPTS = [[5, 6, 7], [9], [8, 3, 2, 4, 5, 6], [9]]
GREEDY = Sampling(temperature=0, max_new_tokens=7, batch_size=3)


def make_policy(head_width: int) -> CausalPolicy:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=64, num_key_value_heads=2, head_dim=head_width, initializer_range=0.3, eos_token_id=None, **shape
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = CausalPolicy(LlamaForCausalLM(config).eval())
    assert policy.resumes
    return policy


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the rows of each call."""
    found: list[int] = []
    attend = kept_attention.attend

    def counted(query: torch.Tensor, *rest: object) -> torch.Tensor:
        found.append(len(query))
        return attend(query, *rest)

    monkeypatch.setattr(kept_attention, "attend", counted)
    return found


@pytest.mark.parametrize(("heads", "shared"), [(3, 1), (2, 4)])
def test_it_is_the_attention_of_torch(heads: int, shared: int):
    random = torch.Generator().manual_seed(0)
    rows, columns, width = 5, 11, 64
    keys = torch.randn(rows, heads, columns, width, generator=random)
    values = kept_attention.zeros(keys, rows, heads, columns + 3, width, along_tokens=True)[:, :, :columns]
    values.copy_(torch.randn(rows, heads, columns, width, generator=random))
    query = torch.randn(rows, heads * shared, 1, width, generator=random)
    there = torch.rand(rows, 1, 1, columns, generator=random) < 0.6
    there[..., -1] = True
    assert kept_attention.lies_so(query, values, there)
    assert not kept_attention.lies_so(query, values.contiguous(), there)
    for mask, scaling in ((there, None), (None, 0.3)):
        expected = scaled_dot_product_attention(query, keys, values, mask, scale=scaling, enable_gqa=True)
        said = kept_attention.attend(query, keys, values, mask, scaling)
        assert torch.allclose(said, expected.transpose(1, 2), atol=1e-6)
    there[0] = False
    assert kept_attention.attend(query, keys, values, there, None).isfinite().all()


@pytest.mark.parametrize("head_width", [64, 8])
def test_rows_that_come_and_go_say_what_whole_transcripts_say(
    head_width: int, calls: list[int], monkeypatch: pytest.MonkeyPatch
):
    policy = make_policy(head_width)
    calls.clear()  # of the trial
    samples = generate(policy, PROMPTS, (), GREEDY)
    assert (sum(calls) > 0) == (head_width == 64)
    monkeypatch.setattr(CausalPolicy, "reader", lambda self, *_: WholeReader(self.plain))
    for sample, alone in zip(samples, [generate(policy, [p], (), GREEDY)[0] for p in PROMPTS], strict=True):
        assert sample.tokens == alone.tokens
        assert sample.logprobs == pytest.approx(alone.logprobs, abs=1e-5)


def test_every_layer_and_new_token_is_read_so(calls: list[int]):
    policy = make_policy(64)
    calls.clear()  # of the trial
    generate(policy, PROMPTS[2:3], (), GREEDY)
    assert calls == [1] * (2 * (GREEDY.max_new_tokens - 1)), "the first token comes with the prompt"


def test_turns_in_a_room_are_those_of_whole_transcripts():
    policy = make_policy(64)

    def two_turns(caches: Sequence[Prefix] | None) -> list[list[int]]:
        first = generate(policy, PROMPTS, (), GREEDY, caches=caches)
        longer = [[*p, *s.tokens, *range(30, 31 + i)] for i, (p, s) in enumerate(zip(PROMPTS, first, strict=True))]
        kept = None if caches is None else [sample.cache for sample in first]
        return [sample.tokens for sample in generate(policy, longer, (), GREEDY, caches=kept)]

    whole = two_turns(None)
    room = Room()
    assert two_turns([Prefix(room=room)] * 4) == whole == two_turns([Prefix()] * 4)


def test_other_types_are_left_to_torch():
    policy = make_policy(64)
    assert BatchCache(policy.plain, [Prefix()], torch.device("cpu"))._along_tokens
    halved = policy.plain.to(torch.bfloat16)
    assert not BatchCache(halved, [Prefix()], torch.device("cpu"))._along_tokens
