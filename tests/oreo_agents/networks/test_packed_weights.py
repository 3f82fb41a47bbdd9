"""Weights that are laid out for products of several rows: where, how often, and that nothing else changes."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from oreo_agents.episodes.generate import Sample, Sampling, generate
from oreo_agents.episodes.sources import row_source
from oreo_agents.networks import packed_weights
from oreo_agents.networks.packed_weights import hold_packed, packed
from oreo_agents.networks.policy import CausalPolicy

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")
PROMPTS = [[5, 6, 7], [8, 9, 10, 11], [5, 6, 7], [3]]


@pytest.fixture
def laid_out(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The layers that are laid out, by their weights' place in memory."""
    found: list[int] = []
    original = packed_weights._laid_out
    monkeypatch.setattr(packed_weights, "_laid_out", lambda weight: found.append(weight.data_ptr()) or original(weight))
    return found


@pytest.fixture
def network() -> Iterator[nn.Sequential]:
    """Two layers that are large, one with a bias, and a small one."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(128, 1024), nn.Linear(1024, 128, bias=False), nn.Linear(128, 4))
    yield layers
    assert all("forward" not in vars(layer) for layer in layers) and not _held(layers)


def _held(network: nn.Module) -> int:
    return len(packed_weights._layouts[network].found) if network in packed_weights._layouts else 0


def test_products_are_the_same_to_rounding_and_small_layers_are_left(network: nn.Sequential, laid_out: list[int]):
    rows = torch.randn(7, 3, 256)[..., ::2]
    with torch.no_grad():
        expected = network(rows)
        with packed(network):
            assert ["forward" in vars(layer) for layer in network] == [True, True, False]
            torch.testing.assert_close(network(rows), expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(network(rows.double().float()[:0]), expected[:0])
    assert len(laid_out) == 2


def test_an_error_leaves_layers_that_learn(network: nn.Sequential):
    with pytest.raises(RuntimeError, match="stop"), packed(network), packed(network):
        raise RuntimeError("stop")
    network(torch.randn(2, 128)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_what_is_held_is_laid_out_once_and_again_where_weights_have_changed(
    network: nn.Sequential, laid_out: list[int]
):
    rows = torch.randn(3, 128)
    with torch.no_grad(), hold_packed(network):
        for _ in range(3):
            with packed(network):
                network(rows)
        assert len(laid_out) == 2 and _held(network) == 2
        network[1].weight.mul_(0.5)
        expected = network(rows)
        with packed(network):
            torch.testing.assert_close(network(rows), expected, atol=1e-5, rtol=1e-5)
        assert len(laid_out) == 3
    with packed(network):
        pass
    assert len(laid_out) == 5, "nothing is kept where nobody holds it"


def test_what_is_too_large_or_of_another_type_stays_as_it_is(
    network: nn.Sequential, laid_out: list[int], monkeypatch: pytest.MonkeyPatch
):
    with packed(network.bfloat16()):
        network(torch.randn(2, 128, dtype=torch.bfloat16))
    monkeypatch.setattr(packed_weights, "_MOST_BYTES", 1 << 19)
    with packed(network.float()):
        network(torch.randn(2, 128))
    assert not laid_out


@pytest.fixture(scope="module")
def policy() -> CausalPolicy:
    """A model whose head alone is large."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=4096, num_hidden_layers=2, initializer_range=0.3, **shape))
    return CausalPolicy(model.eval())


def _draw(policy: CausalPolicy, temperature: float, prompts: list[list[int]], tokens: int) -> list[Sample]:
    sources: list[np.random.Generator] = [row_source(0, row, 0) for row in range(len(prompts))]
    return generate(policy, prompts, (), Sampling(temperature=temperature, max_new_tokens=tokens), sources=sources)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_sampled_is_what_was_sampled(
    policy: CausalPolicy, laid_out: list[int], temperature: float, monkeypatch: pytest.MonkeyPatch
):
    found = _draw(policy, temperature, PROMPTS, 40)
    assert laid_out == [policy.plain.get_output_embeddings().weight.data_ptr()] and not _held(policy)
    monkeypatch.setattr(packed_weights, "_MOST_BYTES", 0)
    expected = _draw(policy, temperature, PROMPTS, 40)
    assert [sample.tokens for sample in found] == [sample.tokens for sample in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


def test_one_row_or_a_few_tokens_are_not_worth_it(policy: CausalPolicy, laid_out: list[int]):
    _draw(policy, 0, PROMPTS[:1], 40)
    _draw(policy, 0, PROMPTS, 8)
    assert not laid_out
