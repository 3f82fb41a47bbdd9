"""Conversations as others write them, as the messages that an episode has.

Knows: OpenAI's messages with tool calls, ShareGPT's turns. Does not know: files, labels, templates of models.
Sources: OpenAI's chat completions (2025-06, and their older functions); ShareGPT as in FastChat 0.2 and, with tools, in
LLaMA-Factory 0.9; transcripts as in Anthropic's hh-rlhf (2022); tool calls are written into the text as the templates
of Hermes 2 Pro and Qwen 2.5 write them, what a tool says as the user's turn.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from oreo_envs.limits import read_json

Message = dict[str, str]

_ROLES = ("system", "user", "assistant")
SAME = {  # what others call the roles
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "environment": "user",
    "observation": "user",
    "tool": "tool",
    "function": "tool",
    "function_call": "assistant",
}
_TEXTS = ("text", "input_text", "output_text")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_SYSTEM = ("system", "system_prompt")
_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def turns(value: Any, column: str, row: Mapping[str, Any] | None = None) -> tuple[list[Message], list[bool]]:
    """Return a conversation in our form, and of each message whether it is to be learned from.

    Args:
        value: messages with role and content, or with from and value.
        column: that holds them, for errors.
        row: what the system says, if no message does (``system``, ``system_prompt``), and what the assistant may call
            (``tools``, ``functions``), which is put there too.

    Raises:
        ValueError: a message is none; says which.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _parsed(value)
    if not isinstance(value, list) or not value:
        raise ValueError(f"field {column!r} must be a list of chat messages, got {value!r:.80}")
    said: list[Message] = []
    learned: list[bool] = []
    called = told_by_tool = False
    for number, message in enumerate(value):
        role, content, learn, is_tool = _message(message, number, called)
        called = isinstance(message, Mapping) and _role(message) == "function_call"
        if said and said[-1]["role"] == role:
            if not (is_tool or told_by_tool):
                raise ValueError(f"message {number}: two messages of the {role} follow one another; join them")
            said[-1] = {"role": role, "content": f"{said[-1]['content']}\n{content}"}
        else:
            said.append({"role": role, "content": content})
            learned.append(learn)
        told_by_tool = is_tool
    opening = _opening(said[0]["content"] if said[0]["role"] == "system" else None, row or {})
    if opening:
        if said[0]["role"] == "system":
            del said[0], learned[0]
        said.insert(0, {"role": "system", "content": opening})
        learned.insert(0, False)
    return said, learned


def _opening(said: str | None, row: Mapping[str, Any]) -> str | None:
    """What the system says: in the conversation or else the row, and of tools."""
    given = [row[name] for name in _SYSTEM if isinstance(row.get(name), str) and row[name].strip()]
    tools = row.get("tools") or row.get("functions")
    listed = _parsed(tools) if isinstance(tools, str) else tools
    listed = [listed] if isinstance(listed, Mapping) else listed
    if listed and not isinstance(listed, str):
        listed = "\n".join(json.dumps(_without_nulls(tool), ensure_ascii=False) for tool in listed)
    pieces = [said] if said is not None else given[:1]
    return "\n\n".join([*pieces, f"# Tools\n\n<tools>\n{listed}\n</tools>"] if listed else pieces) or None


def _role(message: Mapping[str, Any]) -> Any:
    return message.get("from") if message.get("role") is None else message["role"]


def _message(message: Any, number: int, called: bool) -> tuple[str, str, bool, bool]:
    """Role, text, whether to learn from it, and whether a tool said it."""
    place = f"message {number}"
    name = _role(message) if isinstance(message, Mapping) else None
    role = SAME.get(name, name) if isinstance(name, str) else name
    if name == "observation" and called:  # otherwise it is a game's
        role = "tool"
    if role not in (*_ROLES, "tool"):
        raise ValueError(f"{place}: the role must be one of {', '.join(_ROLES)}, tool, got {message!r:.80}")
    content = _text(message.get("value") if message.get("content") is None else message["content"], place, message)
    if role == "tool":
        marked = content.lstrip().startswith("<tool_response>")
        return "user", content if marked else f"<tool_response>\n{content}\n</tool_response>", False, True
    if name == "function_call" and "<tool_call>" not in content:
        calls = _parsed(content)
        calls = calls if isinstance(calls, list) else [calls]
        content = "\n".join(_call(call, place) for call in calls)
    # OpenAI's weight 0 and AgentTraj-L's loss false: said before, and not by whom is to be learned from.
    learn = role == "assistant" and message.get("weight") != 0 and message.get("loss") is not False
    return str(role), content, learn, False


