"""A buffer written as its episodes come: shard after shard, whole or not at all, in memory for one shard.

Knows: the form of a shard, when one is full, what is counted on the way. Does not know: how one is read (`parquet`).
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from oreo_algos.episode import Episode
from oreo_algos.storage import mapped
from oreo_algos.storage.atomic import is_temporary, recover_folder, replace_folder
from oreo_algos.storage.content import Canonical, ContentHash, Marks
from oreo_algos.storage.counts import Counts
from oreo_algos.storage.parquet import (
    FORMAT,
    MAP_ROWS,
    METADATA,
    SCHEMA,
    SPAN,
    VERSION,
    map_key,
    read_metadata,
    sha256,
)
from oreo_algos.storage.rows import as_numpy, to_batch

_log = logging.getLogger(__name__)

_SHARD_EPISODES, _SHARD_BYTES = 4096, 1 << 30
# What repeats, which Parquet writes as places in a dictionary; log-probabilities are all different.
_REPEATING = [
    *("task_id", "env_id", "info", "messages.list.element.role", "messages.list.element.content"),
    *(f"{name}.list.element" for name in ("rewards", "tokens", "step_id")),
    *(f"action_spans.list.element.{name}" for name in SPAN),
]
_MAP = "mapped.arrow"  # until it is known of what


@contextmanager
def write_buffer(
    path: str | os.PathLike[str],
    *,
    tokenizer_fingerprint: str = "",
    provenance: Mapping[str, Any] | None = None,
    episodes_per_shard: int = _SHARD_EPISODES,
) -> Iterator["BufferWriter"]:
    """Write a folder of episodes, or replace one, whole or not at all, when the block ends without an exception.

    Other files in a folder that is replaced stay, but side files `ref-*.parquet` only when its content is the same, and
    files that were never finished do not.

    Args:
        path: a new or empty folder, or one that holds a buffer.
        tokenizer_fingerprint: of the tokenizer that encoded the episodes; "" when none has.
        provenance: where they come from, as JSON; it may be given later, see ``BufferWriter``.
        episodes_per_shard: rows of each Parquet file but the last, >= 1; of long episodes fewer.

    Yields:
        What takes the episodes.

    Raises:
        ValueError: no episode was added, `episodes_per_shard` is below 1, or `path` holds something else.
    """
    if episodes_per_shard < 1:
        raise ValueError(f"episodes_per_shard must be >= 1, got {episodes_per_shard}")
    target = recover_folder(path)
    before = _read_present(target)
    with replace_folder(target) as folder:
        writer = BufferWriter(folder, tokenizer_fingerprint, provenance or {}, episodes_per_shard)
        yield writer
        if not writer.counts.episodes:
            raise ValueError(f"{path}: nothing to save, the buffer has no episode")
        metadata = writer.finish()
        for entry in _entries_to_keep(target, before, metadata["content_hash"]):
            (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, folder / entry.name)


class BufferWriter:
    """Takes the episodes of a new buffer, in order.

    Attributes:
        provenance: what `metadata.json` will say of where they come from; it may be changed until the end.
        counts: of those added.
    """

    def __init__(
        self, folder: Path, tokenizer_fingerprint: str, provenance: Mapping[str, Any], episodes_per_shard: int
    ) -> None:
        """Begin in an empty folder."""
        self.provenance, self.counts = provenance, Counts()
        self._folder, self._fingerprint, self._most = folder, tokenizer_fingerprint, episodes_per_shard
        self._content, self._shards = ContentHash(), list[dict[str, str | int]]()
        self._waiting, self._marks, self._flushed_bytes = list[Episode](), list[Marks](), 0
        self._map: mapped.MapWriter | None = None
        self._no_map: OSError | None = None
        with self._mapping():
            self._map = mapped.MapWriter(folder / _MAP)

    def add(self, episode: Episode) -> None:
        """Add an episode; a shard that is full is written."""
        self.counts.add(episode)
        form = Canonical.of(episode)
        self._content.add(form)
        self._waiting.append(episode)
        self._marks.append(form.marks())
        waiting_bytes = self._content.num_bytes - self._flushed_bytes
        if len(self._waiting) == self._most or waiting_bytes > _SHARD_BYTES:
            self._flush()

    def finish(self) -> dict[str, Any]:
        """Write the last shard and the metadata, which are returned."""
        if self._waiting:
            self._flush()
        metadata = {
            "format": FORMAT,
            "version": VERSION,
            "env_ids": self.counts.env_ids,
            "tokenizer_fingerprint": self._fingerprint,
            "counts": self.counts.stats(),
            "provenance": self.provenance,
            "content_hash": self._content.hexdigest(),
            "shards": self._shards,
        }
        text = json.dumps(metadata, indent=2, allow_nan=False)
        (self._folder / METADATA).write_text(text + "\n", encoding="utf-8")
        with self._mapping():
            if self._map is not None:
                self._map.close()
                self._map.name(map_key(metadata))
        if self._no_map is not None:
            _log.warning("a buffer is written without its mapped file (%s); who opens it first makes it", self._no_map)
        return metadata

    @contextmanager
    def _mapping(self) -> Iterator[None]:
        """Go on without a mapped file where there is no room for it: who opens the buffer makes it."""
        try:
            yield
        except OSError as error:
            self._map, self._no_map = None, error
            with suppress(OSError):
                (self._folder / _MAP).unlink()

    def _flush(self) -> None:
        batches = [
            to_batch(self._waiting[start : start + MAP_ROWS], self._marks[start : start + MAP_ROWS])
            for start in range(0, len(self._waiting), MAP_ROWS)
        ]
        with self._mapping():
            for batch in batches:
                if self._map is not None:
                    self._map.add(batch)
        file = self._folder / f"part-{len(self._shards):05d}.parquet"
        pq.write_table(_to_table(batches), file, compression="zstd", use_dictionary=_REPEATING)
        self._shards.append({"file": file.name, "rows": len(self._waiting), "sha256": sha256(file)})
        self._waiting, self._marks, self._flushed_bytes = [], [], self._content.num_bytes


def _to_table(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Turn rows as they are mapped into those of a shard."""
    rows = pa.Table.from_batches(batches).combine_chunks()
    columns = {name: rows[name].combine_chunks() for name in SCHEMA.names}
    spans = columns["action_spans"]
    numbers = as_numpy(spans.values).reshape(-1, len(SPAN)).T
    rows_of_spans = pa.StructArray.from_arrays([pa.array(column) for column in numbers], SPAN)
    offsets = pa.array(as_numpy(spans.offsets) // len(SPAN), pa.int32())
    columns["action_spans"] = pa.ListArray.from_arrays(offsets, rows_of_spans, mask=spans.is_null())
    return pa.table({name: column.cast(SCHEMA.field(name).type) for name, column in columns.items()}, schema=SCHEMA)


def _read_present(target: Path) -> dict[str, Any] | None:
    """Return the metadata of the buffer that is to be replaced; None: there is none. Refuse what is no buffer."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    try:
        return read_metadata(target)
    except ValueError as error:
        raise ValueError(
            f"{target}: not replaced, for it holds something else than a buffer that this release "
            "reads; choose another folder"
        ) from error


def _entries_to_keep(target: Path, before: Mapping[str, Any] | None, content_hash: str) -> list[Path]:
    """List what else lies in a folder that is replaced."""
    if before is None:
        return []
    ours = {METADATA, *(shard["file"] for shard in before["shards"])}
    same = before["content_hash"] == content_hash
    return [
        entry
        for entry in target.iterdir()
        if entry.name not in ours
        and not is_temporary(entry)
        and not entry.match(mapped.PATTERN)
        and (same or not entry.match("ref-*.parquet"))
    ]
