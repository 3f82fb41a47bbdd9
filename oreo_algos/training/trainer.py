"""The one training loop: optimisers, schedules, micro-batches, checkpoints, logs. It holds no equation.

Knows: the protocols of ``models`` and ``algos.base``. Does not know: environments, tokenizers, model families.
"""

import itertools
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from oreo_algos.algos.base import Algorithm
from oreo_algos.bars import bar_console
from oreo_algos.batch import TASK, Batch, collate, require_extra
from oreo_algos.episode import Episode
from oreo_algos.metrics import WeightedMean
from oreo_algos.models import Models, Network, Policy
from oreo_algos.storage.buffer import EpisodeBuffer
from oreo_algos.storage.checkpoint import load_last_checkpoint, save_checkpoint
from oreo_algos.training.curve import Curve, Evaluate
from oreo_algos.training.doctor import TrainingDoctor, examine_rewards
from oreo_algos.training.examples import Examples
from oreo_algos.training.fit import require_examples, require_fit
from oreo_algos.training.identity import place, run_fingerprint
from oreo_algos.training.metrics_writer import MetricsWriter, read_metrics
from oreo_algos.training.micro_batches import cut_by_tokens, episodes_of
from oreo_algos.training.optimizers import make_optimizers
from oreo_algos.training.reference import Rows, reference_logprobs
from oreo_algos.training.schedule import Schedule, cosine_with_warmup
from oreo_algos.training.settings import TrainerConfig, TrainResult
from oreo_algos.training.trained import load_trained_state, trained_state
from oreo_algos.training.warning_log import WarningLog

_log = logging.getLogger(__name__)


