"""Conversations as tokens: openings, later turns, written steps, fingerprints."""

import json
from pathlib import Path

import numpy as np
import pytest
from formats import PLAIN, ids
from tiny_models import CHATML, FORGETFUL, make_tokenizer

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.texts import encode_episode
from oreo_agents.networks.tiny import byte_tokenizer
from oreo_algos.episode import Episode

CHAT = PromptFormat(make_tokenizer(template=CHATML, end_of_turn=True))
OPENING = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 3?"}]


def conversation(*turns: str) -> list[dict[str, str]]:
    roles = ["assistant", "user"] * len(turns)
    return OPENING + [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]


def test_without_a_template_messages_are_lines():
    PLAIN.require_turns()
    assert PLAIN.opening(OPENING) == ids(PLAIN, "Be brief.\n2 + 3?\n")
    assert PLAIN.next_turn("6?") == ids(PLAIN, "\n6?\n")
    assert PLAIN.end_of_turn == PLAIN.tokenizer.eos_token_id
    assert PLAIN.end_ids == {PLAIN.tokenizer.eos_token_id}


@pytest.mark.parametrize("prompt_format", [PLAIN, CHAT], ids=["plain", "chat"])
def test_a_conversation_is_asked_on_as_it_was_written(prompt_format: PromptFormat):
    said = conversation("5", "and 4?", "9", "and 1?")
    spans = [(2, 0, 1), (4, 0, 1)]
    written, _ = prompt_format.encode_episode(said[:-1], spans)
    assert prompt_format.opening(said) == written + prompt_format.next_turn("and 1?", system=True)


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


# --- marks and ends


@pytest.mark.parametrize("prompt_format", [PLAIN, CHAT], ids=["plain", "chat"])
def test_a_mark_in_what_was_said_is_text(prompt_format: PromptFormat):
    """A question about chat templates must not end its own turn."""
    mark = "<|im_end|>" if prompt_format is CHAT else "<|end|>"
    question = [{"role": "user", "content": f"What does {mark} mean?"}]
    plain = [{"role": "user", "content": "What does it mean?"}]
    special = set(prompt_format.tokenizer.all_special_ids)

    def marks(tokens):
        return [token for token in tokens if token in special]

    asked = prompt_format.opening(question)
    assert marks(asked) == marks(prompt_format.opening(plain))
    assert f"What does {mark} mean?" in prompt_format.tokenizer.decode(asked)
    assert marks(prompt_format.next_turn(f"See {mark}.")) == marks(prompt_format.next_turn("See it."))


def test_a_token_that_was_added_and_is_not_special_stays_a_token():
    """Such as the marks of thoughts, or runs of blanks: a question about them has the tokens that it always had."""
    tokenizer = make_tokenizer(template=CHATML, end_of_turn=True)
    tokenizer.add_tokens(["<think>"])
    thinker = PromptFormat(tokenizer)
    think = tokenizer.convert_tokens_to_ids("<think>")
    messages = [{"role": "user", "content": "Why <think>?"}, {"role": "assistant", "content": "<think>so</think>5"}]
    tokens, step_id = thinker.encode_episode(messages, [(1, 0, len(messages[1]["content"]))])
    said = [token for token, step in zip(tokens, step_id, strict=True) if step == 0]
    assert said[0] == think and tokens.count(think) == 2


def test_an_end_token_that_is_written_as_text_is_not_doubled():
    messages = [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "5"}]
    expected = CHAT.encode_episode(messages, [(1, 0, 1)])
    messages[1]["content"] = "5<|im_end|>"
    assert CHAT.encode_episode(messages, [(1, 0, len("5<|im_end|>"))]) == expected


def test_what_the_generation_configuration_ends_with_ends_a_turn(tmp_path: Path):
    tokenizer = make_tokenizer(template=CHATML, end_of_turn=True)
    tokenizer.save_pretrained(tmp_path)
    assert PromptFormat.from_pretrained(str(tmp_path)).end_ids == frozenset({tokenizer.eos_token_id})
    for ends, expected in ((7, {7}), ([7, 9], {7, 9})):
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
        assert PromptFormat.from_pretrained(str(tmp_path)).end_ids == expected | {tokenizer.eos_token_id}