def _text(content: Any, place: str, message: Mapping[str, Any]) -> str:
    calls = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else [])
    if isinstance(content, list):
        parts = [{"text": part} if isinstance(part, str) else part for part in content]
        others = {part.get("type", "text") for part in parts}.difference(_TEXTS)
        if others:
            raise ValueError(f"{place}: only text is read, and this content has {', '.join(sorted(map(str, others)))}")
        content = "".join(part["text"] for part in parts)
    if not isinstance(content, str) and not (content is None and calls):
        raise ValueError(f"{place}: the content must be a text, got {content!r:.80}")
    thought = next((message[name] for name in _THOUGHTS if message.get(name)), None)
    pieces = [f"<think>\n{thought}\n</think>\n\n{content or ''}"] if thought else [content] if content else []
    return "\n".join([*pieces, *(_call(call, place) for call in calls)])


def _call(call: Any, place: str) -> str:
    call = _parsed(call) if isinstance(call, str) else call  # as verifiers writes it
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError(f"{place}: a tool call has a function with a name, got {call!r:.80}")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with suppress(ValueError):  # what the model said may be no JSON
            arguments = read_json(arguments)
    told = {"name": function["name"], "arguments": _without_nulls(arguments)}
    return f"<tool_call>\n{json.dumps(told, ensure_ascii=False)}\n</tool_call>"


def _without_nulls(value: Any) -> Any:
    """Return a value without the fields that a column of Parquet adds to every row."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _parsed(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        return text


def transcript(text: Any) -> list[Message] | None:
    """Return the messages of a text of "Human:" and "Assistant:", each after an empty line; None: it is none.

    An assistant who is still to speak is no message.
    """
    if not isinstance(text, str) or not text.lstrip().startswith("Human:"):
        return None
    _, *pieces = _SPEAKER.split(text)
    said = [
        {"role": SAME.get(speaker.lower(), speaker.lower()), "content": words.strip()}
        for speaker, words in zip(pieces[::2], pieces[1::2], strict=True)
    ]
    if len(said) > 1 and said[-1] == {"role": "assistant", "content": ""}:
        del said[-1]
    return said


def unzipped(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row with conversations as lists of messages, also those that ``datasets.Sequence`` keeps by field."""
    found = {name: value for name, value in row.items() if isinstance(value, Mapping) and _is_zipped(value)}
    return row if not found else {**row, **{name: _unzip(value) for name, value in found.items()}}


def _is_zipped(value: Mapping[str, Any]) -> bool:
    columns = [*value.values()]
    return (
        bool({"role", "from"} & {*value})
        and all(isinstance(column, list) for column in columns)
        and len({*map(len, columns)}) == 1
    )


def _unzip(value: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(value, fields, strict=True)) for fields in zip(*value.values(), strict=True)]


def is_chat(value: Any) -> bool:
    """Whether a value is a list of messages in either form."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, Mapping) and ({"role", "from"} & {*one}) for one in value)
    )


def require_answered(messages: Sequence[Message]) -> None:
    """Refuse a conversation in which nobody asks before the assistant answers.

    Raises:
        ValueError: it is none.
    """
    if all(message["role"] != "assistant" for message in messages):
        raise ValueError("no message is the assistant's, so there is nothing to learn from: a task, and no episode")
    if messages[0]["role"] == "assistant":
        raise ValueError("the assistant speaks first, in answer to nothing; take its first message out")
