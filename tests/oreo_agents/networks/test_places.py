"""A checkpoint that is not where it is said to be, or is damaged, is one plain sentence."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tiny_models import make_model, make_tokenizer
from transformers import GenerationConfig

from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.checkpoints import load_config, load_end_tokens, load_tokenizer
from oreo_agents.networks.places import first_line, require_checkpoint_at, require_folder_or_name
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_envs import hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_model("llama").save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(folder: Path) -> Path:
    policy = CausalPolicy.from_pretrained(str(folder), lora=Lora(rank=2, save="adapter"))
    policy.save(folder.parent / "adapter", make_tokenizer(), "")
    return folder.parent / "adapter"


@pytest.mark.parametrize("load", [load_config, load_tokenizer])
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("{}/nowhere", "{}/nowhere: there is no such folder; give a folder with config.json"),
        ("nowhere/", "nowhere/: there is no such folder"),
        ("./no/where", "./no/where: there is no such folder"),
        ("~/nowhere", "~/nowhere: there is no such folder"),
        ("", "no checkpoint is named (the path is '')"),
        (" ", "no checkpoint is named (the path is ' ')"),
        ("{}/base/config.json", "{}/base/config.json: this is a file; give the folder that it lies in"),
        ("{}/base/model.safetensors", "{}/base/model.safetensors: this is a file"),
    ],
)
def test_what_is_no_folder_is_said_in_our_words(load: Callable, path: str, said: str, folder: Path):
    path, said = (text.replace("{}", str(folder.parent)) for text in (path, said))
    with pytest.raises(ValueError, match="^" + re.escape(said)) as refused:
        load(path)
    assert "Repo id" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen2.5-Math-1.5B", "org/name.with-dots_1"])
def test_a_name_on_the_hub_may_be_asked_for(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "why_unreachable", lambda: None)
    require_checkpoint_at(name)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The hub does not answer, and its cache is empty; what is asked of it."""
    asked: list[str] = []

    def ask(endpoint: str) -> str:
        asked.append(endpoint)
        return "no network"

    monkeypatch.setattr(hub, "_ask", ask)
    monkeypatch.setattr(hub, "_found", None)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return asked


@pytest.mark.parametrize("name", ["typo", "org/typo"])
def test_a_name_is_refused_after_one_short_attempt(name: str, no_network: list[str]):
    for load in (load_config, load_tokenizer, CausalPolicy.from_pretrained, TokenValue.from_pretrained):
        with pytest.raises(ValueError, match=rf"^{name}: there is no such folder.*cannot be reached \(no network\)"):
            load(name)
    assert len(no_network) == 1


def test_what_is_in_the_cache_is_read_without_a_network(folder: Path, tmp_path: Path, no_network: list[str]):
    stored = tmp_path / "cache" / "models--org--small"
    (stored / "refs").mkdir(parents=True)
    (stored / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, stored / "snapshots" / ("0" * 40))
    CausalPolicy.from_pretrained("org/small")
    assert load_tokenizer("org/small").eos_token_id is not None and load_end_tokens("org/small") is not None
    assert len(no_network) == 1 and not constants.HF_HUB_OFFLINE


def test_a_folder_of_almost_that_name_is_told(folder: Path, no_network: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(ValueError, match=r"no such folder \(did you mean 'base'\?\)"):
        load_config("bsae")
    with pytest.raises(ValueError, match=r"no such folder \(did you mean '.*base'\?\); give"):
        load_config(str(folder.parent / "bases"))


def test_a_folder_with_a_blank_in_its_name_is_a_folder(folder: Path, tmp_path: Path):
    folder.rename(tmp_path / "my base")
    assert load_config(str(tmp_path / "my base")).model_type == "llama"


def test_a_folder_of_checkpoints_names_them(folder: Path):
    with pytest.raises(ValueError, match=r"no checkpoint, it has no config\.json; give one of those in it: base$"):
        load_config(str(folder.parent))
    (folder.parent / "empty").mkdir()
    require_folder_or_name(str(folder.parent / "empty"))
    with pytest.raises(ValueError, match=r"empty: this folder is no checkpoint, .*; give a folder with config\.json"):
        load_config(str(folder.parent / "empty"))


@pytest.mark.parametrize("content", ["{no", "[]", "{}", '{"model_type": "llama", "hidden_size": "thirty"}', "\xff"])
def test_a_damaged_configuration_is_one_sentence(content: str, folder: Path):
    (folder / "config.json").write_text(content, encoding="latin-1")
    for load in (CausalPolicy.from_pretrained, TokenValue.from_policy, TokenValue.from_pretrained):
        with pytest.raises(ValueError, match=r"base: no transformers checkpoint can be read there \(.*\); give"):
            load(str(folder))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["{no", "[]"])
