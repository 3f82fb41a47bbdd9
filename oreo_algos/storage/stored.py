"""Episodes that are read from an Arrow table when they are asked for, and small columns of all of them at once.

Knows: how a row becomes an episode without a copy of its arrays. Does not know: the columns and their memory (`rows`),
files (`mapped`, `parquet`), selections (`buffer`), what makes an episode valid (`episode`).
"""

import bisect
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from oreo_algos.episode import Episode, JSONScalar
from oreo_algos.storage.rows import SCHEMA, StoredRows, as_numpy


@dataclass(frozen=True, eq=False)
class Columns:
    """What selections and statistics read of all episodes of a buffer, N of them.

    Attributes:
        task: the task of each as a place in ``task_ids``, int32 [N].
        task_ids: the tasks in the order in which they first appear.
        env_ids: the environments that occur, sorted.
        success, truncated, cut_off: as of `Episode`, bool [N].
        num_tokens, num_action_tokens, num_steps: int64 [N].
        highest_token: the highest token id, -1 where there is none, int32 [N].
        located: whether it is said where the actions stand in the messages, bool [N].
        total_reward: undiscounted returns, reward units, float64 [N].
    """

    task: NDArray[np.int32]
    task_ids: list[str]
    env_ids: list[str]
    success: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    cut_off: NDArray[np.bool_]
    num_tokens: NDArray[np.int64]
    num_action_tokens: NDArray[np.int64]
    num_steps: NDArray[np.int64]
    highest_token: NDArray[np.int32]
    located: NDArray[np.bool_]
    total_reward: NDArray[np.float64]

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> "Columns":
        """Read them off episodes."""
        if isinstance(episodes, StoredEpisodes):
            return episodes.columns
        places: dict[str, int] = {}
        task = np.array([places.setdefault(e.task_id, len(places)) for e in episodes], np.int32)
        return cls(
            task=task,
            task_ids=list(places),
            env_ids=sorted({e.env_id for e in episodes}),
            success=np.array([e.success for e in episodes], np.bool_),
            truncated=np.array([e.truncated for e in episodes], np.bool_),
            cut_off=np.array([e.cut_off for e in episodes], np.bool_),
            num_tokens=np.array([e.num_tokens for e in episodes], np.int64),
            num_action_tokens=np.array([e.num_action_tokens for e in episodes], np.int64),
            num_steps=np.array([e.num_steps for e in episodes], np.int64),
            highest_token=np.array([e.highest_token for e in episodes], np.int32),
            located=np.array([e.action_spans is not None for e in episodes], np.bool_),
            total_reward=np.array([e.total_reward for e in episodes], np.float64),
        )


