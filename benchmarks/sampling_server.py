"""Sampling on a server: what the client costs, and what it gains that nobody waits for the slowest row.

The first row is the CPU time of this process for the same tokens: drawn here by a policy of 13 million parameters, and
asked of a server in another process, which says again what was drawn here, in the form of vLLM, so that its own time
does not count. Both sides keep the log-probabilities; the client checks every answer and audits one row in 64.

The other rows are simulated time of `rollout`: a server that says a token of every row each so many seconds, of at most
64 rows; answers, and turns of games, are 32 to 256 tokens long. Rows are handed over as they end, or all together when
the last one has ended, as in a batch in one process. No clock is read: the ratio is the same on any machine.

    python benchmarks/sampling_server.py [--json] [--quick]
"""

from __future__ import annotations

import heapq
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from side_by_side import Row, parse, report, take_turns
from transformers import LlamaConfig, LlamaForCausalLM

from oreo_agents.engines.line import Line
from oreo_agents.engines.server_sampler import ServerSampler
from oreo_agents.engines.settings import SamplerSettings
from oreo_agents.episodes.generate import Sample, Sampling, generate
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.rollout import rollout
from oreo_agents.episodes.sampler import Turn
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.tiny import byte_tokenizer
from oreo_algos.episode import Episode
from oreo_envs.base import Opening, Outcome, TextEnv

SHAPE: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 1024,
    "initializer_range": 0.05,
}
ROWS, PROMPT = 128, 64
WIDTH, SHORTEST, LONGEST = 64, 32, 256


def sources(count: int) -> list[np.random.Generator | None]:
    """Return the randomness of each row."""
    return [np.random.default_rng([0, row]) for row in range(count)]


