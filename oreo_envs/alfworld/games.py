"""Finding and reading games: folders and archives of ``game.tw-pddl`` files, and their index.

Knows: ALFWorld's folder layout, where to look for it, what a broken game file looks like.
Does not know: how games are played or cached on disk (``cache``), how houses are generated (``houses``).
Layout: ``json_2.1.1/<split>/<task>/<trial>/game.tw-pddl``; a task id is ``<split>/<task>/<trial>``.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

from oreo_envs.alfworld.cache import read_cache, write_cache
from oreo_envs.alfworld.problem import Problem, read_problem
from oreo_envs.alfworld.rules import task_of
from oreo_envs.alfworld.simulator import Game
from oreo_envs.archives import read_members
from oreo_envs.datasets import DATA_VARIABLE
from oreo_envs.limits import TooDeepError, read_document, read_json

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid_seen", "valid_unseen")
GAME_FILE = "game.tw-pddl"
LAYOUT_FOLDER = "json_2.1.1"
ALFWORLD_VARIABLE = "ALFWORLD_DATA"
"""Environment variable of alfworld: the folder that ``alfworld-download`` fills."""

TASK_TYPES = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)

NAMED_SOURCES = {"generated": "oreo_envs.alfworld.houses:generated_games"}
"""Values of ``path`` that are no path, alone or with ":SEED": a function of split and seed returns a ``GameSource``."""

_KEPT_GAMES = 512
_REMEDY = (
    f'get the games with `pip install "oreo-suite[alfworld]"` and `alfworld-download`, then pass path=..., or set '
    f"{DATA_VARIABLE} (its folder alfworld/ is looked into) or {ALFWORLD_VARIABLE}; "
    'path="generated" plays generated houses and needs no download'
)


class GameSource(ABC):
    """The games of one split, in a fixed order; never changed, so that copies of environments share it."""

    task_ids: Sequence[str]
    """Names of the games, ``<split>/<task>/<trial>``; the task begins with its type and a ``-``."""

    def __len__(self) -> int:
        """Return the number of games."""
        return len(self.task_ids)

    @abstractmethod
    def __getitem__(self, index: int) -> Game:
        """Return game ``index``, ready to play in the direct engine."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the source itself."""
        return self

    @abstractmethod
    def walkthrough(self, index: int) -> tuple[str, ...]:
        """Return commands that win game ``index``."""

    @abstractmethod
    def data(self, index: int) -> Mapping[str, Any]:
        """Return the fields of the game file, for the stock engine."""


@dataclass(frozen=True, slots=True)
class GameFile:
    """A game file as it was read.

    Attributes:
        problem: the house, its start and its goal.
        walkthrough: commands that win, by a planner that sees the whole state.
        solvable: whether that planner found any.
    """

    problem: Problem
    walkthrough: tuple[str, ...]
    solvable: bool


