"""The server over HTTP, as a client sees it."""

import asyncio
import json
import logging
import re
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import httpx2
import pytest
from conftest import Running, served

from oreo_agents.search import Search
from oreo_agents.serving.answering import LocalEngine, Reply
from oreo_agents.serving.bodies import _HONOURED, _OF_CHAT
from oreo_agents.serving.conversations import Question
from oreo_agents.serving.settings import ServeSettings, known_searches

SAID = [{"role": "user", "content": "2 + 3 = ?"}]


def post(
    server: Running, path: str = "/v1/chat/completions", headers: dict[str, str] | None = None, **body: Any
) -> Any:
    if path.endswith("chat/completions"):
        body = {"messages": SAID, **body}
    return httpx2.post(server.url + path, json=body, headers=headers, timeout=60, trust_env=False)


def events(server: Running, **body: Any) -> list[dict[str, Any]]:
    found = []
    sent = {"messages": SAID, "stream": True, **body}
    with httpx2.stream("POST", server.url + "/v1/chat/completions", json=sent, timeout=60, trust_env=False) as response:
        assert response.status_code == 200 and response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line:
                assert line.startswith("data: ")
                found.append(line.removeprefix("data: "))
    assert found.pop() == "[DONE]"
    return [json.loads(one) for one in found]


