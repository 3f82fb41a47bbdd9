"""Which step trains which network on which examples: a function of the seed and the step, without a sampler's state.

Knows: numbers of steps and orders of examples. Does not know: networks, losses, learning rates.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Each phase shuffles on its own. Numbers of the seed sequences: a change changes every run.
_WARMUP, _MAIN, _EXTRA = 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """First the value warm-up, then groups of value-only steps that each end with a step of both networks.

    Attributes:
        examples: examples of one epoch.
        batch_size: examples a step.
        epochs: passes of the steps that train the policy (with ``value_only``: of all steps after the warm-up).
        seed: order of the examples.
        value_warmup_steps: steps at the start that train the value only.
        value_updates: steps of the value for each step of the policy; all but the last of them train the value only,
            on batches of their own.
        value_only: no step trains the policy.
    """

    examples: int
    batch_size: int
    epochs: int
    seed: int
    value_warmup_steps: int = 0
    value_updates: int = 1
    value_only: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass; the last batch may be smaller."""
        return math.ceil(self.examples / self.batch_size)

    @property
    def policy_steps(self) -> int:
        """Steps that train the policy."""
        return 0 if self.value_only else self.epochs * self.steps_per_epoch

    @property
    def total_steps(self) -> int:
        """All steps."""
        return self.value_warmup_steps + self.epochs * self.steps_per_epoch * self.value_updates

    def trains_policy(self, step: int) -> bool:
        """Whether this step trains the policy as well as the value."""
        within = step - self.value_warmup_steps
        return not self.value_only and within >= 0 and (within + 1) % self.value_updates == 0

    def epoch(self, step: int) -> float:
        """Passes done after this step, value-only steps not counted."""
        return max(step + 1 - self.value_warmup_steps, 0) // self.value_updates / self.steps_per_epoch

    def batch(self, step: int) -> list[int]:
        """Indices of the examples of a step; every pass sees each example once."""
        phase, within = self._locate(step)
        epoch, number = divmod(within, self.steps_per_epoch)
        order = _order(self.seed, phase, epoch, self.examples)
        return order[number * self.batch_size : (number + 1) * self.batch_size].tolist()

    def _locate(self, step: int) -> tuple[int, int]:
        """Phase of a step, and the number of its batch in that phase."""
        if step < self.value_warmup_steps:
            return _WARMUP, step
        group, position = divmod(step - self.value_warmup_steps, self.value_updates)
        if position == self.value_updates - 1:
            return _MAIN, group
        return _EXTRA, group * (self.value_updates - 1) + position


@lru_cache(maxsize=3)  # of each phase one: an order of a million examples is not drawn again at every step
def _order(seed: int, phase: int, epoch: int, examples: int) -> NDArray[np.int64]:
    """Return the order of the examples in a pass of a phase."""
    return np.random.default_rng(np.random.SeedSequence([seed, phase, epoch])).permutation(examples)


def cosine_with_warmup(steps: int, warmup_ratio: float) -> Callable[[int], float]:
    """Return the factor of the learning rate at a step: linear rise over a share of ``steps``, then cosine to 0."""
    warmup = math.ceil(steps * warmup_ratio)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(steps - warmup, 1), 1.0)))

    return factor
