"""Models behind OpenAI-compatible servers, as agents.

Knows: when to ask again and how long to wait, how many requests a minute, which clients there are.
Does not know: what a reply means (``replies``), environments.
``httpx2`` is loaded with the first request.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import math
import random
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from oreo_envs.asynchronous import run
from oreo_envs.checks import whole
from oreo_envs.messages import Message
from oreo_envs.replies import AskAgainError, ChatError, ChatRefused, Reply, raise_for, reply_of

logger = logging.getLogger(__name__)

_LONGEST_BACKOFF_S = 60.0
# So many failures in a row, before any reply and after one: it is not the messages that the server does not take.
_HOPELESS, _HOPELESS_NOW = 3, 20


class ChatAgent(ABC):
    """A model that is asked for one reply at a time, from any number of tasks at once."""

    def __init__(
        self,
        model: str,
        *,
        request: Mapping[str, Any] | None = None,
        retries: int = 6,
        backoff_s: float = 1.0,
        longest_wait_s: float = 300.0,
        timeout_s: float = 120.0,
        requests_per_minute: float | None = None,
        prices: tuple[float, float] | None = None,
        keep_thoughts: bool = False,
    ) -> None:
        """Say whom to ask, and how patiently.

        Args:
            model: its name on the server.
            request: further fields of each request, such as ``temperature``, ``max_tokens``, ``stop``, ``seed``.
            retries: how often the same messages are asked again after an error that may pass: 408, 409, 425, 429, 5xx,
                a lost connection, a time-out, an answer that is no chat completion.
            backoff_s: wait before the first of them; it doubles, up to a minute, and is drawn between half and all of
                it. What the server says in ``Retry-After`` holds for all requests.
            longest_wait_s: a server that asks to wait longer ends an evaluation.
            timeout_s: for one request, from its beginning to the end of its answer.
            requests_per_minute: at most so many, evenly spaced; None: no limit.
            prices: of a million tokens read, and written; None: the cost is what the server says, if it does.
            keep_thoughts: put thoughts that the server took out of the text (``reasoning_content``) before it again, as
                ``<think>...</think>``, so that recorded conversations hold them.

        Raises:
            ValueError: a value that makes no sense.
        """
        if not isinstance(model, str) or not model.strip():
            raise ValueError(f"model is the name of a model on the server, got {model!r}")
        limits = {"backoff_s": backoff_s, "longest_wait_s": longest_wait_s, "timeout_s": timeout_s}
        if requests_per_minute is not None:
            limits["requests_per_minute"] = requests_per_minute
        for name, value in limits.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"{name} must be a number > 0, got {value!r}")
        if whole("retries", retries) < 0:
            raise ValueError(f"retries must be an integer >= 0, got {retries}")
        for name in ("model", "messages"):
            if name in (request or {}):
                raise ValueError(f"request={{{name!r}: ...}}: {name} is not one of the further fields; leave it out")
        if (request or {}).get("stream"):
            raise ValueError("request={'stream': ...}: whole replies are read; leave it out")
        if prices is not None:
            _check_prices(prices)
        self.model, self.request = model, dict(request or {})
        self.retries, self.backoff_s, self.longest_wait_s, self.timeout_s = (
            retries, backoff_s, longest_wait_s, timeout_s,
        )  # fmt: skip
        self.prices, self.keep_thoughts = prices, keep_thoughts
        self.requests_per_minute = requests_per_minute
        self._next = self._paused_until = 0.0  # no request begins before
        self._replies = self._failures = 0
        self._warned = False

    @abstractmethod
    async def _completion(self, messages: Sequence[Message]) -> Any:
        """Send one request; raises what ``replies.raise_for`` does."""

    async def __aenter__(self) -> ChatAgent:
        """Keep connections until the end of the block."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close what was kept."""
        return None

    def described(self) -> dict[str, Any]:
        """What decides what is said, for a record: never a key, nor where the server is."""
        return {"model": self.model, **self.request}

    def __repr__(self) -> str:
        """Without the key."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.described().items())})"

    def ask(self, messages: Sequence[Message]) -> Reply:
        """Return a reply, for loops by hand; ``await agent(messages)`` is for coroutines.

        Raises:
            ChatError: there is none, see ``__call__``.
        """
        return run(self(messages))

    async def __call__(self, messages: Sequence[Message]) -> Reply:
        """Return a reply; ask again where that may help.

        Raises:
            ChatError: there is no reply to these messages.
            ChatRefused: there is none to any.
        """
        try:
            reply = await self._persistently(messages)
        except ChatRefused:
            raise
        except ChatError as error:
            self._failures += 1
            if self._failures >= (_HOPELESS_NOW if self._replies else _HOPELESS):
                how = "in a row failed" if self._replies else "failed and none was answered"
                raise ChatRefused(f"{self._failures} requests {how}; the last: {error}") from error
            raise
        self._replies += 1
        self._failures = 0
        return reply

    async def _persistently(self, messages: Sequence[Message]) -> Reply:
        for attempt in range(self.retries + 1):
            await self._turn()
            try:
                async with asyncio.timeout(self.timeout_s):
                    completion = await self._completion(messages)
                return reply_of(completion, prices=self.prices, keep_thoughts=self.keep_thoughts)
            except TimeoutError:
                again = AskAgainError(f"no answer within {self.timeout_s:g} seconds")
            except AskAgainError as error:
                again = error
            if again.wait_s is not None and again.wait_s > self.longest_wait_s:
                raise ChatRefused(f"the server asks to wait {again.wait_s:.0f} seconds ({again}); come back then")
            if attempt < self.retries:
                await self._wait(again, attempt)
        raise ChatError(f"{again} (asked {self.retries + 1} times)")

    async def _wait(self, again: AskAgainError, attempt: int) -> None:
        if not self._replies and not self._warned:  # nothing else would be seen for a minute
            self._warned = True
            logger.warning("no reply yet: %s; asking again", again)
        if again.wait_s is not None:
            self._paused_until = max(self._paused_until, time.monotonic() + again.wait_s)
            logger.info("%s: waiting %.0f s, as the server says", again, again.wait_s)
            return
        longest = min(self.backoff_s * 2**attempt, _LONGEST_BACKOFF_S)
        delay = longest * random.uniform(0.5, 1.0)  # so that those who failed together do not come back together
        logger.info("%s: asking again in %.1f s", again, delay)
        await asyncio.sleep(delay)

    async def _turn(self) -> None:
        """Wait for the turn of a request; a turn that falls into a pause is lost, or many would come together."""
        at = 0.0
        while True:
            while (wait := self._paused_until - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if self.requests_per_minute is None or at > self._paused_until:
                return
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + 60.0 / self.requests_per_minute
            await asyncio.sleep(at - now)


def _check_prices(prices: Any) -> None:
    numbers = prices if isinstance(prices, tuple | list) else ()
    if len(numbers) != 2 or not all(isinstance(price, int | float) and 0 <= price < math.inf for price in numbers):
        raise ValueError(f"prices are two numbers >= 0, of a million tokens read and written, got {prices!r:.80}")


class ChatClient(ChatAgent):
    """A server that is spoken to over HTTP: vLLM, SGLang, llama.cpp, Ollama, OpenAI, OpenRouter, ``oreo serve``, ..."""

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        request: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **patience: Any,
    ) -> None:
        """Say whom to ask.

        Args:
            base_url: up to ``/chat/completions``, such as "http://localhost:8000/v1".
            model: its name there.
            api_key: sent as a bearer token; None: none is. It is never written down or shown.
            temperature, max_tokens: of each request; None: the server's default.
            request: further fields, such as ``{"top_p": 0.9, "max_completion_tokens": 512}``.
            headers: further headers.
            patience: ``retries``, ``timeout_s``, ``requests_per_minute``, ``prices``, ..., see ``ChatAgent``.

        Raises:
            ValueError: an address that is none, a value that makes no sense.
        """
        own = {"temperature": temperature, "max_tokens": max_tokens}
        sent = {name: value for name, value in own.items() if value is not None}
        super().__init__(model, request={**sent, **(request or {})}, **patience)
        self.base_url = _address(base_url).removesuffix("/chat/completions")
        self._place = re.sub(r"//[^/]*@", "//", self.base_url)  # as it is shown
        self._key = api_key
        self._headers = {**(headers or {}), **({} if api_key is None else {"Authorization": f"Bearer {api_key}"})}
        if api_key is not None and not _sendable(api_key):
            raise ValueError(
                "api_key is a text of ASCII characters without spaces around it; None where the server wants none"
            )
        for name, value in (headers or {}).items():
            if not _sendable(name) or not _sendable(value):
                raise ValueError(f"headers: the name and value of {name!r} are texts of ASCII characters")
        try:
            json.dumps(self.request, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"request holds what JSON cannot say: {error}") from None
        self._connections: Any = None

    async def __aenter__(self) -> ChatClient:
        """Keep connections until the end of the block."""
        self._connections = self._open()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close the connections."""
        connections, self._connections = self._connections, None
        await connections.aclose()

    def _open(self) -> Any:
        import httpx2

        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        return httpx2.AsyncClient(headers=self._headers, timeout=None, limits=limits)

    async def _completion(self, messages: Sequence[Message]) -> Any:
        import httpx2

        body = {"model": self.model, "messages": [dict(message) for message in messages], **self.request}
        connections = self._connections or self._open()
        try:
            answer = await connections.post(f"{self.base_url}/chat/completions", json=body)
        except httpx2.ConnectError as error:
            raise AskAgainError(f"nobody answers at {self._place} ({error})") from error
        except httpx2.RequestError as error:
            raise AskAgainError(f"the connection to {self._place} was lost ({type(error).__name__} {error})") from error
        except httpx2.InvalidURL as error:
            raise ChatRefused(f"{self._place} is no address ({error})") from error
        finally:
            if connections is not self._connections:
                await connections.aclose()
        try:
            said = json.loads(answer.content)
        except (ValueError, RecursionError):
            said = answer.content.decode("utf-8", "replace")
        if not answer.is_success:
            raise_for(answer.status_code, self._without_key(said), answer.headers)
        return said

    def _without_key(self, said: Any) -> Any:
        """What a server says of a request may repeat the key."""
        if self._key is None or self._key not in str(said):
            return said
        return str(said).replace(self._key, "***")


