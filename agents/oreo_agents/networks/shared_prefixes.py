"""Documents of a batch that begin alike, as a forest: what they share stands once, and each goes on from there.

Knows: token ids. Does not know: rows, attention, networks.
"""

# B documents, T tokens of the longest

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Piece:
    """A run of tokens that one document, or several, have at the same place.

    Attributes:
        document: one of them.
        start, end: where it stands in it; the tokens before it stand in the pieces before it.
        before: the pieces before it, from the first token on.
    """

    document: int
    start: int
    end: int
    before: tuple["Piece", ...] = ()

    def __len__(self) -> int:
        """Tokens."""
        return self.end - self.start


def cut(
    tokens: NDArray[np.int64], lengths: Sequence[int], least: int, most_pairs: float = math.inf
) -> list[tuple[Piece, ...]]:
    """Cut documents, so that equal beginnings are one piece where that saves tokens.

    Args:
        tokens: of the documents, [B, T]; what is behind their ends does not matter.
        lengths: of the documents, at least one, none 0.
        least: tokens that a shared piece saves at least, 1 or more.
        most_pairs: what goes on from a first piece may have so many pairs of tokens for each token that it saves.

    Returns:
        Of each document its pieces in order; those that are shared are the same object.
    """
    rows = [row[:length] for row, length in zip(tokens, lengths, strict=True)]
    # Equal beginnings stand together in the order of bytes.
    order = sorted(range(len(rows)), key=lambda row: rows[row].tobytes())
    common = [0] + [_common(rows[a], rows[b]) for a, b in itertools.pairwise(order)]
    found: list[tuple[Piece, ...]] = [()] * len(rows)
    # Documents that stand together, the first and the one behind the last, and the pieces that all of them begin with.
    waiting: list[tuple[int, int, tuple[Piece, ...]]] = [(0, len(rows), ())]
    while waiting:
        first, last, before = waiting.pop()
        start = before[-1].end if before else 0
        alike = min(common[first + 1 : last], default=lengths[order[first]])
        alone = last - first == 1
        saved = (alike - start) * (last - first - 1)
        pairs = 0 if before else sum((lengths[order[i]] - alike) ** 2 for i in range(first, last))
        if alike > start and (alone or (saved >= least and pairs <= most_pairs * saved)):
            before = (*before, Piece(order[first], start, alike, before))
        if alone:
            found[order[first]] = before
        else:
            bounds = [first, *(i for i in range(first + 1, last) if common[i] == alike), last]
            waiting += [(a, b, before) for a, b in itertools.pairwise(bounds)]
    return found


def _common(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    """Return how many tokens two documents begin with alike."""
    length = min(len(one), len(other))
    differ = np.flatnonzero(one[:length] != other[:length])
    return int(differ[0]) if len(differ) else length
