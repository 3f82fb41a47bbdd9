"""Rows of a data file, read as a stream.

Knows: JSON lines, JSON arrays, CSV, Parquet, Arrow, what packs them, and what a broken file looks like.
Does not know: which files to read, what the fields mean.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

Row = Mapping[str, Any]
Rows = Iterator[tuple[str, Row]]

_CHUNK = 1 << 20
_BATCH = 256
_MAX_ROW = 1 << 26
"""Bytes or characters of one row: what is longer is no row of text."""

_ARROW_FILE = b"ARROW1"
_LFS_POINTER = b"version https://git-lfs"
_MAGIC = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ": ".xz", b"\x28\xb5\x2f\xfd": ".zst", b"PAR1": ".parquet"}


def _unpack_zst(packed: BinaryIO) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(packed, mode="r"), "zstd")


_UNPACK: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda packed: gzip.GzipFile(fileobj=packed),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _unpack_zst,
}


class Allowance:
    """How many bytes files may unpack to, all together."""

    def __init__(self, limit: int) -> None:
        """Allow ``limit`` bytes."""
        self.limit, self.used = limit, 0

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return max(0, self.limit - self.used)

    def take(self, count: int, name: str) -> None:
        """Count bytes that a file unpacked to.

        Raises:
            ValueError: more than the limit.
        """
        self.look_ahead(count, name)
        self.used += count

    def look_ahead(self, count: int, name: str) -> None:
        """Count nothing, but refuse what a file says it unpacks to.

        Raises:
            ValueError: more than the limit.
        """
        if count > self.left:
            raise ValueError(
                f"{name}: unpacks to more than {self.limit:,} bytes; if it is what you think it is, "
                "raise max_unpacked_bytes"
            )


def data_stem(file: Path) -> str | None:
    """Return the name of a data file without its suffixes; None if it is of no kind that is read."""
    stem, kind, _ = _kind(file.name)
    return stem if kind else None


def rows(file: Path, digest: hashlib._Hash, allowance: Allowance) -> Rows:
    """Yield the rows of a file, each with the place where it stands ("line 3", "row 3"), counted from 1.

    Args:
        file: of a kind that ``data_stem`` knows.
        digest: is given the bytes of the file as they lie there.
        allowance: counts what is unpacked.

    Raises:
        ValueError: a file or a row that cannot be read; says where.
    """
    _, kind, packing = _kind(file.name)
    with open(file, "rb") as raw:
        if raw.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise ValueError(f"{file}: a Git LFS pointer and not the data; run `git lfs pull` in the repository")
        raw.seek(0)
        hashed = _Hashed(raw, digest)
        stream: Any = io.BufferedReader(hashed, _CHUNK)
        if packing:
            stream = io.BufferedReader(_Unpacked(_UNPACK[packing](stream), str(file), packing, allowance), _CHUNK)
        if kind in _TEXT:
            yield from _TEXT[kind](str(file), stream)
        else:
            yield from _columnar_rows(str(file), kind, stream, packing, allowance)
        while hashed.read(_CHUNK):  # what lies behind the end of the data is part of the file
            pass


def _kind(name: str) -> tuple[str, str, str]:
    """Stem, kind ("" for one that is not read) and packing ("" for none) of a file name."""
    stem, packing = name, ""
    for suffix in _UNPACK:
        if name.lower().endswith(suffix):
            stem, packing = name[: -len(suffix)], suffix
    for kind in (*_TEXT, ".parquet", ".arrow"):
        if stem.lower().endswith(kind) and len(stem) > len(kind):
            return stem[: -len(kind)], kind, packing
    return name, "", packing


class _Hashed(io.RawIOBase):
    """A file whose bytes go through a digest as they are read."""

    def __init__(self, raw: BinaryIO, digest: hashlib._Hash) -> None:
        self._raw, self._digest = raw, digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._raw.read(len(buffer))
        self._digest.update(content)
        buffer[: len(content)] = content
        return len(content)


class _Unpacked(io.RawIOBase):
    """What a packed file unpacks to, counted."""

    def __init__(self, inner: Any, name: str, packing: str, allowance: Allowance) -> None:
        self._inner, self._name, self._packing, self._allowance = inner, name, packing, allowance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._inner.read(len(buffer))
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise ValueError(f"{self._name}: not a whole {self._packing[1:]} file ({error}); get it again") from None
        self._allowance.take(len(content), self._name)
        buffer[: len(content)] = content
        return len(content)


def _json_lines(name: str, stream: BinaryIO) -> Rows:
    for number, line in enumerate(iter(lambda: stream.readline(_MAX_ROW + 1), b""), start=1):
        where = f"line {number}"
        if len(line) > _MAX_ROW:
            raise ValueError(f"{name}, {where}: longer than {_MAX_ROW:,} bytes, which is no row of text")
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise _no_utf8(f"{name}, {where}", error, line) from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name}, {where}: not JSON ({error})") from None
        yield where, _require_object(f"{name}, {where}", row)


def _json_values(name: str, stream: BinaryIO) -> Rows:
    """Objects of an array, or one after another; never more of the text in memory than a row and a chunk."""
    utf8, decoder = codecs.getincrementaldecoder("utf-8-sig")(), json.JSONDecoder()
    text, at, number, ended, array = "", 0, 0, False, None
    while True:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at < len(text) and array is None:
            array = text[at] == "["
            at += array
        elif array and number and text[at : at + 1] == ",":
            at += 1
        elif array and text[at : at + 1] == "]":
            array, at = False, at + 1
        elif at < len(text) and (found := _value(decoder, text, at, ended, f"{name}, row {number + 1}")):
            value, at = found
            number += 1
            yield f"row {number}", _require_object(f"{name}, row {number}", value)
        elif not ended:
            chunk = stream.read(max(_CHUNK, len(text) - at))
            ended = not chunk
            try:
                text, at = text[at:] + utf8.decode(chunk, final=ended), 0
            except UnicodeDecodeError as error:
                raise _no_utf8(f"{name}, after row {number}", error, chunk) from None
        elif array:
            raise ValueError(f"{name}, after row {number}: the array is not closed; the file is cut off")
        else:
            return


_SPACE = re.compile(r"[ \t\r\n]*")


def _value(decoder: json.JSONDecoder, text: str, at: int, ended: bool, where: str) -> tuple[Any, int] | None:
    """A JSON value and where it ends; None if more of the text is needed."""
    try:
        return decoder.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        if ended or len(text) - at > _MAX_ROW or isinstance(error, RecursionError):
            raise ValueError(f"{where}: not JSON ({error})") from None
    return None


def _csv_rows(name: str, stream: BinaryIO) -> Rows:
    number, previous = 0, csv.field_size_limit(_MAX_ROW)
    try:
        reader = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), strict=True)
        header = next(reader, [])
        if len({*header}) < len(header):
            raise ValueError(f"{name}, line 1: a column is named twice ({', '.join(header)})")
        for cells in reader:
            if not cells:
                continue
            number += 1
            if len(cells) != len(header):
                raise ValueError(
                    f"{name}, row {number} (line {reader.line_num}): {len(cells)} cells, but line 1 names "
                    f"{len(header)} columns ({', '.join(header)})"
                )
            yield f"row {number}", dict(zip(header, cells, strict=True))
    except UnicodeDecodeError as error:
        raise _no_utf8(f"{name}, after row {number}", error, error.object) from None
    except csv.Error as error:
        raise ValueError(f"{name}, after row {number}: not CSV ({error})") from None
    finally:
        csv.field_size_limit(previous)


_TEXT: dict[str, Callable[[str, BinaryIO], Rows]] = {
    **dict.fromkeys((".jsonl", ".ndjson", ".jsonlines"), _json_lines),
    ".json": _json_values,
    ".csv": _csv_rows,
}


def _columnar_rows(name: str, kind: str, stream: BinaryIO, packing: str, allowance: Allowance) -> Rows:
    """Rows of a Parquet or Arrow file, which is read from its end and so lies unpacked on disk."""
    import pyarrow

    with tempfile.TemporaryFile() if packing else open(name, "rb") as file:
        if packing:
            shutil.copyfileobj(stream, file, _CHUNK)
        else:
            while stream.read(_CHUNK):  # for the checksum
                pass
        file.seek(0)
        number = 0
        try:
            for batch in _parquet_batches(file, name, allowance) if kind == ".parquet" else _arrow_batches(file):
                batch.validate(full=True)  # pyarrow itself believes what an Arrow file says
                allowance.take(batch.nbytes, name)
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{name}: not a whole {kind[1:]} file ({error}); get it again") from None


def _parquet_batches(file: Any, name: str, allowance: Allowance) -> Iterator[Any]:
    """Batches of as many rows as fit into what is allowed; a file says its sizes first."""
    import pyarrow.parquet

    parquet = pyarrow.parquet.ParquetFile(file, pre_buffer=False)
    said = parquet.metadata
    groups = [said.row_group(number) for number in range(said.num_row_groups)]
    sizes = [[group.column(n).total_uncompressed_size for n in range(group.num_columns)] for group in groups]
    allowance.look_ahead(sum(map(sum, sizes)), name)
    # A column may repeat one long text: no row is longer than all that its columns hold.
    fitting = allowance.left // max(1, max(map(sum, sizes), default=1))
    # In this thread alone: one of pyarrow's that lets go of Python's memory while Python ends aborts the process.
    yield from parquet.iter_batches(batch_size=max(1, min(_BATCH, fitting)), use_threads=False)


def _arrow_batches(file: Any) -> Iterator[Any]:
    import pyarrow

    if file.read(len(_ARROW_FILE)) == _ARROW_FILE:  # a stream between marks; pyarrow's reader of files starts threads
        file.seek(-len(_ARROW_FILE), os.SEEK_END)
        if file.read() != _ARROW_FILE:
            raise OSError("its end is missing")
        file.seek(8)
    else:
        file.seek(0)
    yield from pyarrow.ipc.open_stream(file, options=pyarrow.ipc.IpcReadOptions(use_threads=False))


def _require_object(where: str, row: Any) -> Row:
    if not isinstance(row, dict):
        hint = "; an array of rows belongs into a file named .json" if isinstance(row, list) else ""
        if hint and ", row " in where:
            hint = '; a row is an object: save the rows as one array, or each list of messages as {"messages": [...]}'
        raise ValueError(f"{where}: not a JSON object but {type(row).__name__}{hint}")
    return row


def _no_utf8(where: str, error: UnicodeDecodeError, content: bytes) -> ValueError:
    packed = next((suffix for magic, suffix in _MAGIC.items() if content.startswith(magic)), None)
    what = f"this looks like a {packed} file: name it so" if packed else "save the file as UTF-8"
    return ValueError(f"{where}: not UTF-8 text (byte 0x{error.object[error.start]:02x}: {error.reason}); {what}")