def test_a_damaged_tokenizer_is_one_sentence(content: str, name: str, folder: Path):
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=r"^\S*base: no tokenizer can be read there \([^\n]*\); save it beside"):
        load_tokenizer(str(folder))


def test_a_damaged_tokenizer_of_adapters_is_not_replaced_by_another(adapter: Path):
    (adapter / "tokenizer.json").write_text("{no")
    with pytest.raises(ValueError, match="adapter: no tokenizer can be read there"):
        load_tokenizer(str(adapter))


def test_a_folder_without_a_tokenizer_says_that_there_is_none(folder: Path):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"base: no tokenizer can be read there \(none of its files are there\)"):
        load_tokenizer(str(folder))


def test_weights_of_another_shape_are_named(folder: Path):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 32}))
    for load in (CausalPolicy.from_pretrained, TokenValue.from_policy):
        with pytest.raises(ValueError, match=r"of another shape: model\.layers\.0\.mlp\.down_proj\.weight"):
            load(str(folder))


def test_the_tokens_that_end_a_text_are_read_refused_or_none(folder: Path, adapter: Path):
    file = folder / "generation_config.json"
    file.unlink(missing_ok=True)
    assert load_end_tokens(str(folder)) == []
    for ends, found in ((2, [2]), ([2, 5], [2, 5])):
        GenerationConfig(eos_token_id=ends).save_pretrained(folder)
        assert load_end_tokens(str(folder)) == found
        assert load_end_tokens(str(adapter)) == found, "adapters end as what they adapt"
    for content in ("{no", '{"eos_token_id": "two"}', '{"eos_token_id": [2, null]}'):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"base: .*generation_config\.json"):
            load_end_tokens(str(folder))


def adapter_settings(adapter: Path, **changed) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def test_adapters_that_are_damaged_are_one_sentence(adapter: Path):
    weights, settings = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    whole, said = weights.read_bytes(), settings.read_text()
    tensors = load_file(weights)
    tensors[min(tensors)].view(-1)[0] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"adapter: weights that are not finite \(NaN or infinite\): model\.layers\.0"):
        CausalPolicy.from_pretrained(str(adapter))
    weights.write_bytes(whole[:500])
    with pytest.raises(ValueError, match=r"adapter: its adapters cannot be read, or do not fit"):
        CausalPolicy.from_pretrained(str(adapter))
    weights.unlink()
    with pytest.raises(ValueError, match=r"adapter: its adapters are not there \(adapter_model\.safetensors\)"):
        CausalPolicy.from_pretrained(str(adapter))
    weights.write_bytes(whole)
    CausalPolicy.from_pretrained(str(adapter))
    for content in ("{no", "[]", said.replace('"LORA"', '"STRANGE"')):
        settings.write_text(content)
        with pytest.raises(ValueError, match=r"adapter: its adapter_config\.json cannot be read"):
            CausalPolicy.from_pretrained(str(adapter))


def test_adapters_of_a_folder_that_was_moved_or_of_another_architecture_are_refused(adapter: Path, tmp_path: Path):
    adapter_settings(adapter, base_model_name_or_path="/no/where")
    with pytest.raises(ValueError, match=r"the weights that it adapts are not there \(/no/where\); set base_"):
        CausalPolicy.from_pretrained(str(adapter))
    make_model("qwen2").save_pretrained(tmp_path / "other")  # of the same shapes, and with biases
    adapter_settings(adapter, base_model_name_or_path=str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"not those of a LlamaForCausalLM.*q_proj\.bias|k_proj\.bias"):
        CausalPolicy.from_pretrained(str(adapter))


def test_an_error_is_told_by_its_first_words():
    assert first_line(ValueError("so\n  it is\n\nand more")) == "so it is"
    assert first_line(KeyError()) == "KeyError" and len(first_line(ValueError("word " * 100))) <= 300
    assert first_line(ValueError(" ")) == "ValueError"
