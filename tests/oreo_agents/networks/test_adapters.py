"""Adapters: where they are put, how they are saved by themselves, and folders of peft."""

import json
import warnings
from pathlib import Path
from typing import Literal

import peft
import pytest
import torch
from families import build
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from tiny_models import disturb, draw_episodes, make_model, make_tokenizer
from transformers import AutoModelForCausalLM

from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.checkpoints import load_tokenizer, weights_digest
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_algos.batch import collate

BY_THEMSELVES = Lora(rank=2, alpha=4, save="adapter")


@pytest.fixture
def batch():
    return collate(draw_episodes(3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_model("llama").save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path


@pytest.fixture
def saved(folder: Path) -> Path:
    """A folder of peft, made without us."""
    adapted_by_peft(folder, use_rslora=True)
    return folder / "adapter"


def adapted_by_peft(folder: Path, **settings):
    """A model of peft, saved in ``folder / "adapter"``."""
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft's own
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=3, target_modules="all-linear", **settings))
    disturb(adapted)
    adapted.save_pretrained(str(folder / "adapter"))
    return adapted


def adapted_names(policy: CausalPolicy) -> set[str]:
    return {name.split(".lora_")[0].rsplit(".", 1)[-1] for name, _ in policy.named_parameters() if "lora_" in name}


