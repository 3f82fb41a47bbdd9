"""An earlier build of this repository beside this one: the same samples drawn in a process of its own.

Knows: workloads at temperature 1, the lengths of GSM8K's and MATH's reference answers, where a build has its sampler.
Does not know: what is made of the times.

    python benchmarks/sampling_builds.py WORKLOAD...    # with PYTHONPATH of a build; asked by sampling.py
"""

from __future__ import annotations

import inspect
import json
import lzma
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

_FILES = {"GSM8K": ("gsm8k/test.jsonl", "question", "answer"), "MATH": ("math/test.jsonl.xz", "problem", "solution")}
# Characters a token, about.
_CHARACTERS = 3


@dataclass(frozen=True)
class Workload:
    """Prompts, and how many tokens follow each.

    Attributes:
        name: as it is asked for.
        prompts: token ids.
        lengths: tokens to draw.
        batch: rows side by side.
    """

    name: str
    prompts: list[list[int]]
    lengths: list[int]
    batch: int


def make_model() -> PreTrainedModel:
    """Return a Llama of 13.7 M weights, drawn at random."""
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=8192,
        hidden_size=320,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=5,
        num_key_value_heads=5,
        initializer_range=0.05,
    )
    return LlamaForCausalLM(shape).eval()


def make_workload(name: str, *, quick: bool = False) -> Workload | None:
    """Return ``even``, lengths spread over a range of 4 to 1, or those of a data set; None where its file is not there.

    Data sets are in the folder that ``OREO_DATA`` names.
    """
    rng = np.random.default_rng(0)
    if name == "even":
        rows, longest = (32, 96) if quick else (64, 192)
        sizes = rng.integers(48, 97, rows).tolist()
        lengths = rng.permutation(np.linspace(longest / 4, longest, rows).round().astype(int)).tolist()
        batch = rows
    else:
        file, question, answer = _FILES[name]
        path = Path(os.environ.get("OREO_DATA", "")) / file
        if not path.is_file():
            return None
        content = path.read_bytes()
        text = (lzma.decompress(content) if path.suffix == ".xz" else content).decode()
        problems = [json.loads(line) for line in text.splitlines()]
        chosen = [problems[i] for i in rng.permutation(len(problems))[: 32 if quick else 192].tolist()]
        sizes = [len(each[question]) // _CHARACTERS + 1 for each in chosen]
        lengths = [len(each[answer]) // _CHARACTERS + 1 for each in chosen]
        batch = 8 if quick else 32
    return Workload(name, [rng.integers(3, 2048, size).tolist() for size in sizes], lengths, batch)


def sampler(model: PreTrainedModel, work: Workload) -> Callable[[], int]:
    """Return what draws the samples of a workload with the build that is imported here, and counts their tokens."""
    try:
        from oreo_agents.episodes.generate import Sampling, generate
        from oreo_agents.networks.policy import CausalPolicy
    except ImportError:  # before modules moved into rooms
        from oreo_agents.generate import Sampling, generate  # type: ignore[import-not-found,no-redef]
        from oreo_agents.policy import CausalPolicy  # type: ignore[import-not-found,no-redef]
    policy = CausalPolicy(model)
    limits = Sampling(temperature=1.0, max_new_tokens=max(work.lengths) + 1, batch_size=work.batch)
    stops = [partial(lambda length, new: length if len(new) >= length else None, k) for k in work.lengths]

    def draw() -> int:
        if "generator" in inspect.signature(generate).parameters:  # before each row had a source of its own
            how = {"generator": torch.Generator().manual_seed(0)}
        else:
            how = {"sources": [np.random.default_rng([0, row]) for row in range(len(work.prompts))]}
        samples = generate(policy, work.prompts, (), limits, stops=stops, **how)
        return sum(len(sample.tokens) for sample in samples)

    return draw


class OtherBuild:
    """A checkout in a process of its own, which draws when it is asked to."""

    def __init__(self, folder: Path, works: list[Workload], *, quick: bool) -> None:
        """Start it."""
        paths = os.pathsep.join(map(str, (folder, folder / "agents")))
        arguments = [sys.executable, __file__, *(["--quick"] if quick else []), *(work.name for work in works)]
        environment = os.environ | {"PYTHONPATH": paths}
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def seconds(self, name: str) -> tuple[float, int]:
        """Return CPU seconds and tokens of a workload drawn once."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the other build ended; it has said why above")
        seconds, tokens = json.loads(line)
        return float(seconds), int(tokens)

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def main() -> None:
    """Draw the workloads whose names come, and say how long it took."""
    torch.set_num_threads(1)
    quick = "--quick" in sys.argv
    model = make_model()
    draws = {
        name: sampler(model, work)
        for name in sys.argv[1:]
        if not name.startswith("--") and (work := make_workload(name, quick=quick)) is not None
    }
    for line in sys.stdin:
        start = time.process_time()
        tokens = draws[line.strip()]()
        print(json.dumps([time.process_time() - start, tokens]), flush=True)


if __name__ == "__main__":
    main()
