"""One record batch of episodes in Arrow's memory: its columns, its views, and checksums by which damage is found.

Knows: the columns of a table of checked episodes. Does not know: what a row becomes (`stored`), files (`mapped`).

A column is checked when it is first read, its shape (offsets, nulls, numbers) and its content (what lists and texts
hold) apart, so that lengths are known without reading what is long.
"""

import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from oreo_algos.episode import Episode
from oreo_algos.storage.content import DIGEST_BYTES, Marks

SCHEMA = pa.schema(
    [
        ("task_id", pa.large_string()),
        ("env_id", pa.large_string()),
        ("messages", pa.large_list(pa.struct([("role", pa.large_string()), ("content", pa.large_string())]))),
        ("action_spans", pa.large_list(pa.int32())),  # three numbers an action
        ("rewards", pa.large_list(pa.float32())),
        ("terminated", pa.uint8()),
        ("truncated", pa.uint8()),
        ("info", pa.large_string()),  # JSON
        ("tokens", pa.large_list(pa.int32())),
        ("step_id", pa.large_list(pa.int32())),
        ("loss_mask", pa.large_list(pa.uint8())),
        ("behavior_logprobs", pa.large_list(pa.float32())),
        ("success", pa.uint8()),
        ("num_action_tokens", pa.int32()),
        ("total_reward", pa.float64()),
        ("highest_token", pa.int32()),
        ("digest", pa.binary(DIGEST_BYTES)),  # see `content`
        ("said", pa.binary(DIGEST_BYTES)),
    ]
)
"""A byte a bool, so that every array of a row is a view of the table."""

SHAPE, CONTENT = 0, 1
_BUFFERS = (slice(0, 2), slice(2, None))
"""Shape and content among the buffers of a column in Arrow's layout."""

_PLACES = {name: place for place, name in enumerate(SCHEMA.names)}

Sums = NDArray[np.uint32]
"""CRC-32 of shape and content of every column, [columns, 2]."""


