"""A server on this machine that answers chat completions as it is told: a stand-in for a model's server."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def completion(text: Any, *, finish: Any = "stop", usage: Any = None, **message: Any) -> dict[str, Any]:
    """What a server answers."""
    said = {"role": "assistant", "content": text, **message}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "stub",
        "choices": [{"index": 0, "message": said, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13} if usage is None else usage,
    }


def failure(message: str, **more: Any) -> dict[str, Any]:
    """How a server says that something is wrong."""
    return {"error": {"message": message, **more}}


class Stub:
    """What was asked, and where."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any]) -> None:
        """Answer with a function of the request: a body, or (status, body), or (status, body, headers)."""
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""
        self.lock = threading.Lock()

    @property
    def questions(self) -> list[str]:
        """The last message of each request."""
        return [request["messages"][-1]["content"] for request in self.requests]


@contextmanager
def serving(answer: Callable[[dict[str, Any]], Any]) -> Iterator[Stub]:
    """Serve until the end of the block."""
    stub = Stub(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with stub.lock:
                stub.requests.append(request)
                stub.headers.append({name.lower(): value for name, value in self.headers.items()})
            said = stub.answer(request)
            status, body, *headers = said if isinstance(said, tuple) else (200, said)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            try:
                self.send_response(status)
                for name, value in {**(headers[0] if headers else {}), "content-length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                self.close_connection = True  # whoever asked has gone

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *arguments: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