def test_a_policy_saved_as_an_adapter_holds_the_adapter_alone_and_loads_as_it_was(folder: Path, batch):
    policy = CausalPolicy.from_pretrained(str(folder / "base"), lora=BY_THEMSELVES)
    disturb(policy)
    expected = policy.score(batch).logprobs.detach()
    policy.save(folder / "saved", make_tokenizer(), "# card")
    assert not (folder / "saved" / "model.safetensors").exists()
    assert json.loads((folder / "saved" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        folder / "base"
    )
    assert (folder / "saved" / "README.md").read_text() == "# card"
    loaded = CausalPolicy.from_pretrained(str(folder / "saved"))
    torch.testing.assert_close(loaded.score(batch).logprobs, expected, atol=1e-5, rtol=1e-5)
    again = CausalPolicy.from_pretrained(str(folder / "saved"), lora=BY_THEMSELVES)
    disturb(again)
    again.save(folder / "second", make_tokenizer(), "# card")
    torch.testing.assert_close(
        CausalPolicy.from_pretrained(str(folder / "second")).score(batch).logprobs,
        again.score(batch).logprobs,
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("save", ["merged", "adapter"])
@pytest.mark.parametrize("targets", [["q_proj"], ["lm_head"], ["embed_tokens"], ["embed_tokens", "lm_head"]])
def test_adapters_of_a_tied_head_or_embedding_change_that_one_alone(
    targets: list[str], save: Literal["merged", "adapter"], tmp_path: Path, batch
):
    model = make_model("llama")
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    policy = CausalPolicy.from_pretrained(str(tmp_path / "base"), lora=Lora(rank=2, target_modules=targets, save=save))
    before = policy.score(batch).logprobs.detach()
    disturb(policy)
    expected = policy.score(batch).logprobs.detach()
    assert (expected - before).abs().max() > 0.01
    policy.save(tmp_path / "saved", make_tokenizer(), "# card")
    loaded = CausalPolicy.from_pretrained(str(tmp_path / "saved"))
    torch.testing.assert_close(loaded.score(batch).logprobs, expected, atol=1e-4, rtol=1e-4)
    # Who ties what the configuration calls tied would lose one of two weights.
    tied = targets == ["q_proj"]
    loaded.save(tmp_path / "again", make_tokenizer(), "# card")
    for folder in ("saved", "again") if save == "merged" else ("again",):
        assert json.loads((tmp_path / folder / "config.json").read_text())["tie_word_embeddings"] == tied
    again = CausalPolicy.from_pretrained(str(tmp_path / "again"))
    torch.testing.assert_close(again.score(batch).logprobs, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "cohere"])
def test_adapters_of_a_head_are_scored_sampled_and_trained(family: str, batch):
    policy = CausalPolicy(make_model(family), Lora(rank=2, target_modules=["lm_head"]))
    disturb(policy)
    scores = policy.score(batch, reference=policy.frozen_copy(), kl="exact")
    scores.logprobs.sum().backward()
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    assert len(trained) == 2 and all(parameter.grad is not None and parameter.grad.any() for parameter in trained)
    for row, tokens in enumerate(batch.tokens):
        real = tokens[batch.attention[row]]
        said = policy.model(real[None]).logits[0, :-1].float().log_softmax(-1).gather(1, real[1:, None])[:, 0]
        where = batch.action_mask[row, 1 : len(real)]
        torch.testing.assert_close(scores.logprobs[row, 1 : len(real)][where], said[where], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores.ref_logprobs, scores.logprobs.detach())


def test_all_weights_of_a_policy_that_was_adapted_can_be_trained(saved: Path, batch):
    plain, merged = (CausalPolicy.from_pretrained(str(path)) for path in (saved.parent / "base", saved))
    assert [name for name, p in merged.named_parameters() if p.requires_grad] == [
        name for name, p in plain.named_parameters() if p.requires_grad
    ]
    merged.score(batch).logprobs.sum().backward()
    assert all(parameter.grad is not None for parameter in merged.parameters())
    value = TokenValue.from_policy(str(saved))
    assert all(parameter.requires_grad for parameter in value.parameters())


@pytest.mark.parametrize("bias", [None, 0.25])
def test_a_value_saved_as_an_adapter_has_its_head(folder: Path, batch, bias: float | None):
    value = TokenValue.from_policy(str(folder / "base"), bias=bias, lora=BY_THEMSELVES)
    disturb(value)
    expected = value.token_values(batch).detach()
    assert expected.any()
    value.save(folder / "value", make_tokenizer(), "# card")
    assert not (folder / "value" / "model.safetensors").exists()
    loaded = TokenValue.from_pretrained(str(folder / "value"))
    torch.testing.assert_close(loaded.token_values(batch), expected, atol=1e-5, rtol=1e-5)


def test_a_folder_of_peft_is_a_policy_and_the_start_of_a_value(saved: Path, batch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft's own
        plain = peft.AutoPeftModelForCausalLM.from_pretrained(str(saved)).eval()
    policy = CausalPolicy.from_pretrained(str(saved))
    for row, tokens in enumerate(batch.tokens):
        real = tokens[batch.attention[row]]
        logp = plain(real[None]).logits[0, :-1].log_softmax(-1).gather(1, real[1:, None])[:, 0]
        where = batch.action_mask[row, 1 : len(real)]
        found = policy.score(batch).logprobs[row, 1 : len(real)]
        torch.testing.assert_close(found[where], logp[where], atol=1e-5, rtol=1e-5)
    value = TokenValue.from_policy(str(saved))
    trained = policy.plain.model.layers[0].mlp.up_proj.weight
    assert torch.equal(value.plain.model.layers[0].mlp.up_proj.weight, trained)


def test_adapters_without_a_tokenizer_have_that_of_what_they_adapt(saved: Path):
    assert load_tokenizer(str(saved)).get_vocab() == make_tokenizer().get_vocab()
    assert CausalPolicy.from_pretrained(str(saved)).tokenizer_fingerprint


def test_the_digest_of_adapters_tells_them_and_what_they_adapt(saved: Path):
    first = weights_digest(str(saved))
    assert first not in (weights_digest(str(saved.parent / "base")), "")
    make_model("llama", seed=1).save_pretrained(saved.parent / "base")
    assert weights_digest(str(saved)) != first


def test_adapters_of_another_model_are_refused(saved: Path):
    make_model("gpt2").save_pretrained(saved.parent / "base")
    with pytest.raises(ValueError, match=r"its adapters (cannot be read, or do not fit|are not those of)"):
        CausalPolicy.from_pretrained(str(saved))


@pytest.mark.parametrize("begun", ["pissa", "olora"])
def test_what_adapters_took_out_of_the_weights_is_taken_out_again(folder: Path, begun: str):
    model = adapted_by_peft(folder, init_lora_weights=begun)
    tokens = torch.arange(8)[None]
    loaded = CausalPolicy.from_pretrained(str(folder / "adapter"))
    with torch.no_grad():
        assert torch.allclose(loaded.model(tokens).logits, model.eval()(tokens).logits, atol=1e-4)


def test_adapters_that_began_with_a_random_decomposition_are_refused(saved: Path):
    """peft 0.21.2 loads them as another model each time (findings/pissa_niter_reload.sh)."""
    file = saved / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"init_lora_weights": "pissa_niter_4"}))
    with pytest.raises(
        ValueError, match=r"random decomposition of the weights \(pissa_niter_4\), which cannot be made"
    ):
        CausalPolicy.from_pretrained(str(saved))


