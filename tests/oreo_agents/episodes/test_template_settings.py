"""Templates and system prompts that settings give, arguments of templates, and code that comes with a tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
from chat_templates import TEMPLATES, make
from conversations import QUESTION, SYSTEM, conversation

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.template_settings import set_template
from oreo_envs.grading import Thoughts


def save(folder: Path, name: str) -> str:
    make("bytes", name).save_pretrained(folder)
    return str(folder)


def test_arguments_of_a_template_are_read_kept_and_part_of_the_fingerprint(tmp_path: Path):
    path = save(tmp_path / "start", "qwen3")
    default = PromptFormat.from_pretrained(path)
    silent = PromptFormat.from_pretrained(path, chat_template_kwargs={"enable_thinking": False})
    assert silent.tokenizer.decode(silent.opening(QUESTION)).endswith("assistant\n<think>\n\n</think>\n\n")
    assert silent.fingerprint != default.fingerprint
    silent.tokenizer.save_pretrained(tmp_path / "saved")
    for arguments in (None, {}, {"enable_thinking": False}):
        again = PromptFormat.from_pretrained(str(tmp_path / "saved"), chat_template_kwargs=arguments)
        assert again.fingerprint == silent.fingerprint
        assert again.opening(QUESTION) == silent.opening(QUESTION)
    back = PromptFormat.from_pretrained(str(tmp_path / "saved"), chat_template_kwargs={"enable_thinking": True})
    assert back.opening(QUESTION) == default.opening(QUESTION)


@pytest.mark.parametrize("value", ["low", 'a "quote" %} {{ x }}\n😀', 3, 0.5, True, None, [1, "two"], {"a": [False]}])
def test_an_argument_of_any_json_value_comes_through(value: Any):
    tokenizer = make("bytes", "chatml")
    tokenizer.chat_template = "{{ option | tojson }}\n{% for m in messages %}{{ m.content }}{% endfor %}"
    set_template(tokenizer, "m", None, {"option": value})
    set_template(tokenizer, "m", None, {"option": value})
    text = tokenizer.apply_chat_template(QUESTION, tokenize=False)
    assert json.loads(text.partition("\n")[0]) == value


@pytest.mark.parametrize("name", ["smollm3", "deepseek-v3.1", "gpt-oss"])
def test_reasoning_can_be_switched_where_the_template_reads_it(name: str, tmp_path: Path):
    argument = {"smollm3": {"enable_thinking": False}, "deepseek-v3.1": {"thinking": True}}.get(
        name, {"reasoning_effort": "low"}
    )
    path = save(tmp_path, name)
    prompt_format = PromptFormat.from_pretrained(path, chat_template_kwargs=argument)
    opening = prompt_format.tokenizer.decode(prompt_format.opening(QUESTION))
    assert opening != PromptFormat.from_pretrained(path).tokenizer.decode(
        PromptFormat.from_pretrained(path).opening(QUESTION)
    )
    tokens, _ = prompt_format.encode_episode(*conversation(QUESTION, "7"))
    text = prompt_format.tokenizer.decode(tokens)
    assert text == opening + {"deepseek-v3.1": "</think>", "gpt-oss": "<|channel|>final<|message|>"}.get(name, "") + (
        "7" + prompt_format.tokenizer.decode([prompt_format.end_of_turn])
    )
    assert Thoughts().answer(text.removeprefix(opening.removesuffix("<think>"))).startswith("7")


def test_an_argument_that_nothing_reads_is_refused_by_name(tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"chat_template_kwargs: .* reads no 'enable_thinkin'; it reads enable_thinking"
    ):
        PromptFormat.from_pretrained(save(tmp_path / "a", "qwen3"), chat_template_kwargs={"enable_thinkin": False})
    with pytest.raises(ValueError, match="reads no 'messages'"):
        PromptFormat.from_pretrained(save(tmp_path / "b", "chatml"), chat_template_kwargs={"messages": []})
    tokenizer = make("bytes", "chatml")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "c")
    with pytest.raises(ValueError, match="no chat template that could read enable_thinking"):
        PromptFormat.from_pretrained(str(tmp_path / "c"), chat_template_kwargs={"enable_thinking": False})


def test_a_template_from_a_file_replaces_the_checkpoints(tmp_path: Path):
    path = save(tmp_path / "start", "qwen3")
    file = tmp_path / "mine.jinja"
    file.write_text(TEMPLATES["chatml"], encoding="utf-8")
    mine = PromptFormat.from_pretrained(path, chat_template=str(file))
    mine.require_turns()
    assert mine.fingerprint != PromptFormat.from_pretrained(path).fingerprint
    mine.tokenizer.save_pretrained(tmp_path / "saved")
    assert PromptFormat.from_pretrained(str(tmp_path / "saved")).fingerprint == mine.fingerprint
    for content, message in (
        (None, "policy.chat_template=.*no template can be read there"),
        (b"\xff\xfe", "no template can be read there"),
        (b" \n", "this template is empty"),
        (b"{% if %}", "no valid Jinja"),
    ):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            PromptFormat.from_pretrained(path, chat_template=str(file))


@pytest.mark.parametrize("name", ["chatml", "gemma", None])
def test_a_system_prompt_is_the_environments_none_or_ones_own(name: str | None):
    tokenizer = make("bytes", name or "chatml")
    if name is None:
        tokenizer.chat_template = None
    formats = {prompt: PromptFormat(tokenizer, system_prompt=prompt) for prompt in (None, "", "Think first.")}
    shown = {prompt: tokenizer.decode(one.opening(SYSTEM + QUESTION)) for prompt, one in formats.items()}
    assert "Be brief." in shown[None]
    assert shown[""] == tokenizer.decode(formats[None].opening(QUESTION))
    own = [{"role": "system", "content": "Think first."}]
    assert shown["Think first."] == tokenizer.decode(formats[None].opening(own + QUESTION))
    assert tokenizer.decode(formats["Think first."].opening(QUESTION)) == shown["Think first."]
    assert len({one.fingerprint for one in formats.values()}) == 3
    encoded_with = [one.encode_episode(*conversation(SYSTEM + QUESTION, "7"))[0] for one in formats.values()]
    assert [tokenizer.decode(tokens).startswith(shown[p]) for tokens, p in zip(encoded_with, formats, strict=True)] == [
        True
    ] * 3


def test_code_that_comes_with_a_tokenizer_is_refused_by_the_setting_and_asks_nobody(tmp_path: Path, monkeypatch):
    path = save(tmp_path, "chatml")
    file = tmp_path / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config |= {"auto_map": {"AutoTokenizer": ["mine.MyTokenizer", None]}, "tokenizer_class": "MyTokenizer"}
    file.write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text(
        "from transformers import PreTrainedTokenizerFast as Base\n\nclass MyTokenizer(Base):\n    mine = True\n"
    )
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    with pytest.raises(ValueError, match=r"tokenizer is code that comes .* policy\.trust_remote_code=true"):
        PromptFormat.from_pretrained(path)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    assert PromptFormat.from_pretrained(path, trust_remote_code=True).tokenizer.mine
