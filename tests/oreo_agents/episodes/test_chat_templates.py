"""Templates of the kinds in use on tokenizers of the kinds in use: what the template itself writes, or a sentence."""

from typing import Any

import pytest
from chat_templates import KINDS, MARKS, TEMPLATES, make
from conversations import ANSWER, QUESTION, SYSTEM, conversation, encoded, make_format

from oreo_agents.episodes.format_checks import format_capabilities
from oreo_agents.episodes.prompts import PromptFormat

BRIDGES = {
    "qwen3": "<think>\n\n</think>\n\n",
    "qwen3.5": "\n</think>\n\n",
    "deepseek-r1": "\n</think>\n\n",
    "opens-only": "\n</think>\n\n",
    "glm4": "\n",
    "minimax": "\n</think>\n",
    "kimi": "<think></think>",
    "glm4.5": "\n<think></think>\n",
    "command-a": "<|start|>",
    "no-prompt": "<|assistant|>\n",
    "gpt-oss": "<|channel|>final<|message|>",
    **dict.fromkeys(("deepseek-math", "vicuna", "llama2", "mistral", "falcon"), " "),
}
# No answer that was not sampled can be encoded, and why.
REFUSED = {
    "nemotron": "where an answer belongs cannot be told",
    "numbered": "where an answer belongs cannot be told",
    "mute": "does not write what the model says",
    "shouts": "does not write what the model says",
}
# One answer can be, several turns cannot. Mistral's moves the message of the system when there is one.
ONE_TURN = {
    "qwen3",
    "qwen3.5",
    "deepseek-r1",
    "deepseek-v3.1",
    "opens-only",
    "gpt-oss",
    "minimax",
    "kimi",
    "glm4.5",
    "command-a",
    "no-prompt",
}
# The template drops the thought that its prompt has begun: the transcript keeps it.
KEEPS_PROMPT = {"deepseek-r1", "opens-only", "minimax"}
# The template writes no end token: the model has to.
ENDLESS = {"falcon", "alpaca"}
WRITABLE = [name for name in TEMPLATES if name not in REFUSED]


def written(prompt_format: PromptFormat, messages: list[dict[str, str]]) -> str:
    """What the template itself writes; a message of the system that it does not know stands before the question."""
    if prompt_format.template.folds_system and messages[0]["role"] == "system":
        system, question, *rest = messages
        messages = [{**question, "content": f"{system['content']}\n\n{question['content']}"}, *rest]
    return str(prompt_format.tokenizer.apply_chat_template(messages, tokenize=False))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WRITABLE)
def test_an_episode_is_what_the_template_writes_in_one_piece(name: str, kind: str):
    prompt_format = make_format(kind, name)
    end = prompt_format.end_of_turn
    openings = [QUESTION, SYSTEM + QUESTION]
    cases = [(opening, answers) for opening in openings for answers in ([ANSWER], ["one", ANSWER])]
    done = 0
    for opening, answers in cases:
        messages, spans = conversation(opening, *answers)
        if len(answers) > 1 and (name in ONE_TURN or (name == "mistral" and opening is not QUESTION)):
            with pytest.raises(ValueError, match=f"{name}: the chat template of this tokenizer "):
                prompt_format.encode_episode(messages, spans)
            continue
        tokens, step_id = prompt_format.encode_episode(messages, spans)
        done += 1
        text = written(prompt_format, messages)
        if name in KEEPS_PROMPT:
            prompt = prompt_format.tokenizer.apply_chat_template(opening, tokenize=False, add_generation_prompt=True)
            text = prompt + BRIDGES[name] + ANSWER + prompt_format.tokenizer.decode([end])
        expected = encoded(prompt_format, text)
        shown = tokens
        if name in ENDLESS or expected[: len(tokens)] != tokens:
            # The end token is the model's own, and the template's only where it writes one.
            assert name in ENDLESS | {"glm4", "glm4.5", "stablelm"}
            shown = tokens[:-1] if name not in ENDLESS else [token for token in tokens if token != end]
        assert expected[: len(shown)] == shown, name
        own = [[token for token, step in zip(tokens, step_id, strict=True) if step == k] for k in range(len(spans))]
        # What the template writes between the answer and its end token is the model's to write, as is a space before.
        for (place, first, last), step in zip(spans, own, strict=True):
            said = messages[place]["content"][first:last]
            assert prompt_format.decode(step).split() == prompt_format.decode(encoded(prompt_format, said)).split()
        ends = [step for step in own if step[-1] == end]
        assert len(ends) == len(answers) and tokens[-1] == end
    assert done >= 2


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_reconciled_is_refused_and_one_answer_can_be_sampled(name: str):
    prompt_format = make_format("bytes", name)
    with pytest.raises(ValueError, match=f"{name}: the chat template of this tokenizer .*{REFUSED[name]}"):
        prompt_format.encode_episode(*conversation(QUESTION, ANSWER))
    assert prompt_format.opening(QUESTION)
    found = {capability.name: capability for capability in format_capabilities(prompt_format)}
    assert found["bridge"].status == "refused" and REFUSED[name] in found["bridge"].why


