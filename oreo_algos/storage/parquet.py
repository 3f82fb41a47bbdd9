"""Episodes on disk: a folder with `metadata.json` and Parquet shards.

Knows: the columns, the metadata, checksums, and what to say when a folder is damaged, foreign or hostile.
Does not know: how one is written (`writing`), selections of episodes (`buffer`), tokenizers, models.
"""

# Row i of a shard is one episode; a shard is `part-00000.parquet`, `part-00001.parquet`, ...

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from oreo_algos.episode import Episode
from oreo_algos.storage import mapped
from oreo_algos.storage.atomic import recover_folder
from oreo_algos.storage.content import Canonical, ContentHash, Marks
from oreo_algos.storage.counts import Counts
from oreo_algos.storage.mapped import map_episodes
from oreo_algos.storage.rows import to_batch
from oreo_algos.storage.stored import StoredEpisodes

FORMAT = "oreo-episodes"
VERSION = 1
METADATA = "metadata.json"

SPAN = ("message", "start", "end")
SCHEMA = pa.schema(
    [
        ("task_id", pa.string()),
        ("env_id", pa.string()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("action_spans", pa.list_(pa.struct([(name, pa.int32()) for name in SPAN]))),
        ("rewards", pa.list_(pa.float32())),
        ("terminated", pa.bool_()),
        ("truncated", pa.bool_()),
        ("info", pa.string()),  # JSON
        ("tokens", pa.list_(pa.int32())),
        ("step_id", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.bool_())),
        ("behavior_logprobs", pa.list_(pa.float32())),
        ("success", pa.bool_()),
    ]
)
_LATER = {"success"}  # columns that buffers of earlier releases do not have; an episode settles what they would say
_KINDS = {str: "text", dict: "an object", list: "a list"}
_SHARD = {"file": str, "rows": int, "sha256": str}
MAX_SHARD_BYTES = 4 << 30
"""What a shard may unpack to where nobody says otherwise; we write less than half of it, or one episode."""

LIMIT = "OREO_MAX_SHARD_BYTES"
"""The environment variable that says otherwise."""

_MAX_METADATA_BYTES = 64 << 20
_MAP_VERSION = 3  # of what is mapped, and of how its episodes were checked
_KEYS = {"tokenizer_fingerprint", "provenance", "content_hash", "shards"}
_FORMS = {
    **{"tokenizer_fingerprint": str, "provenance": dict, "content_hash": str, "shards": list},
    **{"counts": dict, "env_ids": list},
}
MAP_ROWS = 1024
"""Episodes that are read, checked and mapped at once."""

