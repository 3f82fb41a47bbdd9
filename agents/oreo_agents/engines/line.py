"""A line to one server: JSON over HTTP, many requests at once, and patience while the server is away.

Knows: addresses, errors of HTTP, when to ask again. Does not know: what is asked.
One event loop in a thread of its own does all of it; whoever asks may do other things meanwhile.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

# Between tries, seconds: the first and the longest pause.
_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
# So long we wait for a server that was never there: an address may be wrong.
_NEVER_THERE_S = 30.0
# So long it may take to reach a server, seconds.
_CONNECT_S = 10.0


class ServerError(ValueError):
    """A server that cannot be used, in a sentence that says what to do."""


class AwayError(Exception):
    """A server does not answer now; it may later."""


class Line:
    """Requests to one server."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        in_flight: int = 128,
        timeout_s: float = 600.0,
        patience_s: float = 600.0,
    ) -> None:
        """Start the thread; nothing is asked yet.

        Args:
            url: of the server, without a path.
            token: that it asks for, ``Authorization: Bearer TOKEN``.
            in_flight: requests at once, at most.
            timeout_s: how long an answer may take, seconds.
            patience_s: how long the server may be away, seconds.
        """
        self.url, self.timeout_s, self.patience_s = url.rstrip("/"), timeout_s, patience_s
        self.on_return: Callable[[], Awaitable[None]] | None = None
        """Awaited when the server is there again after it was away, before anything else is asked of it."""
        self.on_away: Callable[[], None] | None = None
        """Called before it is looked whether a server that was away is back."""
        self._away: str | None = None
        self._was_there = False
        self._places = asyncio.Semaphore(in_flight)
        self._returning = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each request otherwise
        local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
        self._http = httpx2.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx2.Timeout(timeout_s, connect=_CONNECT_S, pool=None),
            limits=httpx2.Limits(max_connections=in_flight + 4, max_keepalive_connections=in_flight + 4),
            trust_env=not local,  # no proxy leads to this machine
        )
        self._thread = threading.Thread(target=self._loop.run_forever, name="oreo-line", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, _T]) -> "Future[_T]":
        """Have something done on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def do(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Have something done on the loop, and wait for it."""
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Give up what is on its way, and end the thread."""
        if not self._loop.is_closed():
            self.do(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._http.aclose()

    async def get(self, path: str) -> Any:
        """Return what the server says at an address, see ``post``."""
        return await self._ask("GET", path, None)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return what the server answers; while it is away, it is asked again with the same words.

        Raises:
            ServerError: the request was refused, or the server was away for too long.
        """
        async with self._places:
            return await self._ask("POST", path, body)

    async def post_once(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return what the server answers at once: for what is asked when it returns.

        Raises:
            AwayError: it is away.
            ServerError: the request was refused.
        """
        reply, reason = await self._once("POST", path, body)
        if reason is not None:
            raise AwayError(reason)
        return reply

    async def order(self, path: str, body: Mapping[str, Any] | None = None) -> None:
        """Tell the server to do something, once.

        Raises:
            ServerError: it did not.
        """
        _, reason = await self._once("POST", path, body, empty=True)
        if reason is not None:
            raise ServerError(f"{path}: {reason}")

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        given_up: float | None = None
        pause = _PAUSE_S
        while True:
            reason = await self._reason_to_wait()
            if reason is None:
                reply, reason = await self._once(method, path, body)
                if reason is None:
                    self._was_there = True
                    return reply
                if self._away is None:
                    _log.warning("%s: %s; it is asked again for %g s", self.url, reason, self._patience())
                self._away = reason
            now = time.monotonic()
            given_up = now + self._patience() if given_up is None else given_up
            if now + pause > given_up:
                hint = (
                    "Look at the server's log; what is finished is kept, and the same command goes on from there"
                    if self._was_there
                    else "Start the server first, or correct its address"
                )
                raise ServerError(
                    f"{self.url}{path}: {reason}, for {self._patience():g} s (sampler.patience_s). {hint}"
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _patience(self) -> float:
        return self.patience_s if self._was_there else min(self.patience_s, _NEVER_THERE_S)

    async def _reason_to_wait(self) -> str | None:
        """Find out, one request for all, whether a server that was away is back; returns why it is not."""
        if self._away is None:
            return None
        async with self._returning:
            if self._away is None:
                return None
            if self.on_away is not None:
                self.on_away()
            _, reason = await self._once("GET", "/health", None, empty=True)
            if reason is None and self.on_return is not None:
                try:
                    await self.on_return()
                except AwayError as error:
                    reason = str(error)
            if reason is not None:
                return reason
            _log.warning("%s is back", self.url)
            self._away = None
            return None

    async def _once(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, empty: bool = False
    ) -> tuple[Any, str | None]:
        """Ask once; returns what came, or why to ask again.

        Raises:
            ServerError: to ask again would be no use.
        """
        try:
            response = await self._http.request(method, path, json=body)
        except httpx2.TimeoutException as error:
            waited = _CONNECT_S if isinstance(error, httpx2.ConnectTimeout) else self.timeout_s
            return None, f"no answer within {waited:g} s"
        except httpx2.TransportError as error:
            return None, f"it cannot be reached ({str(error) or type(error).__name__})"
        if response.status_code >= 500 or response.status_code == 429:
            return None, f"it answers {response.status_code} ({_message(response)})"
        if response.status_code in (401, 403):
            raise ServerError(
                f"{self.url}{path}: the server wants another token ({response.status_code}); set OREO_SAMPLER_TOKEN to "
                "what it was started with (--api-key)"
            )
        if response.status_code >= 400:
            raise ServerError(f"{self.url}{path} refuses the request: {response.status_code}, {_message(response)}")
        if empty:
            return None, None
        try:
            return response.json(), None
        except ValueError:
            raise ServerError(
                f"{self.url}{path} answers with text that is no JSON ({response.text[:80]!r}): this is no server of "
                "vLLM; look at sampler.url"
            ) from None


def _message(response: httpx2.Response) -> str:
    """Return what a server says of an error, in one line."""
    try:
        body = response.json()
        said = body.get("error", body)
        text = said.get("message", said) if isinstance(said, dict) else said
    except (ValueError, AttributeError):
        text = response.text
    return " ".join(str(text).split())[:300] or "without a word"
