"""The HTTP face: OpenAI's chat completions, completions and models, and V along a conversation.

Knows: routes, tokens of access, streams, who has left. Does not know: parameters (``bodies``), forms (``replies``),
networks (an ``Engine``).
"""

import asyncio
import dataclasses
import hmac
import json
import logging
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from oreo_agents.search import Search
from oreo_agents.serving.answering import Engine, Reply
from oreo_agents.serving.bodies import Asked, RefusedError, read_json, read_messages, read_request, require_model, seeds
from oreo_agents.serving.conversations import Question
from oreo_agents.serving.replies import chunk, error_body, valued, whole
from oreo_agents.serving.settings import ServeSettings, able, of_commands, rows_of
from oreo_agents.serving.worker import ClosedError, Job, QueueFullError, Worker

_log = logging.getLogger(__name__)

# Seconds: how often to look whether a client is still there, how long its body may take, and after how long without
# news a stream is kept awake.
_LOOK, _BODY_TIMEOUT, _AWAKE = 0.1, 30.0, 10.0
_FAILED = "the server failed to answer; its log says why"


def create_app(
    engine: Engine, searches: Mapping[str, Search], settings: ServeSettings, *, model: str, worker: Worker | None = None
) -> FastAPI:
    """Return the application; its thread ends when it is shut down.

    Args:
        engine: answers.
        searches: by name; those that cannot answer here are refused when they are asked for.
        settings: with a name among them as ``search``.
        model: the name that is served.
        worker: that calls the engine; None: one by the settings.

    Raises:
        ValueError: the default search is not known, or cannot answer here.
    """
    if settings.search is None or settings.search not in searches:
        raise ValueError(f"search={settings.search}: unknown search; known: {', '.join(searches)}")
    if (reason := engine.unfit(searches[settings.search])) is not None:
        raise ValueError(f"search={settings.search}: {reason}")
    settings = dataclasses.replace(settings, max_tokens=min(settings.max_tokens, engine.context))
    server = _Server(engine, searches, settings, model, worker)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(server.worker.close)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, title="oreo serve")
    app.state.worker = server.worker
    app.add_api_route("/health", server.health, methods=["GET"])
    app.add_api_route("/v1/models", server.models, methods=["GET"])
    app.add_api_route("/v1/models/{name:path}", server.one_model, methods=["GET"])
    app.add_api_route("/v1/chat/completions", server.chat, methods=["POST"])
    app.add_api_route("/v1/completions", server.text, methods=["POST"])
    app.add_api_route("/v1/values", server.values, methods=["POST"])
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(QueueFullError, _full)
    app.add_exception_handler(ClosedError, _closed)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)
    return app


