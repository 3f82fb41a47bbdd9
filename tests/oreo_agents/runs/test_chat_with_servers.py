"""`oreo chat --url` of what is no server of ours: a sentence, whatever it sends."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest

from oreo_agents.runs import chat, cli

MODELS = {"data": [{"id": "a", "oreo": {"default": "greedy", "searches": ["greedy"]}}]}


class Server(BaseHTTPRequestHandler):
    """Sends what a test wants."""

    models: ClassVar[Any] = MODELS
    events: ClassVar[list[Any]] = []

    def do_GET(self) -> None:
        self._send(self.models)

    def do_POST(self) -> None:
        self._send("".join(f"data: {e if isinstance(e, str) else json.dumps(e)}\n\n" for e in self.events))

    def _send(self, what: Any) -> None:
        content = (what if isinstance(what, str) else json.dumps(what)).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def ended(given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["oreo", "chat", *given])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.startswith("oreo: ") and said.count("\n") == 1, said
    return said


@pytest.mark.parametrize("wrong", ["http://a:b", "http://[::1", "ftp://a", "http://", "http://a b", "", "http://a:0"])
def test_what_is_no_address_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch, capsys):
    assert wrong in ended(["--url", wrong], monkeypatch, capsys)


@pytest.mark.parametrize(
    "models", ["<html>", [], {"data": 5}, {"data": [5]}, {"data": [{"id": "a", "oreo": [1]}]}, {"data": []}, "[" * 9999]
)
def test_what_lists_no_models_is_said(models: Any, url: str, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(Server, "models", models)
    assert url in ended(["--url", url], monkeypatch, capsys)


@pytest.mark.parametrize(
    "event", ["{", [1], {"choices": 5}, {"choices": [5]}, {"choices": [{"delta": {"content": 7}}]}, "[" * 9999]
)
def test_answers_of_another_form_are_said_and_the_talk_goes_on(event: Any, url: str, monkeypatch, capsys):
    monkeypatch.setattr(Server, "events", [event])
    lines = iter(["a question", "/quit"])
    chat.main(["--url", url], read=lambda: next(lines))
    assert "answers otherwise than an endpoint in OpenAI's form" in capsys.readouterr().out.replace("\n", " ")


def test_what_a_server_says_steers_no_terminal(url: str, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(Server, "events", [{"error": {"message": "\x1b]0;title [red]x[/nothing]"}}])
    lines = iter(["a question", "/quit"])
    chat.main(["--url", url], read=lambda: next(lines))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\\x1b]0;title [red]x[/nothing]" in shown
