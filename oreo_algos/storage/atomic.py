"""Folders and files that appear whole or not at all, whenever the process is killed.

Knows: the temporary name, the order of the renames, and how to recover from a kill between them.
Does not know: what the files mean.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replace_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a new folder that takes the place of `path` when the block ends without an exception.

    The block writes to `.<name>.tmp-<pid>` beside `path`. Afterwards everything in it is flushed to
    disk, the folder that stood at `path` becomes `.<name>.old-<pid>`, the new one takes its name, and
    the old one is removed. What killed processes left behind is removed at the start. Several
    processes of one machine may write to `path`: the last to end its block wins.

    Args:
        path: the folder to create or replace; its parents are created.

    Yields:
        The temporary folder, empty.
    """
    target = recover_folder(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    temporary = _beside(target, "tmp")
    temporary.mkdir()
    try:
        yield temporary
        _flush(temporary)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    _swap(temporary, target)


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Write a new file that takes the place of `path` when the block ends without an exception.

    The block writes `.<name>.tmp-<pid>` beside `path`. What killed processes left of this and any other file of the
    folder is removed. Several processes of one machine may write to `path`: the last to end its block wins.

    Args:
        path: the file to create or replace; its folder is there.

    Yields:
        The temporary file, not made yet.
    """
    for leftover in path.parent.glob(".*"):
        if is_temporary(leftover) and leftover.is_file() and _is_dead(_pid(leftover)):
            leftover.unlink(missing_ok=True)
    temporary = _beside(path, "tmp")
    try:
        yield temporary
        _fsync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Say whether a name is that of something on the way to its place."""
    return re.fullmatch(r"\..+\.tmp-\d+", path.name) is not None


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


def _swap(temporary: Path, target: Path) -> None:
    """Put a finished folder in the place of the one that stands there."""
    old = _beside(target, "old")
    _rename(target, old, missing_ok=True)
    while not _rename(temporary, target):
        # Another process was faster: what it put there is newer than what we took away.
        _discard(old, target)
        _rename(target, old, missing_ok=True)
    _fsync(target.parent)
    _discard(old, target)


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


def _discard(folder: Path, target: Path) -> None:
    """Remove a folder under another name, so that no process takes what is half removed for whole."""
    gone = _beside(target, "gone")
    shutil.rmtree(gone, ignore_errors=True)
    if _rename(folder, gone, missing_ok=True):
        shutil.rmtree(gone)


def _remove_leftovers(target: Path) -> None:
    """Remove the folders of processes that are dead, or had our number before us."""
    for kind in ("tmp", "old", "gone"):
        for folder in _hidden(target, kind):
            if _is_dead(_pid(folder)):
                _discard(folder, target)


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{kind}-{os.getpid()}")


def _hidden(target: Path, kind: str) -> list[Path]:
    """List the folders of one kind of all processes."""
    name = re.compile(rf"\.{re.escape(target.name)}\.{kind}-\d+")
    return [entry for entry in target.parent.glob(".*") if name.fullmatch(entry.name)]


def _written(folder: Path) -> float:
    """Tell when a folder was filled, 0 when it is gone."""
    with suppress(FileNotFoundError):
        return folder.stat().st_mtime
    return 0.0


def _pid(hidden: Path) -> int:
    """Return the number of the process that made a hidden file or folder."""
    return int(hidden.name.rpartition("-")[2])


def _is_dead(pid: int) -> bool:
    """Say whether who left something under a number is gone; with our own number it was a process before us."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # only a living process of somebody else's refuses
    return pid == os.getpid()


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
