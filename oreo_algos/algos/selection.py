"""Which episodes of a buffer an algorithm learns from.

Knows: outcomes and tasks; where the tokens of two episodes part. Does not know: losses.
Source: Wang et al. 2024 (arXiv:2412.16145), data protocol, of two runs:
paper-1.5b (math): 10 samples a question, all kept; DPO draws at most 6 pairs of each without replacement.
paper-7b (math): 16 samples a question, of which at most 4 right and 4 wrong ones are kept, not more right than wrong
ones but one right one if there is any; DPO draws at most 10 pairs.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from oreo_algos.episode import Episode
from oreo_algos.storage.buffer import EpisodeBuffer

_log = logging.getLogger(__name__)


# Ranges of so many numbers are permuted to draw from; of longer ones, such as all pairs of a task with hundreds of
# right and wrong episodes, only those numbers are made that are drawn.
_PERMUTED = 1 << 16


class NothingToLearnError(ValueError):
    """A buffer holds no example for an algorithm, such as no success; the message says why and what to collect."""


class Pairs(Sequence[tuple[Episode, Episode]]):
    """(right, wrong) pairs of a buffer's episodes, made when they are asked for.

    Attributes:
        buffer: of the episodes.
        indices: of the right and of the wrong one of each pair in it, int64 [N, 2].
    """

    def __init__(self, buffer: EpisodeBuffer, indices: NDArray[np.int64]) -> None:
        """Pair episodes of a buffer."""
        self.buffer, self.indices = buffer, indices

    def __len__(self) -> int:
        """N."""
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> tuple[Episode, Episode]: ...
    @overload
    def __getitem__(self, index: slice | NDArray[np.int64]) -> "Pairs": ...
    def __getitem__(self, index: int | slice | NDArray[np.int64]) -> "tuple[Episode, Episode] | Pairs":
        """One pair, or those of a slice or of numbers."""
        if isinstance(index, slice | np.ndarray):
            return Pairs(self.buffer, self.indices[index])
        right, wrong = self.indices[index].tolist()
        return self.buffer[right], self.buffer[wrong]


def outcomes_by_task(buffer: EpisodeBuffer) -> list[tuple[list[int], list[int]]]:
    """Return, for each task, the indices of its successful and of its failed episodes."""
    groups = _Groups(buffer)
    order, starts = groups.order.tolist(), groups.starts.tolist()
    return [
        (order[starts[k] : starts[k + 1]], order[starts[k + 1] : starts[k + 2]]) for k in range(0, len(starts) - 1, 2)
    ]


class _Groups:
    """Episodes by task and outcome: group 2 t are the successful ones of task t, 2 t + 1 its failed ones.

    Attributes:
        order: the indices group by group, each in order, int64 [N].
        starts: group g is ``order[starts[g]:starts[g + 1]]``, int64 [2 * tasks + 1].
    """

    def __init__(self, buffer: EpisodeBuffer, without: NDArray[np.int64] | None = None) -> None:
        """Group all episodes of a buffer but some."""
        columns = buffer.columns
        group = columns.task.astype(np.int64) * 2 + ~columns.success
        number = 2 * len(columns.task_ids)
        if without is not None and len(without):
            group[without] = number  # behind the last
        self.order = np.argsort(group, kind="stable")
        self.starts = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=number)[:number])])

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Episodes of each group, [2 * tasks]."""
        return np.diff(self.starts)


