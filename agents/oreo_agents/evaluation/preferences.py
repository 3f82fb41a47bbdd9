"""Held-out preference pairs: how often the answer that was chosen is ranked before the other one, and by how much.

Knows: pairs of a buffer, implicit rewards, V at the end of an answer, what is independent of what. Does not know:
files, runs, training.

Two judges, both of an answer as a whole. ``implicit_reward``: ``beta * (log pi - log pi_ref)``, summed over the tokens
of the actions (Rafailov et al. 2023, arXiv:2305.18290, equation 5, without the term of the prompt, which both share);
``value``: V of the finished answer, just before its last token, which is the end token unless a limit cut it: where
outcome reward models are read (Cobbe et al. 2021, arXiv:2110.14168).
"""

# N answers, P pairs

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from os.path import expanduser
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oreo_agents.evaluation.statistics import share_interval
from oreo_agents.networks.checkpoints import autocast
from oreo_algos import Episode, EpisodeBuffer
from oreo_algos.algos.selection import outcomes_by_task
from oreo_algos.batch import Batch, collate
from oreo_algos.models import Models, Policy, Value
from oreo_algos.segments import final_values
from oreo_algos.training.curve import Evaluation
from oreo_algos.training.micro_batches import cut_by_tokens

Floats = NDArray[np.float64]

MEASURE = "pairs"
"""What a row of results measures, under ``measure``: tells rows of pairs from those of tasks."""

_WINDOW = 256
"""Answers that are made and held at once."""


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """Which preference pairs to measure on; neither is given: on none.

    Attributes:
        data: a file of rows, a folder, ``hub:NAME`` or a buffer, or several of them.
        share: of the prompts of ``data`` of the run that are held back from its training, always the same ones.
        beta: KL temperature of the implicit reward, reward units per nat; None: that of the algorithm, and 1 where it
            has none, so that margins are in nats. No accuracy depends on it.
    """

    data: str | Sequence[str] | None = None
    share: float | None = None
    beta: float | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        numbers = {"share": self.share, "beta": self.beta}
        for name, number in numbers.items():
            if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
                raise ValueError(f"evaluate.pairs.{name} must be a number, or null, got {number!r}")
        if self.share is not None and not 0 < self.share < 1:
            raise ValueError(f"evaluate.pairs.share must be above 0 and below 1, or null for none, got {self.share}")
        if self.beta is not None and not self.beta > 0:
            raise ValueError(f"evaluate.pairs.beta must be above 0, got {self.beta}")
        if self.share is not None and self.data:
            raise ValueError(
                "evaluate.pairs.data names held-out pairs, evaluate.pairs.share holds some of data=... back: give one"
            )

    @property
    def places(self) -> list[str]:
        """Where pairs lie that are there to be measured on."""
        return list(map(expanduser, [self.data] if isinstance(self.data, str) else self.data or ()))

    @property
    def given(self) -> bool:
        """Whether there is anything to measure on."""
        return bool(self.places) or self.share is not None


def held_out_pairs(buffer: EpisodeBuffer) -> list[tuple[int, int]]:
    """Return indices of preferred episodes and of the others: pairs that the data names, else one of each task.

    One is drawn, always the same, of a task that has both outcomes and no named pair.

    Raises:
        ValueError: there is no pair.
    """
    named = buffer.pairs
    taken, rng = {index for pair in named for index in pair}, np.random.default_rng(0)
    pairs = list(named)
    for right, wrong in outcomes_by_task(buffer):
        if right and wrong and not taken.intersection((*right, *wrong)):
            pairs.append((int(rng.choice(right)), int(rng.choice(wrong))))
    if not pairs:
        raise ValueError(
            f"{len(buffer)} episodes of {len(buffer.by_task())} tasks hold no preference pair: none is named, and no "
            "task has both a successful and a failed episode"
        )
    return pairs


