"""Evaluations on the way: when they are due, which was the best, its weights, and when no better one is expected.

Knows: steps and scores. Does not know: what is evaluated, how, or where numbers are logged.

What a run that continues needs is a list of steps and scores, part of its checkpoint. The weights of the best lie in
``best-<step>`` beside the checkpoints; those that the last checkpoint calls the best stay until there is another one.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from oreo_algos.storage.checkpoint import load_best, remove_best, save_best
from oreo_algos.training.settings import TrainerConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        metrics: numbers to log, by name.
        score: the higher, the better; None: it is no matter of better and worse.
        texts: to show in TensorBoard, Markdown, by name.
    """

    metrics: Mapping[str, float]
    score: float | None = None
    texts: Mapping[str, str] = field(default_factory=dict)


Evaluate = Callable[[int], Evaluation | Mapping[str, float]]
"""Given the steps so far, returns what it found of the networks as they are."""


class Curve:
    """The evaluations of one training run."""

    def __init__(
        self, config: TrainerConfig, folder: Path, *, total_steps: int, counts_from: int, writes: bool = True
    ) -> None:
        """Begin before the first step.

        Args:
            config: how often, and what for.
            folder: of the run.
            total_steps: of the run.
            counts_from: steps that do not train the policy yet.
            writes: keep weights here; False: another process of the run does.
        """
        self._writes = writes
        self._config, self._folder, self._total, self._counts_from = config, folder, total_steps, counts_from
        self.scores: list[tuple[int, float]] = []
        self._saved_best: int | None = None

    def restore(self, scores: list[list[float]]) -> None:
        """Go on from the scores of a checkpoint; weights of bests after it go."""
        self.scores = [(int(step), score) for step, score in scores]
        self.settle()

    def settle(self) -> None:
        """Drop the weights of all but the best so far, which a checkpoint now knows of."""
        best = self.best
        self._saved_best = None if best is None else best[0]
        if self._writes:
            remove_best(self._folder, keep={self._saved_best})

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and score of the best evaluation, the earliest of equally good ones.

        Of those before the policy is trained it is the last: the value has learned since.
        """
        known = [(step, score) for step, score in self.scores if not math.isnan(score)]
        return max(known, key=lambda one: (one[1], one[0] if one[0] <= self._counts_from else -one[0]), default=None)

    @property
    def stops(self) -> bool:
        """Whether so many evaluations were no better that the run is to end."""
        patience, best = self._config.early_stopping_patience, self.best
        if patience is None or best is None:
            return False
        since = [step for step, _ in self.scores if step > max(best[0], self._counts_from)]
        return len(since) >= patience

    def due(self, step: int) -> bool:
        """Whether to evaluate after this step; 0: before the first."""
        every = self._config.evaluate_every
        if not every or (step == 0 and not self._config.eval_on_start):
            return False
        return step % every == 0 or step in (self._counts_from, self._total)

    def take(self, evaluate: Evaluate, step: int, networks: Callable[[], dict[str, Any]]) -> Evaluation:
        """Evaluate; random numbers of the training stay as they are.

        Args:
            evaluate: what to call.
            step: steps so far.
            networks: returns the state of the networks, to be kept if this is the best.

        Raises:
            ValueError: the best is asked for, and evaluations have no score.
        """
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices):
            found = evaluate(step)
        found = found if isinstance(found, Evaluation) else Evaluation(found)
        if found.score is None:
            if self._config.chooses:
                raise ValueError(
                    "the best evaluation is asked for, and evaluations have no score: return an `Evaluation` with one"
                )
        else:
            self.scores.append((step, float(found.score)))
            if self._config.load_best_model_at_end and self.best == self.scores[-1]:
                state = networks()
                if self._writes:
                    save_best(self._folder, step, state)
                    remove_best(self._folder, keep={step, self._saved_best})
        # Plain numbers: a checkpoint with numpy's could not be read back.
        return Evaluation({name: float(value) for name, value in found.metrics.items()}, found.score, found.texts)

    def load_best(self, last: int) -> tuple[int, dict[str, Any]] | None:
        """Return step and networks of the best evaluation, None where the last ones are to stay.

        Args:
            last: step of the last networks.
        """
        if not self._config.load_best_model_at_end or self.best is None or self.best[0] == last:
            return None
        step, score = self.best
        if {other for _, other in self.scores} == {score}:  # the earliest would be the untrained ones
            text = "%s: all evaluations came to %g, so none is the best; the last networks stay"
            _log.warning(text, self._folder, score)
            return None
        state = load_best(self._folder, step)
        if state is None:
            _log.warning("%s: the weights of step %d, the best, are gone; the last ones stay", self._folder, step)
            return None
        return step, state
