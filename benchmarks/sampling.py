"""Our sampler against ``model.generate()`` of transformers: greedy, batches of 64, answers of lengths 4:1.

Row i of a batch is to stop after a number of tokens that is spread evenly over a range of 4 to 1; the peer is told by a
``StoppingCriteria`` of whole tensors, ours by its ``stops``. On a CPU the script fails unless both give the same
tokens; in bfloat16, where rounding depends on how many rows a batch has, it says how many answers are the same.

    python benchmarks/sampling.py [--json] [--quick] [--device cuda] [--new-tokens 192]

On a GPU the model has the shape of Qwen2.5-1.5B, random weights in bfloat16; a CPU gets a small Llama in float32.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import numpy as np
import torch
from side_by_side import QWEN_1_5B, QWEN_VOCABULARY, Row, parse, report, take_turns
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    StoppingCriteria,
    StoppingCriteriaList,
)

from oreo_agents.episodes.generate import Sampling, generate
from oreo_agents.networks.kv_cache import pad_left
from oreo_agents.networks.policy import CausalPolicy

BATCH = 64
END, PAD = 2, 1


class PerRow(StoppingCriteria):
    """Stop each row after its own number of tokens."""

    def __init__(self, start: int, lengths: Tensor) -> None:
        """Count from column ``start``."""
        self.start, self.lengths = start, lengths

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Say which rows are done, bool [B]."""
        return input_ids.shape[1] - self.start >= self.lengths


def make_model(device: str) -> PreTrainedModel:
    """Return random weights, large enough that the likeliest token is clear."""
    torch.manual_seed(0)
    if device == "cpu":
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=2048,
                hidden_size=128,
                intermediate_size=256,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=4,
                initializer_range=0.2,
            )
        ).eval()
    shape = Qwen2Config(vocab_size=QWEN_VOCABULARY, **QWEN_1_5B)
    return Qwen2ForCausalLM(shape).to(device, torch.bfloat16).eval()


def main() -> None:
    """Measure."""
    options = parse(__doc__, new_tokens=192)
    longest, n = (160, 3) if options.quick else (options.new_tokens, 7)
    model = make_model(options.device)
    policy = CausalPolicy(model)
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for name, shortest in (("sampling", 48), ("sampling, equal prompt lengths", 96))[: 1 if options.quick else 2]:
        prompts = [rng.integers(3, 2048, size=rng.integers(shortest, 97)).tolist() for _ in range(BATCH)]
        lengths = rng.permutation(np.linspace(longest / 4, longest, BATCH).round().astype(int))
        tokens, mask = pad_left(prompts, torch.device(options.device))
        criteria = StoppingCriteriaList([PerRow(tokens.shape[1], torch.tensor(lengths, device=options.device))])
        stops = [partial(lambda length, new: length if len(new) >= length else None, int(k)) for k in lengths]
        limits = Sampling(temperature=0, max_new_tokens=longest + 1, batch_size=BATCH)

        def peer(tokens: Tensor = tokens, mask: Tensor = mask, criteria: Any = criteria) -> Any:
            with torch.no_grad():
                return model.generate(
                    tokens,
                    attention_mask=mask,
                    do_sample=False,
                    max_new_tokens=longest,
                    eos_token_id=END,
                    pad_token_id=PAD,
                    stopping_criteria=criteria,
                )

        ours = partial(generate, policy, prompts, {END}, limits, stops=stops)
        said = zip(peer()[:, tokens.shape[1] :].tolist(), ours(), lengths, strict=True)
        equal = sum(
            sample.tokens == row[: len(sample.tokens)] and (sample.ended or len(sample.tokens) == length)
            for row, sample, length in said
        )
        print(f"{name}: {equal} of {BATCH} answers are the same", file=sys.stderr)
        if equal < BATCH and options.device == "cpu":
            raise SystemExit("the two sides say different tokens")
        label = f"{name}: batch {BATCH}, {longest // 4} to {longest} new tokens"
        rows.append(take_turns(label, ours, peer, n=n, device=options.device, warmup=0))
    report(rows, as_json=options.json)


if __name__ == "__main__":
    main()
