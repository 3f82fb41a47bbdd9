"""Documents in one row against each document alone."""

import copy
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import draw_episodes, make_model, make_tokenizer
from torch import Tensor
from torch.nn.attention import varlen
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AttentionMaskInterface,
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from oreo_agents.networks import packing
from oreo_agents.networks.checkpoints import Lora, base_model
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_algos.batch import Batch, collate

PACKED = ["llama", "qwen2", "qwen3", "gpt2", "cohere", "mistral", "gemma3"]
PADDED = ["gemma2", "bloom", "mamba"]
SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 1,
}


def build(family: str, *, window: int = 64) -> PreTrainedModel:
    """The models of the other tests, and some that only packing tells apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        match family:
            case "qwen3":
                return Qwen3ForCausalLM(Qwen3Config(**SHAPE)).eval()
            case "mistral":
                return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=window)).eval()
            case "gemma3":
                kinds = ["sliding_attention", "full_attention"]
                config = Gemma3TextConfig(**SHAPE, sliding_window=window, layer_types=kinds, query_pre_attn_scalar=3)
                return Gemma3ForCausalLM(config).eval()
            case "bloom":
                return BloomForCausalLM(BloomConfig(vocab_size=300, hidden_size=16, n_layer=2, n_head=2)).eval()
            case "mamba":
                return MambaForCausalLM(MambaConfig(vocab_size=300, hidden_size=16, num_hidden_layers=2)).eval()
    return make_model(family)


def weights_of(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    assert found
    return found


def alone(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Trunk outputs of each document by itself, one after another; the model is asked as transformers delivers it."""
    trunk = base_model(model)
    rows = zip(batch.tokens, batch.attention, strict=True)
    return torch.cat([trunk(tokens[real][None], use_cache=False)[0][0] for tokens, real in rows])


def assert_equal_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    total = sum(gradient.square().sum() for gradient in expected.values()).sqrt()
    difference = sum((found[name] - expected[name]).square().sum() for name in found).sqrt()
    assert difference < 1e-5 * total


@pytest.fixture
def batch() -> Batch:
    """Documents of 3 to 16 tokens, several groups of which hold padding."""
    return collate(draw_episodes(12))


