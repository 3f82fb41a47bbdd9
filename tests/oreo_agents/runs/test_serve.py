"""`oreo serve` and `oreo chat`: what is loaded, what is said, how a talk goes and ends."""

import io
import json
import os
import signal
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import forked
import pytest
from forked import OREO, Forked
from omegaconf import OmegaConf
from rich.console import Console
from tiny_models import make_model, make_tokenizer

from oreo_agents.networks.value import TokenValue
from oreo_agents.runs.chat import colour
from oreo_agents.runs.chat import main as chat
from oreo_agents.runs.overrides import UserError, composed
from oreo_agents.runs.serve import load_served
from oreo_agents.runs.serve import main as serve


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a policy, its value, and one that has none."""
    root = tmp_path_factory.mktemp("run")
    for name in ("oreo", "dpo"):
        make_model("llama", context=256, init_std=0.1).save_pretrained(root / name / "policy")
        make_tokenizer().save_pretrained(root / name / "policy")
    TokenValue.from_policy(str(root / "oreo" / "policy")).save(root / "oreo" / "value", make_tokenizer(), "")
    config = composed("run", ["env=math", "searches.best_of_n.samples=3", "seed=3"])
    (root / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True), encoding="utf-8")
    return root


def loaded(*arguments: str) -> Any:
    return load_served(arguments, command="serve", usage="USAGE")


def test_a_run_is_served_with_its_networks_steps_and_searches(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OREO_SERVE_TOKEN", "from the environment")
    served = loaded(str(run / "oreo"), "serve.max_tokens=9")
    assert served.model == "oreo" and served.engine.has_value and served.settings.max_tokens == 9
    assert served.settings.search == "best_of_n" and served.searches["best_of_n"].samples == 3
    assert served.engine.delimiters == ("\n", ". ", ".$ ") and served.engine.ends_at_answer
    assert not loaded(str(run / "oreo"), "serve.ends_at_answer=false").engine.ends_at_answer
    assert served.settings.token == "from the environment" and "environment" not in repr(served.settings)
    assert not any(parameter.requires_grad for parameter in served.engine.policy.parameters())


def test_a_checkpoint_is_served_as_it_is_named(run: Path):
    served = loaded(
        f"policy.path={run / 'dpo' / 'policy'}", "search=majority", "searches.majority.samples=2", "serve.name=x"
    )
    assert (served.model, served.settings.search, served.searches["majority"].samples) == ("x", "majority", 2)
    assert not served.engine.has_value and served.settings.token is None
    assert loaded(f"policy.path={run / 'dpo' / 'policy'}").settings.search == "greedy"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs a policy: RUN/NAME, or policy.path="),
        (["{run}"], "holds several policies: give RUN/NAME, NAME of dpo, oreo"),
        (["{run}/none"], "neither a run folder"),
        (
            ["policy.path={run}/dpo/policy", "search=best_off"],
            "search=best_off: unknown search; did you mean 'best_of_n'",
        ),
        (["policy.path={run}/dpo/policy", "serve.prt=1"], "there is no setting 'serve.prt'; did you mean 'serve.port'"),
        (["policy.path={run}/dpo/policy", "serve.port=70000"], "serve.port must be from 0"),
        (["policy.path={run}/dpo/policy", "serve.steps=[]"], "serve.steps must be a list"),
        (["policy.path={run}/nothing"], "nothing"),
        (["--port", "1"], "cannot be read"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_said(arguments: Sequence[str], message: str, run: Path):
    with pytest.raises((UserError, ValueError, FileNotFoundError), match=message):
        loaded(*(text.format(run=run) for text in arguments))


def test_a_search_that_cannot_answer_here_is_refused_before_anything_is_served(run: Path):
    pytest.importorskip("uvicorn", reason="needs the extra [serve]")
    with pytest.raises(ValueError, match="search=best_of_n: it reads V, and there is no value network here"):
        serve([f"policy.path={run / 'dpo' / 'policy'}", "search=best_of_n", "serve.port=0"])


def talked(arguments: Sequence[str], lines: Sequence[str], *, terminal: bool = False) -> str:
    shown, left = io.StringIO(), iter(lines)

    def read() -> str:
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    chat(
        arguments,
        read,
        Console(
            file=shown,
            force_terminal=terminal,
            color_system="truecolor" if terminal else None,
            width=200,
            soft_wrap=True,
        ),
    )
    return shown.getvalue()


def test_a_talk(run: Path):
    how = [str(run / "oreo"), "serve.max_tokens=12"]
    shown = talked(
        how,
        [
            "2 + 3",
            "",
            "/search",
            "/search greedy",
            "again",
            "/search gredy",
            "/search admissible",
            "/rest",
            "/reset",
            "/system x",
            "/help",
        ],
    )
    assert "search best_of_n; /help tells" in shown and "(3 candidates, " in shown and "  0.00" in shown
    assert "search greedy; there are greedy, sampled" in shown and "did you mean 'greedy'" in shown
    assert "admissible" not in shown.partition("there are greedy")[2].splitlines()[0]
    assert "search=admissible: it says one of the commands of a game, and nobody gives any in a chat" in shown
    assert "did you mean '/reset'" in shown and "a new conversation" in shown and "/system TEXT" in shown
    assert "\x1b[" not in shown and talked(how, ["/quit", "2 + 3"]).count("\n") == 1


def test_steps_are_coloured_in_a_terminal(run: Path):
    shown = talked([str(run / "oreo"), "serve.max_tokens=12", "search=greedy"], ["2 + 3"], terminal=True)
    assert "\x1b[38;2;235;50;60m" in shown, "V is 0 everywhere"
    assert "\x07" not in shown and "\x1b]" not in shown
    assert colour(-1) == colour(0) != colour(1) == colour(7)


def test_a_question_that_fills_the_context_is_refused_and_forgotten(run: Path):
    shown = talked([str(run / "oreo"), "serve.max_tokens=4"], ["x " * 300, "hello"])
    assert "fills the context of 256 tokens: /reset begins another" in shown and shown.count("candidates") == 1


class Endpoint(BaseHTTPRequestHandler):
    """Another server in OpenAI's form, which knows nothing of V."""

    asked: list[dict[str, Any]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        """List models."""
        self._send(json.dumps({"data": [{"id": "other"}]}).encode())

    def do_POST(self) -> None:
        """Stream two pieces, or refuse."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        if body["messages"][-1]["content"] == "fail":
            self._send(b'{"error": {"message": "it is too hot"}}', 429)
            return
        pieces = [{"choices": [{"delta": {"content": text}}]} for text in ("so ", "what\n")]
        self._send("".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces).encode() + b"data: [DONE]\n\n")

    def _send(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Be quiet."""


def test_a_talk_with_a_server_that_knows_no_values():
    with HTTPServer(("127.0.0.1", 0), Endpoint) as endpoint:
        Thread(target=endpoint.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{endpoint.server_port}/v1/"
        shown = talked(["--url", url], ["one", "fail", "two", "/search greedy"])
        with pytest.raises(ValueError, match="does not serve 'x', but other"):
            talked(["--url", url, "--model", "x"], [])
        with pytest.raises(ValueError, match="with --url only search=NAME is read"):
            talked(["--url", url, "serve.port=1"], [])
        endpoint.shutdown()
    assert shown.count("so what") == 2 and "it is too hot" in shown and "search=greedy: unknown search" in shown
    assert [message["content"] for message in Endpoint.asked[-1]["messages"]] == ["one", "so what\n", "two"]
    assert "search" not in Endpoint.asked[0]
    with pytest.raises(ValueError, match="does not answer"):
        talked(["--url", url], [])
    with pytest.raises(ValueError, match="must be an address such as http://"):
        talked(["--url", "ftp://x"], [])
    with pytest.raises(ValueError, match="it goes with --url"):
        talked(["--model", "x"], [])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_cleanly_and_a_talk_with_it_shows_values(number: signal.Signals, run: Path, tmp_path):
    pytest.importorskip("uvicorn", reason="needs the extra [serve]")
    environment = {**os.environ, "OREO_SERVE_TOKEN": "s3cret"}
    server = Forked([*OREO, "serve", str(run / "oreo"), "serve.port=0", "serve.max_tokens=8"], tmp_path, environment)
    while "\n" not in server.said()[0]:
        assert server.poll() is None, server.said()
        time.sleep(0.02)
    url = server.said()[0].split(" at ")[1].split(",")[0]
    arguments = [*OREO, "chat", "--url", url, "search=step_beam"]
    talk = forked.run(arguments, tmp_path, environment, stdin="2 + 3\n")
    refused = forked.run(arguments, tmp_path, environment | {"OREO_SERVE_TOKEN": "x"})
    server.send_signal(number)
    out, errors = server.communicate()
    assert server.returncode == 0 and out.endswith("oreo serve: ended\n") and "Traceback" not in out + errors
    assert talk.returncode == 0 and "search step_beam" in talk.stdout, talk.stderr
    # Answers are drawn anew each time: a value is shown but beside one without a word.
    assert "0.00" in talk.stdout or "there is.\n\n(8 candidates" in talk.stdout
    assert refused.returncode == 2 and "asks for its token" in refused.stderr
    assert "s3cret" not in out + errors
