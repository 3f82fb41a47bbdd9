"""What a command leaves behind that was refused before it did anything: nothing that was not there before.

Knows: folders that this process watches since before they were made, what lies in one before anything is done there.
Does not know: commands, why one was refused.
"""

import re
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK = re.compile(r"\..*\.lock")

LOG = "cli.log"

_BEFORE_ANYTHING = {"config.yaml", LOG, ".hydra", "failed.json", "multirun.yaml"}


@dataclass(frozen=True)
class _Watched:
    """A folder as it was: what was in it, and which folders to it were not there, itself the first."""

    folder: Path
    there: frozenset[str]
    missing: tuple[Path, ...]


_watched: list[_Watched] = []


def forget() -> None:
    """Watch nothing, as a command begins."""
    _watched.clear()


def watch(folder: Path) -> None:
    """Remember what is in a folder, which need not be there, before anything is written to it."""
    folder = folder.absolute()
    there = frozenset(entry.name for entry in folder.iterdir()) if folder.is_dir() else frozenset[str]()
    _watched.append(_Watched(folder, there, tuple(each for each in (folder, *folder.parents) if not each.exists())))


def nothing_done(folder: Path, *, but_for: frozenset[str] = frozenset()) -> bool:
    """Whether a folder holds nothing but what is written before anything is done.

    Args:
        folder: of a run, or of a sweep.
        but_for: names of what is not looked at.
    """
    return all(_is_nothing(entry) for entry in folder.iterdir() if entry.name not in but_for)


def take_back() -> None:
    """Delete what came into the watched folders, and those that were not there; none where anything was done in one.

    A log with a traceback is something to read, and a folder that another process took meanwhile is left to it.
    """
    watched = [one for one in reversed(_watched) if one.folder.is_dir()]
    forget()
    with suppress(OSError, Timeout):  # what cannot be deleted stays
        if all(nothing_done(one.folder, but_for=one.there) for one in watched):
            for one in watched:
                _take_back(one)


def _take_back(one: _Watched) -> None:
    new = [entry for entry in one.folder.iterdir() if entry.name not in one.there]
    below = [path for entry in new for path in (entry, *entry.rglob("*"))]
    files = [path for path in below if not path.is_dir()]
    if any(path.name == LOG and b"Traceback (most recent call last)" in path.read_bytes() for path in files):
        return
    with ExitStack() as held:
        for path in files:
            if _LOCK.fullmatch(path.name):
                held.enter_context(FileLock(path, blocking=False))
        for path in files:
            path.unlink(missing_ok=True)
    for path in (*sorted(set(below) - set(files), reverse=True), *one.missing):
        path.rmdir()


def _is_nothing(entry: Path) -> bool:
    if entry.is_dir() and any(entry.iterdir()):
        return entry.name in _BEFORE_ANYTHING or nothing_done(entry)
    return entry.name in _BEFORE_ANYTHING or _LOCK.fullmatch(entry.name) is not None
