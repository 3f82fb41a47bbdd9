"""A collection in parts: the tasks of each, the shard of them that one process collects, parts that are done on disk.

Knows: counts of rows, folders. Does not know: policies, how episodes are drawn.
A part is whole batches of whole tasks, and no batch holds rows of two parts: what a part says does not depend on which
others are collected beside it, by this process or another.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, Self

from oreo_algos import EpisodeBuffer
from oreo_algos.storage.atomic import replace_folder, write_text
from oreo_algos.storage.buffer import JSON

# Rows of a part at least, where there are as many: each is a folder on disk.
_LEAST_ROWS = 256
# Batches of a part at most, where more would fill the last of them better.
_MOST_BATCHES = 16


def tasks_a_part(samples: int, batch_size: int) -> int:
    """Return how many tasks of so many samples fill their batches best; of those that do equally, the fewest.

    A part has at least ``_LEAST_ROWS`` rows, or they are one batch.
    """

    def filled(tasks: int) -> float:
        rows = tasks * samples
        return rows / (math.ceil(rows / batch_size) * batch_size)

    best = max(range(1, max(_MOST_BATCHES * batch_size // samples, 1) + 1), key=filled)
    return best * max(math.ceil(_LEAST_ROWS / (best * samples)), 1)


def cut(tasks: int, size: int) -> list[range]:
    """Cut so many tasks into parts of ``size``, the last of what is left."""
    return [range(start, min(start + size, tasks)) for start in range(0, tasks, size)]


@dataclass(frozen=True)
class Shard:
    """Which of how many shares of the parts; those of all numbers are all parts, in order.

    Attributes:
        number: from 1.
        of: shards in all.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read ``2/8``, the second of eight.

        Raises:
            ValueError: it is none.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", str(text).strip())
        shard = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.of:
            raise ValueError(
                f"shard={text}: give NUMBER/ALL, such as 2/8, the second of eight; numbers go from 1 to ALL"
            )
        return shard

    def __str__(self) -> str:
        """Write it as it is given."""
        return f"{self.number}/{self.of}"

    @property
    def name(self) -> str:
        """What a folder of it is called after."""
        return f"{self.number}-of-{self.of}"

    def share(self, parts: Sequence[range]) -> Sequence[range]:
        """Return its parts.

        Raises:
            ValueError: there are fewer parts than shards.
        """
        if len(parts) < self.of:
            raise ValueError(
                f"shard={self}: the collection is {_several(len(parts), 'part')} of up to "
                f"{_several(len(parts[0]), 'task')}, {_several(parts[-1].stop, 'task')} in all, and no part is cut; "
                f"give at most {_several(len(parts), 'shard')}, or the same smaller collect.part_tasks in every shard"
            )
        first, last = (number * len(parts) // self.of for number in (self.number - 1, self.number))
        return parts[first:last]


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


WHOLE = Shard(1, 1)
"""All parts."""


@dataclass(frozen=True)
class Tally:
    """What came of rows, in numbers.

    Attributes:
        collected: episodes with a verdict, those that are not kept included.
        successes: of them.
        prompts_too_long, cut_off, not_graded: see ``RolloutCounts``.
    """

    collected: int = 0
    successes: int = 0
    prompts_too_long: int = 0
    cut_off: int = 0
    not_graded: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        """Count both."""
        return Tally(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def provenance(self) -> dict[str, JSON]:
        """Write it as a buffer says it."""
        numbers = asdict(self)
        numbers["success_rate"] = numbers.pop("successes") / self.collected
        return {name: numbers[name] for name in _SAID}

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> "Tally":
        """Read what ``provenance`` wrote."""
        numbers = {name: provenance[name] for name in _SAID if name != "success_rate"}
        return cls(successes=round(provenance["success_rate"] * numbers["collected"]), **numbers)


_SAID = ("collected", "success_rate", "prompts_too_long", "cut_off", "not_graded")


@dataclass(frozen=True)
class Part:
    """What came of a part: the episodes that are kept, and how many there were."""

    episodes: EpisodeBuffer
    tally: Tally

    def save(self, folder: Path) -> None:
        """Write it whole or not at all."""
        with replace_folder(folder) as temporary:
            if len(self.episodes):
                self.episodes.save(temporary / "episodes")
            write_text(temporary / "tally.json", json.dumps(asdict(self.tally)))

    @classmethod
    def load(cls, folder: Path) -> "Part":
        """Read what ``save`` wrote."""
        tally = Tally(**json.loads((folder / "tally.json").read_text(encoding="utf-8")))
        episodes = folder / "episodes"
        return cls(EpisodeBuffer.load(episodes) if episodes.exists() else EpisodeBuffer(()), tally)
