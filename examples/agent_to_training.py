"""From an agent behind an API to a policy of one's own that is better: evaluate, record, encode, train, evaluate again.

The model that is asked here is a stand-in for yours: a server on this machine that speaks as OpenAI's does and answers
like somebody who reads each invented verb right most of the time. Put the address of vLLM, Ollama, OpenAI, ... in its
place, and your environment in that of the word problems; everything else stays.

    python examples/agent_to_training.py [FOLDER]

FOLDER keeps the record, the buffer and the networks (default: a temporary one). Under a minute on a CPU.
"""

import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gymnasium as gym
import torch
from omegaconf import OmegaConf

import oreo_envs
from oreo_agents import CausalPolicy, PolicyAgent, PromptFormat, Sampling, TokenValue
from oreo_agents.networks.tiny import TinyConfig, create_checkpoint, word_tokenizer
from oreo_agents.progress import quiet
from oreo_agents.runs.data import main as oreo_data
from oreo_algos import EpisodeBuffer, Models, TrainerConfig, train
from oreo_algos.algos import Oreo, Sft
from oreo_envs.arithmetic import solve

ENV = "oreo/Arithmetic-v0"
TASKS = {"num_verbs": 6, "verbs_per_problem": [1, 1], "start_range": [8, 15], "amount_range": [1, 2], "answer": "exact"}
RELIABILITY = (0.4, 0.8)  # how often the stand-in reads a verb right
TRAIN_TASKS, SAMPLES, TEST_TASKS = 192, 4, 100


class StandIn:
    """The model behind the server: knows the question by its text, and solves it as well as it can."""

    def __init__(self) -> None:
        """Look the questions up."""
        self.asked = 0
        self.envs = {
            split: gym.make(ENV, split=split, reliability=RELIABILITY, **TASKS).unwrapped for split in ("train", "test")
        }
        self.tasks = {
            env.problem(index).question: (env, index)
            for split, env in self.envs.items()
            for index in range(TRAIN_TASKS if split == "train" else TEST_TASKS)
        }

    def answer(self, question: str) -> str:
        """Solve a question, each time anew."""
        self.asked += 1
        env, index = self.tasks[question]
        problem, right = env.problem(index), env.world.right
        rolls = torch.rand(len(problem.verbs), generator=torch.Generator().manual_seed(self.asked)).tolist()
        readings = [
            right[verb] if roll < env.reliabilities[verb] else env.world.tempting[verb]
            for verb, roll in zip(problem.verbs, rolls, strict=True)
        ]
        return solve(problem, readings)


@contextmanager
def stand_in_server() -> Iterator[str]:
    """Serve the stand-in at an address, as ``POST /v1/chat/completions``."""
    model, one_at_a_time = StandIn(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with one_at_a_time:
                text = model.answer(request["messages"][-1]["content"])
            message = {"role": "assistant", "content": text}
            usage = {"prompt_tokens": len(str(request["messages"])) // 4, "completion_tokens": len(text) // 4}
            body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
            content = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def start(folder: Path) -> None:
    """Write a small Llama with random weights, of the shape that ``oreo run`` begins with."""
    shape = OmegaConf.load(Path(__file__).parents[1] / "configs" / "policy" / "tiny.yaml").tiny
    names = ("hidden_size", "intermediate_size", "layers", "heads")
    words = gym.make(ENV, **TASKS).unwrapped.vocabulary()
    create_checkpoint(TinyConfig(**{name: shape[name] for name in names}), word_tokenizer(words), folder, seed=0)


def main(folder: Path) -> dict[str, float]:
    """Go the whole way; returns the accuracies on the test split."""
    torch.set_num_threads(1)
    quiet()
    with stand_in_server() as url:
        client = oreo_envs.ChatClient(url, model="stand-in")
        print("1. The agent on the test split.")
        agent = oreo_envs.evaluate(client, ENV, split="test", episodes=TEST_TASKS, **TASKS)
        print(f"   {agent}")

        print("2. The agent on tasks to learn from, several times each; every conversation is recorded.")
        seen = oreo_envs.evaluate(
            client,
            ENV,
            split="train",
            episodes=TRAIN_TASKS,
            episodes_per_task=SAMPLES,
            record=folder / "record",
            **TASKS,
        )
        print(f"   {seen}; at least one of {SAMPLES} right: {seen.pass_at(SAMPLES):.0%}")

    print("3. The record becomes a buffer: oreo data encode record --tokenizer start --out episodes")
    start(folder / "start")
    oreo_data(["encode", *map(str, (folder / "record", "--tokenizer", folder / "start", "--out", folder / "episodes"))])
    episodes = EpisodeBuffer.load(folder / "episodes")

    print("4. A small model of random weights imitates the agent, then OREO learns from what went right and wrong.")
    prompt_format = PromptFormat.from_pretrained(str(folder / "start"))
    policy = CausalPolicy.from_pretrained(str(folder / "start"))
    imitate = Sft(policy_lr=3e-3, epochs=8, batch_size=32)
    train(imitate, Models(policy), episodes, TrainerConfig(), folder / "training-copy")
    policy.save(folder / "copy", prompt_format.tokenizer, "Imitates the agent.")
    copied = tested(policy, prompt_format)
    print(f"   the copy: {copied}")
    value = TokenValue.from_policy(str(folder / "copy"))
    oreo = Oreo(policy_lr=5e-4, value_lr=2e-3, value_warmup_steps=100, epochs=6, batch_size=32)
    models = Models(policy, reference=policy.frozen_copy(), value=value)
    train(oreo, models, episodes, TrainerConfig(), folder / "training-oreo")
    policy.save(folder / "oreo", prompt_format.tokenizer, "Trained with OREO on the agent's recorded answers.")

    print("5. The trained policy on the same test tasks, by the same function.")
    trained = tested(policy, prompt_format)
    print(f"   {trained}")
    rates = {"agent": agent.success_rate, "copy": copied.success_rate, "oreo": trained.success_rate}
    print(
        f"The agent solves {rates['agent']:.0%}, its copy {rates['copy']:.0%}, and what OREO made of the copy, with "
        f"nothing but the agent's right and wrong answers, {rates['oreo']:.0%}."
    )
    return rates


def tested(policy: CausalPolicy, prompt_format: PromptFormat) -> oreo_envs.Evaluation:
    """Evaluate a policy, as the agent was."""
    player = PolicyAgent(policy, prompt_format, Sampling(temperature=0.0, max_new_tokens=64))
    return oreo_envs.evaluate(player, ENV, split="test", episodes=TEST_TASKS, num_envs=50, **TASKS)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
