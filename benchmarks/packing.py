"""What the trunk's training step costs on documents in one row, against the same documents padded on the left.

    python benchmarks/packing.py [--quick] [--json] [--device cuda]

Ours: `oreo_agents.networks.packing`, as policy, reference and value read a batch, its layout made anew for each step.
Peer: the same model as transformers delivers it, on a left-padded batch with attention mask and positions; or, in the
last row, on the same packed row with the block mask that transformers builds of its positions. A step is forward and
backward of a squared error on the hidden states of all real tokens. Both sides must first agree on loss and gradient.

Lengths of documents are spread evenly, so that the longest is `pad factor` times as long as the mean.

On a CPU the small Llama of `TinyConfig` in float32, on a GPU the shapes of Qwen2.5-1.5B under bfloat16 autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from side_by_side import QWEN_1_5B, check_equal, parse, report, take_turns
from torch import Tensor
from transformers import LlamaConfig, LlamaModel, PreTrainedModel, Qwen2Config, Qwen2Model

from oreo_agents.networks import packing
from oreo_agents.networks.checkpoints import autocast
from oreo_algos import Episode
from oreo_algos.batch import Batch, collate

VOCABULARY = 1000
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}


def make_trunk(device: str) -> PreTrainedModel:
    """Random weights; the vocabulary is small, because the trunk only looks it up."""
    torch.manual_seed(0)
    if device == "cpu":
        return LlamaModel(LlamaConfig(vocab_size=VOCABULARY, **SMALL)).eval()
    return Qwen2Model(Qwen2Config(vocab_size=VOCABULARY, **QWEN_1_5B)).to(device).eval()


def draw_batch(count: int, longest: int, pad_factor: float, device: str) -> Batch:
    """Documents in random order, their lengths spread evenly up to the longest."""
    rng = np.random.default_rng(0)
    lengths = rng.permutation(np.linspace(longest * (2 / pad_factor - 1), longest, count).round().astype(int).clip(2))
    documents = [
        Episode(
            tokens=rng.integers(3, VOCABULARY, length),
            step_id=np.append(-1, np.zeros(length - 1)),
            rewards=[1.0],
            terminated=True,
            truncated=False,
            task_id="",
            env_id="",
        )
        for length in lengths
    ]
    return collate(documents).to(device)


def left_padded(trunk: PreTrainedModel, batch: Batch) -> Callable[[], Tensor]:
    """Return the peer: hidden states of the real tokens, in their order, from a left-padded batch."""
    width = batch.tokens.shape[1]
    moved = (torch.arange(width, device=batch.tokens.device) + batch.attention.sum(dim=1, keepdim=True)) % width
    tokens = batch.tokens.gather(1, moved)
    mask = batch.attention.gather(1, moved)
    positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)

    def read() -> Tensor:
        outputs = trunk(tokens, attention_mask=mask.long(), position_ids=positions, use_cache=False)
        return outputs.last_hidden_state[mask]

    return read


def block_masked(trunk: PreTrainedModel, batch: Batch) -> Callable[[], Tensor]:
    """Return the other peer: one row, its documents told apart by transformers."""
    tokens = batch.tokens[batch.attention][None]
    positions = (batch.attention.long().cumsum(dim=1) - 1)[batch.attention][None]
    return lambda: trunk(tokens, position_ids=positions, use_cache=False).last_hidden_state[0]


def packed(trunk: PreTrainedModel, batch: Batch) -> Callable[[], Tensor]:
    """Return our side; the batch is a new one each time, as in training."""
    longest = packing.enable(trunk)
    assert longest >= batch.tokens.shape[1]
    return lambda: packing.outputs_at(trunk, batch.rows(slice(None)), batch.attention, longest)


def make_step(trunk: PreTrainedModel, read: Callable[[], Tensor], device: str) -> Callable[[], float]:
    """Return a training step without the optimiser; gradients stay until the next one."""
    targets: list[Tensor] = []

    def step() -> float:
        trunk.zero_grad()
        with autocast(torch.device(device)):
            hidden = read().float()
        if not targets:
            generator = torch.Generator(device).manual_seed(0)
            targets.append(torch.randn(hidden.shape, generator=generator, device=device))
        loss = (hidden - targets[0]).square().mean()
        loss.backward()
        return loss.item()

    return step


def main() -> None:
    """Measure and print."""
    options = parse(__doc__, n=0)
    device, on_cpu = options.device, options.device == "cpu"
    n = options.n or (5 if options.quick else 15)
    count, longest = (16, 400) if on_cpu else (16, 2048)
    of_model = "" if on_cpu else ", Qwen2.5-1.5B shapes"
    cases = [
        (f"packing, pad factor 1.4{of_model}", count, longest, 1.4, left_padded),
        (f"one row, pad factor 1.05{of_model}", count, longest, 1.05, left_padded),
        (f"one row, pad factor 1.8{of_model}", count, longest, 1.8, left_padded),
        (f"one row of short documents, pad factor 1.4{of_model}", 8 * count, longest // 6, 1.4, left_padded),
        (f"one row, against its block mask{of_model}", count // 2, longest, 1.4, block_masked),
    ]
    ours, peer = make_trunk(device), make_trunk(device)
    rows = []
    for name, documents, length, pad_factor, other in cases:
        batch = draw_batch(documents, length, pad_factor, device)
        sides = (make_step(ours, packed(ours, batch), device), make_step(peer, other(peer, batch), device))
        losses = [[side()] for side in sides]
        check_equal(name, losses, (ours, peer), tolerance=1e-5 if on_cpu else 0.05)
        rows.append(take_turns(name, *sides, n=n, device=device, warmup=0 if on_cpu else 2))
    report(rows, as_json=options.json)


if __name__ == "__main__":
    main()
