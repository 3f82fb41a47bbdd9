"""How to train, as against what to learn, and what a finished run reports.

Knows: names, defaults. Does not know: the loop (`trainer`), equations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from oreo_algos.training.doctor import Thresholds
from oreo_algos.training.trackers import DEFAULT, tracker_names
from oreo_algos.typed import require_types

Sharding = Literal["replicated", "full"]


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How to run.

    Attributes:
        seed: order of the data and choice among it.
        micro_batch_tokens: tokens a forward pass, padding not counted; an example that is longer goes alone. Changes
            no loss, gradient or metric beyond rounding (and the draws of dropout).
        checkpoint_every: optimiser steps between checkpoints; there is always one at the end.
        keep_checkpoints: how many of the newest stay on disk.
        evaluate_every: optimiser steps between calls of ``evaluate``, which is also called after the last one, and
            after a warm-up of the value; 0: never. Evaluating changes no weight.
        eval_on_start: also evaluate before the first step.
        load_best_model_at_end: end with the networks of the best evaluation, the earliest of equally good ones, in
            place of the last ones. Each best so far is written to disk.
        early_stopping_patience: stop after so many evaluations in a row that are no better than the best before them;
            those before the policy is trained do not count. None: never.
        bf16: autocast to bfloat16; None: on a GPU.
        sharding: of several processes (``torchrun``): ``replicated``: each holds all networks, and gradients are added
            up; ``full``: each holds a part of weights, gradients and what optimisers keep (FSDP2). One process that is
            started alone holds everything either way.
        cpu_offload: with ``full`` on GPUs: the parts lie in the memory of the host.
        tracker: where the numbers are shown beside ``metrics.jsonl``: names among ``trackers.TRACKERS``; "none" or an
            empty list: nowhere.
        doctor: from where on to warn of what looks wrong.
    """

    seed: int = 0
    micro_batch_tokens: int = 16384
    checkpoint_every: int = 200
    keep_checkpoints: int = 1
    evaluate_every: int = 0
    eval_on_start: bool = False
    load_best_model_at_end: bool = False
    early_stopping_patience: int | None = None
    bf16: bool | None = None
    sharding: Sharding = "replicated"
    cpu_offload: bool = False
    tracker: str | Sequence[str] = DEFAULT
    doctor: Thresholds = Thresholds()

    def __post_init__(self) -> None:
        """Check the settings."""
        object.__setattr__(self, "tracker", tracker_names(self.tracker))
        require_types(self)
        for name in ("micro_batch_tokens", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if self.evaluate_every < 0:
            raise ValueError(f"evaluate_every must be at least 1, or 0 for never, got {self.evaluate_every}")
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise ValueError(
                f"early_stopping_patience must be at least 1, or null for never, got {self.early_stopping_patience}"
            )
        if self.cpu_offload and self.sharding != "full":
            raise ValueError("trainer.cpu_offload keeps shards in the memory of the host: give trainer.sharding=full")
        if self.chooses and not self.evaluate_every:
            name = "load_best_model_at_end" if self.load_best_model_at_end else "early_stopping_patience"
            raise ValueError(f"trainer.{name} needs evaluations on the way: give trainer.evaluate_every=STEPS too")

    @property
    def chooses(self) -> bool:
        """Whether evaluations decide what the run ends with."""
        return self.load_best_model_at_end or self.early_stopping_patience is not None


@dataclass(frozen=True)
class TrainResult:
    """What a finished training run reports.

    Attributes:
        steps: optimiser steps, value warm-up included.
        examples: examples of one epoch.
        skipped_too_long: examples left out because they do not fit in the policy's context.
        metrics: those of the last step.
        cpu_seconds: CPU time until the last checkpoint, evaluations not counted; of a run that was killed, also that
            of the processes before.
        stopped_early: evaluations no longer became better.
        best_step: after which the best evaluation was made; None without one.
        best_score: what it found.
        loaded_step: the step whose networks the run ended with; None: the last.
        dropped_cut_off: episodes of the buffer left out because a limit cut them off, see ``Algorithm.on_truncation``.
    """

    steps: int
    examples: int
    skipped_too_long: int
    metrics: dict[str, float]
    cpu_seconds: float
    stopped_early: bool = False
    best_step: int | None = None
    best_score: float | None = None
    loaded_step: int | None = None
    dropped_cut_off: int = 0

    def __repr__(self) -> str:
        """One line: steps, examples, the last losses, the best evaluation, CPU time."""
        losses = [
            f"{name.removeprefix('train/')}={value:.4g}" for name, value in self.metrics.items() if "loss" in name
        ]
        skipped = f", {self.skipped_too_long} too long" if self.skipped_too_long else ""
        skipped += f", {self.dropped_cut_off} episodes cut off left out" if self.dropped_cut_off else ""
        best = [] if self.best_score is None else [f"best {self.best_score:.4g} at step {self.best_step}"]
        facts = [f"{self.steps} steps", f"{self.examples} examples{skipped}", *losses, *best]
        return f"TrainResult({', '.join(facts)}, {self.cpu_seconds:.1f} CPU s)"
