"""The command ``oreo chat``: talk to a policy in the terminal, each step of its answers coloured by V.

Knows: a loop of lines, how a step is shown, both ways to an answer: networks in this process, or a server by HTTP.
Does not know: how an answer is searched.
"""

import argparse
import json
import os
import secrets
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Protocol
from urllib.parse import urlsplit

from rich.console import Console
from rich.text import Text

from oreo_agents.episodes.spoken import visible
from oreo_agents.networks.addresses import require_url
from oreo_agents.runs.serve import TOKEN_VARIABLE, Served, load_served
from oreo_agents.serving.answering import Reply
from oreo_agents.serving.conversations import Question
from oreo_agents.serving.settings import able, known_searches, of_commands
from oreo_agents.terminal import Terminal
from oreo_algos import stopping
from oreo_envs.checks import closest
from oreo_envs.limits import read_json
from oreo_envs.messages import Message

USAGE = """\
oreo chat RUN/NAME [KEY=VALUE ...]
oreo chat policy.path=FOLDER_OR_HUB_NAME [value.path=FOLDER] [search=NAME] [KEY=VALUE ...]
oreo chat --url http://127.0.0.1:8000 [--model NAME] [search=NAME]

Talk to a policy: a line is a question. Where V is read, each step is green where V is high and red where it is low,
with V behind it. With --url an `oreo serve` answers; its token is taken from OREO_SERVE_TOKEN.

  /reset         begin a new conversation       /search NAME   answer with another search; alone: name them
  /system TEXT   say this as the system         /quit          leave
"""

_COMMANDS = ("/help", "/quit", "/reset", "/search", "/system")

_MOST = 16 << 20  # bytes that are read at once of what a server sends

Hear = Callable[[str, float | None], None]


class ChatError(Exception):
    """An answer that did not come, in a sentence."""


class Talker(Protocol):
    """Whatever answers a conversation."""

    searches: Sequence[str]
    search: str

    def answer(self, messages: Sequence[Message], hear: Hear) -> tuple[str, str]:
        """Answer a conversation, telling each piece of text and V after it; returns the answer and what it took.

        Raises:
            ChatError: there is no answer.
        """
        ...


@dataclass
class Local:
    """Networks in this process."""

    served: Served
    search: str
    searches: Sequence[str]

    @classmethod
    def of(cls, served: Served) -> "Local":
        """Take what was loaded."""
        fit = able(served.searches, served.engine.unfit)
        held = of_commands(fit)
        return cls(served, str(served.settings.search), [name for name in fit if name not in held])

    def answer(self, messages: Sequence[Message], hear: Hear) -> tuple[str, str]:
        """Answer a conversation, see ``Talker``."""
        engine, sent = self.served.engine, ""

        def on_step(text: str, value: float | None) -> None:
            nonlocal sent
            if text.startswith(sent) and text != sent:
                hear(text[len(sent) :], value)
                sent = text

        try:
            tokens = tuple(engine.encode(messages))
            room = engine.context - len(tokens)
            if room < 1:
                raise ChatError(
                    f"this conversation fills the context of {engine.context} tokens: /reset begins another"
                )
            question = Question(
                messages=tuple(messages),
                tokens=tokens,
                seed=secrets.randbits(31),
                max_tokens=min(room, self.served.settings.max_tokens),
                on_step=on_step,
            )
            [reply] = engine.answer(self.served.searches[self.search], [question])
        except ValueError as error:
            raise ChatError(str(error)) from None
        for text, value in _rest(reply, sent):
            hear(text, value)
        return reply.text, _took(len(reply.candidates), reply.generated, reply.finished)


