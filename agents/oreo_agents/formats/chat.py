"""Conversations as others write them, as the messages that an episode has.

Knows: OpenAI's messages with tool calls, ShareGPT's turns. Does not know: files, labels, templates of models.
Sources: OpenAI's chat completions (2025-06); ShareGPT as in FastChat 0.2; tool calls are written into the text as the
templates of Hermes 2 Pro and Qwen 2.5 write them, what a tool says as the user's turn.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

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


def turns(value: Any, column: str, tools: Any = None) -> tuple[list[Message], list[bool]]:
    """Return a conversation in our form, and of each message whether it is to be learned from.

    Args:
        value: messages with role and content, or with from and value.
        column: that holds them, for errors.
        tools: definitions that the assistant may call, put into the message of the system.

    Raises:
        ValueError: a message is none; says which.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _parsed(value)
    if not isinstance(value, list) or not value:
        raise ValueError(f"field {column!r} must be a list of chat messages, got {value!r:.80}")
    said: list[Message] = []
    learned: list[bool] = []
    told_by_tool = False
    for number, message in enumerate(value):
        role, content, learn, is_tool = _message(message, number)
        if said and said[-1]["role"] == role:
            if not (is_tool or told_by_tool):
                raise ValueError(f"message {number}: two messages of the {role} follow one another; join them")
            said[-1] = {"role": role, "content": f"{said[-1]['content']}\n{content}"}
        else:
            said.append({"role": role, "content": content})
            learned.append(learn)
        told_by_tool = is_tool
    listed = _parsed(tools) if isinstance(tools, str) else tools
    if listed:
        text = "\n".join(json.dumps(_without_nulls(tool), ensure_ascii=False) for tool in listed)
        text = f"# Tools\n\n<tools>\n{text}\n</tools>"
        if said[0]["role"] == "system":
            said[0] = {"role": "system", "content": f"{said[0]['content']}\n\n{text}"}
        else:
            said.insert(0, {"role": "system", "content": text})
            learned.insert(0, False)
    return said, learned


def _message(message: Any, number: int) -> tuple[str, str, bool, bool]:
    """Role, text, whether to learn from it, and whether a tool said it."""
    place = f"message {number}"
    role = message.get("role", message.get("from")) if isinstance(message, Mapping) else None
    role = SAME.get(role, role) if isinstance(role, str) else role
    if role not in (*_ROLES, "tool"):
        raise ValueError(f"{place}: the role must be one of {', '.join(_ROLES)}, tool, got {message!r:.80}")
    content = _text(message.get("content", message.get("value")), place, message)
    if role == "tool":
        return "user", f"<tool_response>\n{content}\n</tool_response>", False, True
    # OpenAI's weight 0 and AgentTraj-L's loss false: said before, and not by whom is to be learned from.
    learn = role == "assistant" and message.get("weight") != 0 and message.get("loss") is not False
    return str(role), content, learn, False


def _text(content: Any, place: str, message: Mapping[str, Any]) -> str:
    calls = message.get("tool_calls") or []
    if isinstance(content, list):
        kinds = {part.get("type") if isinstance(part, Mapping) else type(part).__name__ for part in content}
        if kinds - {"text"}:
            raise ValueError(f"{place}: only text is read, and this content has {', '.join(map(str, kinds))}")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str) and not (content is None and calls):
        raise ValueError(f"{place}: the content must be a text, got {content!r:.80}")
    thought = message.get("reasoning_content")
    pieces = [f"<think>\n{thought}\n</think>\n\n{content or ''}"] if thought else [content] if content else []
    return "\n".join([*pieces, *(_call(call, place) for call in calls)])


def _call(call: Any, place: str) -> str:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError(f"{place}: a tool call has a function with a name, got {call!r:.80}")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with suppress(ValueError):  # what the model said may be no JSON
            arguments = json.loads(arguments)
    told = {"name": function["name"], "arguments": _without_nulls(arguments)}
    return f"<tool_call>\n{json.dumps(told, ensure_ascii=False)}\n</tool_call>"


def _without_nulls(value: Any) -> Any:
    """Return a value without the fields that a column of Parquet adds to every row."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


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
    if messages[0]["role"] == "assistant" or all(message["role"] != "assistant" for message in messages):
        raise ValueError("somebody asks, and then the assistant answers at least once; this is no such text")