_WIDTH = 4  # bytes a number, and its place
_ARRAYS = ("rewards", "tokens", "step_id", "loss_mask", "behavior_logprobs")


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check `metadata.json`, after a kill that of the last whole folder.

    Raises:
        FileNotFoundError: nothing is at `path`.
        ValueError: it is no folder of episodes, or of another format version.
    """
    folder = recover_folder(path)
    if not folder.exists():
        raise FileNotFoundError(
            f"{folder}: there is no buffer here; collect or import episodes first (`oreo collect`, `oreo data import`)"
        )
    file = folder / METADATA
    if not file.is_file():
        raise ValueError(f"{folder}: not a buffer, it has no {METADATA}; name a folder of `.save`")
    _require_inside(file)
    if file.stat().st_size > _MAX_METADATA_BYTES:
        raise ValueError(f"{file}: {file.stat().st_size} bytes, more than the metadata of any buffer")
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not valid JSON ({error}); save the buffer again") from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ValueError(f"{file}: not the metadata of a buffer, expected format {FORMAT!r}")
    if metadata.get("version") != VERSION:
        raise ValueError(
            f"{file}: format version {metadata.get('version')!r}, this release reads {VERSION}; "
            "install the release that wrote it, or collect again"
        )
    missing = _KEYS - metadata.keys()
    if missing:
        raise ValueError(f"{file}: {', '.join(sorted(missing))} missing; save the buffer again")
    _check_metadata(file, metadata)
    return metadata


def _check_metadata(file: Path, metadata: Mapping[str, Any]) -> None:
    """Check the form of what the metadata says, and that its shards are files of this folder, each once."""
    for name, kind in _FORMS.items():
        if name in metadata and not isinstance(metadata[name], kind):
            raise ValueError(
                f"{file}: {name} is {metadata[name]!r:.80}, expected {_KINDS[kind]}; save the buffer again"
            )
    seen = set()
    for number, shard in enumerate(metadata["shards"]):
        if (
            not isinstance(shard, dict)
            or not all(isinstance(shard.get(key), kind) for key, kind in _SHARD.items())
            or isinstance(shard["rows"], bool)
            or shard["rows"] < 1
            or not re.fullmatch(r"part-\d+\.parquet", shard["file"])
        ):
            raise ValueError(
                f"{file}: shard {number} is {shard!r}, expected a file part-<number>.parquet of this folder with its "
                "rows and sha256; copy the whole folder again"
            )
        if shard["file"] in seen:
            raise ValueError(f"{file}: shard {number}, {shard['file']}, is listed twice; copy the whole folder again")
        seen.add(shard["file"])


def verify_episodes(folder: Path, metadata: Mapping[str, Any], mapped_episodes: Sequence[Episode]) -> None:
    """Read every shard again, and hold every row against what is mapped of it.

    Raises:
        ValueError: as of `read_episodes`, or what is mapped is something else; says where.
    """
    rows = (episode for episodes, _ in _checked_episodes(folder, metadata, _limit()) for episode in episodes)
    for number, (one, other) in enumerate(zip(rows, mapped_episodes, strict=True)):
        if not one.equals(other):
            raise ValueError(
                f"{folder}: what is mapped of episode {number} is not what stands in its shard; remove {mapped.PATTERN}"
            )


def _require_inside(file: Path) -> None:
    """Refuse a link that leads out of its folder."""
    if not file.resolve().is_relative_to(file.parent.resolve()):
        raise ValueError(
            f"{file}: a link to {file.resolve()}, which is not in this folder; copy the files themselves (cp -rL)"
        )


def read_episodes(
    path: str | os.PathLike[str], metadata: Mapping[str, Any], *, max_shard_bytes: int | None = None
) -> StoredEpisodes:
    """Open the episodes of every shard that `metadata` lists, each checked against its checksum.

    Where the file that is mapped (`mapped`) is not there, every episode is checked and it is made.

    Args:
        path: the folder.
        metadata: of it, see `read_metadata`.
        max_shard_bytes: what a shard may unpack to; None: what `LIMIT` says, else `MAX_SHARD_BYTES`.

    Raises:
        FileNotFoundError: a shard is missing.
        ValueError: a shard is truncated, foreign, changed since it was written, unlisted, or unpacks to too much; or
            the episodes are others than the metadata says.
    """
    limit = _limit() if max_shard_bytes is None else max_shard_bytes
    folder = recover_folder(path)
    listed = [shard["file"] for shard in metadata["shards"]]
    strays = sorted({file.name for file in folder.glob("part-*.parquet")} - set(listed))
    if strays:
        raise ValueError(
            f"{folder / strays[0]}: a shard that {METADATA} does not list; remove it, or join the "
            "two buffers with `EpisodeBuffer.concatenate`"
        )
    for shard in metadata["shards"]:
        _check_shard(folder / shard["file"], shard)
    found = map_episodes(folder, map_key(metadata), lambda: _read_batches(folder, metadata, limit))
    if len(found) != sum(shard["rows"] for shard in metadata["shards"]):
        raise ValueError(
            f"{folder}: its mapped file holds {len(found)} episodes, and the shards others; remove {mapped.PATTERN}"
        )
    return found


def map_key(metadata: Mapping[str, Any]) -> str:
    """Return what tells the mapped file of these shards from others."""
    told = [metadata.get("env_ids"), metadata.get("counts")]  # which were checked when the file was made
    facts = [_MAP_VERSION, metadata["content_hash"], [shard["sha256"] for shard in metadata["shards"]], told]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _limit() -> int:
    said = os.environ.get(LIMIT, "")
    if said and not (said.isascii() and said.isdigit() and int(said)):
        raise ValueError(f"{LIMIT} must be a number of bytes, got {said!r}")
    return int(said) if said else MAX_SHARD_BYTES


def _read_batches(folder: Path, metadata: Mapping[str, Any], limit: int) -> Iterator[pa.RecordBatch]:
    return (to_batch(episodes, marks) for episodes, marks in _checked_episodes(folder, metadata, limit))


def _checked_episodes(
    folder: Path, metadata: Mapping[str, Any], limit: int
) -> Iterator[tuple[list[Episode], list[Marks]]]:
    """Read shard after shard, check every episode, and at the end that they are those of the metadata.

    Raises:
        ValueError: as of `read_episodes`; the message names the file and, where there is one, the row.
    """
    content, counts = ContentHash(), Counts()
    for shard in metadata["shards"]:
        _check_shard(folder / shard["file"], shard)  # perhaps long after the buffer was opened
        for episodes in read_shard(folder / shard["file"], shard["rows"], limit):
            marks = []
            for episode in episodes:
                form = Canonical.of(episode)
                content.add(form)
                marks.append(form.marks())
                counts.add(episode)
            yield episodes, marks
    if content.hexdigest() != metadata["content_hash"]:
        raise ValueError(
            f"{folder / METADATA}: its content_hash is not that of the episodes in the shards; copy the whole folder "
            "again, or change episodes in Python and save them"
        )
    found = {"env_ids": counts.env_ids, **counts.stats()}
    said = {"env_ids": metadata.get("env_ids", counts.env_ids), **metadata.get("counts", {})}
    for name, count in found.items():
        if name in said and said[name] != count:
            raise ValueError(
                f"{folder / METADATA}: it says {name} {said[name]!r}, and the shards have {count}; copy the whole "
                "folder again"
            )


def _check_shard(file: Path, shard: Mapping[str, Any]) -> None:
    """Check that a shard is there, is ours, and is as it was written; a process reads it once for that."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: this shard of the buffer is missing; copy the whole folder again")
    _require_inside(file)
    state = file.stat()
    seen = (shard["sha256"], state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    if _checked.get(file) == seen:
        return
    try:
        names = pq.read_schema(file).names
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{file}: truncated, or not a Parquet file ({error}); copy the folder again or collect again"
        ) from error
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{file}: it has the column {twice[0]} twice, which no buffer does; copy the folder again")
    missing = [name for name in SCHEMA.names if name not in names and name not in _LATER]
    if missing:
        raise ValueError(
            f"{file}: a Parquet file of something else, without the columns {', '.join(missing)}; "
            "import other data with `oreo data import`"
        )
    if sha256(file) != shard["sha256"]:
        raise ValueError(
            f"{file}: changed since it was written (its sha256 is not the one in {METADATA}); "
            "copy the folder again, or change episodes in Python and save them"
        )
    _checked[file] = seen


