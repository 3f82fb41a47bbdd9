"""Request bodies: what is asked for, or in a sentence why it is refused.

Knows: OpenAI's parameters, which of them are honoured, harmless or refused, and our own. Does not know: HTTP, networks.
"""

import dataclasses
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from oreo_agents.search import Greedy, Sampled, Search
from oreo_agents.serving.settings import ServeSettings, rows_of
from oreo_envs.checks import closest
from oreo_envs.messages import Message

_ROLES = ("system", "developer", "user", "assistant")
_MAX_STOPS, _MAX_STOP_LENGTH, _MAX_MESSAGES, _MAX_COMMANDS = 16, 256, 1024, 1024

# Not asked of the answer; or such that the value that stands here changes nothing.
_HARMLESS = {"user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier"}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "top_p": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "top_logprobs": (0,),
    "store": (False,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "reasoning_effort": (),
    "echo": (False,),
    "best_of": (1,),
    "suffix": ("",),
}
_HONOURED = {"model", "max_tokens", "temperature", "n", "stop", "seed", "stream", "stream_options", "oreo", "search"}
_OF_CHAT = {"messages", "max_completion_tokens", "logprobs"}
_OF_TEXT = {"prompt"}
_NO_SETTINGS = {"search", "commands", "task"}  # of a search, in the extension


class RefusedError(Exception):
    """A request that cannot be answered, as OpenAI's error says it."""

    def __init__(self, message: str, param: str | None = None, *, status: int = 400, code: str | None = None) -> None:
        """Say why, and which parameter it is about."""
        super().__init__(message)
        self.param, self.status, self.code = param, status, code

    @property
    def kind(self) -> str:
        """OpenAI's name for this kind of error."""
        return "server_error" if self.status >= 500 else "invalid_request_error"


@dataclass(frozen=True)
class Asked:
    """A request that was read.

    Attributes:
        messages: of a chat; empty where ``prompt`` is to be continued.
        prompt: a text to continue; None: a chat.
        search: how to answer.
        search_name: as it was asked for.
        seed: of the first choice.
        task: see ``Question``.
        n: choices.
        max_tokens: of a choice; None: as many as the server and the context allow.
        stops: see ``Question``.
        commands: see ``Question``.
        stream: step by step.
        include_usage: at the end of a stream.
        logprobs: of each token.
    """

    messages: tuple[Message, ...]
    prompt: str | None
    search: Search
    search_name: str
    seed: int
    task: int = 0
    n: int = 1
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    logprobs: bool = False