class _Server:
    """What the routes share."""

    def __init__(
        self,
        engine: Engine,
        searches: Mapping[str, Search],
        settings: ServeSettings,
        model: str,
        worker: Worker | None,
    ) -> None:
        self.engine, self.searches, self.settings, self.model = engine, searches, settings, model
        self.worker = worker or Worker(batch_rows=settings.batch_size, queue=settings.queue, wait_s=settings.wait_s)
        self.began = int(time.time())
        self._encoding = threading.Lock()

    # Routes.

    async def health(self) -> JSONResponse:
        """Say whether it answers, and how much there is to do."""
        alive = self.worker.alive
        state = {"status": "ok" if alive else "closed", "waiting": self.worker.waiting, "running": self.worker.running}
        return JSONResponse(state, 200 if alive else 503)

    async def models(self, request: Request) -> JSONResponse:
        """List the one model."""
        self._admit(request)
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def one_model(self, request: Request, name: str) -> JSONResponse:
        """Describe the model."""
        self._admit(request)
        require_model({"model": name}, self.model)
        return JSONResponse(self._model())

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        return await self._complete(request, chat=True)

    async def text(self, request: Request) -> Response:
        """Continue a text."""
        return await self._complete(request, chat=False)

    async def _complete(self, request: Request, *, chat: bool) -> Response:
        body = await self._body(request)
        asked = read_request(body, chat=chat, model=self.model, searches=self.searches, settings=self.settings)
        if (reason := self.engine.unfit(asked.search)) is not None:
            raise RefusedError(f"search {asked.search_name}: {reason}", "search")
        tokens, limit = await self._fit(asked)
        heard: asyncio.Queue[tuple[int, str, float | None] | None] = asyncio.Queue()
        jobs = self._jobs(asked, tokens, limit, heard, asyncio.get_running_loop())
        self.worker.submit(jobs)
        if asked.stream:
            return StreamingResponse(
                self._stream(request, asked, jobs, heard),
                media_type="text/event-stream",
                headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
            )
        replies = await self._wait(request, jobs)
        return Response(status_code=499) if replies is None else JSONResponse(whole(asked, replies, **self._labels()))

    async def values(self, request: Request) -> Response:
        """Say V before and after each step of the assistant."""
        body = await self._body(request)
        unknown = [name for name in body if name not in ("messages", "model")]
        if unknown:
            raise RefusedError(f"unknown parameter {unknown[0]!r:.80}; values are of messages", unknown[0][:100])
        require_model(body, self.model)
        if not self.engine.has_value:
            raise RefusedError("V is read by a value network, and this server has none (value.path)", "model")
        messages = read_messages(body.get("messages"), last=("user", "assistant", "system"))
        await self._encoded(self.engine.encode, messages)  # a conversation that cannot be written is refused here
        job = Job("values", self.engine.values, messages)
        self.worker.submit([job])
        found = await self._wait(request, [job])
        return Response(status_code=499) if found is None else JSONResponse(valued(found[0], self.model))

    # How they do it.

    def _admit(self, request: Request) -> None:
        token = self.settings.token
        if token is None:
            return
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), token.encode())
        if kind.lower() != "bearer" or not same:
            raise RefusedError(
                "this server asks for its token: Authorization: Bearer TOKEN", status=401, code="invalid_api_key"
            )

    async def _body(self, request: Request) -> dict[str, Any]:
        self._admit(request)
        limit, raw = self.settings.max_body_bytes, bytearray()
        try:
            async with asyncio.timeout(_BODY_TIMEOUT):
                async for piece in request.stream():
                    raw += piece
                    if len(raw) > limit:
                        raise RefusedError(f"the body has more than {limit} bytes", status=413, code="too_large")
        except TimeoutError:
            raise RefusedError(f"the body took longer than {_BODY_TIMEOUT:.0f} s", status=408) from None
        return read_json(bytes(raw))

    def _model(self) -> dict[str, Any]:
        fit = able(self.searches, self.engine.unfit)
        own: dict[str, Any] = {"searches": [*fit], "searches_of_commands": of_commands(fit)}
        own |= {"default": self.settings.search, "context": self.engine.context}
        own |= {"max_tokens": self.settings.max_tokens, "value": self.engine.has_value}
        return {"id": self.model, "object": "model", "created": self.began, "owned_by": "oreo", "oreo": own}

    def _labels(self) -> dict[str, Any]:
        return {"answer_id": uuid.uuid4().hex, "created": int(time.time()), "model": self.model}

    async def _encoded(self, encode: Callable[[Any], list[int]], text: Any) -> list[int]:
        def locked() -> list[int]:
            with self._encoding:
                return encode(text)

        try:
            return await asyncio.to_thread(locked)
        except ValueError as error:
            raise RefusedError(str(error), "messages") from None

    async def _fit(self, asked: Asked) -> tuple[tuple[int, ...], int]:
        """Return the tokens of the prompt, and how many the answer may have."""
        chat = asked.prompt is None
        tokens = await self._encoded(
            self.engine.encode if chat else self.engine.encode_text, asked.messages if chat else asked.prompt
        )
        context, param = self.engine.context, "messages" if chat else "prompt"
        room = context - len(tokens)
        if not tokens:
            raise RefusedError(f"{param}: no token is left of this text", param)
        if room < (asked.max_tokens or 1):
            wanted = f" and {asked.max_tokens} of the answer" if asked.max_tokens else ""
            raise RefusedError(
                f"the context of this model is {context} tokens, and {len(tokens)} of the prompt{wanted} are more: "
                "shorten the prompt" + (", or ask for fewer max_tokens" if wanted else ""),
                param,
                code="context_length_exceeded",
            )
        return tuple(tokens), asked.max_tokens or min(room, self.settings.max_tokens)

    def _jobs(
        self,
        asked: Asked,
        tokens: tuple[int, ...],
        limit: int,
        heard: "asyncio.Queue[tuple[int, str, float | None] | None]",
        loop: asyncio.AbstractEventLoop,
    ) -> list[Job]:
        jobs = []
        for number, seed in enumerate(seeds(asked.seed, asked.n)):
            gone = threading.Event()

            def tell(text: str, value: float | None, number: int = number) -> None:
                loop.call_soon_threadsafe(heard.put_nowait, (number, text, value))

            question = Question(
                messages=asked.messages or ({"role": "user", "content": asked.prompt or ""},),
                tokens=tokens,
                seed=seed,
                task=asked.task,
                max_tokens=limit,
                stops=asked.stops,
                commands=asked.commands,
                raw=asked.prompt is not None,
                cancelled=gone.is_set,
                on_step=tell if asked.stream else None,
            )
            work = partial(self.engine.answer, asked.search)
            job = Job(asked.search, work, question, rows=rows_of(asked.search), cancelled=gone)
            if asked.stream:
                job.future.add_done_callback(lambda _: _call(loop, heard.put_nowait, None))
            jobs.append(job)
        return jobs

    async def _wait(self, request: Request, jobs: Sequence[Job]) -> list[Any] | None:
        """Return the results; None when the client has left, whose work then ends."""
        waited = [asyncio.wrap_future(job.future) for job in jobs]
        try:
            while (await asyncio.wait(waited, timeout=_LOOK))[1]:
                if await request.is_disconnected():
                    return None
            return [await one for one in waited]
        except ValueError as error:
            raise RefusedError(str(error)) from None
        except asyncio.CancelledError:
            # Nobody else cancels: the worker at its end, or uvicorn when its patience does.
            raise ClosedError("the server is shutting down") from None
        except Exception:  # the worker has logged what a model raised; who waits is told no more than that
            raise RefusedError(_FAILED, status=500) from None
        finally:
            self.worker.cancel([job for job in jobs if not job.future.done()])
            for one in waited:
                one.cancel()

    async def _stream(
        self,
        request: Request,
        asked: Asked,
        jobs: Sequence[Job],
        heard: "asyncio.Queue[tuple[int, str, float | None] | None]",
    ) -> AsyncIterator[str]:
        """Yield events: each step as it is known, the end of each choice, and what they took."""
        labels, sent, ended = self._labels(), [""] * len(jobs), [False] * len(jobs)
        piece = partial(chunk, asked, **labels)
        steps = [0] * len(jobs)
        quiet = 0.0
        try:
            for number in range(len(jobs)):
                yield _event(piece(index=number, text="", role=True))
            while not all(ended):
                try:
                    news = await asyncio.wait_for(heard.get(), _LOOK)
                    quiet = 0.0
                except TimeoutError:
                    if await request.is_disconnected():
                        return
                    quiet += _LOOK
                    if quiet >= _AWAKE:
                        quiet = 0.0
                        yield ": searching\n\n"
                    continue
                if news is not None:
                    number, text, value = news
                    text = text[: len(text) - _held_back(text, asked.stops)]
                    if text.startswith(sent[number]) and text != sent[number] and not ended[number]:
                        own = {"step": steps[number], "value": value}
                        yield _event(piece(index=number, text=text[len(sent[number]) :], more=own))
                        sent[number], steps[number] = text, steps[number] + 1
                    continue
                for number, job in enumerate(jobs):
                    if not job.future.done() or ended[number]:
                        continue
                    ended[number] = True
                    reply: Reply = job.future.result()
                    for text, own in _rest(reply, sent[number], steps[number]):
                        yield _event(piece(index=number, text=text, more=own))
                    yield _event(piece(index=number, reply=reply))
            if asked.include_usage:
                replies = [job.future.result() for job in jobs]
                total = whole(asked, replies, **labels)
                yield _event(piece() | {"choices": [], "usage": total["usage"]})
            yield "data: [DONE]\n\n"
        except Exception as error:  # the status is sent already: the event says what the status would have
            known = isinstance(error, ValueError | RefusedError | ClosedError)
            message = str(error) if known else _FAILED
            yield _event(error_body(message, "invalid_request_error" if known else "server_error"))
        finally:
            self.worker.cancel([job for job in jobs if not job.future.done()])


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[Any], None], argument: Any) -> None:
    """Call a function in a loop's thread, if there still is one."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, argument)


def _rest(reply: Reply, sent: str, first: int) -> list[tuple[str, dict[str, Any]]]:
    """Return what of an answer was not sent yet, a piece a step, with V after each."""
    found, start, number = [], 0, first
    for step in reply.steps:
        end = start + len(step.text)
        if end > len(sent):
            text = reply.text[max(start, len(sent)) : end]
            found.append((text, {"step": number, "value": step.value}))
            number += 1
        start = end
    return found


def _held_back(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end of a text must not be sent yet: a stop, or what may become one."""
    first = min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)
    if first is not None:
        return len(text) - first
    longest = max(map(len, stops), default=1) - 1
    return max(
        (size for size in range(1, min(longest, len(text)) + 1) if any(s.startswith(text[-size:]) for s in stops)),
        default=0,
    )


def _event(body: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    return JSONResponse(error_body(str(error), error.kind, param=error.param, code=error.code), error.status, headers)


async def _full(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, QueueFullError)
    return JSONResponse(
        error_body(str(error), "server_error", code="overloaded"), 503, {"Retry-After": str(error.retry_after)}
    )


async def _closed(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(error_body(str(error), "server_error", code="closed"), 503, {"Retry-After": "5"})


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse(error_body(message, "invalid_request_error"), error.status_code, error.headers)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(error_body(_FAILED, "server_error"), 500)
