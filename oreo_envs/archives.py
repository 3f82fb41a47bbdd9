"""Members of a tar archive, one after another, in one pass.

Knows: how an archive is unpacked and what its headers may say. Does not know: what its members are for.
tarfile unpacks a packed archive by itself too, but copies what it has unpacked anew at every read; and a header may say
that its successor, a name or a comment, has any size.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from oreo_envs.data_rows import packing_of, unpacked
from oreo_envs.limits import Allowance, Limits, raised

_CHUNK = 1 << 20
_NAMES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_MOST_NAME_BYTES = 1 << 20


def read_members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield the names and the contents of the files in an archive, packed or not, that are wanted by their names.

    Raises:
        ValueError: it is damaged, has more members than are read, a member that is too large, or unpacks to too much;
            names the archive, the member and the limit.
    """
    with open(archive, "rb") as raw:
        packing = packing_of(raw.read(8))
        raw.seek(0)
        allowance = Allowance()
        allowance.begin(str(archive), os.fstat(raw.fileno()).st_size)
        stream = unpacked(raw, str(archive), packing, allowance) if packing else io.BufferedReader(raw, _CHUNK)
        try:
            headers = _headers(archive, allowance.limits)
            with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK, tarinfo=headers) as members:
                for member in members:
                    if member.isfile() and wanted(member.name):
                        yield member.name, _content(archive, members, member, allowance.limits)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ValueError(
                f"{archive}: not a whole tar archive ({type(error).__name__}: {error}); get it again"
            ) from None


def is_archive(file: Path) -> bool:
    """Whether a file is a tar archive, packed or not, by its first header; no more of it is read."""
    try:
        with open(file, "rb") as raw:
            packing = packing_of(raw.read(8))
            raw.seek(0)
            allowance = Allowance()
            allowance.begin(str(file), os.fstat(raw.fileno()).st_size)
            stream = unpacked(raw, str(file), packing, allowance) if packing else raw
            tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except (tarfile.HeaderError, OSError, ValueError):
        return False
    return True


def _content(archive: Path, members: tarfile.TarFile, member: tarfile.TarInfo, limits: Limits) -> bytes:
    if member.size > limits.part_bytes:
        raise ValueError(
            f"{archive}, member {member.name}: {member.size:,} bytes, more than the {limits.part_bytes:,} that are "
            f"read of one; {raised('part_bytes')}"
        )
    stream = members.extractfile(member)
    return b"" if stream is None else stream.read()


def _headers(archive: Path, limits: Limits) -> type[tarfile.TarInfo]:
    """Return headers that are counted, and that refuse long names before these are read."""
    count = 0

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
            nonlocal count
            header = super().frombuf(buf, encoding, errors)
            count += 1
            if count > limits.members:
                raise ValueError(f"{archive}: more than {limits.members:,} members; {raised('members')}")
            if header.type in _NAMES and header.size > _MOST_NAME_BYTES:
                raise ValueError(
                    f"{archive}, member {count}: a name or comment of {header.size:,} bytes, more than the "
                    f"{_MOST_NAME_BYTES:,} that any has; get it again"
                )
            return header

    return Header
