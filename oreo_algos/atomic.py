"""Folders that appear whole or not at all, whenever the process is killed.

Knows: the temporary name, the order of the renames, and how to recover from a kill between them.
Does not know: what the files mean.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a new folder that takes the place of `path` when the block ends without an exception.

    The block writes to `.<name>.tmp-<pid>` beside `path`. Afterwards everything in it is flushed to
    disk, the folder that stood at `path` becomes `.<name>.old`, the new one takes its name, and the
    old one is removed. What killed processes left behind is removed at the start, so one process
    at a time may write to `path`.

    Args:
        path: the folder to create or replace; its parents are created.

    Yields:
        The temporary folder, empty.
    """
    target = recover_folder(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    temporary = target.with_name(f"{_temporary_prefix(target)}{os.getpid()}")
    temporary.mkdir()
    try:
        yield temporary
        _flush(temporary)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    old = _old(target)
    if target.exists():
        os.rename(target, old)
    os.rename(temporary, target)
    _fsync(target.parent)
    if old.exists():
        shutil.rmtree(old)


def recover_folder(path: str | os.PathLike[str]) -> Path:
    """Put the last whole folder back when a kill fell between the two renames.

    Returns:
        `path`, absolute and with links resolved; nothing may be there.
    """
    target = Path(path).resolve()
    old = _old(target)
    if not target.exists() and old.exists():
        os.rename(old, target)
    return target


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _temporary_prefix(target: Path) -> str:
    return f".{target.name}.tmp-"


def _remove_leftovers(target: Path) -> None:
    for entry in target.parent.iterdir():
        if entry == _old(target) or entry.name.startswith(_temporary_prefix(target)):
            shutil.rmtree(entry)


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
