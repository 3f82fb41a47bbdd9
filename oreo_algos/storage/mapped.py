"""The episodes of a folder as one Arrow file beside its shards, which processes map and do not load.

Knows: the file's name, how it is made once, and what to do where it cannot be. Does not know: the columns (`stored`),
what a shard says (`parquet`).

The file is named by what it was made from, so that one that does not belong to the shards is not found. It may be
removed at any time: it is made again. Processes that ask for it at the same time wait for the first, and
find it made. Where the folder cannot be written, or is full, the same table is kept in memory.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
from filelock import FileLock

from oreo_algos.storage.atomic import replace_file
from oreo_algos.storage.stored import SCHEMA, StoredEpisodes, StoredRows

_log = logging.getLogger(__name__)

PATTERN = "mapped-*.arrow*"
"""Names of the files, and of the locks under which they are made."""


def map_episodes(folder: Path, key: str, tables: Callable[[], Iterable[pa.Table]]) -> StoredEpisodes:
    """Open the mapped file of a folder; make it if it is not there.

    Args:
        folder: of the shards.
        key: identifies what the file is made from.
        tables: reads the tables that it is made from, of ``stored.SCHEMA``; checked episodes.
    """
    file = folder / f"mapped-{key}.arrow"
    lock = folder / f"mapped-{key}.arrow.lock"
    found = _open(file)
    if found is not None:
        return found
    try:
        with FileLock(lock):
            try:
                return _open(file) or _make(file, tables)
            finally:
                lock.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s: not written (%s); the episodes are kept in the memory of every process", file, error)
    sink = pa.BufferOutputStream()
    _write(sink, tables())
    return _episodes(pa.ipc.open_file(pa.BufferReader(sink.getvalue())))


def _make(file: Path, tables: Callable[[], Iterable[pa.Table]]) -> StoredEpisodes:
    """Write a file and map it; those made from what stood in the folder before are removed."""
    with replace_file(file) as temporary:
        _write(pa.OSFile(str(temporary), "wb"), tables())
    for old in file.parent.glob("mapped-*.arrow"):
        if old != file:
            old.unlink(missing_ok=True)
    return _episodes(pa.ipc.open_file(pa.memory_map(str(file))))


def _open(file: Path) -> StoredEpisodes | None:
    """Map a file; None: there is none, or it is not one of ours."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        return _episodes(reader) if reader.schema.equals(SCHEMA) else None
    except (OSError, pa.ArrowException):
        return None


def _episodes(reader: pa.RecordBatchFileReader) -> StoredEpisodes:
    return StoredEpisodes([StoredRows(reader.get_batch(i)) for i in range(reader.num_record_batches)])


def _write(sink: pa.NativeFile, tables: Iterable[pa.Table]) -> None:
    with sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for table in tables:
            writer.write_table(table.combine_chunks())
