"""A checkpoint is loaded whole or refused with a sentence, and what is saved is what was trained."""

import json
from pathlib import Path

import pytest
import torch
from families import build
from safetensors.torch import load_file, save_file
from tiny_models import CHATML, disturb, draw_episodes, make_model, make_tokenizer
from transformers import AutoModelForCausalLM

from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.checkpoints import load_tokenizer, tokenizer_fingerprint
from oreo_agents.networks.old_names import write_old_names
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.tiny import TinyConfig, create_checkpoint, word_tokenizer
from oreo_agents.networks.value import TokenValue
from oreo_algos.batch import collate


@pytest.fixture
def batch():
    return collate(draw_episodes(3, vocabulary=100))


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning")
@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral", "olmoe", "qwen3_next", "lfm2", "llama"])
def test_adapters_of_any_layer_are_in_the_saved_policy(family: str, batch, tmp_path: Path):
    """Experts are single parameters, wrapped by peft in another way than linear layers, and more than once."""
    policy = CausalPolicy(build(family), Lora(rank=2, alpha=4))
    before = policy.score(batch).logprobs.detach()
    disturb(policy, 0.05)
    trained = policy.score(batch).logprobs.detach()
    assert (trained - before).abs().max() > 0.01
    policy.save(tmp_path, make_tokenizer(), "# card")
    assert torch.equal(policy.score(batch).logprobs, trained), "saving changed the model in training"
    torch.testing.assert_close(
        CausalPolicy.from_pretrained(str(tmp_path)).score(batch).logprobs, trained, atol=1e-4, rtol=1e-4
    )


