"""A tiny policy with a value, answering; and a server before it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import pytest
import torch
from tiny_models import make_model, make_tokenizer

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_agents.serving.answering import LocalEngine
from oreo_agents.serving.conversations import Question
from oreo_agents.serving.settings import ServeSettings, known_searches

DELIMITERS = ("\n", ". ")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checkpoints of a policy and its value."""
    root: Path = tmp_path_factory.mktemp("served")
    policy, value = root / "tiny" / "policy", root / "tiny" / "value"
    # Small weights: sampled text is of many kinds, and ends or breaks lines now and then.
    make_model("llama", context=256, init_std=0.1).save_pretrained(policy)
    make_tokenizer().save_pretrained(policy)
    network = TokenValue.from_policy(str(policy))
    with torch.no_grad():
        network.plain.score.weight.copy_(torch.linspace(-1, 1, network.plain.score.weight.numel())[None])
    network.save(value, make_tokenizer(), "")
    return {"policy": str(policy), "value": str(value)}


@pytest.fixture(scope="session")
def engine(folders: dict[str, str]) -> LocalEngine:
    return LocalEngine(
        CausalPolicy.from_pretrained(folders["policy"]),
        PromptFormat.from_pretrained(folders["policy"]),
        TokenValue.from_pretrained(folders["value"]),
        delimiters=DELIMITERS,
        front=PromptFormat.from_pretrained(folders["policy"]),
    )


@pytest.fixture
def ask(engine: LocalEngine) -> Callable[..., Question]:
    """Return a function that makes a question."""

    def make(text: str = "2 + 3 = ?", **how: Any) -> Question:
        messages = ({"role": "user", "content": text},)
        return Question(messages=messages, tokens=tuple(engine.encode(messages)), **{"max_tokens": 24, **how})

    return make


@dataclass
class Running:
    """A server that runs: where, and its worker."""

    url: str
    worker: Any


@contextmanager
def served(engine: Any, **settings: Any) -> Iterator[Running]:
    """Run a server on a free port."""
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra [serve]")
    pytest.importorskip("fastapi", reason="needs the extra [serve]")
    from oreo_agents.runs.serve import _listen
    from oreo_agents.serving.app import create_app

    how = ServeSettings(**{"search": "best_of_n", "max_tokens": 48, **settings})
    with ExitStack() as stack:
        listening = stack.enter_context(_listen("127.0.0.1", 0))
        app = create_app(engine, known_searches(), how, model="tiny")
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                sleep(0.01)
            yield Running(f"http://127.0.0.1:{listening.getsockname()[1]}", app.state.worker)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def server(engine: LocalEngine) -> Iterator[Running]:
    with served(engine) as running:
        yield running
