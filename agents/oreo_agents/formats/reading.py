"""Rows of files, folders and hub data sets that somebody names.

Knows: where rows lie. Does not know: what they mean.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from oreo_agents.formats.layout import Row
from oreo_envs import hub, minari_files
from oreo_envs.data_files import Naming, WrongSplit, describe, explicit_file, name_files, split_files
from oreo_envs.data_rows import Allowance, rows
from oreo_envs.limits import read_document, read_json
from oreo_envs.recording import is_record

HUB = "hub:"
_SEVERAL = "; name the file or folder that you mean, or several to join them, or say --split as it is called there"
_SPLITS = ("train", "dev", "test")


def files_of(place: str, split: str = "train") -> tuple[Path, ...]:
    """Return the files of a file, a folder, or ``hub:NAME``.

    Args:
        place: as the user gives it.
        split: of a folder, or of a hub data set: train, dev, test, or as files there are named, such as train_prefs.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: several files may be meant, or a file of no kind that is read.
    """
    naming = Naming("import", {} if split in _SPLITS else {split: ()}, {})
    path = Path(_downloaded(place) if place.startswith(HUB) else place).expanduser()
    if (minari := minari_folder(path)) is not None:
        return (minari,)
    if path.is_file():
        return explicit_file(path, split, naming, ())
    if not path.is_dir():
        raise FileNotFoundError(f"{place}: no such file or folder; a data set of the hub is hub:OWNER/NAME")
    if is_record(path):
        raise ValueError(f"{place}: a record of what an agent played; `oreo data encode` makes a buffer of it")
    if (path / "metadata.json").is_file() and any(path.glob("part-*.parquet")):
        raise ValueError(f"{place}: an episode buffer already; train on it, or `oreo data export` or `merge` it")
    try:
        found = split_files(path, split, naming, ("test",))
    except WrongSplit as error:
        raise ValueError(f"{error.args[0].partition(';')[0]}; say --split") from None
    except ValueError as error:  # whose words are those of an environment's argument
        several = re.compile(r"; pass the file or folder that you mean as path=.*")
        raise ValueError(several.sub(_SEVERAL, str(error))) from None
    if not found:
        raise FileNotFoundError(
            f"{place}: no file of split {split!r}: {describe(path, naming)}. A split is {name_files(naming, split)}; "
            "say another one with --split, or name a file"
        )
    return tuple(file.parent if minari_folder(file.parent) == file.parent else file for file in found)


def rows_of(files: Sequence[Path], max_unpacked_bytes: int | None = None) -> Iterator[tuple[str, Row]]:
    """Yield every row with its place, "FILE, line 3".

    Raises:
        ValueError: a file or a row that cannot be read; says where.
    """
    allowance = Allowance(max_unpacked_bytes)
    for file in files:
        if file.is_dir():
            for number, episode in enumerate(minari_files.read(file, allowance)):
                yield f"{file}, episode {number}", episode
            continue
        for where, row in rows(file, hashlib.sha256(), allowance):
            yield f"{file}, {where}", row


def minari_folder(path: Path) -> Path | None:
    """The folder with the data, if a folder is a data set of Minari."""
    for folder in (path, path / "data"):
        try:
            said = read_json(read_document(folder / "metadata.json"))
        except (OSError, ValueError):
            continue
        if isinstance(said, dict) and {"data_format", "total_episodes"} <= {*said}:
            return folder
    return None


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
