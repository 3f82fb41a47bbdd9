"""A server with vLLM's addresses over a policy and a value of the suite, which tells the truth, or lies in one way."""

import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch

from oreo_agents.engines.proof import at, next_logprobs, own_values
from oreo_agents.episodes.generate import Sampling, generate
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue

NAME = "tiny"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has left."""


class FakeVllm:
    """Listens until it dies; ``lie`` names what it does otherwise than vLLM with the right flags."""

    def __init__(
        self,
        policy: CausalPolicy | None = None,
        value: TokenValue | None = None,
        *,
        lie: str = "",
        port: int = 0,
        context: int | None = None,
        load: Callable[[str], CausalPolicy] | None = None,
    ) -> None:
        """Listen, at a port of its own choice unless one is given."""
        self.policy, self.value, self.lie, self.load = policy, value, lie, load
        self.context = context if context is not None else (policy.max_length if policy is not None else 64)
        self.asked: list[dict[str, Any]] = []
        self.orders: list[str] = []
        self.delay: Callable[[dict[str, Any]], float] = lambda body: 0.0
        self.failures = 0
        self.running = self.most_at_once = 0
        self._read_with: dict[tuple[Any, ...], CausalPolicy] = {}
        self._lock = threading.Lock()
        self._port = port
        self._listening: _Server | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, at the same port as before."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(*fake.get(self.path))

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"null")
                self._answer(*fake.post(self.path, body))

            def _answer(self, status: int, body: Any) -> None:
                if fake._listening is not self.server:
                    self.close_connection = True
                    self.connection.close()
                    return
                text = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *said: Any) -> None:
                """Say nothing."""

        self._listening = _Server(("127.0.0.1", self._port), Handler)
        self._port = self._listening.server_address[1]
        threading.Thread(target=self._listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def die(self) -> None:
        """Listen no more, and answer nobody who waits."""
        if self._listening is not None:
            listening, self._listening = self._listening, None
            listening.shutdown()
            listening.server_close()

    def __enter__(self) -> "FakeVllm":
        """Listen."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Listen no more."""
        self.die()

    def get(self, path: str) -> tuple[int, Any]:
        if path == "/health":
            return 200, ""
        if path != "/v1/models":
            return 404, {"detail": "Not Found"}
        if self.lie == "no server of vLLM":
            return 200, "<html>hello</html>"
        names = ["somebody else"] if self.lie == "wrong name" else [NAME, "b"] if self.lie == "two names" else [NAME]
        context = self.context * 4 if self.lie == "cut context" else self.context
        return 200, {"data": [{"id": name, "object": "model", "max_model_len": context} for name in names]}

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        with self._lock:
            self.running += 1
            self.most_at_once = max(self.most_at_once, self.running)
            failing = self.failures > 0 and path == "/v1/completions"
            self.failures -= failing
        try:
            if failing:
                return 500, {"error": {"message": "EngineCore encountered an issue"}}
            if path in ("/v1/completions", "/pooling"):
                time.sleep(self.delay(body))
                if self.lie == "hang" and len(self.asked) >= 4:
                    time.sleep(30)
            with self._lock:
                return self._post(path, body)
        finally:
            with self._lock:
                self.running -= 1

    def _post(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/v1/completions":
            self.asked.append(body)
            if self.lie == "token wanted":
                return 401, {"error": "Unauthorized"}
            return self.complete(body)
        if path == "/pooling":
            return self.pool(body)
        if path not in ("/pause", "/collective_rpc", "/reset_prefix_cache", "/resume") or self.load is None:
            return 404, {"detail": "Not Found"}
        self.orders.append(path)
        if path == "/reset_prefix_cache":
            self._read_with.clear()
        if path == "/collective_rpc" and self.lie != "deaf":
            assert body["method"] == "reload_weights"
            self.policy = self.load(body["kwargs"]["weights_path"])
        return 200, {"results": [None]}

    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        prompt, lie = list(body["prompt"]), self.lie
        if len(prompt) >= self.context:
            return 400, {"error": {"message": f"This model's maximum context length is {self.context} tokens."}}
        read = [7, *prompt] if lie == "other prompt" else prompt
        room = self.context - len(read)  # what is asked for beyond it is cut in silence
        limit = min(body["max_tokens"], 3) if lie == "cut answers" else min(body["max_tokens"], room)
        salt = "" if lie in ("stale", "stale later") else body.get("cache_salt", "")
        assert self.policy is not None
        policy = self._read_with.setdefault((salt, *read), self.policy)
        temperature = body["temperature"]
        if lie in ("top_k", "top_k later") and (lie == "top_k" or len(self.asked) > 4):
            tokens, logprobs = self._from_the_best(policy, read, limit, temperature, body)
        else:
            ends = set() if lie == "runs on" else set(body["stop_token_ids"])
            if lie == "own stop":
                ends |= set(range(50, policy.vocabulary))
            allowed = body.get("allowed_token_ids")
            drawn = temperature * (1.5 if lie == "hotter" and len(self.asked) > 4 else 1)
            [sample] = generate(
                policy,
                [read],
                ends,
                Sampling(temperature=drawn, max_new_tokens=limit),
                sources=[np.random.default_rng(body["seed"])] if temperature else None,
                choices=None if allowed is None or lie == "allows all" else [{token: {} for token in allowed}],
            )
            tokens, logprobs = sample.tokens, sample.logprobs
        if lie == "raw":
            logprobs = at(next_logprobs(policy, [*read, *tokens], len(read), 1.0), tokens).tolist()
        ended = tokens[-1] in body["stop_token_ids"] or lie == "own stop"
        choice: dict[str, Any] = {
            "index": 0,
            "text": "said",
            "finish_reason": "stop" if ended else "length",
            "logprobs": {"token_logprobs": logprobs, "tokens": ["x"] * len(tokens)},
            "token_ids": tokens,
            "prompt_token_ids": read,
        }
        match lie:
            case "text":
                del choice["token_ids"], choice["prompt_token_ids"]
            case "no logprobs":
                choice["logprobs"] = None
            case "fewer logprobs":
                choice["logprobs"]["token_logprobs"] = logprobs[:-1]
            case "impossible logprobs":
                choice["logprobs"]["token_logprobs"] = [0.5] * len(tokens)
            case "other vocabulary":
                choice["token_ids"] = [token + policy.vocabulary for token in tokens]
            case "other form":
                return 200, {"choices": []}
        return 200, {"model": "other" if lie == "other model" else body["model"], "choices": [choice]}

    def _from_the_best(
        self, policy: CausalPolicy, prompt: list[int], limit: int, temperature: float, body: dict[str, Any]
    ) -> tuple[list[int], list[float]]:
        """Draw from the eight likeliest tokens, as a generation_config.json with a top_k has it."""
        rng = np.random.default_rng(body.get("seed"))
        tokens: list[int] = []
        logprobs: list[float] = []
        while len(tokens) < limit and not (tokens and tokens[-1] in body["stop_token_ids"]):
            logits = next_logprobs(policy, [*prompt, *tokens, 0], len(prompt) + len(tokens), temperature)[0]
            best = logits.topk(8)
            chances = best.values.double().softmax(dim=-1)
            place = int(rng.choice(8, p=(chances / chances.sum()).numpy()))
            tokens.append(int(best.indices[place]))
            logprobs.append(float(chances[place].log()))
        return tokens, logprobs

    def pool(self, body: dict[str, Any]) -> tuple[int, Any]:
        assert self.value is not None
        values = torch.as_tensor(own_values(self.value, body["input"]))
        match self.lie:
            case "sigmoid":
                values = values.sigmoid()
            case "softmax":
                values = torch.ones_like(values)
            case "other value":
                values = values + 1
            case "last only":
                values = values[-1:]
            case "no values":
                return 200, {"data": [{"embedding": "AAAA"}]}
        return 200, {"data": [{"index": 0, "data": [[v] for v in values.tolist()]}], "model": body["model"]}


def main() -> None:
    """Stand in for the command ``vllm``: serve FOLDER --port PORT ..., until told to end."""
    arguments = sys.argv[1:]
    assert arguments[0] == "serve"
    torch.set_num_threads(1)
    policy = CausalPolicy.from_pretrained(arguments[1])
    options = dict(zip(arguments[2::2], arguments[3::2], strict=True))
    global NAME
    NAME = options["--served-model-name"]
    FakeVllm(policy, port=int(options["--port"]), load=CausalPolicy.from_pretrained)
    threading.Event().wait()


if __name__ == "__main__":
    main()