class StoredEpisode(Episode):
    """An episode that lies in a table: its fields are read when they are asked for, its arrays are views.

    Two of the same row are equal and have the same hash. What is made from one, by `dataclasses.replace`, a copy or a
    pickle, is an `Episode` in memory.
    """

    __slots__ = ("_row", "_rows")

    _rows: StoredRows
    _row: int

    def __new__(cls, **fields: Any) -> Episode:  # type: ignore[misc]
        """Make an episode in memory: what `dataclasses.replace` asks for."""
        return Episode(**fields)

    @staticmethod
    def at(rows: StoredRows, row: int) -> "StoredEpisode":
        """Return the episode of a row."""
        episode: StoredEpisode = object.__new__(StoredEpisode)
        object.__setattr__(episode, "_rows", rows)
        object.__setattr__(episode, "_row", row)
        return episode

    def __eq__(self, other: object) -> bool:
        """Whether it is the same row."""
        return isinstance(other, StoredEpisode) and self._rows is other._rows and self._row == other._row

    def __hash__(self) -> int:
        """Hash the place."""
        return hash((id(self._rows), self._row))

    def __reduce__(self) -> Any:
        """Leave the table behind."""
        return _rebuild, ({name: getattr(self, name) for name in self.__dataclass_fields__},)

    @property
    def tokens(self) -> NDArray[np.int32]:
        """As of `Episode`."""
        return self._array("tokens")

    @property
    def step_id(self) -> NDArray[np.int32]:
        """As of `Episode`."""
        return self._array("step_id")

    @property
    def rewards(self) -> NDArray[np.float32]:
        """As of `Episode`."""
        return self._array("rewards")

    @property
    def loss_mask(self) -> NDArray[np.bool_] | None:
        """As of `Episode`."""
        mask = self._rows.array("loss_mask", self._row)
        return None if mask is None else mask.view(np.bool_)

    @property
    def behavior_logprobs(self) -> NDArray[np.float32] | None:
        """As of `Episode`."""
        return self._rows.array("behavior_logprobs", self._row)

    @property
    def action_spans(self) -> NDArray[np.int32] | None:
        """As of `Episode`."""
        spans = self._rows.array("action_spans", self._row)
        return None if spans is None else spans.reshape(-1, 3)

    @property
    def terminated(self) -> bool:
        """As of `Episode`."""
        return bool(self._rows.numbers("terminated")[self._row])

    @property
    def truncated(self) -> bool:
        """As of `Episode`."""
        return bool(self._rows.numbers("truncated")[self._row])

    @property
    def success(self) -> bool:
        """As of `Episode`."""
        return bool(self._rows.numbers("success")[self._row])

    @property
    def task_id(self) -> str:
        """As of `Episode`."""
        return self._rows.scalar("task_id", self._row)

    @property
    def env_id(self) -> str:
        """As of `Episode`."""
        return self._rows.scalar("env_id", self._row)

    @property
    def messages(self) -> list[dict[str, str]]:
        """As of `Episode`."""
        return self._rows.scalar("messages", self._row)

    @property
    def info(self) -> dict[str, JSONScalar]:
        """As of `Episode`."""
        return json.loads(self._rows.scalar("info", self._row))

    @property
    def num_tokens(self) -> int:
        """As of `Episode`."""
        return int(self._rows.lengths("tokens")[self._row])

    @property
    def num_steps(self) -> int:
        """As of `Episode`."""
        return int(self._rows.lengths("rewards")[self._row])

    @property
    def num_action_tokens(self) -> int:
        """As of `Episode`."""
        return int(self._rows.numbers("num_action_tokens")[self._row])

    @property
    def highest_token(self) -> int:
        """As of `Episode`."""
        return int(self._rows.numbers("highest_token")[self._row])

    @property
    def total_reward(self) -> float:
        """As of `Episode`."""
        return float(self._rows.numbers("total_reward")[self._row])

    def _array(self, name: str) -> NDArray[Any]:
        found = self._rows.array(name, self._row)
        assert found is not None, name
        return found


def _rebuild(fields: dict[str, Any]) -> Episode:
    return Episode(**fields)