def train(
    algorithm: Algorithm[Any],
    models: Models,
    buffer: EpisodeBuffer,
    config: TrainerConfig,
    folder: Path,
    *,
    evaluate: Evaluate | None = None,
    facts: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Train ``models`` in place on the episodes of ``buffer``; continue from the last checkpoint in ``folder``.

    To continue, give the networks that the run started from; the checkpoint then replaces their weights.

    Args:
        algorithm: what to learn from and how.
        models: the networks; those that the algorithm ``needs`` must be there. A reference of which it reads
            log-probabilities only is taken out, and leaves the device unless others hold it.
        buffer: encoded episodes; where it has a folder, log-probabilities of the reference are kept there.
        config: how to run.
        folder: run folder for checkpoints, ``metrics.jsonl``, ``warnings.jsonl`` and TensorBoard events.
        evaluate: called with the step every ``config.evaluate_every`` steps and after the last; what it finds is
            logged, and says which networks are the best where the configuration asks for them.
        facts: what trackers are told of the run beside the settings of algorithm and trainer, JSON by name.

    Raises:
        ValueError: a needed network is missing, no example is left to learn from, the checkpoint in ``folder``
            belongs to another run, or a loss is not finite.
    """
    return _Run(algorithm, models, buffer, config, folder, facts or {}).finish(evaluate)


class _Run:
    """State of one training run."""

    def __init__(
        self,
        algorithm: Algorithm[Any],
        models: Models,
        buffer: EpisodeBuffer,
        config: TrainerConfig,
        folder: Path,
        facts: Mapping[str, Any],
    ) -> None:
        self.facts = facts
        for need in sorted(algorithm.needs):
            if getattr(models, need) is None:
                raise ValueError(f"{type(algorithm).__name__} needs a {need} network")
        self.algorithm, self.models, self.buffer, self.config, self.folder = algorithm, models, buffer, config, folder
        self.cpu_seconds, self.cpu_since = 0.0, time.process_time()
        generator = np.random.default_rng(np.random.SeedSequence([config.seed, 0]))
        selected = Examples(algorithm.select(buffer, generator))
        self.examples = selected.fitting(models.policy.max_length)
        self.skipped = len(selected) - len(self.examples)
        require_examples(self.examples, len(selected), models.policy.max_length, algorithm)
        episodes, columns = self.examples.episodes, self.examples.episodes.columns
        require_fit(models, algorithm.needs, int(columns.highest_token.max()), buffer.tokenizer_fingerprint)
        require_extra(algorithm.extra, episodes)
        self.tasks = dict(zip(columns.task_ids, itertools.count())) if TASK in algorithm.extra else None

        self.schedule = Schedule(
            examples=len(self.examples),
            batch_size=algorithm.batch_size,
            epochs=algorithm.epochs,
            seed=config.seed,
            value_warmup_steps=getattr(algorithm, "value_warmup_steps", 0),
            value_updates=getattr(algorithm, "value_updates", 1),
            value_only=getattr(algorithm, "value_only", False),
        )
        self.total_steps = self.schedule.total_steps
        self.networks: dict[str, Network] = {"policy": models.policy}
        if "value" in algorithm.needs:
            assert models.value is not None
            self.networks["value"] = models.value
        self.device = next(models.policy.parameters()).device
        self.bf16 = self.device.type == "cuda" if config.bf16 is None else config.bf16
        # Of the networks as they were given: before anything is restored.
        self.fingerprint = run_fingerprint(
            algorithm,
            config,
            buffer,
            models,
            bf16=self.bf16,
            example=episodes[int(np.argmax(columns.num_tokens))],
        )
        self.optimizers = {name: self._optimizers(name) for name in self.networks}
        self.schedulers = {name: self._schedulers(name) for name in self.networks}
        self.doctor = TrainingDoctor(config.doctor, float(np.std(buffer.columns.total_reward)))
        self.step, self.num_tokens = 0, 0
        waits = self.schedule.value_warmup_steps if self.schedule.policy_steps else self.total_steps
        self.curve = Curve(config, folder, total_steps=self.total_steps, counts_from=waits)
        self.last_metrics: dict[str, float] = {}
        self.ref_logprobs: Rows | None = None  # of the episodes of all examples, by number
        self.ref_logprobs_now: dict[Episode, NDArray[np.float32]] = {}  # of those of this step
        self.ref_logprobs_beside: dict[bytes, NDArray[np.float32]] = {}
        algorithm.begin_run(models, self.examples.given)
        torch.manual_seed(config.seed)  # what networks draw, such as what adapters drop
        self._restore()

    def _optimizers(self, name: str) -> list[Optimizer]:
        lr, decay = getattr(self.algorithm, f"{name}_lr"), self.algorithm.weight_decay
        return make_optimizers(self.networks[name], self.algorithm.optimizer, lr=lr, weight_decay=decay)

    def _schedulers(self, name: str) -> list[LambdaLR]:
        steps = self.schedule.policy_steps if name == "policy" else self.total_steps
        factor = cosine_with_warmup(steps, self.algorithm.warmup_ratio)
        return [LambdaLR(part, factor) for part in self.optimizers[name]]

    @property
    def done(self) -> bool:
        """Whether there is no step left to take."""
        return self.step == self.total_steps or self.curve.stops

    def finish(self, evaluate: Evaluate | None) -> TrainResult:
        """Run the remaining steps."""
        if not self.done:
            self._take_reference_logprobs()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with (
            MetricsWriter(
                self.folder, self.step, trackers=self.config.tracker, settings=self._settings_to_show()
            ) as writer,
            Progress(*columns, console=bar_console(), disable=self.done or parent_process() is not None) as progress,
        ):
            bar = progress.add_task(self.folder.name, total=self.total_steps, completed=self.step, note="")
            warnings = WarningLog(self.folder, writer.write_text)
            if self.algorithm.reads_success_only:
                warnings.give(examine_rewards(self.buffer))
            for row in read_metrics(self.folder):  # of the steps before the one that the run continues from
                warnings.give(self.doctor.observe(row))
            if self.step == 0 and evaluate is not None and self.curve.due(0):
                writer.write(0, *self._evaluate(evaluate))
            while not self.done:
                metrics, texts = self._train_step(), dict[str, str]()
                self.step += 1
                if evaluate is not None and self.curve.due(self.step):
                    found, texts = self._evaluate(evaluate)
                    metrics |= found
                writer.write(self.step, metrics, texts)
                warnings.give(self.doctor.observe(metrics))
                self.last_metrics = metrics
                if self.step % self.config.checkpoint_every == 0 or self.done:
                    # What a run that continues will not write again is on disk first.
                    writer.flush()
                    self._save()
                # A step without a token that SFT may learn from has no loss.
                progress.update(bar, completed=self.step, note=self._note(metrics))
        best, loaded = self.curve.best, self.curve.load_best(self.step)
        if loaded is not None:
            for name, network in self.networks.items():
                load_trained_state(network, loaded[1][name])
        return TrainResult(
            self.step,
            len(self.examples),
            self.skipped,
            self.last_metrics,
            self.cpu_seconds,
            stopped_early=self.step < self.total_steps,
            best_step=None if best is None else best[0],
            best_score=None if best is None else best[1],
            loaded_step=None if loaded is None else loaded[0],
        )

    def _evaluate(self, evaluate: Evaluate) -> tuple[dict[str, float], dict[str, str]]:
        """Return the metrics and texts of an evaluation, whose time is none of the training's."""
        self._count_time()
        found = self.curve.take(
            evaluate, self.step, lambda: {name: trained_state(network) for name, network in self.networks.items()}
        )
        self.cpu_since = time.process_time()
        spent = {} if found.score is None else {"eval/cpu_seconds": self.cpu_seconds}
        return {**found.metrics, **spent}, dict(found.texts)

    def _note(self, metrics: Mapping[str, float]) -> str:
        """Say how it goes, for the terminal."""
        score = f", best {self.curve.best[1]:.3f} at step {self.curve.best[0]}" if self.curve.best else ""
        return f"loss {metrics.get('train/loss', math.nan):.4f}{score}"

    def _settings_to_show(self) -> dict[str, Any]:
        """Return what trackers are told of the run."""
        algorithm = {"name": type(self.algorithm).__name__, **asdict(self.algorithm)}
        return {"algo": algorithm, "trainer": asdict(self.config), "episodes": len(self.buffer), **self.facts}

    def _train_step(self) -> dict[str, float]:
        """Take one optimiser step and return its metrics."""
        algorithm, models = self.algorithm, self.models
        models.policy_frozen = not self.schedule.trains_policy(self.step)
        numbers = self.schedule.batch(self.step)
        examples = [self.examples[i] for i in numbers]
        if (known := self.ref_logprobs) is not None:
            self.ref_logprobs_now = {e: known[i] for e, i in self.examples.places(numbers).items()}
        batches = self._micro_batches(examples)
        weights = [algorithm.weight(batch) for batch in batches]
        mean = WeightedMean()
        with self._autocast():
            context = algorithm.begin_step(examples, models, self._micro_batches)
        for batch, weight in zip(batches, weights, strict=True):
            if weight == 0:
                continue  # e.g. no token that SFT may learn from: nothing to add
            with self._autocast():
                losses = algorithm.losses(batch, models, context)
            if not losses.terms or not losses.terms.keys() <= self.networks.keys():
                raise ValueError(
                    f"{type(algorithm).__name__}.losses returned terms of {', '.join(losses.terms) or 'nothing'}; here "
                    f"are trained {' and '.join(self.networks)} (`needs` asks for a value)"
                )
            total = torch.stack(list(losses.terms.values())).sum()
            self._check_finite(total, "loss")
            (total * (weight / sum(weights))).backward()
            mean.add({"loss": total.item(), **losses.metrics}, weight)
        self.num_tokens += sum(episode.num_tokens for episode in episodes_of(examples))
        metrics = mean.result() | self._update() | self._progress()
        algorithm.end_step(models, metrics)
        return {f"train/{name}": value for name, value in metrics.items()}

    def _micro_batches(self, examples: Sequence[Any]) -> list[Batch]:
        """Cut examples to the token budget and pad each piece, with what is known of the reference."""
        pieces = [episodes_of(piece) for piece in cut_by_tokens(examples, self.config.micro_batch_tokens)]
        extra, tasks = self.algorithm.extra, self.tasks
        batches = (collate(piece, ref_logprobs=self._known(piece), extra=extra, tasks=tasks) for piece in pieces)
        return [batch.to(self.device) for batch in batches]

    def _known(self, episodes: Sequence[Episode]) -> list[NDArray[np.float32]] | None:
        """Return the reference's log-probabilities of episodes, None unless all of them are known."""
        now, beside = self.ref_logprobs_now, self.ref_logprobs_beside
        rows = [now[e] if e in now else beside.get(place(self.step, e)) for e in episodes]
        return None if any(row is None for row in rows) else rows  # type: ignore[return-value]

    def _take_reference_logprobs(self) -> None:
        """Take once what the steps read of the reference, and let it go; it stays where they read all of it."""
        reference = self.models.reference
        if reference is None or self.algorithm.reference_use != "logprobs":
            return
        # While the policy is the reference every log-ratio is 0.
        if not (self.models.policy_is_reference and self.schedule.policy_steps == 0):
            self.ref_logprobs = reference_logprobs(reference, self.buffer, self.examples.episodes, bf16=self.bf16)
            if type(self.algorithm).scored_beside is not Algorithm.scored_beside:
                for step in range(self.step, self.total_steps):
                    self._score_beside(reference, step)
        self.models.reference = None

    def _score_beside(self, reference: Policy, step: int) -> None:
        """Take what a step reads of the reference beside its examples, in the micro-batches in which it reads it."""
        episodes = self.algorithm.scored_beside([self.examples[i] for i in self.schedule.batch(step)], self.models)
        for piece in cut_by_tokens(episodes, self.config.micro_batch_tokens):
            with torch.no_grad(), self._autocast():
                rows = reference.score(collate(piece).to(self.device)).logprobs.float().cpu().numpy()
            for episode, row in zip(piece, rows, strict=True):
                self.ref_logprobs_beside[place(step, episode)] = row[: episode.num_tokens].copy()

    def _update(self) -> dict[str, float]:
        """Clip and apply the gradients of each network that is being trained."""
        metrics = {}
        for name, network in self.networks.items():
            if name == "policy" and self.models.policy_frozen:
                continue
            prefix = "" if name == "policy" else f"{name}_"
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), self.algorithm.max_grad_norm)
            self._check_finite(norm, f"gradient norm of the {name}")
            metrics[f"{prefix}grad_norm"] = norm.item()
            metrics[f"{prefix}learning_rate"] = float(self.schedulers[name][0].get_last_lr()[0])
            for optimizer, scheduler in zip(self.optimizers[name], self.schedulers[name], strict=True):
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad(set_to_none=True)
        if not self.models.policy_frozen:
            self.models.policy_is_reference = False
        return metrics

    def _progress(self) -> dict[str, float]:
        return {"epoch": self.schedule.epoch(self.step), "num_tokens": self.num_tokens}

    def _autocast(self) -> torch.autocast:
        # A forward reads each weight once: to keep what is cast of it would hold half as much again of all weights.
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16, cache_enabled=False)

    def _check_finite(self, value: Tensor, what: str) -> None:
        if not torch.isfinite(value):
            raise ValueError(
                f"{self.folder}: the {what} is {value.item()} at step {self.step + 1}; lower the learning rates "
                "or check the rewards of the buffer"
            )

    def _count_time(self) -> None:
        now = time.process_time()
        self.cpu_seconds, self.cpu_since = self.cpu_seconds + now - self.cpu_since, now

    def _save(self) -> None:
        self._count_time()
        state = {
            "fingerprint": self.fingerprint,
            "step": self.step,
            "num_tokens": self.num_tokens,
            "cpu_seconds": self.cpu_seconds,
            "metrics": self.last_metrics,
            "scores": [list(one) for one in self.curve.scores],
            "policy_is_reference": self.models.policy_is_reference,
            "numbers": dict(self.models.numbers),
            "target": None if self.models.target is None else trained_state(self.models.target, self.models.policy),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        state["networks"] = {name: [trained_state(network)] for name, network in self.networks.items()}
        for kind, parts in self._parts():
            state[kind] = {name: [part.state_dict() for part in each] for name, each in parts.items()}
        save_checkpoint(self.folder, self.step, state, keep=self.config.keep_checkpoints)
        self.curve.settle()

    def _parts(self) -> Iterator[tuple[str, Mapping[str, Sequence[Any]]]]:
        """Yield what a checkpoint holds beside each network, by kind."""
        yield "optimizers", self.optimizers
        yield "schedulers", self.schedulers

    def _restore(self) -> None:
        state = load_last_checkpoint(self.folder)
        if state is None:
            self.curve.settle()
            return
        if state["fingerprint"] != self.fingerprint:
            raise ValueError(
                f"{self.folder}: the checkpoint of step {state['step']} there belongs to a run with another "
                "configuration or buffer; choose another folder or delete this one"
            )
        for name, network in self.networks.items():
            load_trained_state(network, state["networks"][name][0])
        for kind, parts in self._parts():
            for name, each in parts.items():
                for part, saved in zip(each, state[kind][name], strict=True):
                    part.load_state_dict(saved)
        self.step, self.num_tokens = state["step"], state["num_tokens"]
        self.cpu_seconds = state["cpu_seconds"]
        self.last_metrics = state["metrics"]
        self.curve.restore(state.get("scores", []))  # a checkpoint of an earlier release has none
        self.models.policy_is_reference = state["policy_is_reference"]
        self.models.numbers = state["numbers"]
        if self.models.target is not None:
            load_trained_state(self.models.target, state["target"])
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        _log.info("continuing %s from step %d", self.folder, self.step)