def _draw(sizes: NDArray[np.int64], most: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw from each of G ranges at most so many numbers, without replacement.

    Returns:
        Of each number drawn, range by range, which range it is from and what it is, int64 [D] each.
    """
    drawn = [
        rng.permutation(size)[:most] if size <= _PERMUTED else rng.choice(size, min(most, size), replace=False)
        for size in sizes.tolist()
        if size
    ]
    number = np.concatenate(drawn) if drawn else np.zeros(0, np.int64)
    return np.repeat(np.arange(len(sizes)), np.minimum(sizes, most)), number


def balance(buffer: EpisodeBuffer, per_outcome: int, rng: np.random.Generator) -> EpisodeBuffer:
    """Keep at most ``per_outcome`` successful and ``per_outcome`` failed episodes of each task, drawn at random."""
    if per_outcome < 1:
        raise ValueError(f"per_outcome must be at least 1 episode, got {per_outcome}")
    groups = _Groups(buffer)
    group, number = _draw(groups.sizes, per_outcome, rng)
    return buffer[np.sort(groups.order[groups.starts[group] + number])]


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


def preference_pairs(buffer: EpisodeBuffer, max_pairs: int, rng: np.random.Generator) -> Pairs:
    """Return (right, wrong) pairs: all that the data names, and of each task's other episodes some that are drawn.

    Args:
        buffer: what ``buffer.pairs`` names stays together, and goes with nothing else.
        max_pairs: drawn of each task at most, without replacement.
        rng: draws them.

    Raises:
        NothingToLearnError: no pair is named, and no task has both a successful and a failed episode.
    """
    named = np.array(buffer.pairs, np.int64).reshape(-1, 2)
    groups = _Groups(buffer, without=named.reshape(-1))
    right, wrong = groups.sizes[0::2], groups.sizes[1::2]
    task, number = _draw(right * wrong, max_pairs, rng)
    first, second = np.divmod(number, wrong[task])
    drawn = [groups.order[groups.starts[2 * task] + first], groups.order[groups.starts[2 * task + 1] + second]]
    index = np.concatenate([named, np.stack(drawn, axis=1)])
    if not len(index):
        raise NothingToLearnError(
            f"none of the {len(buffer.columns.task_ids)} tasks of this buffer has both a successful and a failed "
            "episode, so there are no preference pairs; collect more samples a task or harder tasks"
        )
    return Pairs(buffer, index)


def shared_steps(one: Episode, other: Episode) -> int | None:
    """Return how many first steps two episodes have in common where they part within an action.

    The tokens before the first that differs are the same, observations included, so that both come to the same state
    and take different actions there. None where they part in a prompt or an observation, where one is the beginning of
    the other, or where an action of one has ended.
    """
    length = min(one.num_tokens, other.num_tokens)
    same = (one.tokens[:length] == other.tokens[:length]) & (one.step_id[:length] == other.step_id[:length])
    apart = np.flatnonzero(~same)
    if not len(apart):
        return None
    step, others = int(one.step_id[apart[0]]), int(other.step_id[apart[0]])
    return step if step == others >= 0 else None


def step_pairs(buffer: EpisodeBuffer, max_pairs: int, least: int, rng: np.random.Generator) -> Pairs:
    """Return (right, wrong) pairs of a task that share their first steps and then take different actions.

    Args:
        buffer: as in ``preference_pairs``; of the pairs that it names those that share no such steps are left out.
        max_pairs: drawn of each task at most, without replacement.
        least: how many steps they share at least, see ``shared_steps``.
        rng: draws them.

    Raises:
        NothingToLearnError: there is none.
    """

    def fits(right: int, wrong: int) -> bool:
        found = shared_steps(buffer[right], buffer[wrong])
        return found is not None and found >= least

    named = [(right, wrong) for right, wrong in buffer.pairs if fits(right, wrong)]
    if left_out := len(buffer.pairs) - len(named):
        _log.warning(
            "%d of the %d pairs that the data names do not part in an action after at least %d shared steps: left out",
            left_out,
            len(buffer.pairs),
            least,
        )
    taken = {index for pair in buffer.pairs for index in pair}

    def drawn() -> Iterator[tuple[int, int]]:
        for right, wrong in outcomes_by_task(buffer):
            free = [[index for index in each if index not in taken] for each in (right, wrong)]
            found = 0
            for number in rng.permutation(len(free[0]) * len(free[1])).tolist():
                if found == max_pairs:
                    break
                pair = free[0][number // len(free[1])], free[1][number % len(free[1])]
                if fits(*pair):
                    found += 1
                    yield pair

    index = np.array([*named, *drawn()], np.int64).reshape(-1, 2)
    if not len(index):
        raise NothingToLearnError(
            f"in none of the {len(buffer.columns.task_ids)} tasks of this buffer do a right and a wrong episode share "
            f"their first steps, at least {least}, and then take different actions; collect more samples a task, ask "
            "for fewer (shared_steps), or compare whole responses (algo=dpo)"
        )
    return Pairs(buffer, index)
