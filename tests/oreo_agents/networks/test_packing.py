"""Documents in one row against each document alone."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from packing_models import alone, build, weights_of
from tiny_models import draw_episodes, make_model, make_tokenizer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AttentionMaskInterface

from oreo_agents.networks import packing
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.checkpoints import base_model
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_algos.batch import Batch, collate

PACKED = ["llama", "qwen2", "qwen3", "gpt2", "cohere", "mistral", "gemma3"]


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    assert found
    return found


def assert_equal_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    total = sum(gradient.square().sum() for gradient in expected.values()).sqrt()
    difference = sum((found[name] - expected[name]).square().sum() for name in found).sqrt()
    assert difference < 1e-5 * total


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
