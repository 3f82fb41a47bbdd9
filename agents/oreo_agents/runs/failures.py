"""Errors of the machine in words: a full disk, a folder that may not be written, too many open files, no memory.

Knows: numbers of errors, how libraries that hide them put it. Does not know: commands, what was written.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota of the disk is used up",
}
_TOO_LARGE = {errno.EFBIG: "a file would be larger than the file system, or the limit of this process, allows"}
_REFUSED = {
    errno.EACCES: "you may not write or read there",
    errno.EPERM: "you may not write or read there",
    errno.EROFS: "the file system is read-only",
}
_OCCUPIED = {
    errno.ENOTDIR: "a file stands where a folder is to be",
    errno.EEXIST: "a file stands where a folder is to be",
    errno.EISDIR: "a folder stands where a file is to be",
}
_OTHER = {
    errno.EIO: "the disk reports an error",
    errno.ESTALE: "the network file system has lost the file",
    errno.ENOTCONN: "the network file system is not there",
    errno.ENAMETOOLONG: "the name is too long for the file system",
    errno.EMFILE: "this process has too many files open",
    errno.ENFILE: "this machine has too many files open",
}
_ELSEWHERE = "choose another folder (hydra.run.dir=FOLDER, --out FOLDER), or {mend}"
_MENDS = [
    (_FULL, _ELSEWHERE.format(mend="make room")),
    (_TOO_LARGE, _ELSEWHERE.format(mend="raise the limit (ulimit -f)")),
    (_REFUSED, _ELSEWHERE.format(mend="have its permissions changed")),
    (_OCCUPIED, _ELSEWHERE.format(mend="move it away")),
    ({errno.EMFILE: "", errno.ENFILE: ""}, "allow more (ulimit -n)"),
    (_OTHER, _ELSEWHERE.format(mend="mend it")),
]
_WORDS = {**_FULL, **_TOO_LARGE, **_REFUSED, **_OCCUPIED, **_OTHER}

_HIDDEN = re.compile(
    r"os error (\d+)|errno (\d+)|(PytorchStreamWriter failed|file write failed|unexpected pos \d)", re.I
)
"""How errors of writing are put by libraries in other languages: with a number, or torch's without."""

_NO_MEMORY = re.compile(r"can't allocate memory|CUDA out of memory|not enough memory", re.I)

_TEMPORARY = re.compile(r"\..+\.(tmp|old|gone)-[-0-9a-f]+")


def machine_failure(error: BaseException, folder: Path | None = None) -> str | None:
    """Say in a sentence where the machine failed, why, and what to do.

    Args:
        error: as it was raised, perhaps while another was handled.
        folder: that is written, where the error names none.

    Returns:
        The sentence; None: it is another error.
    """
    for each in _chain(error):
        if _is_memory(each):
            said = " ".join(str(each).split())[:160] or "of this machine"
            return (
                f"{folder or 'this process'}: memory is used up ({said}); "
                "lower trainer.micro_batch_tokens or evaluate.sampling.batch_size, take a smaller model, or a machine "
                "with more, then give the same command again: what is whole is kept"
            )
        number = _number(each)
        if number not in _WORDS:
            continue
        place = _place(each, folder)
        room = _room(place) if number in _FULL else ""
        mend = next(text for numbers, text in _MENDS if number in numbers)
        return (
            f"{place or 'a file'}: {_WORDS[number]}{room}; {mend}, then give the same command again: what is whole is "
            "kept, and nothing half-written is left"
        )
    return None


def _is_memory(error: BaseException) -> bool:
    """Whether memory could not be had: Python says so by a class, torch on a GPU by one of its own, else in words."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None)
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those behind it, the first cause first."""
    found: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in found:
        found.append(each)
        each = each.__cause__ or each.__context__
    return reversed(found)


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if not isinstance(error, Exception) or isinstance(error, ValueError):
        return None
    match = _HIDDEN.search(str(error))
    if match is None:
        return None
    return errno.ENOSPC if match[3] else int(match[1] or match[2])


def _place(error: BaseException, folder: Path | None) -> Path | None:
    """Return the file or folder that an error is about, as the user knows it."""
    named = getattr(error, "filename", None)
    if not isinstance(named, str | os.PathLike):
        return folder
    path = Path(named)
    hidden = next((part for part in (path, *path.parents) if _TEMPORARY.fullmatch(part.name)), None)
    return path if hidden is None else hidden.with_name(hidden.name[1:].rpartition(f".{_kind(hidden)}-")[0])


def _kind(hidden: Path) -> str:
    found = _TEMPORARY.fullmatch(hidden.name)
    assert found is not None
    return found[1]


def _room(place: Path | None) -> str:
    """Say how much is free where a file was to be."""
    for folder in () if place is None else (place, *place.absolute().parents):
        if folder.is_dir():
            return f" ({shutil.disk_usage(folder).free / 1e6:,.1f} MB free)"
    return ""
