"""Conversations as tokens: openings, later turns, steps, spans, fingerprints."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CHATML, FORGETFUL, make_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.texts import encode_episode
from oreo_agents.networks.tiny import byte_tokenizer, word_tokenizer
from oreo_algos.episode import Episode
from oreo_envs.answers import split_steps

PLAIN = PromptFormat(make_tokenizer())
CHAT = PromptFormat(make_tokenizer(template=CHATML, end_of_turn=True))
OPENING = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 3?"}]
UNICODE = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


def ids(prompt_format: PromptFormat, text: str) -> list[int]:
    return prompt_format.tokenizer(text, add_special_tokens=False)["input_ids"]


def conversation(*turns: str) -> list[dict[str, str]]:
    roles = ["assistant", "user"] * len(turns)
    return OPENING + [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]


def test_without_a_template_messages_are_lines():
    PLAIN.require_turns()
    assert PLAIN.opening(OPENING) == ids(PLAIN, "Be brief.\n2 + 3?\n")
    assert PLAIN.next_turn("6?") == ids(PLAIN, "\n6?\n")
    assert PLAIN.end_of_turn == PLAIN.tokenizer.eos_token_id
    assert PLAIN.end_ids == {PLAIN.tokenizer.eos_token_id}


def test_with_a_template_the_opening_is_rendered_once_up_to_where_the_model_speaks():
    expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2 + 3?<|im_end|>\n<|im_start|>assistant\n"
    tokens = CHAT.opening(OPENING)
    assert CHAT.tokenizer.decode(tokens) == expected
    assert tokens.count(CHAT.tokenizer.convert_tokens_to_ids("<|im_start|>")) == 3


@pytest.mark.parametrize("observation", ["and 4?", "line\nline", "Größe 😀", "{{ braces }}", "1"])
def test_a_next_turn_is_exactly_what_the_template_adds(observation: str):
    whole = CHAT.tokenizer.apply_chat_template(
        conversation("It is 5.", observation, "So 9."), tokenize=False, add_generation_prompt=False
    )
    end = CHAT.end_of_turn
    pieces = CHAT.opening(OPENING) + ids(CHAT, "It is 5.") + [end]
    pieces += CHAT.next_turn(observation) + ids(CHAT, "So 9.") + [end]
    # What the template writes after the last turn belongs to a turn that never came.
    assert [*pieces, *ids(CHAT, "\n")] == ids(CHAT, whole)


def test_the_end_of_a_turn_is_the_templates_own_token():
    assert CHAT.end_of_turn == CHAT.tokenizer.convert_tokens_to_ids("<|im_end|>")
    other_eos = PromptFormat(make_tokenizer(template=CHATML))
    assert other_eos.end_of_turn == other_eos.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert other_eos.end_ids == {other_eos.end_of_turn, other_eos.tokenizer.eos_token_id}


def test_a_template_that_ends_turns_in_plain_text_leaves_the_end_to_the_end_token():
    plain_turns = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    prompt_format = PromptFormat(make_tokenizer(template=plain_turns))
    assert prompt_format.end_of_turn == prompt_format.tokenizer.eos_token_id
    assert prompt_format.tokenizer.decode(prompt_format.next_turn("4?")) == "\nuser: 4?\nassistant: "


FORGETS_THOUGHTS = CHATML.replace("{{ message.content }}", "{{ message.content.split('</think>')[-1] }}")
OPENS_THOUGHTS = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
DEAF = CHATML.replace("in messages %}", "in messages if message.role != 'user' %}")
ONCE = "{% if messages | length > 2 %}{{ raise_exception('One turn only') }}{% endif %}" + CHATML


@pytest.mark.parametrize("template", [FORGETFUL, FORGETS_THOUGHTS, OPENS_THOUGHTS, DEAF])
def test_a_template_that_changes_earlier_text_is_refused_for_several_turns_only(template: str):
    prompt_format = PromptFormat(make_tokenizer(template=template), "models/forgetful")
    assert prompt_format.end_of_turn == prompt_format.tokenizer.convert_tokens_to_ids("<|im_end|>")
    for ask in (prompt_format.require_turns, lambda: prompt_format.next_turn("4?")):
        with pytest.raises(ValueError, match=r"models/forgetful: the chat template .* changes earlier text when a tur"):
            ask()


def test_a_template_that_stops_with_an_error_is_one_sentence():
    once = PromptFormat(make_tokenizer(template=ONCE), "models/once")
    assert once.tokenizer.decode(once.opening(OPENING)).endswith("<|im_start|>assistant\n")
    with pytest.raises(ValueError, match=r"models/once: .* cannot write a conversation of user, .* \(One turn only\)"):
        once.require_turns()
    with pytest.raises(ValueError, match=r"models/never: .* cannot write a conversation of user \(No\)"):
        PromptFormat(make_tokenizer(template="{{ raise_exception('No') }}"), "models/never")


# Templates with a space or a line break where the model begins to speak, or before it ends.
DEEPSEEK = (
    "{% for m in messages %}{% if m.role == 'user' %}User: {{ m.content }}\n\n"
    "{% elif m.role == 'assistant' %}Assistant: {{ m.content }}{{ eos_token }}"
    "{% else %}{{ m.content }}\n\n{% endif %}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
LLAMA = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }} {{ eos_token }}{% else %}{{ m.content }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "opening", "between"),
    [
        (DEEPSEEK, "Be brief.\n\nUser: 2 + 3?\n\nAssistant:", "User: 4?\n\nAssistant:"),
        (LLAMA, "Be brief.[INST] 2 + 3? [/INST]", "[INST] 4? [/INST]"),
    ],
)
def test_a_template_may_write_spaces_around_what_the_model_says(template: str, opening: str, between: str):
    prompt_format = PromptFormat(make_tokenizer(template=template))
    prompt_format.require_turns()
    assert prompt_format.opening(OPENING) == ids(prompt_format, opening)
    assert prompt_format.end_of_turn == prompt_format.tokenizer.eos_token_id
    assert prompt_format.next_turn("4?") == ids(prompt_format, between)


GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}<|im_start|>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
NO_SYSTEM = CHATML.replace("in messages %}", "in messages if message.role != 'system' %}").replace("assistant", "model")


@pytest.mark.parametrize("template", [GEMMA, NO_SYSTEM])
def test_a_system_message_that_the_template_does_not_write_goes_to_the_first_user_message(template: str):
    prompt_format = PromptFormat(make_tokenizer(template=template))
    expected = "<|im_start|>user\nBe brief.\n\n2 + 3?<|im_end|>\n<|im_start|>model\n"
    assert prompt_format.tokenizer.decode(prompt_format.opening(OPENING)) == expected
    assert prompt_format.tokenizer.decode(prompt_format.opening(OPENING[:1])) == expected.replace("\n\n2 + 3?", "")
    assert prompt_format.tokenizer.decode(prompt_format.opening(OPENING[1:])) == expected.replace("Be brief.\n\n", "")
    assert OPENING[1]["content"] == "2 + 3?"


def test_folding_the_system_message_leaves_later_turns_alone():
    prompt_format = PromptFormat(make_tokenizer(template=GEMMA))
    prompt_format.require_turns()
    assert prompt_format.end_of_turn == prompt_format.tokenizer.convert_tokens_to_ids("<|im_end|>")
    between = "\n<|im_start|>user\n4?<|im_end|>\n<|im_start|>model\n"
    assert prompt_format.tokenizer.decode(prompt_format.next_turn("4?")) == between


def test_an_end_of_turn_need_not_be_listed_among_the_special_tokens():
    tokenizer = byte_tokenizer(["a"], 257)
    tokenizer.add_tokens(["<|turn|>"])
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<|turn|>{% endfor %}"
    prompt_format = PromptFormat(tokenizer)
    assert prompt_format.end_of_turn == tokenizer.convert_tokens_to_ids("<|turn|>")


def test_a_tokenizer_without_an_end_token_is_refused_by_name():
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match=r"models/endless: this tokenizer has no end token \(eos_token\)"):
        PromptFormat(tokenizer, "models/endless")


def test_a_folder_without_tokenizer_is_one_sentence(tmp_path: Path):
    with pytest.raises(ValueError, match="no tokenizer can be read there"):
        PromptFormat.from_pretrained(str(tmp_path))


def test_a_saved_tokenizer_is_the_same_format(tmp_path: Path):
    CHAT.tokenizer.save_pretrained(tmp_path)
    again = PromptFormat.from_pretrained(str(tmp_path))
    assert again.fingerprint == CHAT.fingerprint
    assert again.opening(OPENING) == CHAT.opening(OPENING)
    assert again.end_ids == CHAT.end_ids


# Steps of a generated turn.


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


def test_word_tokens_split_where_the_text_does():
    prompt_format = PromptFormat(word_tokenizer(["wugs", ":", "+", "=", "#", *map(str, range(40))]))
    text = "21 wugs 5: 21 + 5 = 26\n#### 3"
    tokens = turn(prompt_format, text)
    numbers, texts = prompt_format.split_steps(tokens, ("\n",))
    assert texts == ["21 wugs 5: 21 + 5 = 26\n", "#### 3"]
    first_line = len(ids(prompt_format, texts[0]))
    assert numbers == [0] * first_line + [1] * (len(tokens) - first_line)


# Written conversations.


def test_steps_of_a_written_conversation_are_encoded_each_by_itself():
    messages = conversation("a\nb", "next?", "c")
    spans = [(2, 0, 2), (2, 2, 3), (4, 0, 1)]
    tokens, step_id = CHAT.encode_episode(messages, spans)
    end = CHAT.end_of_turn
    expected = [
        (CHAT.opening(OPENING), -1),
        (ids(CHAT, "a\n"), 0),
        ([*ids(CHAT, "b"), end], 1),
        (CHAT.next_turn("next?"), -1),
        ([*ids(CHAT, "c"), end], 2),
    ]
    assert tokens == [token for piece, _ in expected for token in piece]
    assert step_id == [step for piece, step in expected for _ in piece]


def written(**fields) -> Episode:
    defaults = {
        "tokens": [],
        "step_id": [],
        "rewards": [0.0, 1.0],
        "action_spans": [(2, 0, 2), (2, 2, 3)],
        "terminated": True,
        "truncated": False,
        "task_id": "task",
        "env_id": "oreo/Test-v0",
        "messages": conversation("a\nb"),
    }
    return Episode(**(defaults | fields))


def test_an_encoded_episode_keeps_everything_but_its_tokens():
    before = written(info={"success": True})
    after = encode_episode(before, PLAIN)
    assert after.tokens.tolist() == ids(PLAIN, "Be brief.\n2 + 3?\na\n") + ids(PLAIN, "b") + [PLAIN.end_of_turn]
    lengths = [len(ids(PLAIN, text)) for text in ("Be brief.\n2 + 3?\n", "a\n", "b")]
    assert after.step_id.tolist() == [-1] * lengths[0] + [0] * lengths[1] + [1] * (lengths[2] + 1)
    for name in ("rewards", "action_spans"):
        assert np.array_equal(getattr(after, name), getattr(before, name))
    assert (after.messages, after.info, after.task_id) == (before.messages, before.info, before.task_id)
    assert after.behavior_logprobs is None


def test_encoding_again_for_another_tokenizer_and_back_is_the_identity():
    first = encode_episode(written(), PLAIN)
    back = encode_episode(encode_episode(first, CHAT), PLAIN)
    assert back.equals(first)


def test_a_step_that_must_not_be_imitated_stays_so_under_another_tokenizer():
    first = encode_episode(written(), PLAIN)
    masked = encode_episode(written(), PLAIN)
    masked = Episode(**{**vars(first), "loss_mask": first.step_id == 1})
    again = encode_episode(masked, CHAT)
    assert again.loss_mask is not None
    assert np.array_equal(again.loss_mask, again.step_id == 1)


def test_an_episode_without_spans_cannot_be_encoded_again():
    with pytest.raises(ValueError, match="task task: this episode has no action_spans"):
        encode_episode(written(action_spans=None), PLAIN)


# Fingerprints.


def test_the_fingerprint_is_that_of_vocabulary_template_and_end_token():
    same = PromptFormat(make_tokenizer())
    assert same.fingerprint == PLAIN.fingerprint
    more_words = make_tokenizer()
    more_words.add_tokens(["blicket"])
    other_end = make_tokenizer()
    other_end.eos_token = "<|pad|>"
    other_template = make_tokenizer(template=CHATML.replace("<|im_end|>\n", "<|im_end|>"), end_of_turn=True)
    tokenizers = [more_words, other_end, other_template]
    fingerprints = [p.fingerprint for p in (PLAIN, CHAT, *map(PromptFormat, tokenizers))]
    assert len(set(fingerprints)) == len(fingerprints)


def test_how_a_batch_was_padded_or_cut_does_not_change_the_fingerprint():
    prompt_format = PromptFormat(make_tokenizer())
    prompt_format.tokenizer(["a", "b c d"], padding=True, truncation=True, max_length=2)
    assert prompt_format.fingerprint == PLAIN.fingerprint
    prompt_format.tokenizer.backend_tokenizer.enable_padding(length=7)
    prompt_format.tokenizer.backend_tokenizer.enable_truncation(3)
    assert PromptFormat(prompt_format.tokenizer).fingerprint == PLAIN.fingerprint