def serve(folder: str) -> None:
    """Say again what stands in ``answers.json``; what does not is drawn by the policy there."""
    policy = CausalPolicy.from_pretrained(folder)
    recorded: dict[str, str] = json.loads((Path(folder) / "answers.json").read_text(encoding="utf-8"))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(json.dumps({"data": [{"id": "policy", "max_model_len": policy.max_length}]}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(recorded.get(str(body["seed"])) or self.draw(body))

        def draw(self, body: dict[str, Any]) -> str:
            how = Sampling(temperature=body["temperature"], max_new_tokens=body["max_tokens"])
            source = np.random.default_rng(body["seed"])
            return form(body["prompt"], generate(policy, [body["prompt"]], (), how, sources=[source])[0])

        def answer(self, text: str) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *said: Any) -> None:
            """Say nothing."""

    ThreadingHTTPServer.request_queue_size = 2 * WIDTH
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def form(prompt: Sequence[int], sample: Sample) -> str:
    """Return an answer as vLLM writes it."""
    words = [f" word{token}" for token in sample.tokens]
    logprobs = {
        "text_offset": list(range(0, 8 * len(words), 8)),
        "token_logprobs": sample.logprobs,
        "tokens": words,
        "top_logprobs": [{word: number} for word, number in zip(words, sample.logprobs, strict=True)],
    }
    choice = {
        "index": 0,
        "text": "".join(words),
        "logprobs": logprobs,
        "finish_reason": "length",
        "token_ids": sample.tokens,
        "prompt_token_ids": list(prompt),
    }
    return json.dumps({"id": "cmpl-0", "object": "text_completion", "model": "policy", "choices": [choice]})


def overhead(new_tokens: int, n: int) -> Row:
    """Compare the CPU time of client and own sampler."""
    torch.manual_seed(0)
    policy = CausalPolicy(LlamaForCausalLM(LlamaConfig(**SHAPE)).eval())
    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, 2048, PROMPT).tolist() for _ in range(ROWS)]
    how = Sampling(max_new_tokens=new_tokens, batch_size=WIDTH)

    def here() -> list[Sample]:
        return generate(policy, prompts, (), how, sources=sources(ROWS))

    seeds = [str(int(source.integers(2**63))) for source in sources(ROWS) if source is not None]
    drawn = here()
    with tempfile.TemporaryDirectory() as folder:
        policy.save(folder)
        answers = {seed: form(prompt, sample) for seed, prompt, sample in zip(seeds, prompts, drawn, strict=True)}
        (Path(folder) / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
        server = subprocess.Popen([sys.executable, __file__, "--serve", folder], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            line = Line(f"http://127.0.0.1:{int(server.stdout.readline())}", in_flight=WIDTH)
            settings = SamplerSettings(engine="vllm", url=line.url, in_flight=WIDTH)
            sampler = ServerSampler(line, policy, settings, version="0")
            there = sampler.generate(prompts, (), how, sources=sources(ROWS))
            if [sample.tokens for sample in there] != [sample.tokens for sample in drawn]:
                raise SystemExit("the two sides say different tokens")
            label = f"client: {ROWS} answers of {new_tokens} tokens"
            row = take_turns(
                label, lambda: sampler.generate(prompts, (), how, sources=sources(ROWS)), here, n=n, device="cpu"
            )
            line.close()
            return row
        finally:
            server.kill()
            server.wait()


class Turns(TextEnv):
    """So many turns, whatever is said."""

    splits: ClassVar[tuple[str, ...]] = ("train",)

    def __init__(self, *, split: str = "train", turns: int = 1) -> None:
        """Take the number."""
        super().__init__(split=split, max_steps=turns + 1, max_chars=10**9)
        self.turns = turns

    @property
    def num_tasks(self) -> int:
        """As many as are asked for."""
        return 10**6

    def _open(self, index: int) -> Opening:
        return Opening(f"turns/{index}", "", ({"role": "user", "content": "say"},))

    def _index_of(self, task_id: str) -> int | None:
        return None

    def _respond(self, action: str) -> Outcome:
        return Outcome(observation="on", terminated=self._num_steps == self.turns, info={"success": False})


class Simulated:
    """A server whose clock is a number: each row says one token a tick; see ``Sampler`` and ``Stream``."""

    max_length = 10**6

    def __init__(self, end: int, *, waits: bool) -> None:
        """Begin at 0; with ``waits`` all rows come back when the last has ended."""
        self.end, self.waits, self.now = end, waits, 0.0
        self._ends: list[tuple[float, int, Sample]] = []

    def width(self, sampling: Sampling) -> int:
        """Rows at once."""
        return WIDTH

    def stream(self, end_ids: Collection[int], sampling: Sampling) -> Simulated:
        """See ``Sampler``."""
        return self

    def ask(self, key: int, turn: Turn) -> None:
        """See ``Stream``; how long a row is, its own source says."""
        assert turn.source is not None
        length = int(turn.source.integers(SHORTEST, LONGEST + 1))
        tokens = [self.end + 1] * (length - 1) + [self.end]
        heapq.heappush(self._ends, (self.now + length, key, Sample(tokens, [0.0] * length, ended=True)))

    def answers(self) -> list[tuple[int, Sample]]:
        """Go on to the next end of a row, or to the last."""
        found = []
        while self._ends and (self.waits or not found):
            self.now, key, sample = heapq.heappop(self._ends)
            found.append((key, sample))
        return found

    def close(self) -> None:
        """See ``Stream``."""

    def generate(self, *given: Any, **more: Any) -> list[Sample]:
        """Nobody asks."""
        raise NotImplementedError

    def audit(self, episodes: Sequence[Episode], where: str) -> None:
        """Find nothing."""


def handed_over(turns: int, episodes: int) -> Row:
    """Compare the simulated time of rows that are handed over as they end and all together."""
    prompt_format = PromptFormat(byte_tokenizer(["say", "on"] * 2, 300))
    make: Callable[[], Any] = lambda: gym.make("oreo_bench/Turns-v0", turns=turns, disable_env_checker=True)  # noqa: E731
    policy: Any = None
    times = []
    for waits in (False, True):
        server = Simulated(next(iter(prompt_format.end_ids)), waits=waits)
        played = rollout(make, policy, prompt_format, range(episodes), Sampling(), seed=0, sampler=server)
        if sum(1 for _ in played) != episodes:
            raise SystemExit("episodes are missing")
        times.append(server.now)
    what = "answers" if turns == 1 else f"games of {turns} turns"
    return Row(f"rows as they end: {episodes} {what}, lengths 1:8", times[0], times[1], "ticks", 1)


def main() -> None:
    """Measure."""
    if sys.argv[1:2] == ["--serve"]:
        logging.disable(logging.WARNING)
        torch.set_num_threads(1)
        serve(sys.argv[2])
        return
    options = parse(__doc__, new_tokens=128)
    gym.register("oreo_bench/Turns-v0", entry_point=Turns)
    new_tokens, n = (64, 3) if options.quick else (options.new_tokens, 5)
    rows = [overhead(new_tokens, n), handed_over(1, 1024), handed_over(4, 512)]
    share = rows[0].ours / rows[0].peer
    print(f"the client costs {100 * share:.1f}% of the CPU time of the own sampler", file=sys.stderr)
    report(rows, as_json=options.json)
    if share > 0.1 or min(row.ratio for row in rows[1:]) < 1.5:
        raise SystemExit("a target is missed: 10% of the CPU time, and 1.5 times as fast")


if __name__ == "__main__":
    main()