class GameIndex(GameSource):
    """A source over game files: parsed once, kept as lines of JSON, unpacked when asked for."""

    def __init__(self, files: GameFiles, task_ids: tuple[str, ...], lines: Sequence[bytes]) -> None:
        """Hold the games ``task_ids``, whose parsed form is in ``lines``."""
        self._files, self._lines, self.task_ids = files, lines, task_ids
        self._game = lru_cache(maxsize=_KEPT_GAMES)(self._unpack)
        self._packed: dict[str, tuple[str, bytes]] = {}

    def __getitem__(self, index: int) -> Game:
        """Return game ``index``, ready to play in the direct engine."""
        return self._game(index)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where the games are, and not the games; they are read again, and must be the same."""
        return _index_again, (self._files, self.sha256)

    @cached_property
    def sha256(self) -> str:
        """Checksum of the names and the parsed games."""
        digest = hashlib.sha256("\n".join(self.task_ids).encode())
        for line in self._lines:
            digest.update(line)
        return digest.hexdigest()

    def walkthrough(self, index: int) -> tuple[str, ...]:
        """Return commands that win game ``index``."""
        return tuple(json.loads(self._lines[index])[1])

    def data(self, index: int) -> Mapping[str, Any]:
        """Return the fields of the game file, read again; an archive is unpacked once, and its files kept packed."""
        wanted, archive = self.task_ids[index], self._files.place.is_file()
        if wanted not in self._packed:
            for task_id, where, content in self._files.read(self.task_ids if archive else [wanted]):
                if not archive:
                    return _fields(content, where)
                self._packed[task_id] = where, zlib.compress(content)
        if wanted not in self._packed:
            raise FileNotFoundError(f"{self._files.place}: game {wanted} is no longer there")
        where, packed = self._packed[wanted]
        return _fields(zlib.decompress(packed), where)

    def _unpack(self, index: int) -> Game:
        return Game(Problem.from_json(json.loads(self._lines[index])[0]))


@dataclass(frozen=True)
class GameFiles:
    """The game files of one split in a folder or in a tar archive."""

    place: Path
    split: str

    def read(self, wanted: Sequence[str] | None = None) -> Iterator[tuple[str, str, bytes]]:
        """Yield (task id, where it is in words, content), in no particular order.

        Args:
            wanted: task ids; others may be left out. None: all.
        """
        if self.place.is_file():
            yield from self._from_archive(wanted)
            return
        named = [self.place.joinpath(*task_id.split("/")[1:], GAME_FILE) for task_id in wanted or ()]
        for file in self.files() if wanted is None else named:
            task, trial = file.parts[-3:-1]
            yield f"{self.split}/{task}/{trial}", str(file), read_document(file)

    def files(self) -> list[Path]:
        """Return the game files of a folder, or the archive."""
        return [self.place] if self.place.is_file() else sorted(self.place.glob(f"*/*/{GAME_FILE}"))

    def _from_archive(self, wanted: Sequence[str] | None) -> Iterator[tuple[str, str, bytes]]:
        ids = None if wanted is None else set(wanted)

        def is_wanted(name: str) -> bool:
            parts = name.split("/")
            ours = parts[-1] == GAME_FILE and parts[-4:-3] == [self.split]
            return ours and (ids is None or "/".join(parts[-4:-1]) in ids)

        for name, content in read_members(self.place, is_wanted):
            yield "/".join(name.split("/")[-4:-1]), f"{self.place}, member {name}", content


def _index_again(files: GameFiles, sha256: str) -> GameIndex:
    index = _index(files, _stamps(files)) if files.place.exists() else None
    if index is None:
        raise FileNotFoundError(
            f"{files.place}: no games of split {files.split!r} there any longer; a pickled environment reads them again"
        )
    if index.sha256 != sha256:
        raise ValueError(f"{files.place}: the games have changed since this environment was pickled; make it anew")
    return index


def open_games(split: str, path: str | Path | None = None) -> GameSource:
    """Return the games of ``split``.

    Args:
        split: "train", "valid_seen" or "valid_unseen".
        path: the folder that holds ``json_2.1.1``, that folder itself, a tar archive (``.tar.xz``) of
            it, a folder with such an archive, "generated" or "generated:SEED". None: ``$OREO_DATA/alfworld``, then
            ``$ALFWORLD_DATA``, then alfworld's download folder ``~/.cache/alfworld``.

    Raises:
        FileNotFoundError: no games there; says where it looked and how to get them.
        ValueError: a file that is no game, corrupt, or written with other rules; says which.
    """
    if path is not None and not isinstance(path, str | Path):
        raise ValueError(f"path must be a text or a Path, got {path!r}")
    name, _, seed = str(path).partition(":")
    if name in NAMED_SOURCES:
        if seed and not re.fullmatch(r"\d{1,9}", seed, re.ASCII):
            raise ValueError(f"path={path!r}: the seed after {name!r} must be a whole number below 10^9")
        module, _, function = NAMED_SOURCES[name].partition(":")
        source: GameSource = getattr(importlib.import_module(module), function)(split, seed=int(seed or 0))
        return source
    places = [Path(path).expanduser().absolute()] if path is not None else _usual_places()
    for place in places:
        for files in _candidates(place, split):
            if index := _index(files, _stamps(files)):
                return index
    looked = ", ".join(map(str, places))
    raise FileNotFoundError(f"no games of split {split!r} in {looked}: {_REMEDY}")


def read_game_file(content: bytes, where: str) -> GameFile:
    """Read the content of one ``game.tw-pddl`` file.

    Args:
        content: the file.
        where: its name, for errors.

    Raises:
        ValueError: it is no game file, or one that the direct engine must not play.
    """
    fields = _fields(content, where)
    try:
        problem = read_problem(fields["pddl_problem"], task_of(fields["pddl_domain"], fields["grammar"]))
        if Game(problem).start.won:
            raise ValueError("its goal is met before the first command")
    except ValueError as error:
        raise ValueError(
            f"{where}: {error}; take the file out of the folder, or get the games of release 0.4"
        ) from None
    return GameFile(problem, tuple(fields["walkthrough"]), fields["solvable"])


def _fields(content: bytes, where: str) -> dict[str, Any]:
    """The JSON object in a game file, with fields of the right types."""
    mend = "; get the file again, or take it out of the folder"
    try:
        fields = read_json(content)
    except TooDeepError as error:
        raise ValueError(f"{where}: {error}") from None
    except ValueError as error:  # bad JSON or bad UTF-8
        raise ValueError(f"{where}: not JSON ({error}){mend}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{where}: not a JSON object but {type(fields).__name__}{mend}")
    fields = {"walkthrough": [], "solvable": False, **fields}
    for name in ("pddl_domain", "grammar", "pddl_problem"):
        if not isinstance(fields.get(name), str):
            raise ValueError(f"{where}: no text in field {name!r}, so not a game of ALFWorld{mend}")
    walkthrough = fields["walkthrough"]
    if not isinstance(walkthrough, list) or not all(isinstance(command, str) for command in walkthrough):
        raise ValueError(f"{where}: field 'walkthrough' is no list of commands{mend}")
    if not isinstance(fields["solvable"], bool):
        raise ValueError(f"{where}: field 'solvable' is neither true nor false{mend}")
    return fields


def _usual_places() -> list[Path]:
    places = []
    if root := os.environ.get(DATA_VARIABLE):
        places.append(Path(root).expanduser() / "alfworld")
    if root := os.environ.get(ALFWORLD_VARIABLE):
        places.append(Path(root).expanduser())
    return [*places, Path("~/.cache/alfworld").expanduser()]


def _candidates(place: Path, split: str) -> Iterator[GameFiles]:
    """Where the split may be at ``place``."""
    if place.is_file():
        yield GameFiles(place, split)
        return
    for folder in (place / LAYOUT_FOLDER / split, place / split):
        if folder.is_dir():
            yield GameFiles(folder, split)
    for archive in sorted(place.glob("*.tar.xz")):
        yield GameFiles(archive, split)


def _stamps(files: GameFiles) -> tuple[tuple[str, int, int], ...]:
    """Names, times of change and sizes: what tells in one process that nothing has changed."""
    return tuple((str(file), status.st_mtime_ns, status.st_size) for file in files.files() for status in [file.stat()])


@lru_cache(maxsize=8)
def _index(files: GameFiles, stamps: tuple[tuple[str, int, int], ...]) -> GameIndex | None:
    """Index of the files, from the cache where it has one; None where there are no games of the split."""
    if not stamps:
        return None
    key = f"alfworld-{files.split}-{_digest(stamps)}"
    lines = read_cache(key)
    if lines is None:
        logger.info("%s: reading the games of split %s for the first time", files.place, files.split)
        lines = _rows(files)
        write_cache(key, lines)
    if not lines:
        return None
    rows = [line.partition(b"\t") for line in lines]
    return GameIndex(files, tuple(name.decode() for name, _, _ in rows), [body for _, _, body in rows])


def _digest(stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Hash of the files' contents and of their places in the layout."""
    digest = hashlib.sha256()
    for name, _, size in stamps:
        digest.update(f"{'/'.join(Path(name).parts[-3:])} {size}\n".encode())
        with open(name, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:32]


def _rows(files: GameFiles) -> list[bytes]:
    """Lines of the index, sorted by task id: games of the six task types that are known to have a solution."""
    rows, left_out = {}, 0
    for task_id, where, content in files.read():
        if task_type(task_id) not in TASK_TYPES:
            left_out += 1
            continue
        game = read_game_file(content, where)
        left_out += not game.solvable
        if game.solvable:
            rows[task_id] = [game.problem.to_json(), game.walkthrough]
    if left_out:
        logger.warning(
            "%s: %d games of split %s are left out: not marked solvable, or of no known task type",
            files.place,
            left_out,
            files.split,
        )
    return [task_id.encode() + b"\t" + json.dumps(rows[task_id]).encode() for task_id in sorted(rows)]


def task_type(task_id: str) -> str:
    """Return the task type in a task id, "pick_and_place_simple"."""
    return task_id.split("/")[1].partition("-")[0]
