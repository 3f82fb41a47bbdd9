"""What an algorithm selected, by number: which episodes each example is made of, and how long they are.

Knows: buffers, pairs, lists of examples. Does not know: why they were selected (`algos`), padding, order (`schedule`).
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from oreo_algos.algos.selection import Pairs
from oreo_algos.episode import Episode
from oreo_algos.storage.buffer import EpisodeBuffer


class Examples(Sequence[Any]):
    """N examples, made when they are asked for where the selection makes them so.

    Attributes:
        given: the examples as the algorithm knows them, an episode or a sequence of episodes each.
        episodes: the E episodes of all of them, those of one example side by side.
        starts: example i is made of ``episodes[starts[i]:starts[i + 1]]``, int64 [N + 1].
    """

    def __init__(self, given: Sequence[Any]) -> None:
        """Look at what ``Algorithm.select`` returned.

        Raises:
            ValueError: an example without an episode.
        """
        self.given = given
        self.episodes: EpisodeBuffer
        if isinstance(given, EpisodeBuffer):
            self.episodes, sizes = given, np.ones(len(given), np.int64)
        elif isinstance(given, Pairs):
            self.episodes, sizes = given.buffer[given.indices.reshape(-1)], np.full(len(given), 2)
        else:
            lists = [[example] if isinstance(example, Episode) else list(example) for example in given]
            self.episodes = EpisodeBuffer(episode for each in lists for episode in each)
            sizes = np.array([len(each) for each in lists], np.int64)
        if not sizes.all():
            raise ValueError(f"example {int(np.argmin(sizes))} of the selection is made of no episode; leave it out")
        self.starts = np.concatenate([[0], np.cumsum(sizes)])

    def __len__(self) -> int:
        """N."""
        return len(self.given)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """An example, or those of a slice, as the algorithm knows them."""
        return self.given[index]

    @cached_property
    def longest(self) -> NDArray[np.int64]:
        """Tokens of the longest episode of each example, [N]."""
        return np.maximum.reduceat(self.episodes.columns.num_tokens, self.starts[:-1])

    def fitting(self, limit: int) -> "Examples":
        """Return the examples of which no episode is longer than ``limit`` tokens."""
        kept = np.flatnonzero(self.longest <= limit)
        if len(kept) == len(self):
            return self
        if isinstance(self.given, EpisodeBuffer | Pairs):
            return Examples(self.given[kept])
        return Examples([self.given[i] for i in kept.tolist()])

    def places(self, numbers: Sequence[int]) -> dict[Episode, int]:
        """Return where in ``episodes`` those of some examples stand."""
        where = (i for number in numbers for i in range(int(self.starts[number]), int(self.starts[number + 1])))
        return {self.episodes[i]: i for i in where}