def text_of(found: Sequence[dict[str, Any]], index: int = 0) -> str:
    choices = [choice for event in found for choice in event["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def said(text: str, **more: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}], **more}).encode()


class Gated:
    """An engine that answers once it may, and notes its batches."""

    def __init__(self, engine: LocalEngine) -> None:
        """Take an engine."""
        self.engine, self.entered, self.open = engine, Event(), Event()
        self.batches: list[int] = []
        self.left = Event()

    def __getattr__(self, name: str) -> Any:
        """Be like it otherwise."""
        return getattr(self.engine, name)

    def answer(self, search: Search, questions: Sequence[Question]) -> list[Reply]:
        self.entered.set()
        until = time.monotonic() + 300
        while not self.open.wait(0.01) and time.monotonic() < until:
            if all(question.cancelled() for question in questions):
                self.left.set()
                break
        self.batches.append(len(questions))
        return self.engine.answer(search, questions)


def test_an_answer_is_that_of_the_search(server: Running, engine: LocalEngine):
    body = post(server, seed=3, max_tokens=20, oreo={"search": "step_beam", "expand": 3}).json()
    question = Question(messages=tuple(SAID), tokens=tuple(engine.encode(SAID)), seed=3, max_tokens=20)
    search: Any = known_searches()["step_beam"]
    [reply] = engine.answer(type(search)(expand=3), [question])
    [choice] = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": reply.text, "refusal": None}
    assert choice["finish_reason"] == ("stop" if reply.finished else "length")
    assert (body["object"], body["model"], choice["index"]) == ("chat.completion", "tiny", 0)
    prompt, answer = reply.prompt_tokens, reply.answer_tokens
    assert body["usage"] == {
        "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer
    }  # fmt: skip
    own = body["oreo"]
    assert "".join(step["text"] for step in own["steps"]) == reply.text
    assert [step["value"] for step in own["steps"]] == pytest.approx([step.value for step in reply.steps], abs=1e-4)
    assert own["tokens"] == {"generated": reply.generated, "value": reply.value_tokens}
    assert [one["text"] for one in own["candidates"]] == [one.text for one in reply.candidates]
    assert [one["chosen"] for one in own["candidates"]] == [one.chosen for one in reply.candidates]
    assert [one["score"] for one in own["candidates"]] == [one.score for one in reply.candidates]


@pytest.mark.parametrize("name", [name for name in known_searches() if name != "admissible"])
def test_every_search_answers_and_streams_the_same(name: str, server: Running):
    how = {"search": name, "seed": 1, "max_tokens": 24}
    whole = post(server, **how).json()
    found = events(server, **how, stream_options={"include_usage": True})
    assert text_of(found) == whole["choices"][0]["message"]["content"]
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all(event["object"] == "chat.completion.chunk" and event["id"] == found[0]["id"] for event in found)
    *_, last, counted = found
    assert last["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert last["oreo"]["steps"] == [
        {key: value if key == "text" else pytest.approx(value, abs=1e-4) for key, value in step.items()}
        for step in whole["oreo"]["steps"]
    ]
    assert counted["choices"] == [] and counted["usage"] == whole["usage"]
    pieces = [event for event in found if (event["choices"] or [{}])[0].get("delta", {}).get("content")]
    assert [event["oreo"]["step"] for event in pieces] == list(range(len(pieces)))


def test_commands_can_be_all_that_is_said(server: Running):
    body = post(server, oreo={"search": "admissible", "commands": ["go north", "take lamp"]}).json()
    assert body["choices"][0]["message"]["content"] in ("go north", "take lamp")


def test_several_choices_differ_and_the_first_is_that_of_one(server: Running):
    how = {"search": "sampled", "seed": 1, "max_tokens": 24}
    several = post(server, n=3, **how).json()
    texts = [choice["message"]["content"] for choice in several["choices"]]
    assert len(set(texts)) == 3 and texts[0] == post(server, **how).json()["choices"][0]["message"]["content"]
    assert all(choice["oreo"]["tokens"]["generated"] > 0 for choice in several["choices"])
    counts = [post(server, **how).json()["usage"]["completion_tokens"]]
    assert several["usage"]["completion_tokens"] > counts[0]
    found = events(server, n=3, **how)
    assert [text_of(found, index) for index in range(3)] == texts


def test_a_stop_is_never_sent(server: Running):
    how = {"search": "sampled", "seed": 4, "max_tokens": 48}
    text = post(server, **how).json()["choices"][0]["message"]["content"]
    stop = text[len(text) // 2 :][:2]
    cut = post(server, **how, stop=[stop]).json()["choices"][0]
    assert cut["message"]["content"] == text[: text.find(stop)] and cut["finish_reason"] == "stop"
    assert text_of(events(server, **how, stop=stop)) == text[: text.find(stop)]


def test_log_probabilities_of_tokens(server: Running):
    [choice] = post(server, search="greedy", logprobs=True, max_tokens=8).json()["choices"]
    content = choice["logprobs"]["content"]
    assert "".join(one["token"] for one in content) == choice["message"]["content"]
    assert all(one["logprob"] <= 0 and bytes(one["bytes"]).decode() == one["token"] for one in content)


def test_a_text_is_continued(server: Running, engine: LocalEngine):
    body = post(server, "/v1/completions", prompt="2 + 3", search="greedy", max_tokens=5).json()
    assert body["object"] == "text_completion" and isinstance(body["choices"][0]["text"], str)
    assert body["usage"]["prompt_tokens"] == len(engine.encode_text("2 + 3"))


def test_v_of_given_messages(server: Running, engine: LocalEngine):
    said = [*SAID, {"role": "assistant", "content": "2 + 3 = 5\n#### 5"}]
    body = post(server, "/v1/values", messages=said).json()
    [found] = engine.values([said])
    assert [step["text"] for step in body["steps"]] == ["2 + 3 = 5\n", "#### 5"]
    assert [step["value"] for step in body["steps"]] == pytest.approx([step.value for step in found.steps], abs=1e-4)
    assert body["start_value"] == pytest.approx(found.start_value, abs=1e-4)
    assert body["usage"]["total_tokens"] == found.tokens
    assert post(server, "/v1/values", messages=SAID).status_code == 400
    assert post(server, "/v1/values", messages=said, n=1).json()["error"]["param"] == "n"
    long = [*SAID, {"role": "assistant", "content": "x " * 300}]
    assert "and the context is 256" in post(server, "/v1/values", messages=long).json()["error"]["message"]


def test_models_and_health(server: Running):
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        [model] = client.get("/v1/models").json()["data"]
        assert (model["id"], model["object"], model["oreo"]["context"]) == ("tiny", "model", 256)
        assert {"step_beam", "admissible"} <= {*model["oreo"]["searches"]}
        assert model["oreo"]["searches_of_commands"] == ["admissible"] and model["oreo"]["max_tokens"] == 48
        assert model["oreo"]["default"] == "best_of_n"
        assert client.get("/v1/models/tiny").json()["id"] == "tiny"
        assert client.get("/v1/models/other").status_code == 404
        assert client.get("/health").json()["status"] == "ok"


@pytest.mark.parametrize(
    ("path", "raw", "status", "message"),
    [
        ("/v1/chat/completions", b"{", 400, "the body is no JSON"),
        ("/v1/chat/completions", b"[" * 200_000, 400, "the body is no JSON"),
        ("/v1/chat/completions", b" " * 1_048_577, 413, "more than 1048576 bytes"),
        ("/v1/chat/completions", b'{"messages": [], "x": 1}', 400, "unknown parameter 'x'"),
        ("/v1/chat/completions?chat=false", b'{"prompt": "x"}', 400, "prompt='x' is not supported"),
        ("/v1/chat/completions", said("x", model="gpt-4"), 404, "is not served here"),
        ("/v1/chat/completions", said("x " * 300), 400, "the context of this model is 256 tokens"),
        ("/v1/chat/completions", said("x " * 110, max_tokens=48), 400, "and 48 of the answer are more"),
        ("/v1/completions", b'{"prompt": 5}', 400, "prompt: one text"),
        ("/v1/nothing", b"{}", 404, "Not Found"),
        ("/v1/models", b"{}", 405, "Method Not Allowed"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_cannot_be_answered_is_an_error_in_openais_form(
    path: str, raw: bytes, status: int, message: str, server: Running
):
    response = httpx2.post(server.url + path, content=raw, timeout=60, trust_env=False)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    assert message in error["message"] and "Traceback" not in response.text
    assert post(server, search="greedy", max_tokens=1).status_code == 200, "the server goes on"


def test_what_waits_is_generated_together(engine: LocalEngine):
    gated = Gated(engine)
    with served(gated) as server, ThreadPoolExecutor(8) as pool:
        how = {"search": "greedy", "max_tokens": 8}
        alone = pool.submit(post, server, **how)
        assert gated.entered.wait(30)
        others = [pool.submit(post, server, **how) for _ in range(6)]
        until = time.monotonic() + 300
        while server.worker.waiting < 6 and time.monotonic() < until:
            time.sleep(0.01)
        gated.open.set()
        texts = {one.result().json()["choices"][0]["message"]["content"] for one in [alone, *others]}
    assert gated.batches == [1, 6] and len(texts) == 1


def test_a_full_queue_says_when_to_come_again(engine: LocalEngine):
    gated = Gated(engine)
    with served(gated, queue=2, search="greedy") as server, ThreadPoolExecutor(4) as pool:
        first = pool.submit(post, server, max_tokens=2)
        assert gated.entered.wait(30)
        assert post(server, n=3).status_code == 400, "never so many at once"
        waiting = [pool.submit(post, server, max_tokens=2) for _ in range(2)]
        until = time.monotonic() + 300
        while server.worker.waiting < 2 and time.monotonic() < until:
            time.sleep(0.01)
        for stream in (False, True):
            refused = post(server, stream=stream)
            assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
            assert "the queue is full" in refused.json()["error"]["message"]
        health = httpx2.get(server.url + "/health", trust_env=False).json()
        assert health == {"status": "ok", "waiting": 2, "running": 1}
        gated.open.set()
        assert [one.result().status_code for one in [first, *waiting]] == [200] * 3


def test_a_token_is_asked_for_everywhere_but_of_health(engine: LocalEngine, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    with served(engine, token="s3cret-t0ken", search="greedy") as server:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret-t0ken"}):
            for path in ("/v1/chat/completions", "/v1/completions", "/v1/values"):
                refused = post(server, path, headers)
                assert refused.status_code == 401 and refused.json()["error"]["code"] == "invalid_api_key"
            assert httpx2.get(server.url + "/v1/models", headers=headers, trust_env=False).status_code == 401
        assert httpx2.get(server.url + "/health", trust_env=False).status_code == 200
        headers = {"Authorization": "Bearer s3cret-t0ken"}
        assert post(server, headers=headers, max_tokens=2).status_code == 200
        odd = {"Authorization": b"Bearer \xe4\xff"}
        assert httpx2.get(server.url + "/v1/models", headers=odd, trust_env=False).status_code == 401  # type: ignore[arg-type]
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_stops_the_work(stream: bool, engine: LocalEngine):
    gated = Gated(engine)
    with served(gated, search="greedy") as server:
        host, port = server.url.removeprefix("http://").split(":")
        body = json.dumps({"messages": SAID, "stream": stream}).encode()
        with socket.create_connection((host, int(port))) as client:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            assert gated.entered.wait(30)
        assert gated.left.wait(30), "the engine hears that nobody waits"
        gated.open.set()
        assert post(server, max_tokens=2).status_code == 200


def test_an_end_of_the_server_ends_what_runs(engine: LocalEngine):
    gated = Gated(engine)
    with ThreadPoolExecutor(1) as pool:
        with served(gated, search="greedy") as server:
            running = pool.submit(post, server)
            assert gated.entered.wait(30)
        assert gated.left.is_set() and not server.worker.alive
        with suppress(httpx2.HTTPError):  # the connection may go first
            assert running.result().status_code == 503


def test_a_model_that_fails_is_an_error_that_tells_nothing_of_the_inside(engine: LocalEngine):
    class Broken(Gated):
        def answer(self, search: Search, questions: Sequence[Question]) -> list[Reply]:
            raise RuntimeError("weights at /secret/place")

    with served(Broken(engine), search="greedy") as server:
        failed = post(server)
        assert failed.status_code == 500 and failed.json()["error"]["type"] == "server_error"
        assert "secret" not in failed.text
        sent = {"messages": SAID, "stream": True}
        streamed = httpx2.post(server.url + "/v1/chat/completions", json=sent, timeout=60, trust_env=False)
        assert "server_error" in streamed.text and "secret" not in streamed.text and "[DONE]" not in streamed.text


def test_without_a_value_nothing_reads_one(engine: LocalEngine):
    blind = LocalEngine(engine.policy, engine.prompt_format)
    with served(blind, search="greedy") as server:
        body = post(server, max_tokens=4).json()
        assert body["oreo"]["start_value"] is None and body["oreo"]["steps"][0]["value"] is None
        refused = post(server, search="best_of_n").json()["error"]
        assert refused["param"] == "search" and "no value network" in refused["message"]
        assert "no value network" not in json.dumps(post(server, search="majority", max_tokens=4).json())
        assert "this server has none" in post(server, "/v1/values", messages=SAID).text
        assert (
            "best_of_n"
            not in httpx2.get(server.url + "/v1/models", trust_env=False).json()["data"][0]["oreo"]["searches"]
        )


def test_many_at_once_are_each_answered_as_alone(server: Running):
    async def all_of_them() -> list[str]:
        async with httpx2.AsyncClient(base_url=server.url, timeout=120, trust_env=False) as client:
            bodies = [{"messages": SAID, "search": "sampled", "seed": seed, "max_tokens": 12} for seed in range(12)]
            responses = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for body in bodies))
        return [response.json()["choices"][0]["message"]["content"] for response in responses]

    together = asyncio.run(all_of_them())
    alone = [post(server, search="sampled", seed=seed, max_tokens=12).json() for seed in (0, 5, 11)]
    assert [together[seed] for seed in (0, 5, 11)] == [body["choices"][0]["message"]["content"] for body in alone]


def test_the_page_runs(server: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    page = Path(__file__).parents[3] / "docs" / "serving.md"
    [block] = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    exec(compile(block, str(page), "exec"), {"URL": server.url})
    assert "'completion_tokens'" in capsys.readouterr().out


def test_the_page_names_every_search_and_every_parameter_that_is_honoured():
    text = (Path(__file__).parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")
    names = [path.stem for path in (Path(__file__).parents[3] / "configs" / "search").glob("*.yaml")]
    for name in [*names, *_HONOURED - {"oreo"}, *_OF_CHAT - {"messages"}]:
        assert f"`{name}" in text, name


def test_no_answer_is_longer_than_the_context(engine: LocalEngine):
    pytest.importorskip("fastapi", reason="needs the extra [serve]")
    from oreo_agents.serving.app import create_app

    app = create_app(engine, known_searches(), ServeSettings(search="greedy", max_tokens=100_000), model="tiny")
    server: Any = next(route for route in app.routes if getattr(route, "path", "") == "/v1/models").endpoint.__self__
    assert server.settings.max_tokens == engine.context == 256
