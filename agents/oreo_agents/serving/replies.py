"""Answers and errors in OpenAI's form, with what is ours in the field ``oreo``.

Knows: the forms. Does not know: HTTP, how an answer came about.
"""

import math
from collections.abc import Sequence
from typing import Any

from oreo_agents.serving.answering import Reply, Step, Valued
from oreo_agents.serving.bodies import Asked


def error_body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return an error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def usage(replies: Sequence[Reply]) -> dict[str, int]:
    """Return the tokens of the prompt, counted once, and of the answers that are given."""
    prompt, answers = replies[0].prompt_tokens, sum(reply.answer_tokens for reply in replies)
    return {"prompt_tokens": prompt, "completion_tokens": answers, "total_tokens": prompt + answers}


def whole(asked: Asked, replies: Sequence[Reply], *, answer_id: str, created: int, model: str) -> dict[str, Any]:
    """Return a whole answer."""
    chat = asked.prompt is None
    choices = []
    for number, reply in enumerate(replies):
        choice: dict[str, Any] = {"index": number, "finish_reason": finish_reason(reply)}
        if chat:
            choice["message"] = {"role": "assistant", "content": reply.text, "refusal": None}
        else:
            choice["text"] = reply.text
        choice["logprobs"] = _logprobs(reply) if asked.logprobs else None
        if len(replies) > 1:
            choice["oreo"] = extension(asked, reply)
        choices.append(choice)
    return {
        "id": _named(answer_id, chat),
        "object": "chat.completion" if chat else "text_completion",
        "created": created,
        "model": model,
        "choices": choices,
        "usage": usage(replies),
        "oreo": extension(asked, replies[0]),
    }


def chunk(
    asked: Asked,
    *,
    answer_id: str,
    created: int,
    model: str,
    index: int = 0,
    text: str | None = None,
    role: bool = False,
    reply: Reply | None = None,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a piece of a streamed answer: its role, some text, or with ``reply`` its end."""
    chat = asked.prompt is None
    choice: dict[str, Any] = {"index": index, "finish_reason": None if reply is None else finish_reason(reply)}
    if chat:
        choice["delta"] = ({"role": "assistant"} if role else {}) | ({} if text is None else {"content": text})
    else:
        choice["text"] = text or ""
    choice["logprobs"] = None
    body: dict[str, Any] = {
        "id": _named(answer_id, chat),
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": created,
        "model": model,
        "choices": [choice],
    }
    if asked.include_usage:
        body["usage"] = None
    own = extension(asked, reply) if reply is not None else more
    return body if own is None else body | {"oreo": own}


def _named(answer_id: str, chat: bool) -> str:
    return f"{'chatcmpl' if chat else 'cmpl'}-{answer_id}"


def finish_reason(reply: Reply) -> str:
    """Say why an answer ended."""
    return "stop" if reply.finished else "length"


def extension(asked: Asked, reply: Reply) -> dict[str, Any]:
    """Return how an answer was found: steps and their values, candidates, tokens spent."""
    return {
        "search": asked.search_name,
        "seed": asked.seed,
        "start_value": _number(reply.start_value),
        "steps": [step_record(step) for step in reply.steps],
        "candidates": [
            {
                "text": candidate.text,
                "value": _number(candidate.value),
                "score": _number(candidate.score),
                "votes": candidate.votes,
                "chosen": candidate.chosen,
            }
            for candidate in reply.candidates
        ],
        "tokens": {"generated": reply.generated, "value": reply.value_tokens},
    }


def step_record(step: Step) -> dict[str, Any]:
    """Return the text of a step, V after it, and by how much V rose."""
    return {"text": step.text, "value": _number(step.value), "advantage": _number(step.advantage)}


def valued(found: Valued, model: str) -> dict[str, Any]:
    """Return V along a conversation."""
    steps = [{"message": step.message, **step_record(step)} for step in found.steps]
    return {
        "object": "oreo.values",
        "model": model,
        "start_value": _number(found.start_value),
        "steps": steps,
        "usage": {"prompt_tokens": found.tokens, "total_tokens": found.tokens},
    }


def _logprobs(reply: Reply) -> dict[str, Any]:
    content = [
        {"token": text, "logprob": _number(number), "bytes": list(text.encode()), "top_logprobs": []}
        for text, number in reply.token_logprobs
    ]
    return {"content": content, "refusal": None}


def _number(value: float | None) -> float | None:
    """JSON has no infinities."""
    return value if value is not None and math.isfinite(value) else None