@dataclass(frozen=True)
class HeldOut:
    """Pairs to measure on, of which both answers can be read.

    Attributes:
        buffer: encoded episodes.
        pairs: indices of the preferred and of the other one.
        too_long: pairs left out, because one of the two does not fit into the context of the policy.
    """

    buffer: EpisodeBuffer
    pairs: Sequence[tuple[int, int]]
    too_long: int = 0

    @classmethod
    def of(cls, buffer: EpisodeBuffer, max_length: int, *, most: int | None = None) -> "HeldOut":
        """Return the pairs of a buffer that a policy can read.

        Args:
            buffer: of encoded episodes.
            max_length: longest transcript that it reads, tokens.
            most: so many at most, always the same ones.

        Raises:
            ValueError: there is none.
        """
        found = held_out_pairs(buffer)
        lengths = buffer.columns.num_tokens
        fitting = [pair for pair in found if max(lengths[pair[0]], lengths[pair[1]]) <= max_length]
        if not fitting:
            raise ValueError(f"not one of {len(found)} held-out pairs fits into the context of {max_length} tokens")
        if most is not None and len(fitting) > most:
            fitting = [fitting[k] for k in sorted(np.random.default_rng(0).permutation(len(fitting))[:most].tolist())]
        return cls(buffer, fitting, len(found) - len(fitting) if most is None else 0)

    @property
    def answers(self) -> list[int]:
        """Indices of the episodes, each once, ascending."""
        return sorted({index for pair in self.pairs for index in pair})

    def compare(self, scores: Floats) -> "Ranking":
        """Return how answers are ranked by their scores, float [N], in the order of ``answers``."""
        place = {index: k for k, index in enumerate(self.answers)}
        rows = np.array([[place[right], place[wrong]] for right, wrong in self.pairs])
        tasks = self.buffer.columns.task[[right for right, _ in self.pairs]]
        return Ranking(scores[rows[:, 0]], scores[rows[:, 1]], np.asarray(tasks))

    def task_ids(self) -> list[str]:
        """Names of the tasks of the pairs."""
        columns = self.buffer.columns
        return [columns.task_ids[columns.task[right]] for right, _ in self.pairs]


@dataclass(frozen=True)
class Ranking:
    """Scores of the answers of P pairs.

    Attributes:
        chosen: of the preferred ones, float [P].
        rejected: of the others, float [P].
        tasks: which task each pair is of, int [P]: pairs of one are no independent evidence.
    """

    chosen: Floats
    rejected: Floats
    tasks: NDArray[np.integer[Any]]

    @property
    def margins(self) -> Floats:
        """Score of the preferred answer less that of the other, float [P]."""
        return self.chosen - self.rejected

    @property
    def correct(self) -> Floats:
        """1 where the preferred answer is ranked first, 0.5 where both are ranked alike, 0 elsewhere, float [P]."""
        return (np.sign(self.margins) + 1) / 2

    def summary(self) -> dict[str, Any]:
        """Return what a row of results says.

        Returns:
            ``n`` pairs, ``correct`` (ties count half), ``accuracy`` with its 95% interval ``wilson_low`` and
            ``wilson_high`` (Wilson, for so many pairs as would be independent), ``ties``, ``margin`` with its 95%
            interval ``margin_low`` and ``margin_high`` (normal; None of one task), means ``chosen`` and ``rejected``.

        Raises:
            ValueError: a score is not finite.
        """
        if not np.isfinite(self.margins).all():
            lost = int((~np.isfinite(self.margins)).sum())
            raise ValueError(f"{lost} of {len(self.margins)} held-out pairs have no finite score: the network diverged")
        n, accuracy, margin = len(self.margins), float(self.correct.mean()), float(self.margins.mean())
        spread, error = _variance_of_mean(self.correct, self.tasks), _variance_of_mean(self.margins, self.tasks) ** 0.5
        groups = len(np.unique(self.tasks))
        independent = accuracy * (1 - accuracy) / spread if spread > 0 else float(groups)
        low, high = share_interval(accuracy, independent)
        return {
            "n": n,
            "correct": float(self.correct.sum()),
            "accuracy": accuracy,
            "wilson_low": low,
            "wilson_high": high,
            "ties": int((self.margins == 0).sum()),
            "margin": margin,
            "margin_low": margin - 1.96 * error if groups > 1 else None,
            "margin_high": margin + 1.96 * error if groups > 1 else None,
            "chosen": float(self.chosen.mean()),
            "rejected": float(self.rejected.mean()),
        }


