"""What an OpenAI-compatible server says: a reply, or why there is none.

Knows: the form of a chat completion and of an error, and which errors pass. Does not know: connections, environments.
Source: OpenAI's API reference (chat completions, errors), and what vLLM, Ollama, OpenRouter and others answer instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any


class ChatError(RuntimeError):
    """These messages got no reply: their task has an ``error`` and is not counted."""


class ChatRefused(ChatError):
    """No messages would get a reply, as with a wrong key or an unknown model: an evaluation ends."""


class AskAgainError(Exception):
    """No reply this time, but perhaps in ``wait_s`` seconds; None: the server does not say when."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        """Say why."""
        super().__init__(why)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Usage:
    """What replies took, as far as the server says so.

    Attributes:
        replies: how many.
        prompt_tokens, completion_tokens: read and written.
        cost: as the server says (OpenRouter), or by the prices given; in their currency.
    """

    replies: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        """Add up."""
        return Usage(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Reply:
    """What an agent says, where there is more to say than its text.

    Attributes:
        text: the action.
        cut: a limit on tokens ended it, so that its end may not be what was meant.
        finish_reason: the server's word for its end.
        usage: what it took.
    """

    text: str
    cut: bool = False
    finish_reason: str | None = None
    usage: Usage = Usage(replies=1)

    def __str__(self) -> str:
        """Return the text."""
        return self.text


def reply_of(completion: Any, *, prices: tuple[float, float] | None = None, keep_thoughts: bool = False) -> Reply:
    """Read a chat completion: parsed JSON, or the object of a client's library.

    A refusal of the model is what it says. A content of None is an empty text where the model had nothing to say, or
    spent its tokens on thinking.

    Args:
        completion: what was answered.
        prices: of a million tokens read, and written.
        keep_thoughts: put a thought that the server took out of the text before it again, as ``<think>...</think>``.

    Raises:
        ChatError: there is no text, for a reason that will not pass: a tool that nobody offered, a filter.
        ChatRefused, AskAgainError: it is an error, see ``raise_for``; or it is no completion.
    """
    body = completion.model_dump() if hasattr(completion, "model_dump") else completion
    if not isinstance(body, Mapping):
        raise AskAgainError(f"the server answered no chat completion but {body!r:.80}")
    if body.get("error"):
        raise_for(200, body, {})
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise AskAgainError(f"the server answered without a choice: {dict(body)!r:.200}")
    finish, text = choice.get("finish_reason"), _text(message.get("content"))
    if finish == "content_filter":
        raise ChatError("the server withheld the answer (finish_reason content_filter)")
    if not text and message.get("tool_calls"):
        raise ChatError(f"the model called a tool, and none was offered: {message['tool_calls']!r:.120}")
    text = text or _text(message.get("refusal"))
    thought = _text(message.get("reasoning_content") or message.get("reasoning")) if keep_thoughts else ""
    if thought:
        text = f"<think>\n{thought.strip()}\n</think>\n\n{text}"
    return Reply(
        text.encode("utf-8", "replace").decode("utf-8"),
        cut=finish in ("length", "max_tokens"),
        finish_reason=finish if isinstance(finish, str) else None,
        usage=_usage(body.get("usage"), prices),
    )


def _text(content: Any) -> str:
    """The text of a content, which may be a list of parts."""
    if isinstance(content, list):
        content = "".join(_text(part.get("text")) for part in content if isinstance(part, Mapping))
    if not isinstance(content, str | None):
        raise AskAgainError(f"the server answered a content that is no text: {content!r:.80}")
    return content or ""


def _usage(usage: Any, prices: tuple[float, float] | None) -> Usage:
    said = usage if isinstance(usage, Mapping) else {}
    read, written = (_number(said.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    cost = _number(said.get("cost")) if prices is None else (read * prices[0] + written * prices[1]) / 1e6
    return Usage(1, int(read), int(written), cost)


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15 else 0


_UNKNOWN_MODEL = re.compile(
    r"model.{0,60}(not exist|not found|not supported|not available|unknown)|(no such|unknown|invalid) model"
)


def raise_for(status: int, body: Any, headers: Mapping[str, str]) -> None:
    """Raise what an error means.

    Args:
        status: of HTTP; that in the body, if there is one, holds where this is 200.
        body: parsed JSON, or text.
        headers: of the answer; ``Retry-After`` is read.

    Raises:
        ChatRefused: the key, the model, the place or the account is refused.
        AskAgainError: it may pass: too many requests, a fault of the server.
        ChatError: the server does not take these messages, for example because they are too long.
    """
    error = body.get("error", body) if isinstance(body, Mapping) else body
    fields = error if isinstance(error, Mapping) else {"message": error}
    code = fields.get("code") or fields.get("type")
    if status == 200:
        status = code if isinstance(code, int) else 500
    detail = " ".join(str(fields.get("message") or fields.get("detail") or error).split())[:200]
    said = f"{status}: {detail}" if detail else str(status)
    if status in (401, 403):
        raise ChatRefused(f"the server refuses the key, or wants one ({said}); give it as api_key=...")
    if status in (404, 405):
        raise ChatRefused(
            f"the server does not know the model, or has nothing there ({said}); base_url usually ends in /v1, and "
            "GET base_url/models lists the models"
        )
    if status == 402 or code == "insufficient_quota":
        raise ChatRefused(f"the account is used up ({said})")
    if 300 <= status < 400:
        raise ChatRefused(
            f"the server sends requests elsewhere ({said}, to {headers.get('location')!r}); give that as base_url"
        )
    if status in (408, 409, 425, 429) or status >= 500:
        raise AskAgainError(said, retry_after(headers))
    if code in ("model_not_found", "invalid_model") or _UNKNOWN_MODEL.search(detail.lower()):
        raise ChatRefused(f"the server does not know the model ({said})")
    raise ChatError(f"the server does not take the request ({said})")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by ``Retry-After`` (a number, or a date; RFC 9110 10.2.3); None: it does not say."""
    value = headers.get("retry-after") or headers.get("Retry-After") or ""
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except ValueError:
        return None
