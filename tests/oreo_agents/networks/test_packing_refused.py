"""What is read padded: models and attentions that packing refuses or finds out, and documents beyond a window."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from packing_models import SHAPE, alone, build, weights_of
from tiny_models import draw_episodes, make_model
from torch import Tensor
from transformers import Lfm2Config, Lfm2ForCausalLM, PreTrainedModel

from oreo_agents.networks import packing
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.checkpoints import base_model
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_algos.batch import Batch, collate

PADDED = ["gemma2", "bloom", "mamba"]


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_an_attention_that_is_changed_later_reads_padded_batches(
    implementation: str, lora: Lora | None, batch: Batch, checkpoint: Callable[[str], str]
):
    policy = CausalPolicy(make_model("llama"), lora)
    value = TokenValue.from_policy(checkpoint("llama"), bias=1.0, lora=lora)
    calls: list[torch.Size] = []
    with torch.no_grad():
        value.plain.score.weight.copy_(weights_of((1, 16)))
        expected = policy.score(batch).logprobs, value.token_values(batch)
        for model in (policy.plain, value.plain):
            model.set_attn_implementation(implementation)
            model.get_input_embeddings().register_forward_hook(lambda *args: calls.append(args[2].shape))
        found = policy.score(batch).logprobs, value.token_values(batch)
    assert [shape[:2] for shape in calls] == [batch.tokens.shape] * 2
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", PADDED)
@pytest.mark.filterwarnings("ignore:The fast path is not available:UserWarning")
def test_models_that_cannot_read_a_row_get_padded_batches(family: str, batch: Batch):
    model = build(family)
    expected = alone(model, batch)
    before = model.config._attn_implementation
    assert packing.enable(model) == 0
    assert model.config._attn_implementation == before
    found = packing.outputs_at(base_model(model), batch, batch.attention, 0)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("init_std", [0.01, 0.3])
def test_a_model_that_hides_the_documents_from_its_attention_is_found_out(
    init_std: float, monkeypatch: pytest.MonkeyPatch
):
    model = make_model("llama", init_std=init_std)
    layer = type(model.model.layers[0])
    forward = layer.forward

    def forgetful(self: Any, *args: Any, packing: Any = None, **kwargs: Any) -> Any:
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(layer, "forward", forgetful)
    assert packing.enable(model) == 0
    monkeypatch.undo()
    assert packing.enable(model) == 64


def with_a_state(init_std: float) -> PreTrainedModel:
    """A model whose first layer carries a state from one token to the next."""
    shape = SHAPE | {"initializer_range": init_std}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Lfm2ForCausalLM(Lfm2Config(**shape, layer_types=["conv", "full_attention"])).eval()


@pytest.mark.parametrize("init_std", [0.001, 0.02, 0.3])
def test_a_state_that_passes_between_documents_is_found_out_however_small_the_weights(
    init_std: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    packing._warn_of_padding.cache_clear()
    monkeypatch.setattr(packing, "_ATTENDING", {"conv", "full_attention"})
    with caplog.at_level("WARNING", "oreo_agents"):
        assert [packing.enable(with_a_state(init_std)) for _ in range(2)] == [0, 0]
    assert len(caplog.messages) == 1, "said once"
    assert "depend on other documents" in caplog.text or "differ by" in caplog.text


def test_layers_that_say_that_they_do_more_than_attend_are_not_even_tried(monkeypatch: pytest.MonkeyPatch):
    """A short trial cannot tell what a layer does with longer documents."""
    monkeypatch.setattr(packing, "_reads_packed", lambda *_: None)
    assert packing.enable(with_a_state(0.02)) == 0
    assert packing.enable(build("qwen3")) == 64


def test_a_model_that_takes_no_notice_of_positions_is_found_out(caplog: pytest.LogCaptureFixture):
    packing._warn_of_padding.cache_clear()
    model = make_model("gpt2")
    positions = model.transformer.wpe
    with torch.no_grad():
        positions.weight.mul_(0.01)
    positions.register_forward_pre_hook(lambda module, inputs: torch.arange(inputs[0].shape[-1])[None])
    assert packing.enable(model) == 0
    assert "differ by" in caplog.text


def test_out_of_memory_is_no_reason_to_pad(monkeypatch: pytest.MonkeyPatch):
    def fail(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(packing, "_attend_by_group", fail)
    with pytest.raises(torch.OutOfMemoryError, match="no memory left"):
        packing.enable(make_model("llama"))


@pytest.mark.parametrize("mask", [None, torch.zeros(1, 1, 8, 8)])
def test_a_mask_that_a_layer_made_itself_is_refused(mask: Tensor | None, batch: Batch):
    heads = torch.zeros(1, 2, 8, 8)
    with pytest.raises(NotImplementedError, match="packed attention reads no mask"):
        packing.attention(torch.nn.Identity(), heads, heads, heads, mask, packing=packing.pack(batch))


@pytest.mark.parametrize("option", ["softcap", "s_aux", "position_bias"])
def test_attention_with_more_than_scaled_products_is_refused(option: str, batch: Batch):
    heads = torch.zeros(1, 2, 8, 8)
    with pytest.raises(NotImplementedError, match="packed attention knows none of softcap"):
        packing.attention(torch.nn.Identity(), heads, heads, heads, None, packing=packing.pack(batch), **{option: 1.0})


@pytest.mark.parametrize("family", ["mistral", "gemma3"])
def test_documents_longer_than_a_window_are_left_to_the_masks_of_transformers(family: str):
    model = build(family, window=8)
    other = copy.deepcopy(model)
    longest = packing.enable(model)
    assert longest == 8
    episodes = draw_episodes(20)
    short = collate([episode for episode in episodes if episode.num_tokens <= 8])
    for batch, is_packed in ((short, True), (collate(episodes), False)):
        assert (batch.tokens.shape[1] <= longest) == is_packed
        found = packing.outputs_at(base_model(model), batch, batch.attention, longest)
        torch.testing.assert_close(found, alone(other, batch), atol=1e-5, rtol=1e-4)
