"""Episodes on disk: a folder with `metadata.json` and Parquet shards.

Knows: the columns, the metadata, checksums, and what to say when a folder is damaged or foreign.
Does not know: selections or statistics of episodes (`buffer`), tokenizers, models.
"""

# Row i of a shard is one episode; a shard is `part-00000.parquet`, `part-00001.parquet`, ...

import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from oreo_algos.episode import Episode
from oreo_algos.storage import mapped
from oreo_algos.storage.atomic import is_temporary, recover_folder, replace_folder
from oreo_algos.storage.content import ContentHash
from oreo_algos.storage.mapped import map_episodes
from oreo_algos.storage.stored import StoredEpisodes, to_table

FORMAT = "oreo-episodes"
VERSION = 1
METADATA = "metadata.json"

_SPAN = ("message", "start", "end")
SCHEMA = pa.schema(
    [
        ("task_id", pa.string()),
        ("env_id", pa.string()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("action_spans", pa.list_(pa.struct([(name, pa.int32()) for name in _SPAN]))),
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
_MAP_VERSION = 2  # of what is mapped, and of how its episodes were checked
_KEYS = {"tokenizer_fingerprint", "provenance", "content_hash", "shards"}
_ARRAYS = ("rewards", "tokens", "step_id", "loss_mask", "behavior_logprobs")


def write_episodes(
    path: str | os.PathLike[str],
    episodes: Sequence[Episode],
    metadata: Mapping[str, Any],
    *,
    episodes_per_shard: int,
) -> None:
    """Write a folder of episodes, or replace one, whole or not at all.

    Other files in a folder that is replaced stay, but side files `ref-*.parquet` only when
    `metadata["content_hash"]` is the one they were computed for, and files that were never finished do not.

    Args:
        path: a new or empty folder, or one that an earlier call wrote.
        episodes: what to write, in this order.
        metadata: joins the format, its version and the list of shards in `metadata.json`.
        episodes_per_shard: rows of each Parquet file but the last, >= 1.

    Raises:
        ValueError: there is nothing to save, `episodes_per_shard` is below 1, or `path` holds
            something else.
    """
    if not episodes:
        raise ValueError(f"{path}: nothing to save, the buffer has no episode")
    if episodes_per_shard < 1:
        raise ValueError(f"episodes_per_shard must be >= 1, got {episodes_per_shard}")
    target = recover_folder(path)
    kept = _files_to_keep(target, metadata)
    with replace_folder(target) as folder:
        shards: list[dict[str, str | int]] = []
        for start in range(0, len(episodes), episodes_per_shard):
            file = folder / f"part-{len(shards):05d}.parquet"
            rows = episodes[start : start + episodes_per_shard]
            pq.write_table(_to_table(rows), file, compression="zstd")
            shards.append({"file": file.name, "rows": len(rows), "sha256": _sha256(file)})
        record = {"format": FORMAT, "version": VERSION, **metadata, "shards": shards}
        text = json.dumps(record, indent=2, allow_nan=False)
        (folder / METADATA).write_text(text + "\n", encoding="utf-8")
        for entry in kept:
            (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, folder / entry.name)


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
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
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
    for name, kind in (("tokenizer_fingerprint", str), ("provenance", dict), ("content_hash", str), ("shards", list)):
        if not isinstance(metadata[name], kind):
            raise ValueError(f"{file}: {name} is {metadata[name]!r}, expected {_KINDS[kind]}; save the buffer again")
    seen = set()
    for number, shard in enumerate(metadata["shards"]):
        if (
            not isinstance(shard, dict)
            or not all(isinstance(shard.get(key), kind) for key, kind in _SHARD.items())
            or not re.fullmatch(r"part-\d+\.parquet", shard["file"])
        ):
            raise ValueError(
                f"{file}: shard {number} is {shard!r}, expected a file part-<number>.parquet of this folder with its "
                "rows and sha256; copy the whole folder again"
            )
        if shard["file"] in seen:
            raise ValueError(f"{file}: shard {number}, {shard['file']}, is listed twice; copy the whole folder again")
        seen.add(shard["file"])


def read_episodes(path: str | os.PathLike[str], metadata: Mapping[str, Any]) -> StoredEpisodes:
    """Open the episodes of every shard that `metadata` lists, each checked against its checksum.

    The first time every episode is checked and the file is made that is mapped from then on (`mapped`).

    Raises:
        FileNotFoundError: a shard is missing.
        ValueError: a shard is truncated, foreign, changed since it was written, or unlisted; or the episodes are
            others than the metadata says.
    """
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
    facts = [_MAP_VERSION, metadata["content_hash"], [shard["sha256"] for shard in metadata["shards"]]]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    return map_episodes(folder, key, lambda: _read_tables(folder, metadata))


def _read_tables(folder: Path, metadata: Mapping[str, Any]) -> Iterator[pa.Table]:
    """Read shard after shard, check every episode, and that they are those of the metadata."""
    content = ContentHash()
    for shard in metadata["shards"]:
        episodes = _read_shard(folder / shard["file"], shard["rows"])
        content.add(episodes)
        yield to_table(episodes)
    if content.hexdigest() != metadata["content_hash"]:
        raise ValueError(
            f"{folder / METADATA}: its content_hash is not that of the episodes in the shards; copy the whole folder "
            "again, or change episodes in Python and save them"
        )


def _files_to_keep(target: Path, metadata: Mapping[str, Any]) -> list[Path]:
    """List what else lies in the folder, and refuse to replace one that is no buffer."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return []
    try:
        present = read_metadata(target)
    except ValueError as error:
        raise ValueError(
            f"{target}: not replaced, for it holds something else than a buffer that this release "
            "reads; choose another folder"
        ) from error
    ours = {METADATA, *(shard["file"] for shard in present["shards"])}
    same = present["content_hash"] == metadata["content_hash"]
    return [
        entry
        for entry in target.iterdir()
        if entry.name not in ours
        and not is_temporary(entry)
        and not entry.match(mapped.PATTERN)
        and (same or not entry.match("ref-*.parquet"))
    ]


def _to_table(episodes: Sequence[Episode]) -> pa.Table:
    columns: dict[str, list[Any]] = {
        name: [getattr(episode, name) for episode in episodes]
        for name in SCHEMA.names
        if name not in ("action_spans", "info")
    }
    columns["action_spans"] = [
        None if spans is None else [dict(zip(_SPAN, row, strict=True)) for row in spans.tolist()]
        for spans in (episode.action_spans for episode in episodes)
    ]
    columns["info"] = [json.dumps(e.info, sort_keys=True, allow_nan=False) for e in episodes]
    return pa.table(columns, schema=SCHEMA)


def _check_shard(file: Path, shard: Mapping[str, Any]) -> None:
    """Check that a shard is there, is ours, and is as it was written."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: this shard of the buffer is missing; copy the whole folder again")
    try:
        names = pq.read_schema(file).names
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{file}: truncated, or not a Parquet file ({error}); copy the folder again or collect again"
        ) from error
    missing = [name for name in SCHEMA.names if name not in names and name not in _LATER]
    if missing:
        raise ValueError(
            f"{file}: a Parquet file of something else, without the columns {', '.join(missing)}; "
            "import other data with `oreo data import`"
        )
    if _sha256(file) != shard["sha256"]:
        raise ValueError(
            f"{file}: changed since it was written (its sha256 is not the one in {METADATA}); "
            "copy the folder again, or change episodes in Python and save them"
        )


def _read_shard(file: Path, rows: int) -> list[Episode]:
    """Read the episodes of a shard, of which there must be `rows`."""
    names = pq.read_schema(file).names
    schema = pa.schema([field for field in SCHEMA if field.name in names])
    try:
        table = pq.read_table(file, columns=schema.names).cast(schema)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file}: its columns are not those of episodes ({error}); collect or import again") from error
    if table.num_rows != rows:
        raise ValueError(f"{file}: {table.num_rows} episodes, and {METADATA} says {rows}; copy the whole folder again")
    return _to_episodes(table, file)


def _to_episodes(table: pa.Table, file: Path) -> list[Episode]:
    columns: dict[str, list[Any]] = {
        name: _to_numpy(table[name]) if name in _ARRAYS else table[name].to_pylist() for name in table.column_names
    }
    columns["info"] = [_info(text, file, row) for row, text in enumerate(columns["info"])]
    columns["action_spans"] = [
        None if spans is None else [span and [span[name] for name in _SPAN] for span in spans]
        for spans in columns["action_spans"]
    ]
    episodes = []
    for number, row in enumerate(zip(*columns.values(), strict=True)):
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


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
