"""Examples cut into micro-batches of a token budget.

Knows: lengths. Does not know: padding (`batch`), devices, losses.
"""

import heapq
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from oreo_algos.algos.base import Example
from oreo_algos.episode import Episode


def episodes_of(examples: Iterable[Episode | Sequence[Episode]]) -> list[Episode]:
    """Return the episodes of all examples in their order, those of one example side by side."""
    return [
        episode for example in examples for episode in ([example] if isinstance(example, Episode) else list(example))
    ]


def longest(example: Episode | Sequence[Episode]) -> int:
    """Return the tokens of the longest episode of an example."""
    return max(episode.num_tokens for episode in episodes_of([example]))


def cut_by_tokens(examples: Iterable[Example], max_tokens: int) -> list[list[Example]]:
    """Cut examples into micro-batches of at most ``max_tokens`` tokens, padding not counted.

    Examples of similar length come together, so that padding is little; the longest come first, so that what does not
    fit into memory fails at once. The order depends on lengths and on the order of ``examples`` only. An example
    longer than the budget is alone.

    Args:
        examples: what to cut.
        max_tokens: budget, tokens of all episodes of a micro-batch, >= 1.
    """
    given = list(examples)
    lists = [episodes_of([example]) for example in given]
    longest = [max(episode.num_tokens for episode in each) for each in lists]
    sizes = [sum(episode.num_tokens for episode in each) for each in lists]
    return [[given[i] for i in piece] for piece in cut(longest, sizes, max_tokens)]


def cut(longest: ArrayLike, sizes: ArrayLike, max_tokens: int) -> list[list[int]]:
    """Cut N examples in the same way, by the tokens of the longest episode of each and of all of its episodes, [N]."""
    tokens = np.asarray(sizes).tolist()
    pieces: list[list[int]] = []
    room = 0
    for i in np.argsort(-np.asarray(longest), kind="stable").tolist():
        if not pieces or tokens[i] > room:
            pieces.append([])
            room = max_tokens
        pieces[-1].append(i)
        room -= tokens[i]
    return pieces


def share(sizes: Sequence[int], parts: int) -> list[list[int]]:
    """Deal examples out so that all parts have about as many tokens: the largest first, to whoever has least.

    Args:
        sizes: tokens of each example.
        parts: how many; some have nothing where there are fewer examples.

    Returns:
        Of each part the indices of its examples, ascending.
    """
    found: list[list[int]] = [[] for _ in range(parts)]
    loads = [(0, part) for part in range(parts)]
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        load, part = heapq.heappop(loads)
        found[part].append(index)
        heapq.heappush(loads, (load + sizes[index], part))
    return [sorted(each) for each in found]
