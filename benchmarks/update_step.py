"""One OREO update (token level, exact KL) against the authors' way of computing it.

    python benchmarks/update_step.py                  # CPU: a tiny Llama with realistic vocabularies
    python benchmarks/update_step.py --device cuda    # one GPU: the shapes of Qwen2.5-1.5B, random weights, bfloat16
    python benchmarks/update_step.py --growth growth.png

Ours is the step of ``oreo_algos.training.trainer``: one forward of policy, reference and value, and the head for the
tokens of actions only. The peer is written from the formulas (Wang et al. 2024, Eq. 8 and 9): padded micro-batches with
an attention mask, two forwards of the policy (one for the value's target, one for the policy's loss), a float32
log-softmax over the vocabulary at every position, prompts included. Both see the same episodes and networks, and the
script stops unless losses and gradients, as vectors, are equal to 1e-5. Prompts are a quarter to a third of an episode.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt
from side_by_side import (
    QWEN_1_5B,
    QWEN_VOCABULARY,
    Row,
    check_equal,
    in_fresh_processes,
    parse,
    peak_above,
    report,
    say,
    take_turns,
)
from torch import Tensor
from torch.optim import AdamW
from transformers import AutoModelForTokenClassification, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.token_scores import HeadInput, Scores, head_scores, logit_scores
from oreo_agents.networks.value import TokenValue
from oreo_algos import Episode, Models
from oreo_algos.algos import Oreo
from oreo_algos.batch import Batch, collate

matplotlib.use("Agg")

MICRO_BATCH = 4
ALGORITHM = Oreo()
H200_FLOP_PER_SECOND = 989e12  # bfloat16, dense


@dataclass
class Side:
    """The networks of one side, their optimisers, and what they learn from."""

    policy: CausalPolicy
    reference: CausalPolicy
    value: TokenValue
    batches: list[Batch]
    device: str

    def __post_init__(self) -> None:
        """Give each network that learns its optimiser."""
        self.optimizers = [
            AdamW(network.parameters(), lr=1e-6, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
            for network in (self.policy, self.value)
        ]
        for optimizer in self.optimizers:  # its state stands before anything is measured
            for parameter in optimizer.param_groups[0]["params"]:
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
            optimizer.zero_grad()

    def backward(self, losses: Losses) -> list[float]:
        """Add up the gradients of all batches; return value loss and policy loss."""
        total = [0.0, 0.0]
        episodes = sum(len(batch) for batch in self.batches)
        for batch in self.batches:
            with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.device != "cpu"):
                terms = losses(self, batch)
            (sum(terms) * (len(batch) / episodes)).backward()
            total = [t + term.item() * len(batch) / episodes for t, term in zip(total, terms, strict=True)]
        return total

    def update(self, losses: Losses) -> None:
        """Take one optimiser step."""
        self.backward(losses)
        for network, optimizer in zip((self.policy, self.value), self.optimizers, strict=True):
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


Losses = Callable[[Side, Batch], tuple[Tensor, Tensor]]


def ours(side: Side, batch: Batch) -> tuple[Tensor, Tensor]:
    """Value loss and policy loss as the suite computes them."""
    terms = ALGORITHM.losses(batch, Models(side.policy, side.reference, side.value)).terms
    return terms["value"], terms["policy"]


def peer(side: Side, batch: Batch) -> tuple[Tensor, Tensor]:
    """Value loss and policy loss as the authors' code computes them, from the formulas."""
    mask = batch.action_mask[:, 1:]
    targets = batch.tokens[:, 1:, None]
    inputs = {"input_ids": batch.tokens, "attention_mask": batch.attention.long(), "use_cache": False}

    def log_softmax(policy: CausalPolicy) -> Tensor:
        return policy.plain(**inputs).logits[:, :-1].float().log_softmax(dim=-1)

    def episode_mean(x: Tensor) -> Tensor:
        return ((x * mask).sum(dim=1) / mask.sum(dim=1)).mean()

    with torch.no_grad():
        ref = log_softmax(side.reference)
        fixed = log_softmax(side.policy).gather(-1, targets).squeeze(-1)
        ref_chosen = ref.gather(-1, targets).squeeze(-1)
        log_ratio = (fixed - ref_chosen) * mask
        to_go = log_ratio.flip(1).cumsum(dim=1).flip(1)
        reward = batch.rewards.sum(dim=1, keepdim=True)
    values = side.value.model(**inputs).logits.squeeze(-1).float()[:, :-1]
    value_loss = episode_mean((values - reward + ALGORITHM.beta * to_go).square())
    logp = log_softmax(side.policy)
    own = logp.gather(-1, targets).squeeze(-1) - ref_chosen
    residual = values.detach() - reward + ALGORITHM.beta * (own + to_go - log_ratio)
    divergence = (logp.exp() * (logp - ref)).sum(dim=-1)
    return value_loss, episode_mean(residual.square()) + 0.01 * episode_mean(divergence)


