"""Where a turn splits into steps: at tokens, also where characters fall back to bytes."""

import numpy as np
import pytest
from formats import PLAIN, ids
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.networks.tiny import byte_tokenizer, word_tokenizer
from oreo_envs.answers import split_steps

UNICODE = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


def turn(prompt_format: PromptFormat, text: str) -> list[int]:
    return [*ids(prompt_format, text), prompt_format.end_of_turn]


def test_a_step_ends_with_its_delimiter_and_the_end_token_belongs_to_the_last():
    tokens = turn(PLAIN, "a\nbb\nc")
    numbers, texts = PLAIN.split_steps(tokens, ("\n",))
    assert texts == ["a\n", "bb\n", "c"]
    assert numbers[-1] == 2 and numbers[0] == 0
    for step in range(3):
        piece = [token for token, number in zip(tokens, numbers, strict=True) if number == step]
        assert PLAIN.decode(piece) == texts[step]


def test_blank_lines_belong_to_the_step_before():
    numbers, texts = PLAIN.split_steps(turn(PLAIN, "a\n\n \nb\n"), ("\n",))
    assert texts == ["a\n\n \n", "b\n"]
    assert sorted(set(numbers)) == [0, 1]


def test_an_empty_turn_is_one_step_of_its_end_token():
    assert PLAIN.split_steps([PLAIN.end_of_turn], ("\n",)) == ([0], [""])


def test_without_delimiters_a_turn_is_one_step():
    tokens = turn(PLAIN, "a\nb")
    assert PLAIN.split_steps(tokens, ()) == ([0] * len(tokens), ["a\nb"])


def test_a_turn_that_was_cut_off_has_no_end_token():
    tokens = ids(PLAIN, "a\nb")
    numbers, texts = PLAIN.split_steps(tokens, ("\n",))
    assert texts == ["a\n", "b"] and len(numbers) == len(tokens)


def test_a_token_over_a_delimiter_belongs_to_the_step_in_which_it_begins():
    tokenizer = byte_tokenizer(["a.\nb"] * 50, 270)
    prompt_format = PromptFormat(tokenizer)
    # Make one token of ". b", which holds the delimiter ". " and the first letter after it.
    tokenizer.add_tokens([". b"])
    numbers, texts = prompt_format.split_steps(turn(prompt_format, "aa. bb. c"), (". ",))
    assert "".join(texts) == "aa. bb. c"
    assert texts == ["aa. b", "b. ", "c"]
    assert numbers == [0, 0, 0, 1, 1, 1, 2, 2]


def test_a_token_that_covers_a_whole_step_leaves_no_gap_in_the_numbers():
    tokenizer = byte_tokenizer(["a\nb\nc"], 260)
    tokenizer.add_tokens(["a\nb\n"])
    prompt_format = PromptFormat(tokenizer)
    numbers, texts = prompt_format.split_steps(turn(prompt_format, "a\nb\nc"), ("\n",))
    assert texts == ["a\nb\n", "c"]
    assert numbers == [0, 1, 1]


def test_a_space_before_a_word_goes_with_the_word_into_the_next_step():
    tokenizer = byte_tokenizer(["one. two"] * 9, 280)
    prompt_format = PromptFormat(tokenizer)
    tokens = turn(prompt_format, "one. two")
    assert " two" in [prompt_format.decode([token]) for token in tokens]
    _, texts = prompt_format.split_steps(tokens, (". ",))
    assert texts == ["one.", " two"]


def test_a_written_turn_has_the_tokens_of_the_whole_text():
    """Steps encoded one by one would end in a lone space that a model never writes."""
    tokenizer = byte_tokenizer(["one. two"] * 9, 280)
    prompt_format = PromptFormat(tokenizer)
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "one. two"}]
    tokens, step_id = prompt_format.encode_episode(messages, [(1, 0, 5), (1, 5, 8)])
    opening = prompt_format.opening(messages[:1])
    assert tokens == [*opening, *turn(prompt_format, "one. two")]
    assert step_id[-2:] == [1, 1] and step_id[len(opening)] == 0


def test_a_turn_that_was_cut_off_gets_no_end_token():
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "ab"}]
    ended, _ = PLAIN.encode_episode(messages, [(1, 0, 2)])
    cut, _ = PLAIN.encode_episode(messages, [(1, 0, 2)], ended=False)
    assert ended == [*cut, PLAIN.end_of_turn]


@settings(max_examples=200, deadline=None)
@given(UNICODE, st.sampled_from([("\n",), ("\n", ". ", ".$ "), ()]))
def test_characters_of_several_tokens_keep_steps_and_texts_together(text: str, delimiters: tuple[str, ...]):
    tokens = turn(PLAIN, text)
    if PLAIN.decode(tokens) != text:
        return  # the text spells a special token
    numbers, texts = PLAIN.split_steps(tokens, delimiters)
    assert "".join(texts) == text
    assert set(np.diff(numbers, prepend=0).tolist()) <= {0, 1}
    assert numbers[0] == 0 and numbers[-1] == len(texts) - 1
    # A token may cover the end of a step, so there may be fewer than the environment would cut.
    assert len(texts) <= len(split_steps(text, delimiters))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(3, len(PLAIN.tokenizer) - 1), max_size=12))
def test_any_tokens_at_all_split_into_steps_that_add_up(tokens: list[int]):
    numbers, texts = PLAIN.split_steps([*tokens, PLAIN.end_of_turn], ("\n",))
    assert "".join(texts) == PLAIN.decode(tokens)
    assert len(numbers) == len(tokens) + 1
    assert sorted(set(numbers)) == list(range(len(texts)))