def read_json(raw: bytes) -> dict[str, Any]:
    """Read a body.

    Raises:
        RefusedError: it is no object in JSON.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no number of JSON")

    try:
        body = json.loads(raw, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise RefusedError(f"the body is an object with parameters, got {_shown(body)}")
    return body


def read_request(
    body: Mapping[str, Any], *, chat: bool, model: str, searches: Mapping[str, Search], settings: ServeSettings
) -> Asked:
    """Read the body of a chat, or of a text to continue.

    Args:
        body: as ``read_json`` returned it.
        chat: which of them.
        model: the name that is served.
        searches: by name.
        settings: of the server, with its default search.

    Raises:
        RefusedError: a parameter that is not known, not honoured here, or has a wrong value.
    """
    _only_known(body, (_HONOURED | (_OF_CHAT if chat else _OF_TEXT)))
    require_model(body, model)
    extension = _extension(body)
    name, search = _search(extension, searches, str(settings.search))
    search = _tempered(name, search, body)
    n = _whole(body, "n", 1, low=1, high=settings.queue)
    if n * rows_of(search) > settings.max_candidates:
        raise RefusedError(
            f"{n} x {rows_of(search)} candidates: one request may have {settings.max_candidates} drawn", "n"
        )
    stream = _flag(body, "stream")
    logprobs = chat and _flag(body, "logprobs")
    if logprobs and stream:
        raise RefusedError("log-probabilities come with whole answers: leave out stream, or logprobs", "logprobs")
    limit = _whole(body, "max_tokens", None, low=1)
    if chat and body.get("max_completion_tokens") is not None:
        newer = _whole(body, "max_completion_tokens", None, low=1)
        if limit not in (None, newer):
            raise RefusedError("max_tokens and max_completion_tokens are one limit: give one of them", "max_tokens")
        limit = newer
    if limit is not None and limit > settings.max_tokens:
        name_given = "max_tokens" if body.get("max_tokens") is not None else "max_completion_tokens"
        raise RefusedError(f"{name_given} is at most {settings.max_tokens} here, got {limit}", name_given)
    options = body.get("stream_options") or {}
    if not isinstance(options, dict) or not set(options) <= {"include_usage", "include_obfuscation"}:
        raise RefusedError(f"stream_options takes include_usage, got {_shown(options)}", "stream_options")
    return Asked(
        messages=read_messages(body.get("messages"), last=("user", "system")) if chat else (),
        prompt=None if chat else _prompt(body.get("prompt")),
        search=search,
        search_name="sampled" if type(search) is Sampled and name == "greedy" else name,
        seed=_seed(body),
        task=_task(extension),
        n=n,
        max_tokens=limit,
        stops=_stops(body.get("stop")),
        commands=_commands(extension, search),
        stream=stream,
        include_usage=bool(options.get("include_usage")),
        logprobs=logprobs,
    )


def require_model(body: Mapping[str, Any], model: str) -> None:
    """Refuse another model than the one that is served; none named is that one.

    Raises:
        RefusedError: it is another.
    """
    asked = body.get("model")
    if asked is not None and asked != model:
        raise RefusedError(
            f"the model {_shown(asked)} is not served here, {model!r} is", "model", status=404, code="model_not_found"
        )


def read_messages(given: Any, *, last: Collection[str]) -> tuple[Message, ...]:
    """Read a conversation whose last message is by one of ``last``.

    Raises:
        RefusedError: it is none, or holds what a text model does not read.
    """
    if not isinstance(given, list) or not given:
        raise RefusedError(f"messages: a list of at least one message, got {_shown(given)}", "messages")
    if len(given) > _MAX_MESSAGES:
        raise RefusedError(f"messages: at most {_MAX_MESSAGES}, got {len(given)}", "messages")
    found = tuple(_message(message, number) for number, message in enumerate(given))
    if any(message["role"] == "system" for message in found[1:]):
        raise RefusedError("messages: one message of the system, and it is the first", "messages")
    if found[-1]["role"] not in last:
        raise RefusedError(
            f"messages: the last one is by {' or '.join(last)}, got one by {found[-1]['role']}", "messages"
        )
    return found


def _message(message: Any, number: int) -> Message:
    where = f"messages[{number}]"
    if not isinstance(message, dict):
        raise RefusedError(f"{where}: an object with role and content, got {_shown(message)}", "messages")
    more = [key for key, value in message.items() if key not in ("role", "content") and value not in (None, [], {})]
    if more:
        raise RefusedError(f"{where}: {', '.join(map(repr, more))} cannot be read here", "messages")
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        raise RefusedError(f"{where}.role: one of {', '.join(_ROLES)}, got {_shown(role)}", "messages")
    if isinstance(content, list):
        parts = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content
        ]
        if not all(isinstance(part, str) for part in parts):
            raise RefusedError(f"{where}.content: parts of text alone can be read here", "messages")
        content = "".join(str(part) for part in parts)
    return {
        "role": "system" if role == "developer" else role,
        "content": _text(content, f"{where}.content", "messages"),
    }


def _prompt(given: Any) -> str:
    if isinstance(given, list) and len(given) == 1:
        [given] = given
    if not isinstance(given, str) or not given:
        raise RefusedError(f"prompt: one text, which is not empty, got {_shown(given)}", "prompt")
    return _text(given, "prompt", "prompt")


def _text(given: Any, where: str, param: str) -> str:
    if not isinstance(given, str):
        raise RefusedError(f"{where}: a text, got {_shown(given)}", param)
    try:
        given.encode()
    except UnicodeEncodeError:
        raise RefusedError(f"{where}: a lone surrogate is no character", param) from None
    return given


def _only_known(body: Mapping[str, Any], honoured: Collection[str]) -> None:
    for name, value in body.items():
        if name in honoured or name in _HARMLESS or (name in _NEUTRAL and (value is None or _is_neutral(name, value))):
            continue
        if name in _NEUTRAL or name in _OF_CHAT | _OF_TEXT:
            raise RefusedError(f"{name}={_shown(value)} is not supported here: leave it out", name, code="unsupported")
        raise RefusedError(f"unknown parameter {_shown(name)}{closest(name, honoured)}", name[:100], code="unknown")


def _is_neutral(name: str, value: Any) -> bool:
    return any(value == neutral and isinstance(value, bool) == isinstance(neutral, bool) for neutral in _NEUTRAL[name])


def _extension(body: Mapping[str, Any]) -> dict[str, Any]:
    extension = body.get("oreo")
    extension = {} if extension is None else extension
    if not isinstance(extension, dict):
        raise RefusedError(f"oreo: an object such as {{'search': 'best_of_n'}}, got {_shown(extension)}", "oreo")
    if body.get("search") is not None:
        if "search" in extension:
            raise RefusedError("search and oreo.search are one setting: give one of them", "search")
        extension = {**extension, "search": body["search"]}
    return extension


def _search(extension: Mapping[str, Any], searches: Mapping[str, Search], default: str) -> tuple[str, Search]:
    name = extension.get("search", default)
    if not isinstance(name, str) or name not in searches:
        hint = closest(name, searches) if isinstance(name, str) else ""
        raise RefusedError(f"search: unknown search {_shown(name)}{hint} (known: {', '.join(searches)})", "search")
    search = searches[name]
    own = {field.name for field in dataclasses.fields(search)}
    changes: dict[str, Any] = {}
    for key, value in extension.items():
        if key in _NO_SETTINGS:
            continue
        if key not in own:
            known = sorted(own | _NO_SETTINGS)
            raise RefusedError(f"oreo.{key}: {name} has no such setting{closest(key, known)}", "oreo")
        here = getattr(search, key)
        if isinstance(value, bool) or not isinstance(value, int if isinstance(here, int) else int | float):
            raise RefusedError(f"oreo.{key}: a number like {here}, got {_shown(value)}", "oreo")
        changes[key] = value
    return name, _changed(search, changes, "oreo")


def _tempered(name: str, search: Search, body: Mapping[str, Any]) -> Search:
    value = body.get("temperature")
    if value is None or not hasattr(search, "temperature"):
        return search
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2:
        raise RefusedError(f"temperature: a number from 0 to 2, got {_shown(value)}", "temperature")
    if type(search) is Greedy and value > 0:
        return Sampled(temperature=float(value))
    return _changed(search, {"temperature": float(value)}, "temperature", f"{name}: ")


def _changed(search: Search, changes: Mapping[str, Any], param: str, lead: str = "") -> Search:
    try:
        return dataclasses.replace(search, **changes) if changes else search
    except ValueError as error:
        raise RefusedError(f"{lead}{error}", param) from None


def _commands(extension: Mapping[str, Any], search: Search) -> tuple[str, ...]:
    """Return what may be said: needed by a search that allows nothing else, and read by no other."""
    given = extension.get("commands")
    if getattr(search, "constrained", False):
        if not isinstance(given, list) or not given or len(given) > _MAX_COMMANDS:
            raise RefusedError(
                f"oreo.commands: this search says one of given commands: a list of up to {_MAX_COMMANDS} texts", "oreo"
            )
        return tuple(_text(command, "oreo.commands", "oreo") for command in given)
    if given is not None:
        raise RefusedError("oreo.commands: only the search 'admissible' is held to commands", "oreo")
    return ()


def _stops(given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    stops = given if isinstance(given, list) else [given]
    if len(stops) > _MAX_STOPS or any(
        not isinstance(stop, str) or not 0 < len(stop) <= _MAX_STOP_LENGTH for stop in stops
    ):
        raise RefusedError(
            f"stop: a text of 1 to {_MAX_STOP_LENGTH} characters, or a list of up to {_MAX_STOPS}, got {_shown(given)}",
            "stop",
        )
    return tuple(_text(stop, "stop", "stop") for stop in stops)


def _seed(body: Mapping[str, Any]) -> int:
    seed = body.get("seed")
    if seed is None:
        return secrets.randbits(31)
    if isinstance(seed, bool) or not isinstance(seed, int) or not -(2**63) <= seed < 2**63:
        raise RefusedError(f"seed: a whole number of 64 bits, got {_shown(seed)}", "seed")
    return seed if seed >= 0 else seed + 2**64


def _task(extension: Mapping[str, Any]) -> int:
    task = extension.get("task", 0)
    if isinstance(task, bool) or not isinstance(task, int) or not 0 <= task < 2**63:
        raise RefusedError(f"oreo.task: the number of a task, from 0, got {_shown(task)}", "oreo")
    return task


def _whole(body: Mapping[str, Any], name: str, default: int | None, *, low: int, high: int | None = None) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        limits = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise RefusedError(f"{name}: a whole number {limits}, got {_shown(value)}", name)
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool | None):
        raise RefusedError(f"{name}: true or false, got {_shown(value)}", name)
    return bool(value)


def _shown(value: Any) -> str:
    """Write a value that somebody sent, not all of it."""
    text = repr(value) if not isinstance(value, list | dict) else json.dumps(value, default=str)[:200]
    return text if len(text) <= 80 else f"{text[:77]}..."


def seeds(first: int, count: int) -> Sequence[int]:
    """Return the seeds of the choices of a request; the first choice has the request's own."""
    return [first, *(first + number * 2**64 for number in range(1, count))]