class StoredEpisodes(Sequence[Episode]):
    """Episodes of record batches, in any order, made when they are asked for."""

    def __init__(self, batches: Sequence[StoredRows], places: NDArray[np.int64] | None = None) -> None:
        """Take rows of batches.

        Args:
            batches: where the rows lie.
            places: which rows, counted through all batches, int64 [N]; None: all of them, in order.
        """
        self._batches = batches
        self._starts = [0, *itertools.accumulate(map(len, batches))]
        self._places = np.arange(self._starts[-1]) if places is None else places

    def __len__(self) -> int:
        """N."""
        return len(self._places)

    def __reduce__(self) -> Any:
        """Take along the chosen rows, and no others."""
        table = pa.Table.from_batches([batch.batch() for batch in self._batches], SCHEMA).take(self._places)
        return _from_batches, (table.to_batches(),)

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredEpisodes": ...
    def __getitem__(self, index: int | slice) -> "Episode | StoredEpisodes":
        """One episode, or those of a slice."""
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return self._at(int(self._places[index]))

    def __iter__(self) -> Iterator[Episode]:
        """Every episode in order."""
        return map(self._at, self._places.tolist())

    def take(self, index: NDArray[np.int64]) -> "StoredEpisodes":
        """Choose by index, int64 [M]."""
        return StoredEpisodes(self._batches, self._places[index])

    @staticmethod
    def join(parts: Sequence["StoredEpisodes"]) -> "StoredEpisodes":
        """Put several behind one another; nothing is read."""
        starts = [0, *itertools.accumulate(part._starts[-1] for part in parts[:-1])]
        places = [part._places + start for part, start in zip(parts, starts, strict=True)]
        return StoredEpisodes([batch for part in parts for batch in part._batches], np.concatenate(places))

    @cached_property
    def columns(self) -> Columns:
        """What selections and statistics read, without making an episode."""
        chosen, order = self._ids("task_id")
        codes, first = np.unique(chosen, return_index=True)
        by_appearance = np.argsort(first)
        rank = np.empty(len(order), np.int32)
        rank[codes[by_appearance]] = np.arange(len(codes), dtype=np.int32)
        env_codes, envs = self._ids("env_id")
        success, terminated, truncated = (
            self._numbers(name).view(np.bool_) for name in ("success", "terminated", "truncated")
        )
        return Columns(
            task=rank[chosen],
            task_ids=[order[code] for code in codes[by_appearance].tolist()],
            env_ids=sorted(envs[code] for code in np.unique(env_codes).tolist()),
            success=success,
            truncated=truncated,
            cut_off=truncated & ~terminated & ~success,
            num_tokens=self._lengths("tokens"),
            num_action_tokens=self._numbers("num_action_tokens").astype(np.int64),
            num_steps=self._lengths("rewards"),
            highest_token=self._numbers("highest_token"),
            located=_join([batch.has_lists("action_spans") for batch in self._batches], pa.uint8()).view(np.bool_)[
                self._places
            ],
            total_reward=self._numbers("total_reward"),
        )

    def digests(self, name: str) -> bytes:
        """Return those of `content`, ``digest`` or ``said``, one behind another, without making an episode."""
        parts = [batch.digests(name) for batch in self._batches]
        return np.concatenate(parts)[self._places].tobytes() if parts else b""

    def locate(self, episodes: Sequence[Episode]) -> NDArray[np.int64]:
        """Return the index here of episodes that lie in the same tables, -1 of those that do not, int64 [M]."""
        if isinstance(episodes, StoredEpisodes) and episodes._batches is self._batches:
            places = episodes._places
        else:
            starts = dict(zip(map(id, self._batches), self._starts, strict=False))
            places = np.array(
                [
                    starts[id(e._rows)] + e._row if isinstance(e, StoredEpisode) and id(e._rows) in starts else -1
                    for e in episodes
                ],
                np.int64,
            )
        index = np.full(self._starts[-1] + 1, -1)  # the last one: of place -1
        index[self._places] = np.arange(len(self))
        return index[places]

    def holding(self, key: str) -> NDArray[np.int64]:
        """Return the indices of the episodes whose ``info`` has a name, without making one."""
        return self._of_places([place for place, info in self._infos(f"{json.dumps(key)}: ") if key in info])

    def named(self, key: str, text: str | None = None) -> tuple[NDArray[np.int64], list[str]]:
        """Return which episodes have a text, or this one, under a name in their ``info``, and the text.

        Without making an episode, and without reading what does not hold the name.
        """
        infos = self._infos(f"{json.dumps(key)}: {'' if text is None else json.dumps(text)}")
        found = ((place, info.get(key)) for place, info in infos)
        texts = {place: told for place, told in found if isinstance(told, str) and text in (None, told)}
        index = self._of_places(list(texts))
        return index, [texts[place] for place in self._places[index].tolist()]

    def _infos(self, part: str) -> Iterator[tuple[int, dict[str, JSONScalar]]]:
        """Yield the ``info`` of every row in whose text there is a part."""
        column = pa.chunked_array([batch.column("info") for batch in self._batches], SCHEMA.field("info").type)
        for place in as_numpy(pc.indices_nonzero(pc.match_substring(column, part))).tolist():
            yield place, json.loads(column[place].as_py())

    def _of_places(self, places: list[int]) -> NDArray[np.int64]:
        """Return the indices of the episodes that are one of some rows."""
        has = np.zeros(self._starts[-1], np.bool_)
        has[places] = True
        return np.flatnonzero(has[self._places])

    def _at(self, place: int) -> Episode:
        batch = bisect.bisect_right(self._starts, place) - 1
        return StoredEpisode.at(self._batches[batch], place - self._starts[batch])

    def _numbers(self, name: str) -> NDArray[Any]:
        return _join([batch.numbers(name) for batch in self._batches], SCHEMA.field(name).type)[self._places]

    def _lengths(self, name: str) -> NDArray[np.int64]:
        return _join([batch.lengths(name) for batch in self._batches], pa.int64())[self._places]

    def _ids(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """Return the text of each episode as a place in the list of all that occur."""
        column = pa.chunked_array([batch.column(name) for batch in self._batches], SCHEMA.field(name).type)
        encoded = column.dictionary_encode().combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):  # of no batch
            return np.zeros(0, np.int32), []
        return as_numpy(encoded.indices)[self._places], encoded.dictionary.to_pylist()


def _from_batches(batches: Sequence[pa.RecordBatch]) -> StoredEpisodes:
    return StoredEpisodes([StoredRows(batch) for batch in batches])


def _join(parts: Sequence[NDArray[Any]], kind: pa.DataType) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, kind.to_pandas_dtype())
