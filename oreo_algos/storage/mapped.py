"""The episodes of a folder as one Arrow file beside its shards, which processes map and do not load.

Knows: the file's name, how it is made once, and what to do where it cannot be. Does not know: the columns (`stored`),
what a shard says (`parquet`).

The file is named by what it was made from, so that one that does not belong to the shards is not found, and by its own
content, so that one that was damaged is not taken. It may be removed at any time: it is made again. Processes that ask
for it at the same time wait for the first, and find it made. Where the folder cannot be written, or is full, the same
table is kept in memory.
"""

import logging
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
from filelock import FileLock

from oreo_algos.storage.atomic import replace_file
from oreo_algos.storage.stored import SCHEMA, StoredEpisodes, StoredRows

_log = logging.getLogger(__name__)

PATTERN = "mapped-*.arrow*"
"""Names of the files, and of the locks under which they are made."""

_PIECE = 1 << 20  # bytes


def map_episodes(folder: Path, key: str, tables: Callable[[], Iterable[pa.Table]]) -> StoredEpisodes:
    """Open the mapped file of a folder; make it if it is not there.

    Args:
        folder: of the shards.
        key: identifies what the file is made from.
        tables: reads the tables that it is made from, of ``stored.SCHEMA``; checked episodes.
    """
    lock = folder / f"mapped-{key}.arrow.lock"
    found = _find(folder, key)
    if found is not None:
        return found
    try:
        with FileLock(lock):
            try:
                return _find(folder, key) or _make(folder, key, tables)
            finally:
                lock.unlink(missing_ok=True)
    except (OSError, NotImplementedError) as error:  # the latter where a file system knows no locks
        _log.warning("%s: no mapped file (%s); the episodes are kept in the memory of every process", folder, error)
    sink = pa.BufferOutputStream()
    _write(sink, tables())
    return _episodes(pa.ipc.open_file(pa.BufferReader(sink.getvalue())))


def _find(folder: Path, key: str) -> StoredEpisodes | None:
    """Map the file of a key; None: there is none, or it is not as it was made."""
    for file in folder.glob(f"mapped-{key}-*.arrow"):
        try:
            if file.name == _name(key, file):
                return _map(file)
        except (OSError, pa.ArrowException):
            continue
    return None


def _make(folder: Path, key: str, tables: Callable[[], Iterable[pa.Table]]) -> StoredEpisodes:
    """Write a file and map it; those made from what stood in the folder before are removed."""
    with replace_file(folder / f"mapped-{key}.arrow") as temporary:
        _write(pa.OSFile(str(temporary), "wb"), tables())
        name = _name(key, temporary)
    file = (folder / f"mapped-{key}.arrow").replace(folder / name)
    for old in folder.glob("mapped-*.arrow"):
        if old != file:
            old.unlink(missing_ok=True)
    return _map(file)


def _name(key: str, file: Path) -> str:
    """Name a file by what it was made from, and by the CRC-32 of what it holds."""
    found = 0
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE):
            found = zlib.crc32(piece, found)
    return f"mapped-{key}-{found:08x}.arrow"


def _map(file: Path) -> StoredEpisodes:
    return _episodes(pa.ipc.open_file(pa.memory_map(str(file))))


def _episodes(reader: pa.RecordBatchFileReader) -> StoredEpisodes:
    return StoredEpisodes([StoredRows(reader.get_batch(i)) for i in range(reader.num_record_batches)])


def _write(sink: pa.NativeFile, tables: Iterable[pa.Table]) -> None:
    with sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for table in tables:
            writer.write_table(table.combine_chunks())
