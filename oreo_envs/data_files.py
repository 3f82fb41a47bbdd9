"""Which files hold a split.

Knows: how people lay out data sets: files and shards named after a split, folders named after one, cloned hub
repositories with a folder a configuration or a subject, what `datasets.save_to_disk` writes.
Does not know: what is in the files, what a split is for, how a hub repository's card is written (``hub_card``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from oreo_envs.data_rows import data_stem
from oreo_envs.hub_card import card_splits, split_of
from oreo_envs.limits import PREFIX, Limits, read_document, read_json

_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "validation", "valid", "val"), "dev"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_NOT_DATA = {"dataset_info", "dataset_infos", "dataset_dict", "state"}
_SHARD = re.compile(r"[-_.](\d+)-of-(\d+)(?:-[0-9a-f]+)?$", re.ASCII)
_MAX_DEPTH = 8
_MAX_SHARDS = 200_000


class WrongSplit(ValueError):
    """What lies there is not the split that was asked for."""


@dataclass(frozen=True)
class Naming:
    """What is known of a data set before it is looked for.

    Attributes:
        name: of the data set.
        hub_files: files of each split on the hub, whose folders are preferred over others; none: one's own data.
        aliases: the split that holds another one.
    """

    name: str
    hub_files: Mapping[str, Sequence[str]]
    aliases: Mapping[str, str]

    def says(self, word: str) -> str | None:
        """Return the split that a word means, if it means one."""
        plain = _plain(word)
        return _WORDS.get(plain) or next((split for split in self.hub_files if _plain(split) == plain), None)

    def folders(self, split: str) -> list[str]:
        """Return the folders of a split on the hub."""
        parents = [str(Path(file).parent) for file in self.hub_files.get(split, ())]
        return [name for name in dict.fromkeys(parents) if name != "."]


@dataclass(frozen=True)
class _Found:
    """A data file, or a saved data set of several: where, the split it says, and what it is one file of."""

    place: Path
    files: tuple[Path, ...]
    split: str | None
    exact: bool
    group: tuple[str, ...]


def name_files(naming: Naming, split: str) -> str:
    """Say in words what files of a split may be called."""
    stem = naming.aliases.get(split, split)
    return (
        f"{stem}.jsonl, .json, .csv, .parquet or .arrow (also .gz, .bz2, .xz, .zst), shards such as "
        f"{stem}-00000-of-00002.parquet, or a folder {stem}/"
    )


def explicit_file(file: Path, split: str, naming: Naming, held_out: Sequence[str]) -> tuple[Path, ...]:
    """Return a file that was named by its path.

    Raises:
        WrongSplit: its name says that it is held out, and ``split`` is to be learned from.
        ValueError: no kind of file that is read.
    """
    stem = data_stem(file)
    if stem is None:
        raise ValueError(f"{file}: not a kind of file that is read here; save it as {name_files(naming, split)}")
    said, _, _ = _said(stem, (), file.parent.name, naming)
    _refuse_held_out(file, said, split, held_out)
    return (file,)


def split_files(root: Path, split: str, naming: Naming, held_out: Sequence[str]) -> tuple[Path, ...]:
    """Return the files of a split in a folder, in order; () if there are none.

    Raises:
        ValueError: several files may be meant, a shard or a subject is missing.
        WrongSplit: a saved data set that is held out.
    """
    found = _find(root, naming)
    chosen: list[_Found] = []
    for name in (split, naming.aliases.get(split, split)):
        chosen = chosen or [one for one in found if one.split == name]
    if not chosen and not naming.hub_files and split == "train" and not any(one.split for one in found):
        chosen = found  # files that are named after nothing are there to learn from
    if [one.place for one in found] == [root] and not chosen:  # the folder is one saved data set
        _refuse_held_out(root, found[0].split, split, held_out)
        chosen = found
    chosen = [one for one in chosen if one.exact] or chosen
    return tuple(file for group in _one_group(root, chosen, split, naming) for file in _whole(root, group))


def describe(root: Path, naming: Naming) -> str:
    """Say which data files a folder has, and which split each is of."""
    found = _find(root, naming)
    shown = [f"{_relative(root, one.place)}{f' ({one.split})' if one.split else ''}" for one in found[:6]]
    more = f" and {len(found) - 6} more" if len(found) > 6 else ""
    return f"its data files are {', '.join(shown)}{more}" if found else "it has no data files"


def _refuse_held_out(place: Path, said: str | None, split: str, held_out: Sequence[str]) -> None:
    if said in held_out and split not in held_out:
        raise WrongSplit(
            f"{place}: its name says {said!r}, and split {split!r} is what may be learned from; "
            f"pass split={said!r}, or, if nothing is evaluated on it, allow_test_problems=True"
        )


def _said(stem: str, folders: tuple[str, ...], root: str, naming: Naming) -> tuple[str | None, bool, int]:
    """The split that a name says, is a whole word that, and how many folders down does it stand (-1: the file)."""
    if split := naming.says(_SHARD.sub("", stem)):
        return split, True, -1
    for depth in reversed(range(len(folders))):
        if split := naming.says(folders[depth]):
            return split, True, depth + 1
    words = {naming.says(word) for word in re.split(r"[^a-z0-9]+", _SHARD.sub("", stem).lower())} - {None}
    if words:
        return (words.pop() if len(words) == 1 else None), False, -1
    split = naming.says(root)
    return split, split is not None, 0 if split else -1


def _find(root: Path, naming: Naming) -> list[_Found]:
    """All data files of a folder; one whose name says nothing is what the folder's card says it is."""
    pairs = card_splits(root)
    found = []
    for one in _walk(root, root, naming, [0]):
        split = split_of(PurePosixPath(*one.place.relative_to(root).parts), pairs) if one.split is None else None
        found.append(replace(one, split=naming.says(split) or split, exact=True) if split else one)
    return found


