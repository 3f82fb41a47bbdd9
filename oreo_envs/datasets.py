"""Problems of a data set, from local files or the hub.

Knows: where to look for a data set, what is left out of it, what makes two readings of it the same.
Does not know: how files are named (``data_files``) and read (``data_rows``), what the fields mean (each data set's
module has a row reader), prompts, episodes.
"""

from __future__ import annotations

import copyreg
import hashlib
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from oreo_envs import hub
from oreo_envs.data_files import Naming, WrongSplit, describe, explicit_file, name_files, split_files
from oreo_envs.data_rows import Allowance, Row, rows
from oreo_envs.layouts import Fields, NoReference, as_fields, columns, known_columns, pick

__all__ = [
    "DATA_VARIABLE",
    "MAX_UNPACKED_BYTES",
    "NoReference",
    "Place",
    "Problem",
    "ProblemSet",
    "Row",
    "Skipped",
    "Source",
    "WrongSplit",
    "load_problems",
]

logger = logging.getLogger(__name__)

DATA_VARIABLE = "OREO_DATA"
"""Environment variable: the folder that holds one folder a data set."""

MAX_UNPACKED_BYTES = 4 << 30
"""What the files of a split may unpack to, unless more is allowed."""

Place = str | Path | Sequence[str | Path]
"""A file, a folder, or a list of these."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, its reference answer, and the authors' solution ("" where there is none)."""

    question: str
    answer: str
    solution: str = ""


class Skipped(NamedTuple):
    """A row that was left out: its file, where it stands in it, and why."""

    file: str
    row: str
    why: str


@dataclass(frozen=True, eq=False)
class Source:
    """A data set: its folder under ``$OREO_DATA``, how to read a row, and its files on the hub.

    ``read_row`` raises KeyError for a missing field, ``NoReference`` for a row that has no answer and ValueError for a
    wrong one, and returns None for a row that is not part of the split. ``hub`` maps a split to a repository and its
    files. ``files`` maps a split to the one whose files hold it. ``names`` maps "question", "answer" and "solution" to
    the fields that ``read_row`` reads. ``check`` is given the problems, the split, their origin and whether test
    problems are allowed, and raises ``WrongSplit`` if they are not what they are to be.
    """

    name: str
    read_row: Callable[[Row, str], Problem | None]
    hub: Mapping[str, tuple[str, tuple[str, ...]]]
    files: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=lambda: {"question": "question", "answer": "answer"})
    check: Callable[[Sequence[Problem], str, str, bool], None] | None = None

    @property
    def naming(self) -> Naming:
        """What is known of its files."""
        return Naming(self.name, {split: files for split, (_, files) in self.hub.items()}, self.files)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the ``SOURCE`` of a module by the module's name, so that it stays the same object."""
        module = self.read_row.__module__
        if getattr(sys.modules.get(module), "SOURCE", None) is self:
            return _source_of, (module,)
        return copyreg.__newobj__, (Source,), vars(self)  # type: ignore[attr-defined]


def _source_of(module: str) -> Source:
    source: Source = importlib.import_module(module).SOURCE
    return source


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read and how, to read it again: files, and the arguments of ``load_problems``."""

    source: Source
    split: str
    files: tuple[str, ...]
    fields: Fields
    max_unpacked_bytes: int
    allow_test_problems: bool

    def problems(self) -> ProblemSet:
        """Read the files, unless this process has read them as they are now."""
        stats = [Path(file).stat() for file in self.files]
        return _read(self, tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats))


class ProblemSet:
    """The problems of one split: a sequence that is never changed, that copies share, and pickles read again."""

    def __init__(
        self,
        problems: tuple[Problem, ...],
        origin: str,
        sha256: str,
        skipped: tuple[Skipped, ...] = (),
        reading: Reading | None = None,
    ) -> None:
        """Hold ``problems``, read from ``origin``, whose bytes have this checksum, and what was left out there."""
        self._problems, self.origin, self.sha256, self.skipped = problems, origin, sha256, skipped
        self._reading = reading

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

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where the problems are, and not the problems; they are read again, and must be the same."""
        if self._reading is None:
            return ProblemSet, (self._problems, self.origin, self.sha256, self.skipped)
        return _read_again, (self._reading, self.sha256)


def _read_again(reading: Reading, sha256: str) -> ProblemSet:
    where = ", ".join(reading.files)
    try:
        problems = reading.problems()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error.filename}: no longer there; a pickled {reading.source.name} environment reads its problems again"
        ) from None
    if problems.sha256 != sha256:
        raise ValueError(f"{where}: changed since this {reading.source.name} environment was pickled; make it anew")
    return problems