def make_side(episodes: Sequence[Episode], vocabulary: int, device: str, micro_batch: int = MICRO_BATCH) -> Side:
    """Networks with random weights, the reference not equal to the policy; a tiny Llama, or on a GPU Qwen2.5-1.5B."""
    longest = max(episode.num_tokens for episode in episodes)
    shared = {"vocab_size": vocabulary, "max_position_embeddings": longest, "num_labels": 1, "classifier_dropout": 0.0}
    if device == "cpu":
        family = LlamaForCausalLM
        small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
        config = LlamaConfig(**shared, **small, initializer_range=0.05)
    else:
        family = Qwen2ForCausalLM
        config = Qwen2Config(**(QWEN_1_5B | shared))
    torch.manual_seed(0)
    with torch.device(device):
        policy, reference = (CausalPolicy(family(config).eval()) for _ in range(2))
        value = TokenValue(AutoModelForTokenClassification.from_config(config).eval())
    batches = [collate(episodes[i : i + micro_batch]).to(device) for i in range(0, len(episodes), micro_batch)]
    return Side(policy, reference.requires_grad_(False), value, batches, device)


def draw_episodes(lengths: Sequence[int], vocabulary: int) -> list[Episode]:
    """Episodes of random tokens, every other one a success."""
    rng = np.random.default_rng(0)
    episodes = []
    for number, length in enumerate(lengths):
        prompt = int(length * rng.uniform(1 / 4, 1 / 3))
        episodes.append(
            Episode(
                tokens=rng.integers(0, vocabulary, size=length),
                step_id=np.repeat([-1, 0], [prompt, length - prompt]),
                rewards=np.array([float(number % 2)]),
                terminated=True,
                truncated=False,
                task_id=f"task-{number}",
                env_id="oreo/Random-v0",
            )
        )
    return episodes


def draw_lengths(count: int, shortest: int, longest: int) -> list[int]:
    """Lengths spread evenly between two, in no order."""
    return np.random.default_rng(1).permutation(np.linspace(shortest, longest, count).astype(int)).tolist()


def compare(name: str, lengths: Sequence[int], vocabulary: int, *, n: int, device: str) -> Row:
    """Time both sides, once they are known to compute the same losses and gradients."""
    episodes = draw_episodes(lengths, vocabulary)
    mine, theirs = (make_side(episodes, vocabulary, device) for _ in range(2))
    losses = [mine.backward(ours), theirs.backward(peer)]
    for networks in ((mine.policy, theirs.policy), (mine.value, theirs.value)):
        check_equal(name, losses, networks, tolerance=1e-5 if device == "cpu" else 0.05)
    for optimizer in (*mine.optimizers, *theirs.optimizers):
        optimizer.zero_grad()
    warmup = int(device != "cpu")
    return take_turns(name, lambda: mine.update(ours), lambda: theirs.update(peer), n=n, device=device, warmup=warmup)