def fallback_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """As those of Llama 2 and Gemma: what is no word is bytes, and the first space is dropped."""
    special = ["<unk>", "</s>"]
    pieces = [f"<0x{byte:02X}>" for byte in range(256)] + ["▁", "a", "b", "c", "▁a", "ab", "."]
    if kind == "bpe":
        numbers = {piece: number for number, piece in enumerate(special + pieces)}
        merges = [("▁", "a"), ("a", "b")]
        tokenizer = Tokenizer(models.BPE(numbers, merges, byte_fallback=True, unk_token="<unk>"))
    else:
        costs = [(piece, -9.0 if piece.startswith("<") else -1.0) for piece in special + pieces]
        tokenizer = Tokenizer(models.Unigram(costs, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")


FALLBACK = {kind: PromptFormat(fallback_tokenizer(kind)) for kind in ("bpe", "unigram")}
KINDS = pytest.mark.parametrize("kind", FALLBACK)


def ends_by_prefixes(prompt_format: PromptFormat, tokens: list[int]) -> list[int]:
    """A token ends where the shortest of the decoded texts that hold it ends."""
    lengths = [len(prompt_format.decode(tokens[: i + 1])) for i in range(len(tokens))]
    return [min(lengths[i:]) for i in range(len(tokens))]


@KINDS
def test_a_character_that_falls_back_to_bytes_belongs_to_one_step(kind: str):
    prompt_format = FALLBACK[kind]
    tokens = turn(prompt_format, "a🎲\nc b")
    numbers, texts = prompt_format.split_steps(tokens, ("\n",))
    assert texts == ["a🎲\n", "c b"]
    # The first token is a word, then four bytes of the die and the line break; c, space, b and end.
    assert numbers == [0] * 6 + [1] * 4
    assert prompt_format.text_ends(tokens) == [1, 2, 2, 2, 2, 3, 4, 5, 6, 6]


@KINDS
@settings(max_examples=200, deadline=None)
@example(
    ".aé\u200d\u200d\u200d\u200d🎲🎲🎲🎲é", 33, ("\n",)
)  # more bytes in a row than a window holds, and half a character
@given(st.text("ab. \n🎲é👩\u200d🔬🏽", max_size=20), st.integers(0, 80), st.sampled_from([("\n",), ("\n", ". "), ()]))
def test_bytes_of_characters_split_into_steps_that_add_up(kind: str, text: str, kept: int, delimiters: tuple[str, ...]):
    prompt_format = FALLBACK[kind]
    # Cut off anywhere, also inside a character.
    tokens = turn(prompt_format, text)[: kept + 1]
    numbers, texts = prompt_format.split_steps(tokens, delimiters)
    assert "".join(texts) == prompt_format.decode(tokens)
    assert numbers[0] == 0 and numbers[-1] == len(texts) - 1
    assert set(np.diff(numbers).tolist()) <= {0, 1}
    assert prompt_format.text_ends(tokens) == ends_by_prefixes(prompt_format, tokens)


@KINDS
@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, len(FALLBACK["bpe"].tokenizer) - 1), max_size=12))
def test_any_bytes_at_all_split_into_steps_that_add_up(kind: str, tokens: list[int]):
    prompt_format = FALLBACK[kind]
    numbers, texts = prompt_format.split_steps([*tokens, prompt_format.end_of_turn], ("\n",))
    assert "".join(texts) == prompt_format.decode(tokens)
    assert sorted(set(numbers)) == list(range(len(texts))) and numbers == sorted(numbers)


@KINDS
def test_a_long_answer_is_not_decoded_again_for_each_of_its_tokens(kind: str, monkeypatch: pytest.MonkeyPatch):
    prompt_format = PromptFormat(fallback_tokenizer(kind))
    tokens = turn(prompt_format, "ab 🎲.\n" * 200)
    expected = ends_by_prefixes(prompt_format, tokens)
    decoded = []
    decode = prompt_format.decode

    def count(some: list[int]) -> str:
        decoded.append(len(some))
        return decode(some)

    monkeypatch.setattr(prompt_format, "decode", count)
    assert prompt_format.text_ends(tokens) == expected
    assert sum(decoded) < 10 * len(tokens)


@KINDS
@pytest.mark.parametrize("text", ["ab 🎲 .\nc .", " . é .", "a b . . . . c👩\u200d🔬 ."])
def test_text_that_is_no_sum_of_its_pieces_is_decoded_a_window_at_a_time(
    kind: str, text: str, monkeypatch: pytest.MonkeyPatch
):
    prompt_format = PromptFormat(fallback_tokenizer(kind))
    decode, decoded = prompt_format.decode, []

    def joined(some: list[int]) -> str:
        decoded.append(len(some))
        return decode(some).replace(" .", ".")

    monkeypatch.setattr(prompt_format, "decode", joined)
    tokens = turn(prompt_format, text * 40)
    expected = ends_by_prefixes(prompt_format, tokens)
    decoded.clear()
    assert prompt_format.text_ends(tokens) == expected
    assert sum(decoded) < 60 * len(tokens)


def test_word_tokens_split_where_the_text_does():
    prompt_format = PromptFormat(word_tokenizer(["wugs", ":", "+", "=", "#", *map(str, range(40))]))
    text = "21 wugs 5: 21 + 5 = 26\n#### 3"
    tokens = turn(prompt_format, text)
    numbers, texts = prompt_format.split_steps(tokens, ("\n",))
    assert texts == ["21 wugs 5: 21 + 5 = 26\n", "#### 3"]
    first_line = len(ids(prompt_format, texts[0]))
    assert numbers == [0] * first_line + [1] * (len(tokens) - first_line)