@pytest.mark.parametrize("name", WRITABLE)
def test_the_bridge_is_prompt_and_named(name: str):
    prompt_format = make_format("bytes", name)
    bridge = BRIDGES.get(name, "")
    tokens, step_id = prompt_format.encode_episode(*conversation(QUESTION, ANSWER))
    before = [token for token, step in zip(tokens, step_id, strict=True) if step < 0]
    prompt = prompt_format.tokenizer.decode(prompt_format.opening(QUESTION))
    # A space before a word goes with the word, in one token or next to it.
    assert prompt_format.tokenizer.decode(before) in (prompt + bridge, prompt + bridge.rstrip(" "))
    found = {capability.name: capability for capability in format_capabilities(prompt_format)}
    assert found["bridge"].status == "ok" and (not bridge or repr(bridge) in found["bridge"].why)
    assert found["turns"].status == ("refused" if name in ONE_TURN else "ok")
    assert ("but not after a message of the system" in found["turns"].why) == (name == "mistral")
    assert found["template"].status == "ok"
    assert all(
        prompt_format.tokenizer.convert_ids_to_tokens(end) in found["end tokens"].why for end in prompt_format.end_ids
    )


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("glm4", "<|user|>"),
        ("llama3", "<|eot_id|>"),
        ("gemma", "<end_of_turn>"),
        ("gpt-oss", "<|return|>"),
        ("phi3", "<|end|>"),
        ("stablelm", "</s>"),
        ("falcon", "</s>"),
    ],
)
def test_the_end_of_a_turn_is_the_one_that_the_model_writes(name: str, end: str):
    prompt_format = make_format("bytes", name)
    tokenizer = prompt_format.tokenizer
    assert tokenizer.convert_ids_to_tokens(prompt_format.end_of_turn) == end
    assert prompt_format.end_ids == {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(end)}


def test_the_next_speaker_ends_a_turn_only_where_that_is_known():
    unknown = PromptFormat(make("bytes", "glm4"))
    assert unknown.end_of_turn == unknown.tokenizer.eos_token_id and unknown.end_ids == {unknown.end_of_turn}


def test_a_turn_that_ends_in_another_way_inside_a_conversation_is_refused_by_its_marks():
    """As GPT-OSS does, here without its channels: <|end|> stands for the <|return|> that the model wrote."""
    tokenizer = make("bytes", "chatml")
    end = "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|im_end|>' }}"
    tokenizer.chat_template = TEMPLATES["chatml"].replace("<|im_end|>", end)
    prompt_format = PromptFormat(tokenizer)
    messages, spans = conversation(QUESTION, "one", ANSWER)
    for ask in (prompt_format.require_turns, lambda: prompt_format.encode_episode(messages, spans)):
        with pytest.raises(
            ValueError, match=r"ends a turn that others follow with <\|im_end\|>, and the last .* <\|ret"
        ):
            ask()


# Text in context.


