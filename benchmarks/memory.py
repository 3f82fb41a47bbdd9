"""The memory of an OREO update at the shapes of Qwen2.5-1.5B, as predicted before a run on a GPU; no GPU is needed.

    python benchmarks/memory.py

Each line is one way to train policy and value with a reference of the same size: all weights or adapters, layers
computed again or not. ``tests/oreo_agents/networks/test_memory.py`` holds these numbers to what autograd saves of real
updates at these widths.
"""

from __future__ import annotations

import torch
from side_by_side import QWEN_1_5B, QWEN_VOCABULARY
from transformers import Qwen2Config

from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.memory import Trained, predict
from oreo_algos import TrainerConfig

TOKENS = TrainerConfig().micro_batch_tokens
BEFORE = "all weights, layers kept"
NOW = "all weights, layers computed again (the defaults of policy=checkpoint)"
LORA = Lora(rank=64)
WAYS = {
    BEFORE: (Trained(), TOKENS),
    BEFORE + ", fewer tokens": (Trained(), 4096),
    NOW: (Trained(gradient_checkpointing=True), TOKENS),
    "adapters of rank 64": (Trained(lora=LORA, gradient_checkpointing=True), TOKENS),
    "adapters over bfloat16 weights": (Trained(lora=LORA, gradient_checkpointing=True, dtype=torch.bfloat16), TOKENS),
}


def main() -> None:
    """Print what each way takes, and the ratio of what is saved."""
    config = Qwen2Config(**QWEN_1_5B, vocab_size=QWEN_VOCABULARY)
    found = {
        name: predict(config, tokens=tokens, policy=how, value=how, reference="copy")
        for name, (how, tokens) in WAYS.items()
    }
    for name, memory in found.items():
        print(f"{name}:\n  {memory}")
    now, before = found[NOW], found[BEFORE]
    print(f"saved for the backward, and the layer at work, now to before: {(now.saved + now.work) / before.saved:.3f}")


if __name__ == "__main__":
    main()
