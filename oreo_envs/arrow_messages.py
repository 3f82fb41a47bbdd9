"""What a message of an Arrow stream unpacks to, read off its header before anything is unpacked.

Knows: the few fields of Arrow's headers that tell. Does not know: types, rows, files.
Source: https://arrow.apache.org/docs/format/Columnar.html, "Compression", and Message.fbs; a header is a flatbuffer.
"""

from __future__ import annotations

import struct
from typing import Any

_DICTIONARY, _RECORDS = 2, 3  # kinds of headers
_MOST_BUFFERS = 1 << 20


def unpacked_bytes(message: Any) -> int:
    """Return the bytes that a ``pyarrow.ipc.Message`` says its buffers unpack to; 0 where they are not packed.

    Raises:
        struct.error: its header leads out of itself or of its body.
    """
    header, body = memoryview(message.metadata), memoryview(message.body or b"")
    table = _at(header, 0)
    kind = _field(header, table, 1)
    if kind is None or header[kind] not in (_DICTIONARY, _RECORDS):
        return 0
    records = _reference(header, table, 2)
    if header[kind] == _DICTIONARY:
        records = _reference(header, records, 1)
    if _field(header, records, 3) is None:
        return 0
    buffers = _reference(header, records, 2)
    (count,) = struct.unpack_from("<I", header, buffers)
    if count > _MOST_BUFFERS:
        raise struct.error(f"{count} buffers")
    total = 0
    for number in range(count):
        offset, length = struct.unpack_from("<qq", header, buffers + 4 + 16 * number)
        if length:
            if offset < 0:
                raise struct.error(f"a buffer at {offset}")
            total += max(length, *struct.unpack_from("<q", body, offset))  # -1: this one is not packed
    return total


def _at(header: memoryview, place: int) -> int:
    """Return where a reference leads."""
    return place + int(struct.unpack_from("<I", header, place)[0])


def _field(header: memoryview, table: int, number: int) -> int | None:
    """Return where a field of a table stands, None where it has its default."""
    (back,) = struct.unpack_from("<i", header, table)
    described = table - back
    if described < 0:
        raise struct.error("a table without a description")
    (size,) = struct.unpack_from("<H", header, described)
    if 4 + 2 * number >= size:
        return None
    (offset,) = struct.unpack_from("<H", header, described + 4 + 2 * number)
    return table + offset if offset else None


def _reference(header: memoryview, table: int, number: int) -> int:
    place = _field(header, table, number)
    if place is None:
        raise struct.error(f"no field {number}")
    return _at(header, place)
