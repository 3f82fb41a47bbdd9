"""Folders and files that appear whole or not at all, whenever the process is killed.

Knows: the temporary name, the order of the renames, and how to recover from a kill between them.
Does not know: what the files mean.

A temporary name says who writes it: `.<name>.tmp-<host>-<pid>-<start>-<number>`, of a host, a process and when it
began there, and of writes within it. So what a dead process left is told from what a living one writes.
"""

import errno
import itertools
import os
import platform
import re
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(
    r"\.(?P<name>.+)\.(?P<kind>tmp|old|gone)-(?:(?P<host>[0-9a-f]{8})-)?(?P<pid>\d+)(?:-(?P<start>\d+)-\d+)?"
)
_ABANDONED_S = 86_400.0
"""Of another host we see no processes: what was not touched for so long is nobody's."""

_numbers = itertools.count()
_writing: set[str] = set()
"""Marks of what this process writes now."""


@contextmanager
def replace_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a new folder that takes the place of `path` when the block ends without an exception.

    The block writes a hidden folder beside `path`. Afterwards everything in it is flushed to disk, the folder that
    stood at `path` is renamed away, the new one takes its name, and the old one is removed. What killed processes left
    in the folder around it is removed at the start. Several processes may write to `path`: the last to end its block
    wins.

    Args:
        path: the folder to create or replace; its parents are created.

    Yields:
        The temporary folder, empty.

    Raises:
        OSError: it cannot be written; `filename` is set, to `path` where nothing better is known.
    """
    target = recover_folder(path)
    with _named(target), _mark() as mark:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        temporary = _beside(target, "tmp", mark)
        temporary.mkdir()
        try:
            yield temporary
            _flush(temporary)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _swap(temporary, target, mark)


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Write a new file that takes the place of `path` when the block ends without an exception.

    The block writes a hidden file beside `path`; once that has its name, both the file and the name are on disk. What
    killed processes left in the folder is removed. Several processes may write to `path`: the last to end its block
    wins.

    Args:
        path: the file to create or replace; its folder is there.

    Yields:
        The temporary file, not made yet.

    Raises:
        OSError: it cannot be written; `filename` is set, to `path` where nothing better is known.
    """
    with _named(path), _mark() as mark:
        remove_leftovers(path.parent)
        temporary = _beside(path, "tmp", mark)
        try:
            yield temporary
            _fsync(temporary)
            temporary.replace(path)
            _fsync(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """Make a hidden folder in another, which is removed at the end; after a kill, by whoever writes there next."""
    with _named(parent), _mark() as mark:
        remove_leftovers(parent)
        folder = _beside(parent / name, "tmp", mark)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were about to write in a folder, or to remove from it.

    A whole folder that was renamed away, and that no other has replaced, stays for ``recover_folder``.
    """
    names: list[str] = []
    with suppress(OSError), os.scandir(folder) as entries:
        names += [entry.name for entry in entries if entry.name.startswith(".")]
    for name in names:
        found = _NAME.fullmatch(name)
        if found is None or not _is_dead(folder / name):
            continue
        if found["kind"] != "old" or (folder / found["name"]).exists():
            with suppress(OSError):  # another process removes the same, or it is not ours to remove
                remove(folder / name)


def remove(path: Path) -> None:
    """Remove a folder or file that is whole, so that it is never there in part; nothing is there: nothing is done."""
    if path.is_dir() and not path.is_symlink():
        with _mark() as mark:
            target = path
            if found := _NAME.fullmatch(path.name):
                target = path.with_name(found["name"])
            _discard(path, target, mark)
    else:
        path.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Say whether a name is that of something on the way to its place."""
    found = _NAME.fullmatch(path.name)
    return found is not None and found["kind"] == "tmp"


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none, in place of an earlier one; once it is there, it is on disk."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def recover_folder(path: str | os.PathLike[str]) -> Path:
    """Put the last whole folder back when a kill fell between the two renames.

    Returns:
        `path`, absolute and with links resolved; nothing may be there.
    """
    target = Path(path).resolve()
    if not target.exists():
        # Newest first. A live process may lose its old folder or fill the place meanwhile: whole either way.
        for old in sorted(_hidden(target, "old"), key=_written, reverse=True):
            if _rename(old, target, missing_ok=True):
                break
    return target


def _swap(temporary: Path, target: Path, mark: str) -> None:
    """Put a finished folder in the place of the one that stands there."""
    old = _beside(target, "old", mark)
    _rename(target, old, missing_ok=True)
    while not _rename(temporary, target):
        # Another process was faster: what it put there is newer than what we took away.
        _discard(old, target, mark)
        _rename(target, old, missing_ok=True)
    _fsync(target.parent)
    _discard(old, target, mark)


def _rename(source: Path, target: Path, *, missing_ok: bool = False) -> bool:
    """Rename a folder, unless another stands in its new place; tell whether it was done."""
    harmless = {errno.ENOTEMPTY, errno.EEXIST} | ({errno.ENOENT} if missing_ok else set())
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno not in harmless:
            raise
        return False
    return True


def _discard(folder: Path, target: Path, mark: str) -> None:
    """Remove a folder under another name, so that no process takes what is half removed for whole."""
    gone = _beside(target, "gone", mark)
    shutil.rmtree(gone, ignore_errors=True)
    if _rename(folder, gone, missing_ok=True):
        shutil.rmtree(gone)


@contextmanager
def _mark() -> Iterator[str]:
    """Yield what temporary names of a write end with, in no other name of any process."""
    mark = f"{_host()}-{os.getpid()}-{_start_of(os.getpid())}-{next(_numbers)}"
    _writing.add(mark)
    try:
        yield mark
    finally:
        _writing.discard(mark)


@contextmanager
def _named(target: Path) -> Iterator[None]:
    """Have an error of writing say what was written."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(target)
        raise


def _beside(target: Path, kind: str, mark: str) -> Path:
    return target.with_name(f".{target.name}.{kind}-{mark}")


def _hidden(target: Path, kind: str) -> list[Path]:
    """List the folders of one kind of all processes."""
    found = [(entry, _NAME.fullmatch(entry.name)) for entry in target.parent.glob(".*")]
    return [entry for entry, match in found if match and (match["name"], match["kind"]) == (target.name, kind)]


def _written(folder: Path) -> float:
    """Tell when a folder was filled, 0 when it is gone."""
    with suppress(FileNotFoundError):
        return folder.stat().st_mtime
    return 0.0


class _Writer(NamedTuple):
    """Who wrote under a hidden name; host and start are not known of names that earlier releases gave."""

    mark: str
    host: str | None
    pid: int
    start: int


def _writer(hidden: Path) -> _Writer:
    found = _NAME.fullmatch(hidden.name)
    assert found is not None
    mark = hidden.name[found.end("kind") + 1 :]
    return _Writer(mark, found["host"], int(found["pid"]), int(found["start"] or 0))


def _is_dead(hidden: Path) -> bool:
    """Say whether who left something under a name is gone; with our own number it may have been a process before us."""
    writer = _writer(hidden)
    if writer.mark in _writing:
        return False
    if writer.host not in (None, _host()):
        return time.time() - _written(hidden) > _ABANDONED_S
    try:
        os.kill(writer.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # only a living process of somebody else's refuses
    if writer.pid == os.getpid():
        return True
    return 0 not in (writer.start, now := _start_of(writer.pid)) and writer.start != now


def _host() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _start_of(pid: int) -> int:
    """Return when a process began, in ticks of its host; 0: that cannot be known here."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _flush(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for file in files:
            _fsync(Path(root, file))
        _fsync(Path(root))


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
