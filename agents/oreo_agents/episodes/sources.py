"""Where the randomness of a row comes from: its seed, its task and which of the task's samples it is.

Knows: numbers. Does not know: tasks, tokens. A row draws the same numbers in a batch of any size, in any order, in any
process.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np


def row_source(seed: int, index: int, *place: int) -> np.random.Generator:
    """Return the randomness of one row.

    Args:
        seed: of the sampling, >= 0.
        index: of the task, >= 0.
        place: which sample of the task, from 0, or where in a search for its answer.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, index, *place]))


def sample_numbers(indices: Sequence[int]) -> list[int]:
    """Say of each row which sample of its task it is, from 0: how often its index has occurred before."""
    counts: Counter[int] = Counter()
    numbers = []
    for index in indices:
        numbers.append(counts[index])
        counts[index] += 1
    return numbers