@pytest.mark.parametrize("kind", ["bytes", "words", "llama2", "unigram"])
@pytest.mark.parametrize("name", ["chatml", "zephyr", "vicuna", "llama2", "deepseek-math", "qwen3.5", None])
@pytest.mark.parametrize(
    "text", ["so\nit is", "  two blanks", "\n\nlines", "\ttab", "a  b ", "Größe ∑ 😀", "(x)", ".5"]
)
def test_text_stands_in_a_transcript_as_it_was_written(kind: str, name: str | None, text: str):
    """No stray blank after a line break, and leading blanks are kept."""
    tokenizer = make(kind, name or "chatml")
    if name is None:
        tokenizer.chat_template = None
    prompt_format = PromptFormat(tokenizer, "m")
    messages = [*QUESTION, {"role": "assistant", "content": text}]
    tokens, _ = prompt_format.encode_episode(messages, [(1, 0, len(text))])
    if tokenizer.unk_token_id in tokens:
        assert not text.isascii() or "\t" in text  # it knows no such letters
        return
    before, ending = "Tom has 3 + 4?\n", ""
    if name is not None:
        before, bridge, text, ending = prompt_format.template.answered(messages)
        before += bridge
        ending = ending.partition("<")[0]
    # Some tokenizers write a blank of their own after a mark: so be it, as in the whole conversation.
    assert tokenizer.decode(tokens[:-1]) == tokenizer.decode(encoded(prompt_format, before + text + ending))
    assert tokenizer.decode(tokens[:-1]).endswith(text + ending)


@pytest.mark.parametrize("kind", ["llama2", "unigram"])
def test_pieces_of_a_turn_have_no_blank_of_their_own(kind: str):
    plain = make(kind, "chatml")
    plain.chat_template = None
    prompt_format = PromptFormat(plain, "plain")
    opening = prompt_format.opening(QUESTION)
    told = plain.decode(opening)
    for text in ("so", " so", "\nso", "3 + 4 = 7\nso"):
        assert plain.decode([*opening, *prompt_format.encode(text)]) == told + text
    assert (
        plain.decode([*opening, *prompt_format.encode("so"), *prompt_format.next_turn("two?")]) == told + "so\ntwo?\n"
    )


# Answers with thoughts of their own.


def thoughtful(name: str, text: str, *, ended: bool = True) -> tuple[str, str]:
    """What stands before the answer and what is the model's."""
    prompt_format = make_format("bytes", name)
    messages = [*QUESTION, {"role": "assistant", "content": text}]
    tokens, step_id = prompt_format.encode_episode(messages, [(1, 0, len(text))], ended=ended)
    parts = [[token for token, step in zip(tokens, step_id, strict=True) if (step >= 0) == own] for own in (0, 1)]
    return prompt_format.tokenizer.decode(parts[0]), prompt_format.tokenizer.decode(parts[1])


@pytest.mark.parametrize(
    ("name", "text", "own"),
    [
        ("chatml", "<think>\nso\n</think>\n\n7", "<think>\nso\n</think>\n\n7<|im_end|>"),
        ("qwen3", "<think>\nso\n</think>\n\n7", "<think>\nso\n</think>\n\n7<|im_end|>"),
        ("qwen3.5", "<think>\nso\n</think>\n\n7", "so\n</think>\n\n7<|im_end|>"),
        ("qwen3.5", "so\n</think>\n\n7", "so\n</think>\n\n7<|im_end|>"),
        ("opens-only", "so\n</think>\n\n7", "so\n</think>\n\n7<|im_end|>"),
        ("deepseek-math", "<think>so</think>7", " <think>so</think>7</s>"),
    ],
)
def test_an_answer_with_its_own_thoughts_goes_on_from_the_prompt(name: str, text: str, own: str):
    prompt, said = thoughtful(name, text)
    assert said.strip() == own.strip()
    opening = make_format("bytes", name)
    assert prompt.rstrip(" ") == opening.tokenizer.decode(opening.opening(QUESTION))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_the_prompt_begins_with_has_a_token_all_the_same(kind: str):
    """Steps are lines: the first one is the mark that the prompt ends with."""
    prompt_format = make_format(kind, "qwen3.5")
    messages, spans = conversation(QUESTION, "<think>\nso it is\n</think>\n\n7")
    assert spans[0] == (1, 0, len("<think>\n"))
    tokens, step_id = prompt_format.encode_episode(messages, spans)
    assert tokens == encoded(prompt_format, written(prompt_format, messages))[: len(tokens)]
    assert [*dict.fromkeys(step_id)] == [-1, *range(len(spans))]


def test_thoughts_that_the_template_drops_are_refused():
    for text in ("so</think>7", "<think>\nso\n</think>\n\n7"):
        with pytest.raises(ValueError, match=r"deepseek-r1: .* drops or changes the thoughts of an answer"):
            thoughtful("deepseek-r1", text)


