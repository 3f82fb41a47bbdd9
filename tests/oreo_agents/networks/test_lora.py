"""Adapters: what is trained, and what is left on disk."""

from pathlib import Path

import pytest
import torch
from tiny_models import disturb, draw_episodes, make_model, make_tokenizer
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_algos.batch import collate

FAMILIES = ["llama", "qwen2"]


def trained_names(network: torch.nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("family", FAMILIES)
def test_of_a_policy_only_adapters_are_trained(family: str):
    policy = CausalPolicy(make_model(family), Lora(rank=2, alpha=4))
    names = trained_names(policy)
    assert names and all("lora_" in name for name in names)
    assert any("q_proj" in name for name in names) and any("down_proj" in name for name in names)
    assert not any("lm_head" in name for name in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_of_a_value_only_adapters_and_head_are_trained(family: str, checkpoint):
    value = TokenValue.from_policy(checkpoint(family), lora=Lora(rank=2, alpha=4))
    heads = {name for name in trained_names(value) if "lora_" not in name}
    assert len(heads) == 1 and "score" in heads.pop()
    batch = collate(draw_episodes(2))
    assert not value.token_values(batch).any()


@pytest.mark.filterwarnings("ignore:fan_in_fan_out:UserWarning")
def test_the_bias_that_gpt2_keeps_stays_frozen_under_adapters(checkpoint):
    value = TokenValue.from_policy(checkpoint("gpt2"), lora=Lora(rank=2, alpha=4))
    assert not any("bias" in name for name in trained_names(value))
    assert any("classifier" in name or "score" in name for name in trained_names(value))
    wanted = TokenValue.from_policy(checkpoint("gpt2"), bias=0.5, lora=Lora(rank=2, alpha=4))
    assert any("bias" in name for name in trained_names(wanted))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_policy_is_merged_and_plain(family: str, tmp_path: Path):
    policy = CausalPolicy(make_model(family), Lora(rank=2, alpha=4))
    batch = collate(draw_episodes(3))
    before = policy.score(batch).logprobs.detach()
    disturb(policy)
    expected = policy.score(batch).logprobs.detach()
    assert (expected - before).abs().max() > 0.01
    policy.save(tmp_path, make_tokenizer(), "# card")
    assert torch.equal(policy.score(batch).logprobs, expected), "saving changed the model in training"
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(plain) is type(make_model(family))
    assert not any("lora" in name for name in plain.state_dict())
    assert not any("adapter" in path.name for path in tmp_path.iterdir())
    torch.testing.assert_close(CausalPolicy(plain).score(batch).logprobs, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_value_is_merged_and_plain(family: str, checkpoint, tmp_path: Path):
    value = TokenValue.from_policy(checkpoint(family), lora=Lora(rank=2, alpha=4))
    disturb(value)
    batch = collate(draw_episodes(3))
    expected = value.token_values(batch).detach()
    assert expected.any()
    value.save(tmp_path, make_tokenizer(), "# card")
    assert torch.equal(value.token_values(batch), expected), "saving changed the model in training"
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path)
    assert plain.config.num_labels == 1
    assert not any("lora" in name or "modules_to_save" in name for name in plain.state_dict())
    with torch.no_grad():
        outputs = plain.eval()(batch.tokens).logits.squeeze(-1) * batch.attention
        torch.testing.assert_close(outputs, expected[:, 1:], atol=1e-4, rtol=1e-4)
    again = TokenValue.from_pretrained(str(tmp_path), lora=Lora(rank=2))
    torch.testing.assert_close(again.token_values(batch), expected, atol=1e-4, rtol=1e-4)


def test_a_policy_with_tied_embeddings_is_saved_whole(tmp_path: Path):
    model = make_model("llama")
    model.config.tie_word_embeddings = True
    model.tie_weights()
    policy = CausalPolicy(model, Lora(rank=2, alpha=4))
    disturb(policy)
    batch = collate(draw_episodes(2))
    expected = policy.score(batch).logprobs.detach()
    policy.save(tmp_path, make_tokenizer(), "# card")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert plain.lm_head.weight.data_ptr() == plain.model.embed_tokens.weight.data_ptr()
    torch.testing.assert_close(CausalPolicy(plain).score(batch).logprobs, expected, atol=1e-4, rtol=1e-4)


def test_a_reference_keeps_the_adapters_that_it_was_copied_with():
    policy = CausalPolicy(make_model("llama"), Lora(rank=2, alpha=4))
    disturb(policy)
    reference = policy.frozen_copy()
    batch = collate(draw_episodes(2))
    scores = policy.score(batch, reference)
    assert torch.equal(scores.logprobs, scores.ref_logprobs)
    disturb(policy)
    moved = policy.score(batch, reference)
    assert torch.equal(moved.ref_logprobs, scores.ref_logprobs)
    assert not trained_names(reference)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="rank >= 0 and alpha > 0, got rank -1"):
        Lora(rank=-1)
    with pytest.raises(ValueError, match="got rank 8, alpha 0"):
        Lora(rank=8, alpha=0)
