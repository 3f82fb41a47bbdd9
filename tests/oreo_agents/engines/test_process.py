"""A server of our own: it starts, says why it did not, ends with us, takes new weights, and is started again."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_vllm import FakeVllm

from oreo_agents.engines.line import Line, ServerError
from oreo_agents.engines.process import ServerProcess, free_port, load_weights
from oreo_agents.engines.settings import SamplerSettings
from oreo_agents.networks.policy import CausalPolicy

HEALTHY = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *said): pass
print("serving", sys.argv[2], os.environ["VLLM_SERVER_DEV_MODE"], flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def process(tmp_path: Path, script: str = HEALTHY) -> ServerProcess:
    port = free_port()
    return ServerProcess(lambda folder: [sys.executable, "-c", script, str(port), folder], tmp_path / "s.log", port)


def test_it_starts_ends_and_serves_another_folder(tmp_path: Path):
    server = process(tmp_path)
    assert not server.alive
    for folder in ("first", "second"):
        server.start(folder)
        server.wait(30)
        assert server.alive and server.folder == folder
    assert server.log.read_text().split() == ["serving", "first", "1", "serving", "second", "1"]
    server.close()
    assert not server.alive
    server.close()


def test_one_that_died_is_started_again(tmp_path: Path):
    server = process(tmp_path)
    server.start("p")
    server.wait(30)
    server.revive()
    assert server.log.read_text().count("serving") == 1  # it lives
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.alive:
        time.sleep(0.01)
    server.revive()
    server.wait(30)
    assert server.log.read_text().count("serving p") == 2
    server.close()


def test_why_it_did_not_start_is_said(tmp_path: Path):
    server = process(tmp_path, "raise SystemExit('no head of size 16')")
    server.start("p")
    with pytest.raises(
        ServerError, match=r"ended \(1\) before it was ready; the end of .*s.log:\n  no head of size 16"
    ):
        server.wait(30)
    slow = process(tmp_path, "import time; print('loading', flush=True); time.sleep(60)")
    slow.start("p")
    with pytest.raises(ServerError, match=r"not ready within 0.5 s \(sampler.start_s\)"):
        slow.wait(0.5)
    assert not slow.alive
    missing = ServerProcess(lambda folder: ["no-such-vllm", "serve", folder], tmp_path / "s.log", free_port())
    with pytest.raises(ServerError, match=r"'no-such-vllm' cannot be run .*'/path/to/bin/vllm serve'"):
        missing.start("p")


def test_new_weights_are_loaded_and_old_caches_forgotten(
    policies: list[CausalPolicy], lines: Callable[..., Line], tmp_path: Path
):
    asked: list[str] = []
    with FakeVllm(policies[0], load=lambda folder: (asked.append(folder), policies[1])[1]) as server:
        line = lines(server, SamplerSettings())
        line.do(load_weights(line, str(tmp_path)))
        assert server.orders == ["/pause", "/collective_rpc", "/reset_prefix_cache", "/resume"]
        assert asked == [str(tmp_path.resolve())] and server.policy is policies[1]


def test_a_server_that_takes_no_weights_is_a_sentence(policies: list[CausalPolicy], lines: Callable[..., Line]):
    with FakeVllm(policies[0]) as server:
        line = lines(server, SamplerSettings())
        with pytest.raises(ServerError, match=r"does not load the weights of here: .*VLLM_SERVER_DEV_MODE=1 and see"):
            line.do(load_weights(line, "here"))