def _variance_of_mean(numbers: Floats, tasks: NDArray[np.integer[Any]]) -> float:
    """Return the variance of a mean over numbers that come in tasks, 0 where all are equal.

    With one number a task it is their variance (divided by how many there are) over how many there are.

    Source: Liang and Zeger 1986, the sandwich of a mean over clusters.
    """
    _, group = np.unique(tasks, return_inverse=True)
    sums = np.bincount(group, numbers - numbers.mean())
    return float(np.square(sums).sum()) / len(numbers) ** 2


def answer_logprobs(policy: Policy, held: HeldOut, max_tokens: int) -> Floats:
    """Return log pi of each answer, summed over the tokens of its actions, nats, float [N], see ``_read``."""
    return _read(policy, held, max_tokens, lambda batch: policy.score(batch).logprobs.sum(dim=1))


def answer_values(value: Value, held: HeldOut, max_tokens: int) -> Floats:
    """Return V of each finished answer, reward units, float [N], see ``_read``."""
    return _read(value, held, max_tokens, lambda batch: final_values(value.token_values(batch), batch))


@torch.no_grad()
def _read(network: Any, held: HeldOut, max_tokens: int, number: Callable[[Batch], Tensor]) -> Floats:
    """Return a number of each answer of ``held.answers``, in their order.

    Answers are read in batches of similar length, of at most ``max_tokens`` tokens: what is held at once does not grow
    with how many there are.
    """
    device = next(network.parameters()).device
    found = []
    for window in _windows(held):
        numbers: dict[Episode, float] = {}
        for piece in cut_by_tokens(window, max_tokens):
            with autocast(device):
                row = number(collate(piece).to(device))
            numbers |= dict(zip(piece, row.double().cpu().tolist(), strict=True))
        found += [numbers[episode] for episode in window]
    return np.array(found)


def _windows(held: HeldOut) -> Iterator[list[Episode]]:
    answers = held.answers
    for start in range(0, len(answers), _WINDOW):
        yield [held.buffer[index] for index in answers[start : start + _WINDOW]]


@dataclass
class DevPairs:
    """Held-out pairs that are ranked while networks are trained: a point of a learning curve.

    Attributes:
        held: the pairs.
        name: of environment and pairs, such as ``Chat-v0/pairs-dev``.
        models: those that are trained, at the beginning of the training.
        beta: see ``PairSettings``.
        max_tokens: of a batch.
    """

    held: HeldOut
    name: str
    models: Models
    beta: float
    max_tokens: int
    _start: Floats = field(init=False)

    def __post_init__(self) -> None:
        """Read the answers with the reference, or else with the policy as it begins: a trainer lets go of both."""
        first = self.models.policy if self.models.reference is None else self.models.reference
        self._start = answer_logprobs(first, self.held, self.max_tokens)

    def __call__(self, step: int) -> Evaluation:
        """Rank the pairs with the networks as they are; the score is the accuracy of the implicit reward."""
        ratios = answer_logprobs(self.models.policy, self.held, self.max_tokens) - self._start
        found = self._metrics("reward", self.held.compare(self.beta * ratios))
        score = found[f"eval/{self.name}/reward_accuracy"]
        if self.models.value is not None:
            values = answer_values(self.models.value, self.held, self.max_tokens)
            found |= self._metrics("value", self.held.compare(values))
        return Evaluation(found | {f"eval/{self.name}/pairs": float(len(self.held.pairs))}, score)

    def _metrics(self, judge: str, ranking: Ranking) -> dict[str, float]:
        names = ("accuracy", "accuracy_low", "accuracy_high", "margin", "chosen", "rejected")
        if not np.isfinite(ranking.margins).all():  # the training says itself that it diverged
            return {f"eval/{self.name}/{judge}_{name}": float("nan") for name in names}
        said = ranking.summary()
        said |= {"accuracy_low": said["wilson_low"], "accuracy_high": said["wilson_high"]}
        return {f"eval/{self.name}/{judge}_{name}": float(said[name]) for name in names}