def needs(losses: Losses, lengths: Sequence[int], vocabulary: int, device: str = "cpu") -> tuple[float, float]:
    """What three updates of one micro-batch need on one side: median CPU seconds, and memory above what stands, MiB."""
    seconds: list[float] = []

    def ready() -> Callable[[], object]:
        side = make_side(draw_episodes(lengths, vocabulary), vocabulary, device, micro_batch=len(lengths))

        def work() -> None:
            start = time.process_time()
            side.update(losses)
            seconds.append(time.process_time() - start)

        return work

    memory = peak_above(ready, device=device)
    return statistics.median(seconds), memory


def compare_memory(vocabulary: int, longest: int) -> Callable[[], Row]:
    """Start to measure the memory of both sides for a micro-batch, whose longest episode is given, tokens.

    Call what is returned for the row.
    """
    lengths = draw_lengths(MICRO_BATCH, longest // 8, longest)
    results = in_fresh_processes(*(partial(needs, losses, lengths, vocabulary) for losses in (ours, peer)))

    def row() -> Row:
        (_, mine), (_, theirs) = results()
        found = Row(f"update, peak memory {vocabulary // 1000}k", mine, theirs, "MiB", 1)
        say(found)
        return found

    return row


def on_cpu(*, quick: bool) -> list[Row]:
    """All rows of a CPU."""
    longest = {32_000: 200, 152_000: 80} if quick else {32_000: 400, 152_000: 400}
    memory = [compare_memory(*pair) for pair in longest.items()]
    lengths = draw_lengths(MICRO_BATCH if quick else 4 * MICRO_BATCH, 50, 400)
    time_row = compare("update, time 32k", lengths, 32_000, n=3 if quick else 5, device="cpu")
    return [time_row, *(row() for row in memory)]


def on_gpu(device: str, *, quick: bool) -> list[Row]:
    """All rows of a GPU, in bfloat16 with float32 weights."""
    count = MICRO_BATCH if quick else 4 * MICRO_BATCH
    fixed = [2048] * count
    rows = [
        compare("Qwen2.5-1.5B, varied lengths", draw_lengths(count, 256, 2048), QWEN_VOCABULARY, n=5, device=device),
        compare("Qwen2.5-1.5B, fixed 2048", fixed, QWEN_VOCABULARY, n=5, device=device),
    ]
    work = _flop(draw_episodes(fixed, QWEN_VOCABULARY))
    used = [work / seconds / H200_FLOP_PER_SECOND for seconds in (rows[1].ours, rows[1].peer)]
    rows.append(Row("Qwen2.5-1.5B, fixed 2048, 1 / MFU", 1 / used[0], 1 / used[1], "", 5))
    rows.append(_vocabulary_sized_memory(device))
    return rows


def _flop(episodes: Sequence[Episode]) -> float:
    """Floating-point operations that an update cannot do without, the attention's scores left out."""
    tokens = sum(episode.num_tokens for episode in episodes)
    actions = sum(episode.num_action_tokens for episode in episodes)
    hidden = QWEN_1_5B["hidden_size"]
    trunk = (
        QWEN_1_5B["num_hidden_layers"] * hidden * (2 * hidden + 2 * hidden // 6 + 3 * QWEN_1_5B["intermediate_size"])
    )
    head = hidden * QWEN_VOCABULARY
    # Forward and backward of policy and value, forward of the reference.
    return (6 + 6 + 2) * trunk * tokens + (6 + 2) * head * actions


def _vocabulary_sized_memory(device: str) -> Row:
    """Memory for scoring 4 x 2048 tokens, forward and backward, as in training.

    Weights, features and the gradients that stand from the micro-batch before are float32, products bfloat16.
    """

    def ready(plain: bool) -> Callable[[], object]:
        def tensor(*shape: int) -> Tensor:
            return torch.randn(*shape, device=device)

        weight, ref_weight = (tensor(QWEN_VOCABULARY, QWEN_1_5B["hidden_size"]) / 50 for _ in range(2))
        features, ref_features = (tensor(4 * 2048, QWEN_1_5B["hidden_size"]) for _ in range(2))
        targets = torch.randint(QWEN_VOCABULARY, (4 * 2048,), device=device)
        weight.requires_grad_().grad = torch.zeros_like(weight)
        features.requires_grad_()

        @torch.autocast(device, dtype=torch.bfloat16)
        def score() -> Scores:
            if plain:
                logp = torch.nn.functional.linear(features, weight).float().log_softmax(dim=-1)
                with torch.no_grad():
                    ref = torch.nn.functional.linear(ref_features, ref_weight).float().log_softmax(dim=-1)
                return logit_scores(logp, ref, targets, "exact")
            return head_scores(HeadInput(features, weight), targets, HeadInput(ref_features, ref_weight), "exact")

        def work() -> None:
            logprobs, _, divergence, _ = score()
            assert divergence is not None
            (logprobs.sum() + divergence.sum()).backward()
            features.grad = None

        work()  # libraries keep workspaces from their first call
        return work

    mine, theirs = (peak_above(partial(ready, plain), device=device) for plain in (False, True))
    row = Row("vocabulary-sized memory at 4 x 2048 tokens, gradient of the head included", mine, theirs, "MiB", 3)
    say(row)
    return row


# What grows in the plot, around a micro-batch of 4 episodes of at most 256 tokens and 16,000 kinds of token.
GROWTH = {
    "longest episode, tokens": [(n, (4, n, 16_000)) for n in (64, 128, 256, 512, 1024)],
    "vocabulary": [(n, (4, 256, n)) for n in (4_000, 16_000, 64_000, 128_000)],
    "episodes a micro-batch": [(n, (n, 256, 16_000)) for n in (2, 4, 8, 16, 32)],
}


def measure_growth() -> dict[str, list[dict[str, float]]]:
    """What both sides need at every point of `GROWTH`."""
    found: dict[str, list[dict[str, float]]] = {}
    for label, points in GROWTH.items():
        found[label] = []
        for x, (count, longest, vocabulary) in points:
            lengths = draw_lengths(count, longest // 2, longest)
            mine, theirs = in_fresh_processes(*(partial(needs, f, lengths, vocabulary) for f in (ours, peer)))()
            row = {"x": x, "ours_s": mine[0], "peer_s": theirs[0], "ours_mib": mine[1], "peer_mib": theirs[1]}
            print(label, row, file=sys.stderr)
            found[label].append(row)
    return found


def plot_growth(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Write a log-log plot of time and peak memory, and beside it the numbers as JSON."""
    figure, axes = plt.subplots(2, len(found), figsize=(12, 6), sharex="col", sharey="row", layout="constrained")
    for (label, rows), column in zip(found.items(), axes.T, strict=True):
        points = [row["x"] for row in rows]
        for axis, unit in zip(column, ("s", "mib"), strict=True):
            for side in ("ours", "peer"):
                axis.loglog(points, [row[f"{side}_{unit}"] for row in rows], "o-", label=side)
            axis.set_xticks(points, [f"{x // 1000}k" if x >= 4000 else f"{x:,}" for x in points])
            axis.minorticks_off()
        column[1].set_xlabel(label)
    axes[0, 0].set_ylabel("CPU seconds an update")
    axes[1, 0].set_ylabel("peak memory above static, MiB")
    axes[0, 0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Print the rows."""
    options = parse(__doc__, growth="")
    if options.growth:
        plot_growth(measure_growth(), Path(options.growth))
        return
    rows = on_cpu(quick=options.quick) if options.device == "cpu" else on_gpu(options.device, quick=options.quick)
    report(rows, as_json=options.json)


if __name__ == "__main__":
    main()