@dataclass
class Remote:
    """An endpoint in OpenAI's form; values come from ``oreo serve``."""

    url: str
    model: str | None = None
    search: str = ""
    searches: Sequence[str] = ()
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, url: str, model: str | None) -> "Remote":
        """Ask a server what it serves.

        Raises:
            ChatError: it does not answer.
        """
        base = (url if "//" in url else f"http://{url}").rstrip("/").removesuffix("/v1")
        require_url("--url", base)
        token = os.environ.get(TOKEN_VARIABLE)
        found = cls(base, model, headers={"Authorization": f"Bearer {token}"} if token else {})
        with found._open("/v1/models") as response, _in_form(f"{base}/v1/models"):
            served = {str(one["id"]): one.get("oreo") or {} for one in read_json(response.read(_MOST))["data"]}
            chosen = model if model is not None else next(iter(served), None)
            if chosen in served:
                found.model, own = chosen, served[chosen]
                found.search = str(own.get("default", ""))
                held = own.get("searches_of_commands", ())
                found.searches = [str(name) for name in own.get("searches", ()) if name not in held]
        if found.model not in served:
            raise ChatError(f"{base} does not serve {model!r}, but {', '.join(served) or 'nothing'}")
        return found

    def answer(self, messages: Sequence[Message], hear: Hear) -> tuple[str, str]:
        """Answer a conversation, see ``Talker``."""
        body: dict[str, Any] = {"model": self.model, "messages": list(messages), "stream": True}
        if self.search:
            body["search"] = self.search
        said, took = "", ""
        path = "/v1/chat/completions"
        with self._open(path, body) as response, _in_form(self.url + path):
            for event in _events(response):
                if "error" in event:
                    raise ChatError(str(event["error"].get("message", "the server failed")))
                own, choices = event.get("oreo") or {}, event.get("choices") or [{}]
                if text := (choices[0].get("delta") or {}).get("content"):
                    value = own.get("value")
                    hear(text, None if value is None else float(value))
                    said += text
                if (reason := choices[0].get("finish_reason")) and "tokens" in own:
                    took = _took(len(own["candidates"]), own["tokens"]["generated"], reason == "stop")
        return said, took

    def _open(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **self.headers})
        local = urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")
        opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
        try:
            return opener.open(request)
        except urllib.error.HTTPError as error:
            message = error.read(_MOST).decode(errors="replace")
            with suppress(ValueError, KeyError, TypeError):
                message = str(read_json(message)["error"]["message"])
            raise ChatError(f"{self.url}: {message[:500]}") from None
        except (OSError, HTTPException) as error:
            raise ChatError(f"{self.url} does not answer: {getattr(error, 'reason', error)}") from None


def main(arguments: Sequence[str], read: Callable[[], str] | None = None, console: Console | None = None) -> None:
    """Talk until told to leave, or until there is no more line.

    Args:
        arguments: of the command line.
        read: returns the next line; EOFError ends the talk.
        console: where to show; None: the terminal.

    Raises:
        UserError: settings that cannot be read.
        ValueError: networks that cannot be loaded, no answer from a server.
    """
    parser = argparse.ArgumentParser(prog="oreo chat", add_help=False)
    parser.add_argument("--url")
    parser.add_argument("--model")
    parser.add_argument("-h", "--help", action="store_true")
    options, rest = parser.parse_known_args(arguments)
    if options.help:
        print(USAGE, end="")
        return
    console = console or Terminal(highlight=False, soft_wrap=True)
    try:
        talk(_talker(options.url, options.model, rest), read or _reader(console), console)
    except ChatError as error:
        raise ValueError(str(error)) from None
    except KeyboardInterrupt:
        console.print()


def _talker(url: str | None, model: str | None, rest: Sequence[str]) -> Talker:
    if url is None:
        if model is not None:
            raise ValueError("--model names a model of a server: it goes with --url")
        return Local.of(load_served(rest, command="chat", usage=USAGE))
    found = Remote.at(url, model)
    for text in rest:
        name, _, value = text.partition("=")
        if name != "search":
            raise ValueError(f"{text}: the server has its settings; with --url only search=NAME is read")
        _choose(found, value)
    return found