def load_problems(
    source: Source,
    split: str,
    path: Place | None = None,
    *,
    fields: Mapping[str, str] | None = None,
    held_out: Sequence[str] = (),
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
    allow_test_problems: bool = False,
) -> ProblemSet:
    """Read the problems of ``split``, from ``path``, else ``$OREO_DATA/<name>``, else the hub.

    Args:
        source: the data set.
        split: one of the authors' split names.
        path: a file; a folder, see ``data_files.name_files``; or a list of files and folders, which are joined.
        fields: columns, dotted, of "question", "answer" and "solution" where they are not the data set's own.
        held_out: splits that nothing may learn from.
        max_unpacked_bytes: what packed, Parquet and Arrow files may unpack to, all together.
        allow_test_problems: do not refuse to learn from what is named or known as held out.

    Raises:
        FileNotFoundError: nothing there; says what was looked for and how to get the data.
        ValueError: a file that cannot be read, a corrupt row, a missing field; says where. Several files that may be
            meant.
        WrongSplit: what is there is another split.
    """
    files = _local_files(source, split, path, () if allow_test_problems else held_out) or _hub_files(source, split)
    if dead := next((file for file in files if not file.exists()), None):
        raise FileNotFoundError(f"{dead}: a link to a file that is not there; copy or download the data set whole")
    names = tuple(str(file.absolute()) for file in files)
    return Reading(source, split, names, as_fields(fields), max_unpacked_bytes, allow_test_problems).problems()


def _local_files(source: Source, split: str, path: Place | None, held_out: Sequence[str]) -> tuple[Path, ...]:
    root = os.environ.get(DATA_VARIABLE)
    if path is None:
        place = Path(root).expanduser() / source.name if root else None
        if place is not None and place.is_dir():
            return split_files(place, split, source.naming, held_out)
        return ()
    if not isinstance(path, str | Path):
        if not isinstance(path, Sequence) or not all(isinstance(one, str | Path) for one in path):
            raise ValueError(f"path must be a file, a folder or a list of these, got {path!r}")
        if not path:
            raise ValueError("path is an empty list; name at least one file or folder")
        joined = [file for one in path for file in _local_files(source, split, one, held_out)]
        if twice := {str(file) for file in joined if joined.count(file) > 1}:
            raise ValueError(f"path names {', '.join(sorted(twice))} twice")
        return tuple(joined)
    if path == "":
        raise ValueError("path is empty; name a file or a folder (the one you are in is '.')")
    place = Path(path).expanduser()
    if place.is_file():
        return explicit_file(place, split, source.naming, held_out)
    if not place.is_dir():
        raise FileNotFoundError(f"{place}: no such file or folder (split {split!r} of {source.name})")
    if found := split_files(place, split, source.naming, held_out):
        return found
    raise FileNotFoundError(
        f"{place}: no file of split {split!r} of {source.name}: {describe(place, source.naming)}. A split is "
        f"{name_files(source.naming, split)}; a file of another name is read where path=... is the file itself"
    )


def _hub_files(source: Source, split: str) -> tuple[Path, ...]:
    root = os.environ.get(DATA_VARIABLE)
    looked = f"{Path(root) / source.name} has no file of it" if root else f"{DATA_VARIABLE} is not set"
    if split not in source.hub:
        raise FileNotFoundError(
            f"no data for split {split!r} of {source.name}: {looked}. Pass path=..., a file or a folder with "
            f"{name_files(source.naming, split)}"
        )
    repository, names = source.hub[split]
    try:
        from huggingface_hub import hf_hub_download

        with hub.cache_if_unreachable():
            return tuple(Path(hf_hub_download(repository, name, repo_type="dataset")) for name in names)
    except Exception as error:  # whatever keeps the hub away, the mend is the same
        reason = hub.why_unreachable() or f"{type(error).__name__}: {error}".splitlines()[0]
        raise FileNotFoundError(
            f"no data for split {split!r} of {source.name}: {looked}, and the hub cannot be reached ({reason}). "
            f"Where there is a network run: hf download --repo-type dataset {repository} --local-dir FOLDER; then pass "
            f"path=FOLDER, or put it at {DATA_VARIABLE}/{source.name}. A split is {name_files(source.naming, split)}"
        ) from error


@lru_cache(maxsize=16)
def _read(reading: Reading, stamps: tuple[tuple[int, int, int], ...]) -> ProblemSet:
    """Read files; the stamps (time of change, size, number) are part of the cache's key."""
    source, split, names, fields = reading.source, reading.split, reading.files, reading.fields
    problems: list[Problem] = []
    skipped: list[Skipped] = []
    digest, allowance = hashlib.sha256(), Allowance(reading.max_unpacked_bytes)
    for name in names:
        for where, row in rows(Path(name), digest, allowance):
            try:
                problem = source.read_row(pick(row, fields, source.names), split)
            except NoReference as reason:
                skipped.append(Skipped(name, where, str(reason)))
                continue
            except KeyError as error:
                raise ValueError(
                    f"{name}, {where}: no field {error}; this row has {columns(row)}; "
                    f"{known_columns(source.names.values())}"
                ) from None
            except ValueError as error:
                raise ValueError(f"{name}, {where}: {error}") from None
            if problem is not None:
                problems.append(problem)
    origin = ", ".join(names) if len(names) <= 8 else f"{names[0]} and {len(names) - 1} more files"
    if skipped:
        shown = "; ".join(f"{name}, {where}: {why}" for name, where, why in skipped[:3])
        left_out = (
            f"{len(skipped)} {'rows' if len(skipped) > 1 else 'row'} without a reference answer left out "
            f"({shown}{'; ...' * (len(skipped) > 3)})"
        )
        logger.warning("%s %s: %s", source.name, split, left_out)
    if not problems:
        raise ValueError(f"{origin}: no problem of split {split!r} in it" + (f"; {left_out}" if skipped else ""))
    if source.check is not None:
        source.check(problems, split, origin, reading.allow_test_problems)
    return ProblemSet(tuple(problems), origin, digest.hexdigest(), tuple(skipped), reading)