@pytest.mark.parametrize("name", ["qwen3.5", "deepseek-r1", "qwen3"])
def test_an_answer_that_was_cut_off_inside_its_thought_stays_inside(name: str):
    text = "<think>\nso" if name == "qwen3" else "so"
    prompt, said = thoughtful(name, text, ended=False)
    assert said == text and prompt.endswith("<think>\n" if name != "qwen3" else "assistant\n")


def test_a_prompt_that_begins_a_thought_is_told_by_what_it_begins_with_and_not_by_what_was_asked():
    tells: dict[str, Any] = {}
    for name in ("chatml", "qwen3.5", "deepseek-r1", "gpt-oss"):
        for asked in ("k", "What is <think> for?", "<think>"):
            messages = [{"role": "user", "content": asked}]
            tells[name, asked] = make_format("bytes", name).template.opened(messages)
    assert {name for (name, _), opened in tells.items() if opened} == {"qwen3.5", "deepseek-r1"}
    assert {opened for opened in tells.values()} == {None, "<think>\n"}


# Kinds and marks.


def test_a_template_that_leaves_out_questions_is_refused():
    tokenizer = make("bytes", "chatml")
    tokenizer.chat_template = "{% for m in messages if m.role != 'user' %}{{ m.content }}{{ eos_token }}{% endfor %}"
    prompt_format = PromptFormat(tokenizer, "deaf")
    with pytest.raises(ValueError, match=r"deaf: .* does not write what the user says"):
        prompt_format.encode_episode(*conversation(QUESTION, "7"))
    assert format_capabilities(prompt_format)[0][:2] == ("template", "refused")


def test_what_a_tokenizer_changes_is_said():
    found = {kind: format_capabilities(make_format(kind, "chatml"))[-1] for kind in KINDS}
    statuses = {kind: one.status for kind, one in found.items()}
    assert statuses == {"bytes": "ok", "words": "ok", "llama2": "slow", "unigram": "slow", "wordpiece": "slow"}
    assert "comes back as" in found["wordpiece"].why


def test_the_marks_of_templates_are_marks():
    tokenizer = make("bytes", "chatml")
    assert {*MARKS} <= {*tokenizer.get_added_vocab()}


def test_a_mark_that_ends_what_everybody_says_ends_a_turn_also_where_the_last_one_has_none():
    tokenizer = make("bytes", "qwen2.5")
    end = "{% if not loop.last or m.role != 'assistant' %}<|im_end|>\n{% endif %}{% endfor %}"
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>\n{% endfor %}", end)
    prompt_format = PromptFormat(tokenizer)
    assert prompt_format.end_of_turn == tokenizer.convert_tokens_to_ids("<|im_end|>")
    messages, spans = conversation(QUESTION, "one", ANSWER)
    tokens, _ = prompt_format.encode_episode(messages, spans)
    assert tokens[:-1] == encoded(prompt_format, written(prompt_format, messages))


def test_the_prompt_is_the_one_that_is_sampled_from_also_where_a_blank_would_join_it():
    tokenizer = make("bytes", "vicuna")
    tokenizer.add_tokens([": "])
    prompt_format = PromptFormat(tokenizer)
    opening = prompt_format.opening(QUESTION)
    assert encoded(prompt_format, "ASSISTANT: so")[: len(encoded(prompt_format, "ASSISTANT:"))] != encoded(
        prompt_format, "ASSISTANT:"
    )
    tokens, step_id = prompt_format.encode_episode(*conversation(QUESTION, "so\nit is"))
    assert tokens[: len(opening)] == opening
    assert tokens[len(opening) :] == [*encoded(prompt_format, " so\nit is"), prompt_format.end_of_turn]
    assert tokens[len(opening) :] == prompt_format.reply("so\nit is")
    assert [*dict.fromkeys(step_id)] == [-1, 0, 1]


@pytest.mark.parametrize("end", ["</think>", "[/THINK]", "<channel|>"])
def test_a_template_that_drops_earlier_thoughts_of_any_kind_is_refused_for_several_turns(end: str):
    tokenizer = make("bytes", "chatml")
    tokenizer.chat_template = TEMPLATES["chatml"].replace("{{ m.content }}", f"{{{{ m.content.split('{end}')[-1] }}}}")
    prompt_format = PromptFormat(tokenizer)
    with pytest.raises(ValueError, match="drops earlier thoughts"):
        prompt_format.require_turns()
    prompt_format.encode_episode(*conversation(QUESTION, ANSWER))