def talk(talker: Talker, read: Callable[[], str], console: Console) -> None:
    """Answer line after line."""
    messages: list[Message] = []
    by = f", search {talker.search}" if talker.search else ""
    console.print(Text(f"A line is a question{by}; /help tells what else there is.", style="dim"))
    while True:
        try:
            line = read().strip()
        except EOFError:
            return
        if not line:
            continue
        if line.startswith("/"):
            command, _, rest = line.partition(" ")
            if command == "/quit":
                return
            messages = _obey(command, rest.strip(), talker, messages, console)
            continue
        asked: list[Message] = [*messages, {"role": "user", "content": line}]
        try:
            text, took = talker.answer(asked, lambda text, value: _show(text, value, console))
        except ChatError as error:
            console.print(Text(str(error), style="red"))
            continue
        except KeyboardInterrupt:
            if stopping.asked() not in (None, signal.SIGINT):
                raise
            stopping.forget()
            console.print(Text("\nstopped; the question is forgotten", style="dim"))
            continue
        console.print("" if text.endswith("\n") else "\n", Text(took, style="dim"), sep="")
        messages = [*asked, {"role": "assistant", "content": text}]


def _obey(command: str, rest: str, talker: Talker, messages: list[Message], console: Console) -> list[Message]:
    """Do what a line with a slash says; returns the conversation as it is then."""
    if command == "/reset":
        console.print(Text("a new conversation", style="dim"))
        return []
    if command == "/system":
        own: list[Message] = [{"role": "system", "content": rest}] if rest else []
        console.print(Text("a new conversation, with this said by the system" if rest else "nothing is said", "dim"))
        return own
    if command == "/search":
        try:
            if rest:
                _choose(talker, rest)
            console.print(Text(f"search {talker.search or 'unknown'}; there are {', '.join(talker.searches)}", "dim"))
        except ValueError as error:
            console.print(Text(str(error), style="red"))
    elif command == "/help":
        console.print(Text(USAGE.partition("\n\n")[2].rstrip(), style="dim"))
    else:
        console.print(Text(f"there is no {command}{closest(command, _COMMANDS)}; /help tells what there is", "red"))
    return messages


def _choose(talker: Talker, name: str) -> None:
    if name not in talker.searches:
        if name in of_commands(known_searches()):
            raise ValueError(f"search={name}: it says one of the commands of a game, and nobody gives any in a chat")
        known = ", ".join(talker.searches)
        raise ValueError(f"search={name}: unknown search{closest(name, talker.searches)} (known: {known})")
    talker.search = name


def _show(text: str, value: float | None, console: Console) -> None:
    """Print a step, in the colour of V, and V behind it; what would steer the terminal is written out."""
    shown = visible(text.rstrip("\n"))
    console.print(Text(shown, style="" if value is None else colour(value)), end="")
    if value is not None:
        console.print(Text(f"  {value:.2f}", style="dim"), end="")
    console.print("\n" * (len(text) - len(text.rstrip("\n"))), end="")


def colour(value: float) -> str:
    """Return a colour for V between red at 0 and green at 1."""
    share = min(max(value, 0.0), 1.0)
    return f"rgb({int(215 * (1 - share)) + 20},{int(150 * share) + 50},60)"


def _rest(reply: Reply, sent: str) -> Iterator[tuple[str, float | None]]:
    start = 0
    for step in reply.steps:
        end = start + len(step.text)
        if end > len(sent):
            yield reply.text[max(start, len(sent)) : end], step.value
        start = end


def _took(candidates: int, tokens: int, finished: bool) -> str:
    of = f"{candidates} candidates, " if candidates > 1 else ""
    return f"({of}{tokens} tokens{'' if finished else ', cut off by the limit'})"


def _events(response: Any) -> Iterator[dict[str, Any]]:
    """Yield what a stream of events carries."""
    for raw in iter(lambda: response.readline(_MOST), b""):
        line = raw.decode(errors="replace").strip()
        if line.startswith("data:") and (data := line.removeprefix("data:").strip()) != "[DONE]":
            yield read_json(data)


@contextmanager
def _in_form(url: str) -> Iterator[None]:
    """Say of what a server sends in another form, or of an end in the middle of it, that it is so."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, HTTPException) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ChatError(f"{url} answers otherwise than an endpoint in OpenAI's form ({reason:.200})") from None


def _reader(console: Console) -> Callable[[], str]:
    """Return what reads a line: with a prompt where somebody sits before it."""
    if sys.stdin.isatty():
        with suppress(ImportError):
            import readline  # noqa: F401  (arrow keys)
        return lambda: input("> ")
    return input
