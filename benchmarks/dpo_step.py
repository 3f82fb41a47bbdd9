"""DPO's training step against TRL's DPOTrainer: same model, pairs, order and options, losses and weights compared.

Both sides run their own loops from their own data (``train`` of either), logging as little as they can; what is timed
is from the end of one optimiser step to the end of the next, so that loading and scoring the reference beforehand are
left out. TRL has gradient checkpointing off and float32, its fastest on a CPU, and a batch
that it takes in one piece. In one row either side scores the reference at each step, in the other either has done so
before. On a GPU the models have the shape of Qwen2.5-1.5B, random weights and bfloat16. Needs
``pip install -e '.[bench]'``.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from side_by_side import QWEN_1_5B, QWEN_VOCABULARY, Row, parse, report, say
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    TrainerCallback,
)

from oreo_agents.networks.policy import CausalPolicy
from oreo_algos import Episode, EpisodeBuffer, Models, TrainerConfig, train
from oreo_algos.algos import Dpo
from oreo_algos.training.metrics_writer import read_metrics
from oreo_algos.training.schedule import Schedule

try:
    from datasets import Dataset, disable_progress_bars
    from trl import DPOConfig, DPOTrainer
except ImportError as error:
    raise SystemExit(f"{error}; install the peers with `pip install -e '.[bench]'`") from error

_END, _PAD = 0, 1
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model and the pairs that it learns from; without ``hidden`` and ``layers`` it is Qwen2.5-1.5B."""

    name: str
    vocabulary: int
    hidden: int | None = None
    layers: int | None = None
    batch: int
    steps: int
    longest: int = 280

    def model(self, seed: int) -> PreTrainedModel:
        """Draw a model."""
        torch.manual_seed(seed)
        if self.hidden is None or self.layers is None:
            return Qwen2ForCausalLM(
                Qwen2Config(
                    vocab_size=self.vocabulary,
                    **QWEN_1_5B,
                    bos_token_id=None,
                    eos_token_id=_END,
                    pad_token_id=_PAD,
                )
            )
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=self.vocabulary,
                hidden_size=self.hidden,
                intermediate_size=2 * self.hidden,
                num_hidden_layers=self.layers,
                num_attention_heads=4,
                max_position_embeddings=512,
                initializer_range=0.05,
                bos_token_id=None,
                eos_token_id=_END,
                pad_token_id=_PAD,
            )
        )

    def episodes(self) -> list[Episode]:
        """Draw a right and a wrong answer to each question, from a tenth of the longest on."""
        rng = np.random.default_rng(_SEED)
        episodes = []
        for task in range(self.batch * self.steps):
            prompt = rng.integers(2, self.vocabulary, rng.integers(self.longest // 20, self.longest // 3))
            for reward in (1.0, 0.0):
                answer = np.append(
                    rng.integers(2, self.vocabulary, rng.integers(self.longest // 10, self.longest)), _END
                )
                episodes.append(
                    Episode(
                        tokens=np.concatenate([prompt, answer]),
                        step_id=np.repeat([-1, 0], [len(prompt), len(answer)]),
                        rewards=[reward],
                        terminated=True,
                        truncated=False,
                        task_id=str(task),
                        env_id="oreo/Benchmark-v0",
                    )
                )
        return episodes


@dataclass
class Outcome:
    """What a training run leaves: seconds a step but for the first, the losses, the weights on the CPU."""

    seconds: list[float]
    losses: list[float]
    weights: dict[str, torch.Tensor]


class Stamps:
    """CPU seconds from the end of one step to the end of the next; on a GPU, wall seconds."""

    def __init__(self, device: str) -> None:
        """Nothing is timed yet."""
        self.device, self.times = device, list[float]()

    def __call__(self) -> None:
        """End a step."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        self.times.append(time.process_time() if self.device == "cpu" else time.perf_counter())

    def between(self) -> list[float]:
        """Return the seconds of all steps but the first."""
        return np.diff(self.times).tolist()


class Sides:
    """Both sides on one case."""

    def __init__(self, case: Case, folder: Path, device: str) -> None:
        """Draw models and pairs, and write the pairs down for either side in the order of our schedule."""
        self.case, self.folder, self.device = case, folder, device
        self.policy, self.reference = case.model(_SEED), case.model(_SEED + 1)
        self.algorithm = Dpo(policy_lr=1e-4, beta=0.1, batch_size=case.batch, warmup_ratio=0.0)
        EpisodeBuffer(case.episodes()).save(folder / "episodes")
        self.buffer = EpisodeBuffer.load(folder / "episodes")
        self.tokenizer = _word_tokenizer(case.vocabulary)
        self.pairs = Dataset.from_list([self._text(pair) for pair in self._ordered_pairs()])

    def ours(self, *, precompute: bool) -> Outcome:
        """Train with our trainer; without ``precompute`` the log-probabilities that it would keep are withheld."""
        policy = CausalPolicy(copy.deepcopy(self.policy).to(self.device))
        reference = CausalPolicy(copy.deepcopy(self.reference).to(self.device)).requires_grad_(False)
        stamp = Stamps(self.device)
        reader = "oreo_algos.training.reference_scores.ReferenceScores.take"
        withheld = nullcontext() if precompute else patch(reader, lambda *_, **__: None)
        with tempfile.TemporaryDirectory(dir=self.folder) as run, withheld:

            def end_step(step: int) -> dict[str, float]:
                stamp()
                return {}

            config = TrainerConfig(seed=_SEED, evaluate_every=1, bf16=self.device != "cpu")
            train(self.algorithm, Models(policy, reference), self.buffer, config, Path(run), evaluate=end_step)
            losses = [row["train/loss"] for row in read_metrics(Path(run))]
        return Outcome(stamp.between(), losses, _on_cpu(policy.plain))

    def peer(self, *, precompute: bool) -> Outcome:
        """Train with TRL."""
        model, stamp, losses = copy.deepcopy(self.policy), Stamps(self.device), list[torch.Tensor]()

        class InOrder(DPOTrainer):
            def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler:
                return torch.utils.data.SequentialSampler(self.train_dataset)

            def training_step(self, *arguments: Any, **options: Any) -> torch.Tensor:
                losses.append(super().training_step(*arguments, **options))
                return losses[-1]

        class EndStep(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                stamp()

        config = DPOConfig(
            output_dir=str(self.folder / "trl"),
            per_device_train_batch_size=self.case.batch,
            num_train_epochs=1,
            learning_rate=self.algorithm.policy_lr,
            lr_scheduler_type="cosine",
            warmup_steps=0,
            beta=self.algorithm.beta,
            adam_beta2=0.95,
            weight_decay=0.0,
            max_grad_norm=self.algorithm.max_grad_norm,
            max_length=None,
            precompute_ref_log_probs=precompute,
            gradient_checkpointing=False,
            bf16=self.device != "cpu",
            use_cpu=self.device == "cpu",
            dataloader_pin_memory=self.device != "cpu",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=_SEED,
        )
        trainer = InOrder(
            model,
            copy.deepcopy(self.reference),
            args=config,
            train_dataset=self.pairs,
            processing_class=self.tokenizer,
            callbacks=[EndStep()],
        )
        trainer.train()
        return Outcome(stamp.between(), [loss.item() for loss in losses], _on_cpu(model))

    def _ordered_pairs(self) -> Iterator[tuple[Episode, Episode]]:
        pairs = self.algorithm.select(self.buffer, np.random.default_rng(np.random.SeedSequence([_SEED, 0])))
        schedule = Schedule(examples=len(pairs), batch_size=self.case.batch, epochs=1, seed=_SEED)
        return (pairs[i] for step in range(schedule.total_steps) for i in schedule.batch(step))

    @staticmethod
    def _text(pair: tuple[Episode, Episode]) -> dict[str, str]:
        """Write a pair as words, of which the tokenizer makes the same tokens; TRL adds the end token."""
        start = int(np.argmax(pair[0].step_id >= 0))
        prompt, chosen, rejected = pair[0].tokens[:start], pair[0].tokens[start:-1], pair[1].tokens[start:-1]
        words = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        return {name: "".join(f" {token}" for token in tokens) for name, tokens in words.items()}


def _word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Token n is the word n."""
    words = {"<end>": _END, "<pad>": _PAD} | {str(n): n for n in range(2, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")


def _on_cpu(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: weight.float().cpu() for name, weight in model.state_dict().items()}


def check(
    ours: Outcome, peer: Outcome, start: dict[str, torch.Tensor], *, loss_tolerance: float, way_tolerance: float
) -> None:
    """Fail unless the first losses agree, and the weights have moved the same way.

    Args:
        ours, peer: of the two sides.
        start: weights before the first step.
        loss_tolerance: relative.
        way_tolerance: how far the weights may end apart, as a share of the way that they went; two that went different
            ways are 1.4 apart.
    """
    if not math.isclose(ours.losses[0], peer.losses[0], rel_tol=loss_tolerance):
        raise SystemExit(f"the first losses differ: {ours.losses[0]} and {peer.losses[0]}")
    apart = sum((ours.weights[name] - peer.weights[name]).square().sum() for name in start) ** 0.5
    moved = sum((peer.weights[name] - start[name]).square().sum() for name in start) ** 0.5
    print(
        f"losses {ours.losses} and {peer.losses}; weights differ by {apart / moved:.1e} of their way", file=sys.stderr
    )
    if not apart / moved < way_tolerance:
        raise SystemExit(f"after {len(ours.losses)} steps the weights differ by {apart / moved:.1e} of their way")


def compare(case: Case, turns: int, device: str) -> list[Row]:
    """Train on both sides in turns; one row for each way in which TRL reads the reference."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        sides = Sides(case, Path(folder), device)
        start = _on_cpu(sides.policy)
        # bfloat16 leaves a loss three digits, and the first steps of Adam go by the signs of gradients, however small.
        tolerances = {"loss_tolerance": 1e-5, "way_tolerance": 1e-3}
        if device != "cpu":
            tolerances = {"loss_tolerance": 2e-2, "way_tolerance": 0.5}
        rows = []
        for name, precompute in (("reference each step", False), ("reference precomputed", True)):
            seconds: tuple[list[float], list[float]] = ([], [])
            for turn in range(turns):
                outcomes = sides.ours(precompute=precompute), sides.peer(precompute=precompute)
                for times, outcome in zip(seconds, outcomes, strict=True):
                    times += outcome.seconds
                if turn == 0:
                    check(*outcomes, start, **tolerances)
            ours, peer = map(statistics.median, seconds)
            rows.append(Row(f"dpo step, {case.name}, {name}", ours, peer, "s", len(seconds[0])))
    return rows


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep stdout for the rows, and progress bars and advice of either side away."""
    disable_progress_bars()
    os.environ["TQDM_DISABLE"] = "1"
    logging.disable(logging.WARNING)
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.stdout = stdout
        logging.disable(logging.NOTSET)


CASES = {
    "quick": [Case(name="vocabulary 32k", vocabulary=32_000, hidden=64, layers=2, batch=2, steps=4, longest=80)],
    "cpu": [
        Case(name="vocabulary 32k", vocabulary=32_000, hidden=64, layers=2, batch=4, steps=4),
        Case(name="wider, vocabulary 32k", vocabulary=32_000, hidden=128, layers=4, batch=4, steps=4),
    ],
    "cuda": [Case(name="1.5B", vocabulary=QWEN_VOCABULARY, batch=16, steps=6)],
}


def main() -> None:
    """Compare and print."""
    options = parse(__doc__, turns=5)
    device = "cpu" if options.device == "cpu" else "cuda"
    turns = 2 if options.quick else options.turns
    rows = []
    for case in CASES["quick" if options.quick and device == "cpu" else device]:
        for row in compare(case, turns, options.device):
            say(row)
            rows.append(row)
    report(rows, as_json=options.json)


if __name__ == "__main__":
    main()
