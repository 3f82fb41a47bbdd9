"""The one training loop: optimisers, schedules, micro-batches, checkpoints, logs. It holds no equation.

Knows: the protocols of ``models`` and ``algos.base``. Does not know: environments, tokenizers, model families.
"""

import itertools
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from oreo_algos import ranks, stopping
from oreo_algos.algos.base import Algorithm, Losses
from oreo_algos.bars import bar_console
from oreo_algos.batch import TASK, Batch, collate, require_extra
from oreo_algos.metrics import WeightedMean
from oreo_algos.models import Models, Network
from oreo_algos.storage.buffer import EpisodeBuffer
from oreo_algos.training.curve import Curve, Evaluate
from oreo_algos.training.doctor import TrainingDoctor, examine_rewards
from oreo_algos.training.examples import Examples
from oreo_algos.training.fit import require_examples, require_fit, tell_dropped
from oreo_algos.training.holding import Holding
from oreo_algos.training.identity import run_fingerprint, seed_of
from oreo_algos.training.metrics_writer import MetricsWriter, SilentWriter, read_metrics
from oreo_algos.training.micro_batches import cut_by_tokens, episodes_of, share
from oreo_algos.training.not_finite import why_gradient, why_loss
from oreo_algos.training.optimizers import make_optimizers
from oreo_algos.training.reference_scores import ReferenceScores
from oreo_algos.training.resume import restore_run, save_run
from oreo_algos.training.schedule import Schedule, cosine_with_warmup
from oreo_algos.training.settings import TrainerConfig, TrainResult
from oreo_algos.training.sharding import spread_like, whole_tensor
from oreo_algos.training.trained import load_trained_state
from oreo_algos.training.warning_log import WarningLog


