"""The episodes of a folder as one Arrow file beside its shards, which processes map and do not load.

Knows: the file's form and name, how it is made once, and what to do where it cannot be or is damaged. Does not know:
the columns (`rows`), what a shard says (`parquet`).

The file is named by what it was made from, so that one that does not belong to the shards is not found, and by the
CRC-32 of its form: how many batches there are, where their columns lie, and the checksums of these, which stand at the
end. Opening it reads no more than that; what columns hold is checked where it is first read (`rows`), and read from the
shards where it is damaged. Who writes a buffer writes it too (`writing`). It may be removed at any time: who opens the
buffer next makes it again, and processes that ask for it at the same time wait for the first, and find it made. Where
the folder cannot be written, or is full, the same batches are kept in memory.
"""

import itertools
import logging
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from filelock import FileLock

from oreo_algos.storage.atomic import remove_leftovers, replace_file
from oreo_algos.storage.rows import SCHEMA, StoredRows, Sums, checksums
from oreo_algos.storage.stored import StoredEpisodes

_log = logging.getLogger(__name__)

PATTERN = "mapped-*.arrow*"
"""Names of the files, and of the locks under which they are made."""

Batches: TypeAlias = Callable[[], Iterable[pa.RecordBatch]]
"""Reads the batches that a file is made from, of ``rows.SCHEMA``; checked episodes, always the same ones."""


def map_episodes(folder: Path, key: str, batches: Batches) -> StoredEpisodes:
    """Open the mapped file of a folder; make it if it is not there.

    Args:
        folder: of the shards.
        key: identifies what the file is made from.
        batches: reads it.
    """
    lock = folder / f"mapped-{key}.arrow.lock"
    found = _find(folder, key, batches)
    if found is not None:
        return found
    try:
        with FileLock(lock):
            try:
                return _find(folder, key, batches) or _make(folder, key, batches)
            finally:
                lock.unlink(missing_ok=True)
    except (OSError, NotImplementedError) as error:  # the latter where a file system knows no locks
        _log.warning("%s: no mapped file (%s); the episodes are kept in the memory of every process", folder, error)
    return StoredEpisodes([StoredRows(batch) for batch in batches()])


def _find(folder: Path, key: str, batches: Batches) -> StoredEpisodes | None:
    """Map the file of a key; None: there is none, or its form is not as it was made.

    What a killed process was writing beside it goes.
    """
    remove_leftovers(folder)
    for file in folder.glob(f"mapped-{key}-*.arrow"):
        with suppress(OSError, pa.ArrowException):
            parts = _Parts(file)
            if file.name == parts.name(key):
                return parts.episodes(file, batches)
    return None


def _make(folder: Path, key: str, batches: Batches) -> StoredEpisodes:
    """Write a file and map it; those made from what stood in the folder before are removed."""
    with replace_file(folder / f"mapped-{key}.arrow") as temporary:
        writer = MapWriter(temporary)
        for batch in batches():
            writer.add(batch)
        writer.close()
        name = _Parts(temporary).name(key)
    file = (folder / f"mapped-{key}.arrow").replace(folder / name)
    for old in folder.glob("mapped-*.arrow"):
        if old != file:
            old.unlink(missing_ok=True)
    return _Parts(file).episodes(file, batches)


class MapWriter:
    """Writes a stream of Arrow's messages, and behind it the checksums of each batch."""

    def __init__(self, file: Path) -> None:
        """Begin."""
        self._file, self._sums = file, list[Sums]()
        self._sink = pa.OSFile(str(file), "wb")
        self._stream = pa.ipc.new_stream(self._sink, SCHEMA)

    def add(self, batch: pa.RecordBatch) -> None:
        """Write a batch of ``rows.SCHEMA``."""
        self._stream.write_batch(batch)
        self._sums.append(checksums(batch))

    def close(self) -> None:
        """Write the end."""
        self._stream.close()
        self._sink.write(np.array(self._sums, np.uint32).tobytes())
        self._sink.close()

    def name(self, key: str) -> None:
        """Give the whole file the name under which ``map_episodes`` finds it by its key."""
        self._file.replace(self._file.with_name(_Parts(self._file).name(key)))


class _Parts:
    """A mapped file: the messages of its stream, and what stands behind it."""

    def __init__(self, file: Path) -> None:
        """Map it; what columns hold is not read."""
        source = pa.memory_map(str(file))
        self.messages = list(pa.ipc.MessageReader.open_stream(source))
        self.end = source.read_buffer()

    def name(self, key: str) -> str:
        """Name the file by what it was made from, and by its form."""
        form = zlib.crc32(self.end)
        for message in self.messages:
            form = zlib.crc32(message.metadata, form)
        return f"mapped-{key}-{form:08x}.arrow"

    def episodes(self, file: Path, batches: Batches) -> StoredEpisodes:
        """Return what it holds, checked where it is first read."""
        first, *messages = self.messages
        if pa.ipc.read_schema(first) != SCHEMA:
            raise pa.ArrowInvalid(f"{file}: other columns")
        sums = np.frombuffer(self.end, np.uint32).reshape(len(messages), len(SCHEMA), 2)
        stored, start = [], 0
        for number, message in enumerate(messages):
            batch = pa.ipc.read_record_batch(message, SCHEMA)
            batch.validate()  # what it says lies within the file
            repair = partial(_repair, file, batches, number, start, batch.num_rows)
            stored.append(StoredRows(batch, sums[number], repair))
            start += batch.num_rows
        return StoredEpisodes(stored)


def _repair(file: Path, batches: Batches, number: int, first: int, rows: int, column: str) -> pa.RecordBatch:
    """Read a batch, of which a column is damaged, from the shards again; the file is removed, to be made anew.

    Raises:
        ValueError: the shards no longer hold it.
    """
    what = f"{file}: damaged, {column} of the episodes {first} to {first + rows - 1} is not as it was written"
    try:
        batch = next(itertools.islice(batches(), number, None), None)
    except (OSError, ValueError) as error:
        raise ValueError(f"{what}, and the shards no longer hold it ({error})") from error
    with suppress(OSError):
        file.unlink(missing_ok=True)
    if batch is None or batch.num_rows != rows:
        raise ValueError(f"{what}, nor what the shards hold; open the buffer again")
    _log.warning("%s; these are read from the shards, and the file is made again where the buffer is next opened", what)
    return batch
