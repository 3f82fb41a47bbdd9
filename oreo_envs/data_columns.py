"""Rows of Parquet and Arrow files, some at a time.

Knows: what columns unpack to, before they do and where each value is written out. Does not know: what packs a file.
A text that a column repeats by its number, or a list of nothing, weighs next to nothing in a file.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from oreo_envs.arrow_messages import unpacked_bytes
from oreo_envs.limits import Allowance, raised

_CHUNK = 1 << 20
_BATCH = 256
_MARK = b"ARROW1"


def columnar_rows(
    name: str, kind: str, stream: BinaryIO, packed: bool, allowance: Allowance
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a file, which is read from its end and so lies unpacked on disk.

    Args:
        name: of the file.
        kind: ".parquet" or ".arrow".
        stream: the file, unpacked; it is read to its end.
        packed: the file itself is another one.
        allowance: counts what the columns unpack to.

    Raises:
        ValueError: it is damaged, unpacks to too much, or has columns of a type that is not read; says where.
    """
    with tempfile.TemporaryFile() if packed else open(name, "rb") as file:
        if packed:
            shutil.copyfileobj(stream, file, _CHUNK)
        else:
            while stream.read(_CHUNK):  # for the checksum
                pass
        file.seek(0)
        number = 0
        try:
            batches = _parquet_batches if kind == ".parquet" else _arrow_batches
            for batch in batches(file, name, allowance):
                batch.validate(full=True)  # pyarrow itself believes what an Arrow file says
                allowance.take(sum(map(_written_out, batch.columns)) + batch.num_rows)
                for start in range(0, batch.num_rows, _BATCH):
                    for row in batch.slice(start, _BATCH).to_pylist():
                        number += 1
                        yield f"row {number}", row
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{name}: not a whole {kind[1:]} file ({error}); get it again") from None


def _parquet_batches(file: BinaryIO, name: str, allowance: Allowance) -> Iterator[pa.RecordBatch]:
    """Batches of as many rows as fit into what is allowed; a file says its sizes first."""
    parquet = pq.ParquetFile(file, pre_buffer=False)
    said = parquet.metadata
    groups = [said.row_group(number) for number in range(said.num_row_groups)]
    sizes = [[group.column(n).total_uncompressed_size for n in range(group.num_columns)] for group in groups]
    allowance.look_ahead(sum(map(sum, sizes)))
    _require_read(name, parquet.schema_arrow, allowance)
    # A column may repeat one long text: no row is longer than all that its columns hold.
    fitting = allowance.left // max(1, max(map(sum, sizes), default=1))
    # In this thread alone: one of pyarrow's that lets go of Python's memory while Python ends aborts the process.
    yield from parquet.iter_batches(batch_size=max(1, min(_BATCH, fitting)), use_threads=False)


def _arrow_batches(file: BinaryIO, name: str, allowance: Allowance) -> Iterator[pa.RecordBatch]:
    start = 0
    if file.read(len(_MARK)) == _MARK:  # a stream between marks; pyarrow's reader of files starts threads
        file.seek(-len(_MARK), os.SEEK_END)
        if file.read() != _MARK:
            raise OSError("its end is missing")
        start = 8
    file.seek(start)
    for message in pa.ipc.MessageReader.open_stream(file):
        try:
            allowance.look_ahead(unpacked_bytes(message))
        except struct.error as error:
            raise OSError(f"a message says {error}") from None
    file.seek(start)
    with pa.ipc.open_stream(file, options=pa.ipc.IpcReadOptions(use_threads=False)) as reader:
        _require_read(name, reader.schema, allowance)
        yield from reader


def _require_read(name: str, schema: pa.Schema, allowance: Allowance) -> None:
    """Refuse types whose values cannot be counted before they are written out, and those that lie too deep."""
    depth = allowance.limits.depth
    for field in schema:
        layer, levels = [field.type], 0
        while layer:
            levels += 1
            if levels > depth:
                raise ValueError(
                    f"{name}: in the column {field.name!r}, lists and objects more than {depth} deep inside one "
                    f"another; {raised('depth')}"
                )
            for kind in layer:
                if not _is_read(kind):
                    raise ValueError(
                        f"{name}: the column {field.name!r} is of {kind}, which is not read here; write plain texts, "
                        "numbers, lists and objects"
                    )
            layer = [child for kind in layer for child in _inner(kind)]


def _inner(kind: pa.DataType) -> list[pa.DataType]:
    if isinstance(kind, pa.BaseExtensionType):
        return [kind.storage_type]
    if pa.types.is_dictionary(kind):
        return [kind.value_type]
    return [kind.field(number).type for number in range(kind.num_fields)]


def _is_read(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return not _inner(kind.value_type) and _is_read(kind.value_type)
    nested = (types.is_struct, types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_map)
    plain = (types.is_primitive, types.is_null, types.is_decimal, types.is_fixed_size_binary)
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return isinstance(kind, pa.BaseExtensionType) or any(test(kind) for test in (*nested, *plain, *texts))


def _written_out(column: pa.Array) -> int:
    """Return the bytes that the values of a column take where each is written out, at least one each."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _written_out(column.storage)
    if pa.types.is_dictionary(kind):
        chosen = column.indices.drop_null()
        if not _is_text(kind.value_type) or not len(chosen):
            return 16 * len(column)
        lengths = pc.fill_null(pc.binary_length(column.dictionary), 0)
        return int(pc.sum(lengths.take(chosen).cast(pa.int64())).as_py()) + len(column)
    if pa.types.is_struct(kind):
        return sum(map(_written_out, column.flatten())) + len(column)
    if pa.types.is_nested(kind):
        return _written_out(column.flatten()) + len(column)
    return max(int(column.nbytes), len(column))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(test(kind) for test in tests)