def train(
    algorithm: Algorithm[Any],
    models: Models,
    buffer: EpisodeBuffer,
    config: TrainerConfig,
    folder: str | os.PathLike[str],
    *,
    evaluate: Evaluate | None = None,
    facts: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
) -> TrainResult:
    """Train ``models`` in place on the episodes of ``buffer``; continue from the last checkpoint in ``folder``.

    To continue, give the networks that the run started from; the checkpoint then replaces their weights.

    After ``ranks.join`` all processes of the group train together, see ``TrainerConfig.sharding``: they give the same
    networks and data, the first one writes, and any number of them may continue. Where they held parts of the networks,
    those of the first are whole at the end, and those of the others without weights.

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
        device: that computes with networks of which each process holds a part; None: where the policy is.

    Raises:
        ValueError: a needed network is missing, no example is left to learn from, the checkpoint in ``folder``
            belongs to another run, or a loss is not finite.
    """
    return _Run(algorithm, models, buffer, config, Path(folder).expanduser(), facts or {}, device).finish(evaluate)


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
        device: torch.device | None,
    ) -> None:
        ranks.require_joined()
        self.ranks = ranks.current()
        self.facts = facts
        for need in sorted(algorithm.needs):
            if getattr(models, need) is None:
                raise ValueError(f"{type(algorithm).__name__} needs a {need} network")
        self.algorithm, self.buffer, self.config, self.folder = algorithm, buffer, config, folder
        self.cpu_seconds, self.cpu_since = 0.0, time.process_time()
        generator = np.random.default_rng(np.random.SeedSequence([config.seed, 0]))
        learnable = algorithm.learnable(buffer)
        self.dropped = tell_dropped(len(buffer), len(learnable))
        selected = Examples(algorithm.select(learnable, generator))
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
        there = next(models.policy.parameters()).device
        self.shards = config.sharding == "full" and self.ranks.started
        self.device = device if device is not None and self.shards else there
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
        if len(set(self.ranks.gather(self.fingerprint))) > 1:
            raise ValueError("the processes of this run do not have the same networks, episodes and settings")
        algorithm.begin_run(models, self.examples.given)
        self.reference_scores = ReferenceScores(self, models)
        self.holding = Holding(models, algorithm.needs, config, self.ranks, self.device, bf16=self.bf16)
        self.models = self.holding.models
        self.networks: dict[str, Network] = {"policy": self.models.policy}
        if "value" in algorithm.needs:
            assert self.models.value is not None
            self.networks["value"] = self.models.value
        self.optimizers = {name: self._optimizers(name) for name in self.networks}
        self.schedulers = {name: self._schedulers(name) for name in self.networks}
        beta, alpha = (getattr(algorithm, name, None) for name in ("beta", "alpha"))
        spread = float(np.std(learnable.columns.total_reward))
        self.doctor = TrainingDoctor(config.doctor, spread, beta=beta, alpha=alpha)
        self.step, self.num_tokens = 0, 0
        self.told: int | None = None  # the signal that one of several processes was sent
        waits = self.schedule.value_warmup_steps if self.schedule.policy_steps else self.total_steps
        self.curve = Curve(config, folder, total_steps=self.total_steps, counts_from=waits, writes=self.ranks.leads)
        self.last_metrics: dict[str, float] = {}
        torch.manual_seed(config.seed)  # what networks draw, such as what adapters drop
        restore_run(self)

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
            self.reference_scores.take(self)
        what, note = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
        columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
        silent = self.done or parent_process() is not None or not self.ranks.leads
        with (
            stopping.at_safe_points("the running step, with a checkpoint"),
            self._writer() as writer,
            Progress(*columns, console=bar_console(), disable=silent) as progress,
        ):
            bar = progress.add_task(self.folder.name, total=self.total_steps, completed=self.step, note="")
            warnings = WarningLog(self.folder, writer.write_text) if self.ranks.leads else SilentWriter()
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
                stop = stopping.asked() if self.ranks.size == 1 else self.told
                if self.step % self.config.checkpoint_every == 0 or self.done or stop:
                    # What a run that continues will not write again is on disk first.
                    writer.flush()
                    save_run(self)
                # A step without a token that SFT may learn from has no loss.
                progress.update(bar, completed=self.step, note=self._note(metrics))
                if stop and not self.done:
                    kept = f"{self.folder} has a checkpoint of step {self.step} of {self.total_steps}"
                    raise stopping.Interrupted(stop, kept)
        best, loaded = self.curve.best, self.curve.load_best(self.step)
        if loaded is not None:
            for name, network in self.networks.items():
                state, whole = network.state_dict(), loaded[1][name]
                load_trained_state(network, {key: spread_like(each, state[key]) for key, each in whole.items()})
        self.holding.finish()
        return TrainResult(
            self.step,
            len(self.examples),
            self.skipped,
            self.last_metrics,
            sum(self.ranks.gather(self.cpu_seconds)),
            stopped_early=self.step < self.total_steps,
            best_step=None if best is None else best[0],
            best_score=None if best is None else best[1],
            loaded_step=None if loaded is None else loaded[0],
            dropped_cut_off=self.dropped,
        )

    def _evaluate(self, evaluate: Evaluate) -> tuple[dict[str, float], dict[str, str]]:
        """Return the metrics and texts of an evaluation, whose time is none of the training's."""
        seconds = sum(self.ranks.gather(self.spent()))
        found = self.curve.take(
            lambda step: self.holding.ask(lambda: evaluate(step)),
            self.step,
            lambda: self.holding.trained_states(self.networks),
        )
        self.cpu_since = time.process_time()
        spent = {} if found.score is None else {"eval/cpu_seconds": seconds}
        return {**found.metrics, **spent}, dict(found.texts)

    def _writer(self) -> MetricsWriter | SilentWriter:
        """Return where numbers go: one process writes them down."""
        if not self.ranks.leads:
            return SilentWriter()
        settings = self._settings_to_show()
        return MetricsWriter(self.folder, self.step, trackers=self.config.tracker, settings=settings)

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
        self.reference_scores.begin(self, numbers)
        if self.ranks.size > 1:
            torch.manual_seed(seed_of(self.config.seed, self.step, self.ranks.rank))
        batches, total_weight = self._own_batches(examples)
        means, problem = WeightedMean(), None
        with self.autocast():
            context = algorithm.begin_step(examples, models, self._micro_batches)
        for batch, weight in batches:
            with self.autocast():
                losses = algorithm.losses(batch, models, context)
            if not isinstance(losses, Losses):
                raise ValueError(
                    f"{type(algorithm).__name__}.losses returned {type(losses).__name__}, not Losses(terms, metrics)"
                )
            if not losses.terms or not losses.terms.keys() <= self.networks.keys():
                raise ValueError(
                    f"{type(algorithm).__name__}.losses returned terms of {', '.join(losses.terms) or 'nothing'}; here "
                    f"are trained {' and '.join(self.networks)} (`needs` asks for a value)"
                )
            total = torch.stack(list(losses.terms.values())).sum()
            if not total.requires_grad:
                raise ValueError(
                    f"{type(algorithm).__name__}.losses: terms of {', '.join(losses.terms)} without a gradient; "
                    "none was computed from what a network trained here scores"
                )
            if problem is None and not torch.isfinite(total):
                name, alone = type(algorithm).__name__, self.ranks.size == 1
                with self.autocast():
                    why = why_loss(name, losses.terms, batch, models, self.networks, alone=alone)
                problem = self._not_finite("loss", total, why)
            if problem and self.ranks.size == 1:
                raise ValueError(problem)
            (total * (weight / total_weight)).backward()
            if weight:
                means.add({"loss": total.item(), **losses.metrics}, weight)
        mean = self._of_all(means, problem)
        self.holding.rest()
        self.num_tokens += sum(episode.num_tokens for episode in episodes_of(examples))
        metrics = mean.result() | self._update() | self._progress()
        algorithm.end_step(models, metrics)
        return {f"train/{name}": value for name, value in metrics.items()}

    def _own_batches(self, examples: Sequence[Any]) -> tuple[list[tuple[Batch, float]], float]:
        """Return the micro-batches of a step that are this process's to read, with weights, and the sum of all weights.

        Those without weight are left out, e.g. where no token is one that SFT may learn from. Where forwards take all
        processes each has as many: the last of one with fewer repeat a batch with weight 0.
        """
        us, weight = self.ranks, self.algorithm.weight
        sizes = [sum(episode.num_tokens for episode in episodes_of([example])) for example in examples]
        parts = share(sizes, us.size) if us.size > 1 else [list(range(len(examples)))]

        def batches_of(rank: int) -> list[tuple[Batch, float]]:
            found = [(batch, weight(batch)) for batch in self._cut([examples[i] for i in parts[rank]], 1)]
            return [pair for pair in found if pair[1] != 0]

        own = batches_of(us.rank)
        weights = us.gather([weight for _, weight in own])
        rounds = max(map(len, weights))
        if self.holding.in_parts and len(own) < rounds:
            spare = own or batches_of(max(range(us.size), key=lambda rank: len(weights[rank])))
            own += [(spare[0][0], 0.0)] * (rounds - len(own))
        return own, sum(map(sum, weights))

    def _of_all(self, means: WeightedMean, problem: str | None) -> WeightedMean:
        """Put together what all processes found in a step; what went wrong in one is raised in all."""
        if self.ranks.size == 1:
            return means
        found = self.ranks.gather((means, problem, stopping.asked()))
        for _, each, _ in found:
            if each is not None:
                raise ValueError(each)
        self.told = next((number for _, _, number in found if number is not None), None)
        joined = WeightedMean()
        joined.join(each for each, _, _ in found)
        return joined

    def _micro_batches(self, examples: Sequence[Any]) -> list[Batch]:
        """Cut examples, on all processes alike, to the token budget and into one for each process at least."""
        return self._cut(examples, self.ranks.size)

    def _cut(self, examples: Sequence[Any], parts: int) -> list[Batch]:
        """Cut examples to the token budget and pad each piece, with what is known of the reference."""
        pieces = [episodes_of(piece) for piece in cut_by_tokens(examples, self.budget(examples, parts))]
        known, extra, tasks = self.reference_scores.of, self.algorithm.extra, self.tasks
        batches = (collate(p, ref_logprobs=known(p, self.step), extra=extra, tasks=tasks) for p in pieces)
        return [batch.to(self.device) for batch in batches]

    def budget(self, examples: Sequence[Any], parts: int) -> int:
        """Return the tokens of a micro-batch, fewer where examples are to become several."""
        budget = self.config.micro_batch_tokens
        if parts == 1:
            return budget
        return max(min(budget, -(-sum(episode.num_tokens for episode in episodes_of(examples)) // parts)), 1)

    def _update(self) -> dict[str, float]:
        """Clip and apply the gradients of each network that is being trained."""
        metrics = {}
        frozen = {"policy"} if self.models.policy_frozen else set()
        trained = {name: network for name, network in self.networks.items() if name not in frozen}
        self.holding.sum_gradients(trained.values())
        for name, network in trained.items():
            prefix = "" if name == "policy" else f"{name}_"
            norm = whole_tensor(torch.nn.utils.clip_grad_norm_(network.parameters(), self.algorithm.max_grad_norm))
            if not torch.isfinite(norm):
                raise ValueError(self._not_finite(f"gradient norm of the {name}", norm, why_gradient(name, network)))
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

    def autocast(self) -> torch.autocast:
        # A forward reads each weight once: to keep what is cast of it would hold half as much again of all weights.
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16, cache_enabled=False)

    def _not_finite(self, what: str, value: Tensor, why: str) -> str:
        return f"{self.folder}: the {what} is {value.item()} at step {self.step + 1}; {why}"

    def spent(self) -> float:
        """Return the CPU seconds of this process until now, as they are counted then."""
        now = time.process_time()
        self.cpu_seconds, self.cpu_since = self.cpu_seconds + now - self.cpu_since, now
        return self.cpu_seconds