@pytest.mark.parametrize("family", PACKED)
@pytest.mark.parametrize("padding", [0, 5, 1000])
def test_a_packed_row_says_what_each_document_says_alone(
    family: str, padding: int, batch: Batch, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(packing, "_PADDING_PER_CALL", padding)
    model = build(family)
    other = copy.deepcopy(model)
    assert packing.enable(model) == 64
    expected = alone(other, batch)
    found = packing.outputs_at(base_model(model), batch, batch.attention, 64)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    weights = weights_of(tuple(expected.shape))
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    assert_equal_gradients(gradients(model), gradients(other))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_documents_stay_apart_with_the_defaults_of_the_model_left_alone(family: str, batch: Batch):
    """With a cache, which is the default, transformers itself would attend across packed documents."""
    model = build(family)
    expected = alone(copy.deepcopy(model), batch)
    packing.enable(model)
    assert model.config.use_cache
    row = packing.pack(batch)
    found = row.rows(base_model(model)(**row.inputs(batch.tokens)).last_hidden_state, batch.attention)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_other_documents_reach_neither_values_nor_gradients(family: str, checkpoint: Callable[[str], str]):
    value = TokenValue.from_policy(checkpoint(family))
    head = getattr(value.model, "score", None) or value.model.classifier
    with torch.no_grad():
        head.weight.copy_(weights_of(tuple(head.weight.shape)))
    episodes = draw_episodes(9)
    embeddings: list[Tensor] = []

    def keep(module: torch.nn.Module, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        embeddings.append(output)

    hook = value.model.get_input_embeddings().register_forward_hook(keep)
    batch = collate(episodes)
    values = value.token_values(batch)
    values[4].sum().backward()
    hook.remove()
    row = packing.pack(batch)
    assert embeddings[0].shape[:2] == row.position_ids.shape, "the batch was not packed"
    touched = embeddings[0].grad[0].abs().sum(dim=-1) > 0
    own = row.place[4][batch.attention[4]]
    assert touched[own].all() and touched.sum() == len(own)
    torch.testing.assert_close(values[4, : episodes[4].num_tokens + 1], value.token_values(collate([episodes[4]]))[0])
    assert not values[:, 1:][~batch.attention].any()


def test_the_row_holds_every_token_once_at_its_position(batch: Batch):
    row = packing.pack(batch)
    inputs = row.inputs(batch.tokens)
    assert torch.equal(inputs["input_ids"][0, row.place[batch.attention]], batch.tokens[batch.attention])
    positions = torch.arange(batch.tokens.shape[1]).expand_as(batch.tokens)
    assert torch.equal(row.position_ids[0, row.place[batch.attention]], positions[batch.attention])
    assert len(row.place[batch.attention].unique()) == batch.attention.sum()
    assert row.ends[-1] == row.position_ids.shape[1] == sum(count * length for count, length in row.groups)
    assert row.longest == row.ends.diff().max() == batch.attention.sum(dim=1).max()


def test_groups_hold_little_padding():
    lengths = sorted(torch.randint(30, 400, (100,), generator=torch.Generator().manual_seed(0)).tolist())
    assert packing._group([5, 5, 7, 7, 7, 9], 0) == ((2, 5), (3, 7), (1, 9))
    for padding in (0, 4, 50):
        groups = packing._group(lengths, padding)
        assert sum(count for count, _ in groups) == len(lengths)
        start = 0
        for count, length in groups:
            members = lengths[start : start + count]
            assert max(members) == length and count * length - sum(members) <= padding
            start += count


def test_networks_that_read_one_batch_share_its_layout(batch: Batch):
    assert packing.pack(batch) is packing.pack(batch)


class Largest(TorchDispatchMode):
    """Notes how many elements the largest tensor has that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: D105
        output = func(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple | list) else [output]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return output


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_no_mask_over_the_whole_row_is_made(family: str, monkeypatch: pytest.MonkeyPatch):
    model = build(family)
    longest = packing.enable(model)
    batch = collate(draw_episodes(200))

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("transformers made a mask")

    monkeypatch.setitem(AttentionMaskInterface._global_mapping, "oreo_packed", refuse)
    with Largest() as largest, torch.no_grad():
        packing.outputs_at(base_model(model), batch, batch.attention, longest)
    row_length = packing.pack(batch).position_ids.shape[1]
    assert row_length > 1000
    assert largest.elements < row_length**2 / 8


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
    monkeypatch.setattr(packing, "_check_reads_packed", lambda *_: None)
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


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_bfloat16_autocast_is_as_close_as_padding_is(family: str, batch: Batch):
    model = build(family)
    exact = alone(model, batch)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        padded = base_model(model)(batch.tokens, use_cache=False).last_hidden_state[batch.attention]
        longest = packing.enable(model)
        packed = packing.outputs_at(base_model(model), batch, batch.attention, longest)
    assert longest == 64
    assert (packed - exact).square().mean() < 1.1 * (padded - exact).square().mean() + 1e-8


def test_adapters_are_read_from_packed_rows(batch: Batch):
    policy = CausalPolicy(make_model("llama"), Lora(rank=2, alpha=4))
    with torch.no_grad():
        for number, parameter in enumerate(p for p in policy.parameters() if p.requires_grad):
            parameter.add_(0.2 * weights_of(tuple(parameter.shape), number))
    scores = policy.score(batch).logprobs
    scores.sum().backward()
    found = gradients(policy)
    for row, episode in enumerate(draw_episodes(12)):
        single = policy.score(collate([episode])).logprobs[0]
        torch.testing.assert_close(scores[row, : episode.num_tokens], single, atol=1e-4, rtol=1e-4)
        single.sum().backward()
    assert_equal_gradients(found, gradients(policy))


@pytest.mark.parametrize("family", ["llama", "cohere"])
def test_hooks_of_what_is_called_fire_once(family: str, batch: Batch):
    policy = CausalPolicy(build(family))
    called = base_model(policy.model) if family == "llama" else policy.plain
    calls: list[int] = []
    called.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    policy.score(batch)
    assert calls == [1]


def test_checkpointed_layers_keep_documents_apart_in_the_backward(batch: Batch):
    """The layers run again in the backward, outside of our call of the model."""
    policy = CausalPolicy(make_model("llama"))
    policy.score(batch).logprobs.sum().backward()
    expected = gradients(policy)
    policy.plain.activation_checkpointing_enable({"use_reentrant": False})
    for layer in policy.plain.model.layers:
        layer.training = True
    runs: list[int] = []
    policy.plain.model.layers[0].self_attn.q_proj.register_forward_hook(lambda *_: runs.append(1))
    policy.score(batch).logprobs.sum().backward()
    assert len(runs) == 2
    assert_equal_gradients(gradients(policy), expected)


def test_a_model_that_reads_rows_still_generates_with_a_cache(batch: Batch):
    model = make_model("llama")
    other = copy.deepcopy(model)
    packing.enable(model)
    real = batch.attention.flip(1)
    arguments = {"attention_mask": real.long(), "max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    tokens = batch.tokens.flip(1)
    assert torch.equal(model.generate(tokens, **arguments), other.generate(tokens, **arguments))


def test_padded_calls_with_a_mask_give_what_they_gave(batch: Batch):
    model = make_model("qwen2")
    left = batch.attention.flip(1)
    expected = model(batch.tokens.flip(1), attention_mask=left).logits
    packing.enable(model)
    assert torch.equal(model(batch.tokens.flip(1), attention_mask=left).logits, expected)


@pytest.mark.parametrize("lora", [Lora(), Lora(rank=2)])
def test_what_is_saved_does_not_know_of_packing(lora: Lora, checkpoint: Callable[[str], str], tmp_path: Path):
    CausalPolicy.from_pretrained(checkpoint("llama"), lora=lora).save(tmp_path / "policy", make_tokenizer(), "")
    TokenValue.from_policy(checkpoint("llama"), lora=lora).save(tmp_path / "value", make_tokenizer(), "")
    for name in ("policy", "value"):
        for path in (tmp_path / name).glob("*.json"):
            assert "packed" not in path.read_text(encoding="utf-8"), path


def kernel_of_2_10(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):
    assert is_causal
    return reference_kernel(query, key, value, cu_seq_q, max_q, 1 / query.shape[-1] ** 0.5)


def kernel_of_2_12(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False
):
    assert window_size == (-1, 0) and enable_gqa == (query.shape[1] != key.shape[1])
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    return reference_kernel(query, key, value, cu_seq_q, max_q, scale)


def reference_kernel(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scale: float) -> Tensor:
    assert ends.dtype == torch.int32 and ends.diff().max() == longest
    assert query.shape == key.shape == value.shape
    assert query.dtype == key.dtype == value.dtype
    spans: Iterator[tuple[int, int]] = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    outputs = []
    for start, end in spans:
        q, k, v = (x[start:end].transpose(0, 1) for x in (query, key, value))
        outputs.append(scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale).transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("kernel", [kernel_of_2_10, kernel_of_2_12])
@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("scaling", [None, 0.7])
def test_the_kernel_of_each_torch_gets_what_the_groups_get(
    kernel: Callable[..., Tensor], key_heads: int, scaling: float | None, batch: Batch, monkeypatch: pytest.MonkeyPatch
):
    row = packing.pack(batch)
    length = row.position_ids.shape[1]
    query = weights_of((1, 4, length, 8))
    key, value = weights_of((1, key_heads, length, 8), 1), weights_of((1, key_heads, length, 8), 2)
    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    by_kernel = packing._attend_by_kernel(query, key, value, row, scaling)
    by_group = packing._attend_by_group(query, key, value, row, scaling)
    assert by_kernel.shape == (1, length, 4, 8)
    torch.testing.assert_close(by_kernel, by_group, atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):  # values come from a linear layer, the others were rotated in float32
        assert packing._attend_by_kernel(query, key, value.bfloat16(), row, scaling).dtype == torch.bfloat16


def test_the_installed_kernel_knows_the_arguments_that_it_is_given():
    known = inspect.signature(varlen.varlen_attn).parameters
    assert list(known)[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert "window_size" in known or "is_causal" in known


@pytest.mark.gpu
@pytest.mark.parametrize("key_heads", [4, 2])
def test_the_kernel_on_a_gpu_gives_what_the_groups_give(key_heads: int, batch: Batch):
    row = packing.pack(batch.to("cuda"))
    length = row.position_ids.shape[1]
    shapes = [(1, 4, length, 64), (1, key_heads, length, 64), (1, key_heads, length, 64)]
    heads = [weights_of(shape, seed).to("cuda", torch.bfloat16).requires_grad_() for seed, shape in enumerate(shapes)]
    results = []
    for attend in (packing._attend_by_kernel, packing._attend_by_group):
        output = attend(*heads, row, None)
        results.append((output, *torch.autograd.grad(output.float().square().sum(), heads)))
    for by_kernel, by_group in zip(*results, strict=True):
        torch.testing.assert_close(by_kernel, by_group, atol=2e-2, rtol=2e-2)