def test_an_adapter_that_lacks_a_tensor_is_refused_by_its_name(saved: Path):
    file = saved / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors.pop(next(name for name in tensors if "q_proj.lora_B" in name))
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"adapters are not those of .*q_proj\.lora_B"):
        CausalPolicy.from_pretrained(str(saved))


def test_adapters_that_name_nothing_are_refused(saved: Path):
    file = saved / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": None}))
    with pytest.raises(ValueError, match="does not name the weights that are adapted"):
        CausalPolicy.from_pretrained(str(saved))


def test_adapters_of_weights_that_are_gone_name_them(saved: Path):
    (saved.parent / "base" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"base: its weights cannot be loaded"):
        CausalPolicy.from_pretrained(str(saved))


def test_modules_are_chosen_and_left_out_by_name():
    chosen = CausalPolicy(make_model("llama"), Lora(rank=2, target_modules=["q_proj", "v_proj"]))
    assert adapted_names(chosen) == {"q_proj", "v_proj"}
    without = CausalPolicy(make_model("llama"), Lora(rank=2, exclude_modules=["down_proj"]))
    assert {"q_proj", "up_proj"} <= adapted_names(without) and "down_proj" not in adapted_names(without)


def test_rank_stabilised_adapters_are_scaled_by_the_root():
    scales = [
        next(m for m in CausalPolicy(make_model("llama"), lora).modules() if isinstance(m, LoraLayer)).scaling[
            "default"
        ]
        for lora in (Lora(rank=4, alpha=8), Lora(rank=4, alpha=8, use_rslora=True))
    ]
    assert scales == [2, 4]


def test_inputs_are_dropped_where_gradients_are_computed_and_nowhere_else(batch):
    policy = CausalPolicy(make_model("llama"), Lora(rank=2, dropout=0.5))
    disturb(policy)
    with torch.no_grad():
        calm = [policy.score(batch).logprobs for _ in range(2)]
    assert torch.equal(*calm)
    assert not torch.equal(policy.score(batch).logprobs, policy.score(batch).logprobs)


# Routers and grouped projections are linear layers by name, and state-space models read weights past their adapters.
@pytest.mark.parametrize(
    ("family", "left_out"),
    [("llama4_text", "router"), ("mamba", "dt_proj"), ("mamba", "out_proj"), ("phimoe", "router")],
)
def test_layers_that_do_more_than_multiply_get_no_adapters(family: str, left_out: str):
    policy = CausalPolicy(build(family), Lora(rank=2))
    assert adapted_names(policy) and left_out not in adapted_names(policy)


def test_linear_layers_of_a_class_of_their_own_get_adapters():
    assert "query_key_value" in adapted_names(CausalPolicy(build("falcon"), Lora(rank=2)))


def test_adapters_of_quantised_weights_are_saved_by_themselves_or_refused():
    model = make_model("llama")
    model.is_quantized = True
    with pytest.raises(ValueError, match=r"cannot be merged into quantised weights; .*lora\.save=adapter"):
        Lora(rank=2).wrap(model)
    assert Lora(rank=2, save="adapter").wrap(model) is not model


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"dropout": 1.0}, r"lora\.dropout must be a probability"),
        ({"save": "both"}, r"Lora\.save must be one of merged, adapter, got 'both'"),
        ({"target_modules": "q_proj"}, r"Lora\.target_modules must be a list, each a text or null, got 'q_proj'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting: dict, match: str):
    with pytest.raises(ValueError, match=match):
        Lora(rank=2, **setting)


def test_settings_are_equal_where_their_names_are():
    given = Lora(rank=2, target_modules=["q_proj"], exclude_modules=["v_proj"])
    assert len({given, Lora(rank=2, target_modules=("q_proj",), exclude_modules=("v_proj",))}) == 1


def test_a_name_that_no_module_has_is_refused():
    with pytest.raises(ValueError, match="q_prj"):
        CausalPolicy(make_model("llama"), Lora(rank=2, target_modules=["q_prj"]))
