"""Rows of a data file, read as a stream.

Knows: JSON lines, JSON arrays, CSV, what packs files, and what a broken file looks like.
Does not know: which files to read, Parquet and Arrow (``data_columns``), what the fields mean.
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
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from oreo_envs.limits import Allowance, Limits, TooDeepError, raised, read_json, require_shallow

Row = Mapping[str, Any]
Rows = Iterator[tuple[str, Row]]

_CHUNK = 1 << 20
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


def data_stem(file: Path) -> str | None:
    """Return the name of a data file without its suffixes; None if it is of no kind that is read."""
    stem, kind, _ = _kind(file.name)
    return stem if kind else None


def rows(file: Path, digest: hashlib._Hash, allowance: Allowance) -> Rows:
    """Yield the rows of a file, each with the place where it stands ("line 3", "row 3"), counted from 1.

    Args:
        file: of a kind that ``data_stem`` knows.
        digest: is given the bytes of the file as they lie there.
        allowance: counts what is unpacked, and says how much is read of a row, and how deep.

    Raises:
        ValueError: a file or a row that cannot be read; says where.
    """
    _, kind, packing = _kind(file.name)
    with open(file, "rb") as raw:
        if raw.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise ValueError(f"{file}: a Git LFS pointer and not the data; run `git lfs pull` in the repository")
        raw.seek(0)
        allowance.begin(str(file), os.fstat(raw.fileno()).st_size)
        hashed = _Hashed(raw, digest)
        stream: Any = io.BufferedReader(hashed, _CHUNK)
        if packing:
            stream = unpacked(stream, str(file), packing, allowance)
        if kind in _TEXT:
            yield from _TEXT[kind](str(file), stream, allowance.limits)
        else:
            from oreo_envs.data_columns import columnar_rows

            yield from columnar_rows(str(file), kind, stream, bool(packing), allowance)
        while hashed.read(_CHUNK):  # what lies behind the end of the data is part of the file
            pass


def packing_of(begin: bytes) -> str:
    """Return how a file is packed that begins so, as the suffix of its name; "" for no way that is known."""
    found = next((suffix for magic, suffix in _MAGIC.items() if begin.startswith(magic)), "")
    return found if found in _UNPACK else ""


def unpacked(stream: BinaryIO, name: str, packing: str, allowance: Allowance) -> io.BufferedReader:
    """Return a stream of what a packed one unpacks to, never more than some of it in memory.

    Args:
        stream: packed.
        name: of the file, for errors.
        packing: ".gz", ".bz2", ".xz" or ".zst".
        allowance: counts what is unpacked.

    Raises:
        ValueError: while it is read: it is damaged, or unpacks to too much.
    """
    return io.BufferedReader(_Unpacked(_UNPACK[packing](stream), name, packing, allowance), _CHUNK)


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
        except MemoryError:
            raise ValueError(f"{self._name}: asks for more memory than there is to unpack it") from None
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise ValueError(f"{self._name}: not a whole {self._packing[1:]} file ({error}); get it again") from None
        self._allowance.take(len(content))
        buffer[: len(content)] = content
        return len(content)


def _json_lines(name: str, stream: BinaryIO, limits: Limits) -> Rows:
    for number, line in enumerate(iter(lambda: stream.readline(limits.part_bytes + 1), b""), start=1):
        where = f"line {number}"
        if len(line) > limits.part_bytes:
            raise _too_long(f"{name}, {where}", limits)
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue
        try:
            row = read_json(line.decode("utf-8"), limits.depth)
        except UnicodeDecodeError as error:
            raise _no_utf8(f"{name}, {where}", error, line) from None
        except TooDeepError as error:
            raise ValueError(f"{name}, {where}: {error}") from None
        except ValueError as error:
            raise ValueError(f"{name}, {where}: not JSON ({error})") from None
        yield where, _require_object(f"{name}, {where}", row)


def _too_long(where: str, limits: Limits) -> ValueError:
    return ValueError(
        f"{where}: longer than {limits.part_bytes:,} bytes, which is no row of text; {raised('part_bytes')}"
    )


def _json_values(name: str, stream: BinaryIO, limits: Limits) -> Rows:
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
        elif at < len(text) and (found := _value(decoder, text, at, ended, f"{name}, row {number + 1}", limits)):
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


def _value(
    decoder: json.JSONDecoder, text: str, at: int, ended: bool, where: str, limits: Limits
) -> tuple[Any, int] | None:
    """A JSON value and where it ends; None if more of the text is needed."""
    try:
        value, end = decoder.raw_decode(text, at)
    except RecursionError:
        raise ValueError(f"{where}: {TooDeepError(limits.depth)}") from None
    except ValueError as error:
        if ended:
            raise ValueError(f"{where}: not JSON ({error})") from None
        if len(text) - at > limits.part_bytes:
            raise _too_long(where, limits) from None
        return None
    if end - at > limits.part_bytes:
        raise _too_long(where, limits)
    if text.count("[", at, end) + text.count("{", at, end) > limits.depth:
        try:
            require_shallow(value, limits.depth)
        except TooDeepError as error:
            raise ValueError(f"{where}: {error}") from None
    return value, end


def _csv_lines(name: str, stream: BinaryIO, limits: Limits) -> Iterator[str]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    for number, line in enumerate(iter(lambda: text.readline(limits.part_bytes + 1), ""), start=1):
        if len(line) > limits.part_bytes:
            raise _too_long(f"{name}, line {number}", limits)
        yield line


def _csv_rows(name: str, stream: BinaryIO, limits: Limits) -> Rows:
    number, previous = 0, csv.field_size_limit(limits.part_bytes)
    try:
        reader = csv.reader(_csv_lines(name, stream, limits), strict=True)
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


_TEXT: dict[str, Callable[[str, BinaryIO, Limits], Rows]] = {
    **dict.fromkeys((".jsonl", ".ndjson", ".jsonlines"), _json_lines),
    ".json": _json_values,
    ".csv": _csv_rows,
}


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
