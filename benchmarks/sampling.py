"""Our sampler against ``model.generate()`` of transformers, and against an earlier build of this repository.

Greedy, batches of 64, answers of lengths 4:1; on a CPU then at temperature 1, a model of 13.7 M weights: the same
lengths, and with ``--before`` also the lengths of GSM8K's and MATH's reference answers (``OREO_DATA``), batches of 32.

Row i of a batch is to stop after a number of tokens that is spread evenly over a range of 4 to 1; the peer is told by a
``StoppingCriteria`` of whole tensors, ours by its ``stops``. On a CPU the script fails unless both give the same
tokens; in bfloat16, where rounding depends on how many rows a batch has, it says how many answers are the same.

    python benchmarks/sampling.py [--json] [--quick] [--device cuda] [--new-tokens 192] [--turns 5]
        [--before CHECKOUT]

On a GPU the model has the shape of Qwen2.5-1.5B, random weights in bfloat16; a CPU gets a small Llama in float32.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sampling_builds import OtherBuild, Workload, make_workload, sampler
from sampling_builds import make_model as make_larger_model
from side_by_side import QWEN_1_5B, QWEN_VOCABULARY, Row, parse, report, say, take_turns
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


def at_temperature_1(*, quick: bool, before: str, n: int) -> list[Row]:
    """Compare what is drawn at temperature 1 on a CPU, ours first in each turn; CPU seconds, medians."""
    works = [work for name in ("even", "GSM8K", "MATH") if (work := make_workload(name, quick=quick)) is not None]
    works = works if before else works[:1]
    model = make_larger_model()
    other = OtherBuild(Path(before), works, quick=quick) if before else None
    rows = []
    for work in works:
        sides: dict[str, Callable[[], tuple[float, int]]] = {"ours": partial(_timed, sampler(model, work))}
        if work.name == "even":
            sides["generate()"] = partial(_timed, partial(_drawn_by_transformers, model, work))
        if other is not None:
            sides[f"the build in {before}"] = partial(other.seconds, work.name)
        turns = [{side: draw() for side, draw in sides.items()} for _ in range(n + 1)][1:]
        if {tokens for turn in turns for _, tokens in turn.values()} != {sum(work.lengths)}:
            raise SystemExit(f"{work.name}: the sides draw different numbers of tokens")
        seconds = {side: statistics.median(turn[side][0] for turn in turns) for side in sides}
        label = f"temperature 1, {work.name}, {len(work.prompts)} rows in batches of {work.batch}"
        rows += [Row(f"{label}, {side}", seconds["ours"], seconds[side], "s", n) for side in list(sides)[1:]]
        for row in rows[1 - len(sides) :]:
            say(row)
    if other is not None:
        other.close()
    return rows


def _timed(draw: Callable[[], int]) -> tuple[float, int]:
    start = time.process_time()
    tokens = draw()
    return time.process_time() - start, tokens


def _drawn_by_transformers(model: PreTrainedModel, work: Workload) -> int:
    """Draw a workload that fits into one batch with ``generate()``, and count the tokens."""
    tokens, mask = pad_left(work.prompts, torch.device("cpu"))
    lengths = torch.tensor(work.lengths)
    with torch.no_grad():
        model.generate(
            tokens,
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=max(work.lengths),
            eos_token_id=None,
            pad_token_id=PAD,
            stopping_criteria=StoppingCriteriaList([PerRow(tokens.shape[1], lengths)]),
        )
    return sum(work.lengths)


def main() -> None:
    """Measure."""
    options = parse(__doc__, new_tokens=192, turns=5, before="")
    longest, n = (160, 3) if options.quick else (options.new_tokens, options.turns)
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
    if options.device == "cpu":
        rows += at_temperature_1(quick=options.quick, before=options.before, n=2 if options.quick else options.turns)
    report(rows, as_json=options.json)


if __name__ == "__main__":
    main()