_checked: dict[Path, tuple[str | int, ...]] = {}
"""What is known of the shards that this process has found to be as they were written, until somebody writes to them."""


def read_shard(file: Path, rows: int, limit: int) -> Iterator[list[Episode]]:
    """Read the episodes of a shard, of which there must be `rows`, some at a time."""
    try:
        with pq.ParquetFile(file) as shard:
            found = shard.metadata.num_rows
            if found != rows:
                raise ValueError(f"{file}: {found} episodes, and {METADATA} says {rows}; copy the whole folder again")
            schema = pa.schema([field for field in SCHEMA if field.name in shard.schema_arrow.names])
            _require_bounded(file, shard, schema.names, limit)
            first = 0
            for batch in shard.iter_batches(MAP_ROWS, columns=schema.names):
                table = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
                table.validate(full=True)
                yield _to_episodes(table, file, first)
                first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file}: its columns are not those of episodes ({error}); collect or import again") from error


def _require_bounded(file: Path, shard: pq.ParquetFile, names: list[str], limit: int) -> None:
    """Refuse a shard that unpacks to more than `limit` bytes, before it does.

    What pages and numbers take stands in the file; a text may be repeated by its number, so texts are read once as
    numbers of a dictionary and counted.
    """
    groups = [shard.metadata.row_group(i) for i in range(shard.metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    ours = [column for column in columns if column.path_in_schema.split(".")[0] in names]
    texts = sorted({column.path_in_schema for column in ours if column.physical_type == "BYTE_ARRAY"})
    size = sum(max(column.total_uncompressed_size, column.num_values * _WIDTH) for column in ours)
    if size <= limit and texts:
        with pq.ParquetFile(file, read_dictionary=texts) as encoded:
            for batch in encoded.iter_batches(MAP_ROWS, columns=texts):
                size += sum(map(_text_bytes, batch.columns))
                if size > limit:
                    break
    if size > limit:
        raise ValueError(
            f"{file}: it unpacks to more than {limit:,} bytes, the most that is read of a shard; if you trust it, set "
            f"{LIMIT} to more, or give `max_shard_bytes` to `EpisodeBuffer.load`"
        )


def _text_bytes(column: pa.Array) -> int:
    """Return the bytes that the texts of a column take where each is written out."""
    if pa.types.is_dictionary(column.type):
        lengths = pc.binary_length(column.dictionary).to_numpy(zero_copy_only=False)
        return int(lengths[column.indices.drop_null().to_numpy()].sum())
    if pa.types.is_nested(column.type):
        return sum(map(_text_bytes, column.flatten() if pa.types.is_struct(column.type) else [column.flatten()]))
    return int(column.nbytes)


def _to_episodes(table: pa.Table, file: Path, first: int) -> list[Episode]:
    columns: dict[str, list[Any]] = {
        name: _to_numpy(table[name]) if name in _ARRAYS else table[name].to_pylist() for name in table.column_names
    }
    columns["info"] = [_info(text, file, row) for row, text in enumerate(columns["info"], first)]
    columns["action_spans"] = [
        None if spans is None else [span and [span[name] for name in SPAN] for span in spans]
        for spans in columns["action_spans"]
    ]
    episodes = []
    for number, row in enumerate(zip(*columns.values(), strict=True), first):
        try:
            episodes.append(Episode(**dict(zip(columns, row, strict=True))))
        except (ValueError, TypeError) as error:  # a null is no object that a field could read
            raise ValueError(f"{file}, row {number}: {error}") from error
    return episodes


def _info(text: str | None, file: Path, row: int) -> Any:
    try:
        return json.loads(text or "")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}, row {row}: info is no JSON object ({error}); collect or import again") from error


def _to_numpy(column: pa.ChunkedArray) -> list[NDArray[Any] | None]:
    """Turn a list column into one array a row; slices of one buffer, not Python numbers."""
    rows: list[NDArray[Any] | None] = []
    for chunk in column.chunks:
        values = chunk.values.to_numpy(zero_copy_only=False)
        bounds = itertools.pairwise(chunk.offsets.to_pylist())
        present = chunk.is_valid().to_pylist()
        rows += [values[start:end] if valid else None for (start, end), valid in zip(bounds, present, strict=True)]
    return rows


def sha256(file: Path) -> str:
    """Return the checksum of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