def test_an_update_that_is_finer_than_bfloat16_is_saved(batch, tmp_path: Path):
    model = make_model("llama").to(torch.bfloat16)
    policy = CausalPolicy(model, Lora(rank=2, alpha=4))
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.fill_(1e-5)
    unchanged = make_model("llama").to(torch.bfloat16).state_dict()
    policy.save(tmp_path, make_tokenizer(), "# card")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert plain.dtype == torch.float32
    moved = [name for name, tensor in plain.state_dict().items() if not torch.equal(tensor, unchanged[name].float())]
    assert {"q_proj", "down_proj"} <= {name.split(".")[-2] for name in moved}
    expected = policy.score(batch).logprobs
    torch.testing.assert_close(CausalPolicy(plain).score(batch).logprobs, expected, atol=0.1, rtol=0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_model("llama").save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_missing_weight_is_refused_by_name(folder: Path):
    rewrite(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    for load in (CausalPolicy.from_pretrained, TokenValue.from_policy):
        with pytest.raises(ValueError, match=r"run on random ones \(missing there: model\.layers\.1\.mlp\.up_proj"):
            load(str(folder))


def test_an_unknown_weight_is_refused_by_name(folder: Path):
    rewrite(folder, lambda tensors: tensors.update({"model.layers.7.strange.weight": torch.zeros(2)}))
    with pytest.raises(ValueError, match=r"there, and unknown to it: model\.layers\.7\.strange\.weight"):
        CausalPolicy.from_pretrained(str(folder))


def test_a_value_network_is_no_policy_and_a_policy_no_value(folder: Path, tmp_path: Path):
    TokenValue.from_policy(str(folder)).save(tmp_path / "value", make_tokenizer(), "# card")
    with pytest.raises(ValueError, match=r"random ones .*lm_head\.weight.*`policy` for a policy, `value` for"):
        CausalPolicy.from_pretrained(str(tmp_path / "value"))
    with pytest.raises(ValueError, match="a value network is a token classifier with one label"):
        TokenValue.from_pretrained(str(folder))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(number: float, folder: Path):
    rewrite(folder, lambda tensors: tensors["model.layers.0.self_attn.q_proj.weight"].view(-1)[3:4].fill_(number))
    with pytest.raises(ValueError, match=r"not finite \(NaN or infinite\): model\.layers\.0\.self_attn\.q_proj"):
        CausalPolicy.from_pretrained(str(folder))


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_file_of_weights_that_is_cut_off_or_gone_is_one_sentence(keep: int, folder: Path):
    file = folder / "model.safetensors"
    if keep:
        file.write_bytes(file.read_bytes()[:keep])
    else:
        file.unlink()
    with pytest.raises(ValueError, match=r"its weights cannot be loaded as a CausalLM model \(.*copy the whole folder"):
        CausalPolicy.from_pretrained(str(folder))


def test_a_tied_head_is_not_missing(tmp_path: Path):
    model = make_model("llama")
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"]
    CausalPolicy.from_pretrained(str(tmp_path))
    TokenValue.from_policy(str(tmp_path))


# --- precision and length


def test_the_head_of_a_value_is_float32_whatever_the_weights_are(folder: Path, batch):
    for lora in (Lora(), Lora(rank=2, alpha=4)):
        value = TokenValue.from_policy(str(folder), dtype=torch.bfloat16, lora=lora)
        trained = {name: p.dtype for name, p in value.named_parameters() if p.requires_grad and "score" in name}
        assert trained and set(trained.values()) == {torch.float32}
        with torch.no_grad():
            for name, parameter in value.named_parameters():
                if name in trained:
                    parameter.normal_(generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            values = value.token_values(batch)
        assert values.dtype == torch.float32
        said = values[values != 0]
        assert not torch.equal(said.bfloat16().float(), said), "rounded at the head"


def test_adapters_over_bfloat16_are_trained_in_float32(folder: Path):
    for network in (
        CausalPolicy.from_pretrained(str(folder), dtype=torch.bfloat16, lora=Lora(rank=2)),
        TokenValue.from_policy(str(folder), dtype=torch.bfloat16, lora=Lora(rank=2)),
    ):
        assert {p.dtype for p in network.parameters() if p.requires_grad} == {torch.float32}


def test_longrope_is_read_up_to_its_original_length():
    """Beyond it the factors of a transcript depend on the longest one of its batch."""
    short, long = [1.0] * 4, [4.0] * 4
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": short, "long_factor": long, "factor": 4.0}
    policy = CausalPolicy(
        build(
            "phi3",
            rope_parameters=rope | {"original_max_position_embeddings": 32},
            original_max_position_embeddings=32,
            max_position_embeddings=128,
        )
    )
    assert policy.max_length == 32 and CausalPolicy(build("phi3")).max_length == 128


# --- old names, as transformers 4.57.6 reads them: what it makes of them was compared once, see benchmarks/LOG.md

YARN = {"factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = YARN | {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONG = {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [4.0] * 4}
FULL, SLIDING = "full_attention", "sliding_attention"


def rope(kind: str = "default", theta: float = 5e5, **more) -> dict:
    return {"rope_type": kind, "rope_theta": theta} | more


def kinds(full: dict, sliding: dict) -> dict:
    return {"layer_types": [SLIDING, FULL], "rope_parameters": {FULL: full, SLIDING: sliding}}


OLD_NAMES = {
    "base": ("qwen2", {"rope_parameters": rope(theta=1e6)}, {"rope_theta": 1e6}),
    "llama3": (
        "llama",
        {"rope_parameters": rope("llama3", **LLAMA3)},
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3"} | LLAMA3},
    ),
    "longrope": (
        "llama",
        {"rope_parameters": rope("longrope", **LONG, **YARN)},
        {
            "rope_theta": 5e5,
            "rope_scaling": {"rope_type": "longrope"} | LONG | YARN,
            "original_max_position_embeddings": 32,
        },
    ),
    "type alone, all of phi3": (
        "phi3",
        {"rope_parameters": rope("longrope", **LONG), "original_max_position_embeddings": 32},
        {
            "rope_theta": 5e5,
            "rope_scaling": {"type": "longrope"} | LONG,
            "partial_rotary_factor": 1.0,
            "original_max_position_embeddings": 32,
        },
    ),
    "type alone, all of olmo2": (
        "olmo2",
        {"rope_parameters": rope("linear", factor=4.0)},
        {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}},
    ),
    "part of a head": (
        "stablelm",
        {"rope_parameters": rope(partial_rotary_factor=0.5)},
        {"rope_theta": 5e5, "partial_rotary_factor": 0.5},
    ),
    "names of its own": (
        "gpt_neox",
        {"rope_parameters": rope("yarn", **YARN, partial_rotary_factor=0.5)},
        {
            "rope_theta": 5e5,
            "rotary_emb_base": 5e5,
            "partial_rotary_factor": 0.5,
            "rotary_pct": 0.5,
            "rope_scaling": {"rope_type": "yarn"} | YARN,
        },
    ),
    "types of layers": (
        "gemma3_text",
        kinds(rope("linear", theta=2e6, factor=8.0), rope(theta=5e3)),
        {"rope_theta": 2e6, "rope_local_base_freq": 5e3, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    ),
    "types of layers, one base": (
        "olmo3",
        kinds(rope("yarn", **YARN), rope()),
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "yarn"} | YARN},
    ),
    "types of layers, names of its own": (
        "modernbert-decoder",
        kinds(rope(), rope(theta=5e3)),
        {"global_rope_theta": 5e5, "local_rope_theta": 5e3},
    ),
    "experts": (
        "qwen3_moe",
        {"rope_parameters": rope()},
        {"rope_theta": 5e5, "num_experts": 4, "torch_dtype": "float32", "dtype": "float32"},
    ),
}
_ROTARY = {name for _, _, names in OLD_NAMES.values() for name in names if "rope" in name or "rotary" in name}


@pytest.mark.parametrize("case", OLD_NAMES)
def test_a_configuration_says_the_same_under_old_names(case: str, batch, tmp_path: Path):
    family, options, names = OLD_NAMES[case]
    policy = CausalPolicy(build(family, **options))
    policy.save(tmp_path, make_tokenizer(), "# card")
    config = json.loads((tmp_path / "config.json").read_text())
    assert {name: config.get(name) for name in names} == names
    assert not (_ROTARY - names.keys()) & config.keys()
    again = CausalPolicy.from_pretrained(str(tmp_path))
    assert torch.equal(again.score(batch).logprobs, policy.score(batch).logprobs)
    assert without_type(again.plain.config.rope_parameters) == policy.plain.config.rope_parameters
    again.save(tmp_path / "again", make_tokenizer(), "# card")
    second = json.loads((tmp_path / "again" / "config.json").read_text())
    assert {name: second.get(name) for name in names} == names


def without_type(rope: dict) -> dict:
    """As checkpoints of Phi-3 on the hub have it, `type` stays beside `rope_type` once it was read."""
    return {name: value for name, value in rope.items() if name != "type"}


def test_the_configuration_of_a_text_model_within_another_has_old_names_too(tmp_path: Path):
    within = {"model_type": "gemma3_text", "rope_parameters": {FULL: rope(), SLIDING: rope(theta=5e3)}}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": within}))
    write_old_names(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written == {
        "model_type": "gemma3",
        "text_config": within | {"rope_theta": 5e5, "rope_local_base_freq": 5e3},
    }


def test_values_and_adapters_are_saved_under_old_names_too(folder: Path, tmp_path: Path):
    TokenValue.from_policy(str(folder)).save(tmp_path / "value", make_tokenizer(), "# card")
    adapted = CausalPolicy.from_pretrained(str(folder), lora=Lora(rank=2, save="adapter"))
    adapted.save(tmp_path / "adapter", make_tokenizer(), "# card")
    for saved in ("value", "adapter"):
        config = json.loads((tmp_path / saved / "config.json").read_text())
        assert config["rope_theta"] == 1e4 and config["torch_dtype"] == config["dtype"]
        tokenizer = json.loads((tmp_path / saved / "tokenizer_config.json").read_text())
        assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_tokenizer_is_what_its_file_says_whatever_the_family_of_the_model(architecture: str, tmp_path: Path):
    """AutoTokenizer takes Qwen2's own pieces for any tokenizer beside a Qwen2: here blanks would be lost."""
    plain = word_tokenizer(["Tom", "has", "3", "mug"])
    marked = make_tokenizer(template=CHATML, end_of_turn=True)
    for name, tokenizer in {"plain": plain, "marked": marked}.items():
        create_checkpoint(TinyConfig(architecture=architecture), tokenizer, tmp_path / name, 0)
        said = json.loads((tmp_path / name / "tokenizer_config.json").read_text())
        assert said["tokenizer_class"] == "PreTrainedTokenizerFast"
        # A list under this name is an error in transformers 4.
        assert "extra_special_tokens" not in said
        again = load_tokenizer(str(tmp_path / name))
        assert tokenizer_fingerprint(again) == tokenizer_fingerprint(tokenizer)
        assert again.all_special_tokens == tokenizer.all_special_tokens
    assert plain.decode(load_tokenizer(str(tmp_path / "plain")).encode("Tom has 3 mug")) == "Tom has 3 mug"
