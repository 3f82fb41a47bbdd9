"""Conversations as tokens: openings, later turns, steps, spans, fingerprints."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CHATML, FORGETFUL, make_tokenizer

from oreo_agents.prompts import PromptFormat, encode_episode
from oreo_agents.tiny import byte_tokenizer, word_tokenizer
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


def test_a_template_that_changes_earlier_text_is_refused():
    with pytest.raises(ValueError, match=r"the chat template of this tokenizer changes earlier text when a turn is"):
        PromptFormat(make_tokenizer(template=FORGETFUL), "models/forgetful")


def test_a_template_that_drops_observations_is_refused():
    deaf = CHATML.replace("{% for message in messages %}", "{% for message in messages if message.role != 'user' %}")
    with pytest.raises(ValueError, match="changes earlier text"):
        PromptFormat(make_tokenizer(template=deaf))


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