def to_batch(episodes: Sequence[Episode], marks: Sequence[Marks]) -> pa.RecordBatch:
    """Put episodes, with the marks of each, into a batch of ``SCHEMA``, laid out as Arrow writes it."""
    columns: dict[str, Any] = {name: [getattr(mark, name) for mark in marks] for name in Marks._fields}
    for field in SCHEMA:
        if field.name in Episode.__dataclass_fields__ and field.name not in columns:
            values = [getattr(episode, field.name) for episode in episodes]
            columns[field.name] = _column(values, field.type)
    tokens, step_id, rewards = (columns[name] for name in ("tokens", "step_id", "rewards"))
    columns["num_action_tokens"] = _fold_each(np.add, as_numpy(step_id.values) >= 0, step_id.offsets, np.int32(0))
    columns["total_reward"] = _fold_each(np.add, as_numpy(rewards.values), rewards.offsets, np.float64(0))
    columns["highest_token"] = _fold_each(np.maximum, as_numpy(tokens.values), tokens.offsets, np.int32(-1))
    batch = pa.record_batch([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)
    return pa.ipc.read_record_batch(batch.serialize(), SCHEMA)


def _column(values: list[Any], kind: pa.DataType) -> Any:
    """Join the arrays of a column, which costs Arrow three times as much, and write its bools as bytes."""
    if pa.types.is_uint8(kind):
        return np.array(values, np.uint8)
    if not pa.types.is_primitive(getattr(kind, "value_type", kind)):
        return values
    dtype, present = kind.value_type.to_pandas_dtype(), [value.reshape(-1) for value in values if value is not None]
    joined = np.concatenate([np.empty(0, dtype), *present], dtype=dtype)
    missing = None if len(present) == len(values) else pa.array([value is None for value in values])
    lengths = [0 if value is None else value.size for value in values]
    return pa.LargeListArray.from_arrays(np.cumsum([0, *lengths]), joined, mask=missing)


def _fold_each(fold: np.ufunc, values: NDArray[Any], offsets: pa.Array, empty: np.generic) -> NDArray[np.generic]:
    """Fold each list of a column; of one without entries there is a number that stands for it."""
    bounds = as_numpy(offsets)
    filled = bounds[:-1] < bounds[1:]  # an empty list has no place of its own
    found = np.full(len(filled), empty)
    if filled.any():
        found[filled] = fold.reduceat(values, bounds[:-1][filled], dtype=found.dtype)
    return found


def checksums(batch: pa.RecordBatch) -> Sums:
    """Return the checksums of a batch, which do not change when it is written and read."""
    return np.array([[_checksum(column, SHAPE), _checksum(column, CONTENT)] for column in batch.columns], np.uint32)


def _checksum(column: pa.Array, part: int) -> int:
    found = 0
    for buffer in column.buffers()[_BUFFERS[part]]:
        if buffer is not None:
            found = zlib.crc32(buffer, found)
    return found


def as_numpy(array: pa.Array) -> NDArray[Any]:
    """Return numbers without nulls as a view; `to_numpy` would import pandas, a quarter of a second and 25 MiB."""
    values = np.frombuffer(array.buffers()[1] or b"", array.type.to_pandas_dtype())
    return values[array.offset : array.offset + len(array)]


def _is_there(column: pa.Array) -> NDArray[np.bool_]:
    """Return which entries are not null."""
    bits = column.buffers()[0]
    if bits is None:
        return np.ones(len(column), np.bool_)
    there = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little").view(np.bool_)
    return there[column.offset : column.offset + len(column)]


def _is_as_written(column: pa.Array, part: int, checksum: int) -> bool:
    """Whether a column is what its checksum says, and, where Arrow itself reads it, its offsets lead nowhere else."""
    if _checksum(column, part) != checksum:
        return False
    if part == CONTENT and not pa.types.is_primitive(getattr(column.type, "value_type", column.type)):
        with suppress(pa.ArrowInvalid):
            column.validate(full=True)
            return True
        return False
    return True


class StoredRows:
    """The episodes of one record batch."""

    def __init__(
        self,
        batch: pa.RecordBatch,
        sums: Sums | None = None,
        repair: Callable[[str], pa.RecordBatch] | None = None,
    ) -> None:
        """Keep a batch of ``SCHEMA``, whose memory stays where it is.

        Args:
            batch: the rows.
            sums: what it is checked against before it is read; None: it is trusted.
            repair: asked, with the name of the damaged column, for the rows as they were; it may raise.
        """
        self._batch, self._sums, self._repair = batch, sums, repair
        self._trusted = [[sums is None] * 2 for _ in SCHEMA]
        self._numbers: dict[str, NDArray[Any]] = {}
        self._lists: dict[str, tuple[NDArray[Any], NDArray[np.int64], NDArray[np.bool_] | None]] = {}

    def __len__(self) -> int:
        """Number of rows."""
        return self._batch.num_rows

    def batch(self) -> pa.RecordBatch:
        """Return all of it, checked."""
        for name in SCHEMA.names:
            self.column(name)
        return self._batch

    def column(self, name: str) -> pa.Array:
        """Return a column, checked."""
        self._check(name, CONTENT)
        return self._check(name, SHAPE)

    def array(self, name: str, row: int) -> NDArray[Any] | None:
        """Return the list of a row as a read-only view; None: there is none."""
        if name not in self._lists:
            column = self.column(name)
            present = None if column.null_count == 0 else _is_there(column)
            self._lists[name] = as_numpy(column.values), as_numpy(column.offsets), present
        values, offsets, present = self._lists[name]
        if present is not None and not present[row]:
            return None
        return values[offsets[row] : offsets[row + 1]]

    def scalar(self, name: str, row: int) -> Any:
        """Return what stands in a row, as Python has it."""
        return self.column(name)[row].as_py()

    def numbers(self, name: str) -> NDArray[Any]:
        """Return a column of numbers as a view."""
        if name not in self._numbers:
            self._numbers[name] = as_numpy(self._check(name, SHAPE))
        return self._numbers[name]

    def digests(self, name: str) -> NDArray[np.void]:
        """Return a column of digests as a view."""
        column = self._check(name, SHAPE)
        return np.frombuffer(column.buffers()[1], f"V{DIGEST_BYTES}")[column.offset : column.offset + len(column)]

    def lengths(self, name: str) -> NDArray[np.int64]:
        """Return the length of every list of a column; it is kept."""
        key = f"{name}: lengths"
        if key not in self._numbers:
            self._numbers[key] = np.diff(as_numpy(self._check(name, SHAPE).offsets))
        return self._numbers[key]

    def has_lists(self, name: str) -> NDArray[np.bool_]:
        """Return which rows have a list in a column."""
        return _is_there(self._check(name, SHAPE))

    def _check(self, name: str, part: int) -> pa.Array:
        """Return a column, of which this part is as it was written."""
        place = _PLACES[name]
        if not self._trusted[place][part]:
            assert self._sums is not None and self._repair is not None
            if not _is_as_written(self._batch.column(place), part, int(self._sums[place, part])):
                self._batch = self._repair(name)
            self._trusted[place][part] = True
        return self._batch.column(place)
