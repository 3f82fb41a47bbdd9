"""What a turn of a game costs, model included, as games become longer; and what it cost in another build.

    python benchmarks/game_turns.py [--against CHECKOUT] [--turns 20 100] [--games 64] [--tokens 4] [--width 64]

Games of two lengths are played with a small model at temperature 1, turns of some tokens that end at different
places, answers of about 25; once with attention, which reads all that was said, and once with a model that attends to
the newest tokens alone, so that all else can be told apart. A process of each build; they take turns. CPU seconds of
one thread, the least of the repetitions. Exits with 1 where a turn without attention costs more than 1.3 times as much
in the longer games.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

_SEEN = "You are in the hall. On door {} you see a lamp 1, a cup 3 and a key 2, and nothing happens."
_MOST = 1.3


def play(turns: int, games: int, attention: str, width: int, tokens: int) -> float:
    """Play games in this process, and return the CPU seconds that it took."""
    # A build of before may be the one that is imported, where the modules lie elsewhere.
    import corridor
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    try:
        from oreo_agents.episodes.generate import Sampling
        from oreo_agents.episodes.prompts import PromptFormat
        from oreo_agents.episodes.rollout import rollout
        from oreo_agents.networks.policy import CausalPolicy
        from oreo_agents.networks.tiny import byte_tokenizer
    except ModuleNotFoundError:
        from oreo_agents.generate import Sampling  # type: ignore[no-redef,import-not-found]
        from oreo_agents.policy import CausalPolicy  # type: ignore[no-redef,import-not-found]
        from oreo_agents.prompts import PromptFormat  # type: ignore[no-redef,import-not-found]
        from oreo_agents.rollout import rollout  # type: ignore[no-redef,import-not-found]
        from oreo_agents.tiny import byte_tokenizer  # type: ignore[no-redef,import-not-found]

    torch.set_num_threads(1)
    torch.manual_seed(0)
    prompt_format = PromptFormat(byte_tokenizer([_SEEN.format(k) for k in range(200)], 400))
    heads = width // 8
    shape = {"hidden_size": width, "intermediate_size": 3 * width, "num_attention_heads": heads}
    shape |= {"num_key_value_heads": heads // 2, "num_hidden_layers": 2 if width < 64 else 4, "vocab_size": 400}
    config = LlamaConfig(max_position_embeddings=128 * turns + 256, **shape)
    config._attn_implementation = attention
    policy = CausalPolicy(LlamaForCausalLM(config).eval())
    assert policy.resumes
    prompt_format.end_ids = frozenset(range(0, 400, tokens))
    sampling = Sampling(temperature=1.0, max_new_tokens=64, batch_size=games)
    start = time.process_time()
    episodes = dict(
        rollout(partial(corridor.make_game, turns, seen=_SEEN), policy, prompt_format, range(games), sampling, seed=0)
    )
    spent = time.process_time() - start
    taken = sum(len(episode.rewards) for episode in episodes.values())
    return spent / taken


class Build:
    """A process that plays in one build."""

    def __init__(self, root: Path) -> None:
        """Start it."""
        here = Path(__file__).resolve()
        paths = os.pathsep.join(map(str, (root, root / "agents", here.parent)))
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(here), "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )

    def turn(self, *asked: Any) -> float:
        """Return the CPU seconds of a turn."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def work() -> None:
    """Answer what is asked, line by line."""
    logging.disable(logging.WARNING)
    answers, sys.stdout = sys.stdout, sys.stderr
    play(2, 2, "sdpa", 16, 1)
    for line in sys.stdin:
        print(play(*json.loads(line)), file=answers, flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="a checkout of another build")
    parser.add_argument("--turns", type=int, nargs=2, default=(20, 100))
    parser.add_argument("--games", type=int, default=64)
    parser.add_argument("--width", type=int, default=64, help="of the model")
    parser.add_argument("--tokens", type=int, default=4, help="of a turn, on average")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work()
    roots = {"this build": Path(__file__).resolve().parent.parent}
    if options.against is not None:
        roots["the other"] = options.against.resolve()
    builds = {name: Build(root) for name, root in roots.items()}
    found: dict[tuple[str, str, int], float] = {}
    for _ in range(options.repeats):
        for attention in ("sdpa", "itself"):
            for turns in options.turns:
                for name, build in builds.items():
                    key = (name, attention, turns)
                    found[key] = min(
                        found.get(key, 1e9), build.turn(turns, options.games, attention, options.width, options.tokens)
                    )
    for build in builds.values():
        build.close()
    if options.json:
        print(json.dumps([[*key, seconds] for key, seconds in found.items()]))
    else:
        short, long = options.turns
        print(f"| build | attention | us a turn at {short} | at {long} | times |\n|---|---|---:|---:|---:|")
        for name in builds:
            for attention in ("sdpa", "itself"):
                costs = [1e6 * found[name, attention, turns] for turns in (short, long)]
                said = "all that was said" if attention == "sdpa" else "left out"
                print(f"| {name} | {said} | {costs[0]:.0f} | {costs[1]:.0f} | {costs[1] / costs[0]:.2f} |")
        for name in list(builds)[1:]:
            times = [
                f"{found[name, 'sdpa', t] / found['this build', 'sdpa', t]:.2f} x at {t} turns" for t in (short, long)
            ]
            print(f"\nThis build is {' and '.join(times)} as fast as {name}, attention included.")
    short, long = (found["this build", "itself", turns] for turns in options.turns)
    if long > _MOST * short:
        raise SystemExit(1)
    return None


if __name__ == "__main__":
    main()
