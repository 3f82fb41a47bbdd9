"""Problems of a data set, from local files or the hub.

Knows: jsonl, jsonl.xz and parquet files, where to look for them, what a broken row looks like.
Does not know: what the fields mean (each data set's module has a row reader), prompts, episodes.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import lzma
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

DATA_VARIABLE = "OREO_DATA"
"""Environment variable: the folder that holds one folder a data set."""

_SUFFIXES = (".jsonl", ".jsonl.xz", ".parquet")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, its reference answer, and the authors' solution ("" where there is none)."""

    question: str
    answer: str
    solution: str = ""


@dataclass(frozen=True)
class Source:
    """A data set: its folder under ``$OREO_DATA``, how to read a row, and its files on the hub.

    ``read_row`` raises KeyError for a missing field and ValueError for a wrong one, and returns
    None for a row that is not part of the split. ``files`` maps a split to the stem of its local
    files where the two differ; ``hub`` maps a split to a repository and its files.
    """

    name: str
    read_row: Callable[[Row, str], Problem | None]
    hub: Mapping[str, tuple[str, tuple[str, ...]]]
    files: Mapping[str, str] = field(default_factory=dict)


class ProblemSet:
    """The problems of one split: a sequence that is never changed, and that copies share."""

    def __init__(self, problems: tuple[Problem, ...], origin: str, sha256: str) -> None:
        """Hold ``problems``, read from ``origin``, whose bytes have this checksum."""
        self._problems, self.origin, self.sha256 = problems, origin, sha256

    def __len__(self) -> int:
        """Return the number of problems."""
        return len(self._problems)

    def __getitem__(self, index: int) -> Problem:
        """Return problem ``index``."""
        return self._problems[index]

    def __iter__(self) -> Iterator[Problem]:
        """Iterate in the authors' order."""
        return iter(self._problems)

    def __deepcopy__(self, memo: dict[int, Any]) -> ProblemSet:
        """Return the set itself, which never changes, so that copies of environments are cheap."""
        return self


def load_problems(source: Source, split: str, path: str | Path | None = None) -> ProblemSet:
    """Read the problems of ``split``, from ``path``, else ``$OREO_DATA/<name>``, else the hub.

    Args:
        source: the data set.
        split: one of the authors' split names.
        path: a file, or a folder with ``<split>.jsonl``, ``.jsonl.xz`` or ``.parquet``.

    Raises:
        FileNotFoundError: nothing there; says what was looked for and how to get the data.
        ValueError: a file that cannot be read, a corrupt row, a missing field; says where.
    """
    files = _local_files(source, split, path) or _hub_files(source, split)
    stamps = tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return _read(source.read_row, split, stamps)


def _local_files(source: Source, split: str, path: str | Path | None) -> tuple[Path, ...]:
    root = os.environ.get(DATA_VARIABLE)
    if path is None and not root:
        return ()
    place = Path(path) if path is not None else Path(root or "") / source.name
    names = _file_names(source, split)
    if place.is_file():
        return (place,)
    found = next((place / name for name in names if (place / name).is_file()), None)
    if found is None and path is not None:
        kind = "this folder has none of" if place.is_dir() else "no such file or folder; looked for"
        raise FileNotFoundError(f"{place}: {kind} {', '.join(names)} (split {split!r} of {source.name})")
    return (found,) if found else ()


def _hub_files(source: Source, split: str) -> tuple[Path, ...]:
    repository, names = source.hub[split]
    try:
        from huggingface_hub import hf_hub_download

        return tuple(Path(hf_hub_download(repository, name, repo_type="dataset")) for name in names)
    except Exception as error:  # whatever keeps the hub away, the mend is the same
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        root = os.environ.get(DATA_VARIABLE)
        looked = f"{Path(root) / source.name} has no {', '.join(_file_names(source, split))}" if root else None
        raise FileNotFoundError(
            f"no data for split {split!r} of {source.name}: {looked or f'{DATA_VARIABLE} is not set'}, "
            f"and the hub cannot be reached ({reason}). Set {DATA_VARIABLE} or pass path=..., "
            f"or where there is a network run: hf download --repo-type dataset {repository}"
        ) from error


def _file_names(source: Source, split: str) -> list[str]:
    stem = source.files.get(split, split)
    return [stem + suffix for suffix in _SUFFIXES]


@lru_cache(maxsize=16)
def _read(
    read_row: Callable[[Row, str], Problem | None],
    split: str,
    stamps: tuple[tuple[str, int, int], ...],
) -> ProblemSet:
    """Read files; the stamps (name, time of change, size) are the cache's key."""
    problems: list[Problem] = []
    digest = hashlib.sha256()
    for name, _, _ in stamps:
        content = Path(name).read_bytes()
        digest.update(content)
        for number, row in _rows(name, content):
            try:
                problem = read_row(row, split)
            except KeyError as error:
                raise ValueError(f"{name}, row {number}: no field {error}; this row has {', '.join(row)}") from None
            except ValueError as error:
                raise ValueError(f"{name}, row {number}: {error}") from None
            if problem is not None:
                problems.append(problem)
    origin = ", ".join(name for name, _, _ in stamps)
    if not problems:
        raise ValueError(f"{origin}: no problem of split {split!r} in it")
    return ProblemSet(tuple(problems), origin, digest.hexdigest())


def _rows(name: str, content: bytes) -> Iterator[tuple[int, Row]]:
    """Rows of a file with their numbers, lines counted from 1."""
    if name.endswith(".parquet"):
        yield from enumerate(_parquet_rows(name, content), start=1)
        return
    if name.endswith(".xz"):
        try:
            content = lzma.decompress(content)
        except lzma.LZMAError as error:
            raise ValueError(f"{name}: not a whole xz file ({error})") from None
    for number, line in enumerate(io.BytesIO(content), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:  # bad JSON or bad UTF-8
            raise ValueError(f"{name}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise ValueError(f"{name}, line {number}: not a JSON object but {type(row).__name__}")
        yield number, row


def _parquet_rows(name: str, content: bytes) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[Row] = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{name}: not a whole parquet file ({error})") from None
    return rows


def text_field(row: Row, name: str) -> str:
    """Return a field of a row.

    Raises:
        KeyError: the row has none of this name.
        ValueError: the field is no text.
    """
    if not isinstance(row[name], str):
        raise ValueError(f"field {name!r} is no text but {type(row[name]).__name__}")
    return str(row[name])
