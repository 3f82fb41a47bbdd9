"""Fresh small models and their tokenizers."""

import json
from pathlib import Path

import gymnasium as gym
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_agents.networks.tiny import TinyConfig, byte_tokenizer, create_checkpoint, word_tokenizer

SMALL = {"hidden_size": 16, "intermediate_size": 24, "layers": 1, "heads": 2, "context": 32}
BYTES = byte_tokenizer(["Tom has 21 marbles.", "#### 26\n"], 300)


@pytest.mark.parametrize("options", [{}, {"answer": "exact"}, {"num_verbs": 8}, {"amount_range": (1, 9)}])
def test_the_word_tokenizer_is_exact_on_generated_questions_and_solutions(options: dict):
    env = gym.make("oreo/Arithmetic-v0", split="train", **options).unwrapped
    tokenizer = word_tokenizer(env.vocabulary())
    for index in range(300):
        demonstration = env.demonstration(index, seed=index % 7)
        for text in [message["content"] for message in demonstration.messages] + list(demonstration.steps):
            tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in tokens
            assert tokenizer.decode(tokens, clean_up_tokenization_spaces=False) == text


def test_the_word_tokenizer_writes_one_token_a_word_number_or_mark():
    tokenizer = word_tokenizer(["Tom", "wugs", "He", ".", ":", "+", "=", "#", "26", "5", "21", "31", "10"])
    tokens = tokenizer("21 wugs 5: 21 + 10 = 31\n", add_special_tokens=False)["input_ids"]
    pieces = [tokenizer.decode([token]) for token in tokens]
    assert pieces == ["21", " wugs", " 5", ":", " 21", " +", " 10", " =", " 31", "\n"]


def test_a_word_that_was_not_listed_falls_apart_into_its_characters():
    tokenizer = word_tokenizer(["wugs", "26"])
    tokens = tokenizer("sugw 62", add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in tokens
    assert tokenizer.decode(tokens) == "sugw 62"
    assert tokenizer.unk_token_id in tokenizer("x", add_special_tokens=False)["input_ids"]


# --- phrases

PHRASES = word_tokenizer(
    [
        " mug 1",
        " mug 3",
        " mug 12",
        "go to",
        ".\nYour task",
        "mug",
        "to",
        "x",
        ",",
        *(str(number) for number in range(31)),
    ]
)


def pieces(text: str) -> list[str]:
    tokens = PHRASES(text, add_special_tokens=False)["input_ids"]
    assert PHRASES.decode(tokens, clean_up_tokenization_spaces=False) == text
    return [PHRASES.decode([token]) for token in tokens]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("go to mug 1", ["go to", " mug 1"]),
        ("go to mug 12, x", ["go to", " mug 12", ",", " x"]),
        ("mug 1 mug 1", ["mug", " 1", " mug 1"]),
        (" mug  1", [" mug", " ", " 1"]),
        ("go to.\nYour task", ["go to", ".\nYour task"]),
    ],
)
def test_a_phrase_is_one_token_as_it_stands(text: str, expected: list[str]):
    assert pieces(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # A number that is not listed with its thing.
        (" mug 4", [" mug", " 4"]),
        (" mug 13", [" mug", " 13"]),
        (" mug 21.", [" mug", " 21", "."]),
        # A number that is not listed at all.
        (" mug 31", [" mug", " 3", "1"]),
        (" mug 1x", [" mug", " 1", "x"]),
        ("go tot", ["g", "o", " to", "t"]),
    ],
)
def test_a_phrase_ends_neither_inside_a_word_nor_inside_a_number(text: str, expected: list[str]):
    assert pieces(text) == expected


def test_a_phrase_is_no_token_with_another_space_before_it():
    vocabulary = PHRASES.get_vocab()
    assert "  mug 1" not in vocabulary and " go to" not in vocabulary and {" mug", "mug", " mug 1"} <= set(vocabulary)


