"""Which episodes of a buffer an algorithm learns from.

Knows: outcomes and tasks. Does not know: tokens, losses.
Source: Wang et al. 2024 (arXiv:2412.16145), data protocol, of two runs:
paper-1.5b (math): 10 samples a question, all kept; DPO draws at most 6 pairs of each without replacement.
paper-7b (math): 16 samples a question, of which at most 4 right and 4 wrong ones are kept, not more right than wrong
ones but one right one if there is any; DPO draws at most 10 pairs.
"""

from dataclasses import dataclass

import numpy as np

from oreo_algos.episode import Episode
from oreo_algos.storage.buffer import EpisodeBuffer


class NothingToLearnError(ValueError):
    """A buffer holds no example for an algorithm, such as no success; the message says why and what to collect."""


def outcomes_by_task(buffer: EpisodeBuffer) -> list[tuple[list[int], list[int]]]:
    """Return, for each task, the indices of its successful and of its failed episodes."""
    success = buffer.columns.success
    return [
        ([i for i in indices if success[i]], [i for i in indices if not success[i]])
        for indices in buffer.by_task().values()
    ]


def balance(buffer: EpisodeBuffer, per_outcome: int, rng: np.random.Generator) -> EpisodeBuffer:
    """Keep at most ``per_outcome`` successful and ``per_outcome`` failed episodes of each task, drawn at random."""
    if per_outcome < 1:
        raise ValueError(f"per_outcome must be at least 1 episode, got {per_outcome}")
    kept: list[int] = []
    for outcomes in outcomes_by_task(buffer):
        for indices in outcomes:
            kept.extend(rng.permutation(indices)[:per_outcome].tolist())
    return buffer[sorted(kept)]


@dataclass(frozen=True)
class Protocol:
    """How many episodes of a task are kept, see the module.

    Attributes:
        samples: of a task, whatever their outcome.
        per_outcome: at most so many successful and so many failed ones of these; None: all.
        max_pairs: that DPO draws of them, for whoever trains.
    """

    samples: int
    per_outcome: int | None
    max_pairs: int


PROTOCOLS = {"paper-1.5b": Protocol(10, None, 6), "paper-7b": Protocol(16, 4, 10)}


def by_protocol(buffer: EpisodeBuffer, name: str, rng: np.random.Generator) -> EpisodeBuffer:
    """Keep of each task what one of ``PROTOCOLS`` keeps, drawn at random, in the buffer's order."""
    protocol = PROTOCOLS[name]
    success = buffer.columns.success
    kept: list[int] = []
    for indices in buffer.by_task().values():
        drawn = rng.permutation(indices)[: protocol.samples]
        if protocol.per_outcome is not None:
            right, wrong = (drawn[success[drawn] == outcome][: protocol.per_outcome] for outcome in (True, False))
            drawn = np.concatenate([right[: max(1, len(wrong))], wrong])
        kept.extend(drawn.tolist())
    return buffer[sorted(kept)]


def preference_pairs(buffer: EpisodeBuffer, max_pairs: int, rng: np.random.Generator) -> list[tuple[Episode, Episode]]:
    """Return (right, wrong) pairs: all that the data names, and of each task's other episodes some that are drawn.

    Args:
        buffer: what ``buffer.pairs`` names stays together, and goes with nothing else.
        max_pairs: drawn of each task at most, without replacement.
        rng: draws them.

    Raises:
        NothingToLearnError: no pair is named, and no task has both a successful and a failed episode.
    """
    named = buffer.pairs
    taken = {index for pair in named for index in pair}
    pairs = [(buffer[right], buffer[wrong]) for right, wrong in named]
    for outcomes in outcomes_by_task(buffer):
        right, wrong = ([index for index in indices if index not in taken] for indices in outcomes)
        drawn = rng.permutation(len(right) * len(wrong))[:max_pairs]
        pairs.extend((buffer[right[k // len(wrong)]], buffer[wrong[k % len(wrong)]]) for k in drawn.tolist())
    if not pairs:
        raise NothingToLearnError(
            f"none of the {len(buffer.by_task())} tasks of this buffer has both a successful and a failed episode, "
            "so there are no preference pairs; collect more samples a task or harder tasks"
        )
    return pairs