def _walk(folder: Path, root: Path, naming: Naming, count: list[int]) -> Iterator[_Found]:
    parts = folder.relative_to(root).parts
    saved = _saved_dataset(folder)
    if saved is not None:
        files, said = saved
        split, _, _ = _said(folder.name, parts[:-1], folder.name, naming)
        yield _Found(folder, files, naming.says(said) or split, True, (*parts, ""))
        return
    for entry in sorted(folder.iterdir(), key=lambda entry: _natural(entry.name)):
        count[0] += 1
        if count[0] > (most := Limits.now().members):
            raise ValueError(
                f"{root}: more than {most:,} files and folders; pass the folder of the data set, or raise "
                f"{PREFIX}MEMBERS"
            )
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir():
            if len(parts) < _MAX_DEPTH:
                yield from _walk(entry, root, naming, count)
        elif entry.exists() and not entry.is_file():
            continue  # a pipe, a socket
        elif (stem := data_stem(entry)) is not None and stem not in _NOT_DATA:
            split, exact, depth = _said(stem, parts, root.name, naming)
            group = (*parts, _SHARD.sub("", stem)) if depth < 0 else (*parts[:depth], "")
            yield _Found(entry, (entry,), split, exact, group)


def _saved_dataset(folder: Path) -> tuple[tuple[Path, ...], str] | None:
    """The Arrow files and the split of a folder that `save_to_disk` wrote, in order."""
    if not (folder / "state.json").is_file() or not (folder / "dataset_info.json").is_file():
        return None
    try:
        state = read_json(read_document(folder / "state.json"))
        files = tuple(folder / part["filename"] for part in state["_data_files"])
        chosen = state.get("_indices_data_files") or state.get("_indices_files")
        said = re.match(r"\w*", str(state.get("_split") or ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{folder}: state.json is not what save_to_disk writes; save the data set again") from None
    if chosen:
        raise ValueError(f"{folder}: a selection of rows; save it again after dataset.flatten_indices()")
    missing = [file.name for file in files if not file.is_file()]
    if missing or any(file.parent != folder for file in files):
        raise ValueError(
            f"{folder}: {', '.join(missing) or 'a file'} of this saved data set is not there; copy it whole"
        )
    return files, said[0] if said else ""


def _one_group(root: Path, chosen: list[_Found], split: str, naming: Naming) -> list[list[_Found]]:
    """What belongs together: one group, or those of the folders that the hub has."""
    groups: dict[tuple[str, ...], list[_Found]] = {}
    for one in chosen:
        groups.setdefault(one.group, []).append(one)
    wanted = {name: [group for group in groups if name in group[:-1]] for name in naming.folders(split)}
    have = [name for name, matches in wanted.items() if matches]
    if have and len(have) < len(wanted):
        missing = ", ".join(name for name in wanted if name not in have)
        raise ValueError(f"{root}: split {split!r} of {naming.name} is one folder a subject, and there is no {missing}")
    if have and all(len(matches) == 1 for matches in wanted.values()):
        return [groups[group] for [group] in wanted.values()]
    if len(groups) > 1:
        _refuse_several(root, [members[0] for members in groups.values()], split)
    return list(groups.values())


def _whole(root: Path, group: list[_Found]) -> Iterator[Path]:
    """Files of a group; nothing may be there twice, and no shard may be missing."""
    by_stem: dict[Path, list[_Found]] = {}
    shards: dict[tuple[Path, int], set[int]] = {}
    for one in group:
        stem = data_stem(one.place) or one.place.name
        by_stem.setdefault(one.place.parent / stem, []).append(one)
        if match := _SHARD.search(stem):
            shards.setdefault((one.place.parent / _SHARD.sub("", stem), int(match[2])), set()).add(int(match[1]))
    for twins in by_stem.values():
        if len(twins) > 1:
            _refuse_several(root, twins, group[0].split or "train")
    for (stem_path, total), numbers in shards.items():
        missing = sorted({*range(total)} - numbers) if total <= _MAX_SHARDS else [total]
        if missing:
            raise ValueError(
                f"{stem_path}: shard {missing[0]:05d} of {total:05d} is not there; download the data set whole"
            )
    yield from (file for one in group for file in one.files)


def _refuse_several(root: Path, candidates: Sequence[_Found], split: str) -> None:
    shown = " or ".join(_relative(root, one.place) for one in candidates[:6])
    more = f" or {len(candidates) - 6} more" if len(candidates) > 6 else ""
    raise ValueError(
        f"{root}: split {split!r} may be {shown}{more}; pass the file or folder that you mean as path=..., "
        "or a list of them to join them"
    )


def _relative(root: Path, place: Path) -> str:
    return str(place.relative_to(root)) if place != root else place.name


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]