def test_words_alone_make_the_tokenizer_that_they_made_before_there_were_phrases():
    """Checkpoints of word problems go on fitting their buffers."""
    words = gym.make("oreo/Arithmetic-v0").unwrapped.vocabulary()
    tokenizer = word_tokenizer(words)
    pieces = {" ", "\n", *words, *(f" {word}" for word in words), *(c for word in words for c in word)}
    assert set(tokenizer.get_vocab()) == pieces | set(tokenizer.all_special_tokens)
    splits = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"]["pattern"]
    assert splits == {"Regex": r" ?[A-Za-z]+| ?\d+| ?#+| ?[^\sA-Za-z\d]|\s"}


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40))
def test_the_byte_tokenizer_is_exact_on_any_text(text: str):
    if any(mark in text for mark in BYTES.all_special_tokens):
        return  # the text spells a special token
    tokens = BYTES(text, add_special_tokens=False)["input_ids"]
    assert BYTES.decode(tokens, clean_up_tokenization_spaces=False) == text
    assert BYTES.unk_token_id not in tokens


def test_the_byte_tokenizer_keeps_to_its_size_and_learns_merges():
    assert len(byte_tokenizer(["aaaa bbbb aaaa bbbb"] * 4, 264)) == 264
    merged = BYTES("marbles", add_special_tokens=False)["input_ids"]
    assert len(merged) < len("marbles")


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_equal_seeds_give_equal_bytes_and_other_seeds_do_not(architecture: str, tmp_path: Path):
    config = TinyConfig(architecture=architecture, **SMALL)
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        create_checkpoint(config, word_tokenizer(["Tom", "26"]), tmp_path / name, seed)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(names)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ac"]
    assert weights[0] != weights[1]


def test_drawing_weights_leaves_the_global_generator_alone(tmp_path: Path):
    before = torch.get_rng_state()
    create_checkpoint(TinyConfig(**SMALL), word_tokenizer(["Tom"]), tmp_path, 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("architecture", "tied"), [("llama", False), ("qwen2", True)])
def test_a_checkpoint_has_the_shape_that_was_asked_for(architecture: str, tied: bool, tmp_path: Path):
    tokenizer = word_tokenizer(["Tom", "26"])
    create_checkpoint(TinyConfig(architecture=architecture, tied=tied, **SMALL), tokenizer, tmp_path, 0)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    config = model.config
    assert config.model_type == architecture
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (16, 1, 2)
    assert config.max_position_embeddings == 32
    assert config.vocab_size == len(tokenizer) == len(AutoTokenizer.from_pretrained(tmp_path))
    assert (model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()) == tied
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("tied", [False, True])
def test_a_thing_starts_as_the_sum_of_its_parts(tied: bool, tmp_path: Path):
    tokenizer = word_tokenizer(["mug", "desk", "1", "2", " mug 1", " mug 2", " desk 2", " egg 1", "go to"])
    tables = {}
    for composed in (False, True):
        config = TinyConfig(tied=tied, composed=composed, **SMALL)
        create_checkpoint(config, tokenizer, tmp_path / str(composed), 0)
        model = AutoModelForCausalLM.from_pretrained(tmp_path / str(composed))
        tables[composed] = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    things = [" mug 1", " mug 2", " desk 2"]
    changed = tokenizer.convert_tokens_to_ids(things)
    for before, after in zip(tables[False], tables[True], strict=True):
        for index, thing in zip(changed, things, strict=True):
            parts = tokenizer.convert_tokens_to_ids([thing[:-2], thing[-2:]])
            torch.testing.assert_close(after[index], before[parts].sum(dim=0) / 2**0.5)
        # " egg" is no word of its own, and "go to" no thing.
        others = [index for index in range(len(tokenizer)) if index not in changed]
        assert torch.equal(before[others], after[others])


def test_impossible_shapes_are_refused():
    with pytest.raises(ValueError, match="architecture must be llama or qwen2, got 'gpt5'"):
        TinyConfig(architecture="gpt5")
    with pytest.raises(ValueError, match="hidden_size 64 must be a multiple of heads 3"):
        TinyConfig(heads=3)
