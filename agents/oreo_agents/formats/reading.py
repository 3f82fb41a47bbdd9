"""Rows of files, folders and hub data sets that somebody names.

Knows: where rows lie. Does not know: what they mean.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from oreo_agents.formats.layout import Row
from oreo_envs import hub
from oreo_envs.data_files import Naming, WrongSplit, describe, explicit_file, name_files, split_files
from oreo_envs.data_rows import Allowance, rows

HUB = "hub:"
_NAMING = Naming("import", {}, {})
_SPLITS = ("train", "dev", "test")


def files_of(place: str, split: str = "train") -> tuple[Path, ...]:
    """Return the files of a file, a folder, or ``hub:NAME``.

    Args:
        place: as the user gives it.
        split: of a folder, or of a hub data set.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: several files may be meant, or a file of no kind that is read.
    """
    path = Path(_downloaded(place) if place.startswith(HUB) else place).expanduser()
    if path.is_file():
        return explicit_file(path, split, _NAMING, ())
    if not path.is_dir():
        raise FileNotFoundError(f"{place}: no such file or folder; a data set of the hub is hub:OWNER/NAME")
    try:
        found = split_files(path, split, _NAMING, ("test",))
    except WrongSplit as error:
        raise ValueError(f"{error.args[0].partition(';')[0]}; say --split") from None
    if not found:
        raise FileNotFoundError(
            f"{place}: no file of split {split!r}: {describe(path, _NAMING)}. A split is {name_files(_NAMING, split)}; "
            "say another one with --split, or name a file"
        )
    return found


def rows_of(files: Sequence[Path], max_unpacked_bytes: int) -> Iterator[tuple[str, Row]]:
    """Yield every row with its place, "FILE, line 3".

    Raises:
        ValueError: a file or a row that cannot be read; says where.
    """
    allowance = Allowance(max_unpacked_bytes)
    for file in files:
        for where, row in rows(file, hashlib.sha256(), allowance):
            yield f"{file}, {where}", row


def _downloaded(place: str) -> str:
    from huggingface_hub import snapshot_download

    name = place.removeprefix(HUB)
    try:
        with hub.cache_if_unreachable():
            return snapshot_download(name, repo_type="dataset")
    except Exception as error:  # whatever keeps the hub away, the mend is the same
        reason = hub.why_unreachable() or f"{type(error).__name__}: {error}".splitlines()[0]
        raise FileNotFoundError(
            f"{place}: the hub has no such data set, or cannot be reached ({reason}). Where there is a network run: "
            f"hf download --repo-type dataset {name} --local-dir FOLDER, and import FOLDER"
        ) from error