def _address(given: Any) -> str:
    """Return an address without its last slash."""
    try:
        if re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", given):
            parts = urlsplit(given)
            if parts.hostname and parts.port != 0:
                return str(given.rstrip("/"))
    except (TypeError, ValueError):
        pass
    shown = re.sub(r"//[^/]*@", "//", given) if isinstance(given, str) else given
    raise ValueError(f"base_url begins with http:// or https://, such as http://localhost:8000/v1, got {shown!r:.200}")


def _sendable(text: Any) -> bool:
    """Whether a text can stand in a header."""
    return isinstance(text, str) and text != "" and text.isascii() and text.isprintable() and text == text.strip()


class ClientAgent(ChatAgent):
    """The object of another library: ``openai.OpenAI``, ``openai.AsyncOpenAI``, or any that has its methods.

    Asked for is ``client.chat.completions.create(model=..., messages=..., ...)``; errors are told by their
    ``status_code``, or that of their ``response``.
    """

    def __init__(self, client: Any, model: str, **patience: Any) -> None:
        """Wrap a client; it is told to leave asking again to this class, where it can be.

        Args:
            client: the object.
            model: the name of a model.
            patience: see ``ChatAgent``.
        """
        super().__init__(model, **patience)
        once = getattr(client, "with_options", None)
        self._create = (client if once is None else once(max_retries=0)).chat.completions.create

    @staticmethod
    def fits(client: Any) -> bool:
        """Whether an object has the method that is called."""
        return callable(getattr(getattr(getattr(client, "chat", None), "completions", None), "create", None))

    async def _completion(self, messages: Sequence[Message]) -> Any:
        asked = {"model": self.model, "messages": [dict(message) for message in messages], **self.request}
        try:
            if inspect.iscoroutinefunction(self._create):
                return await self._create(**asked)
            said = await _in_a_thread(lambda: self._create(**asked))
            return await said if inspect.isawaitable(said) else said
        except Exception as error:  # of a library that is not known here
            response = getattr(error, "response", None)
            status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
            if isinstance(status, int):
                body = getattr(error, "body", None) or {"message": str(error), "code": getattr(error, "code", None)}
                raise_for(status, body, getattr(response, "headers", None) or {})
            if isinstance(error, TypeError | ValueError | AttributeError):
                raise ChatRefused(f"the client cannot be asked this way: {type(error).__name__}: {error}") from error
            raise AskAgainError(f"{type(error).__name__}: {error}") from error


async def _in_a_thread(function: Callable[[], Any]) -> Any:
    """Call a function in a thread; a coroutine that it returns when nobody waits any more is closed."""
    given_up = threading.Event()

    def call() -> Any:
        said = function()
        if given_up.is_set() and inspect.iscoroutine(said):
            said.close()
        return said

    future = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        given_up.set()
        if future.done() and not future.cancelled() and inspect.iscoroutine(said := future.result()):
            said.close()
        raise
