"""What the card of a hub repository says of its files.

Knows: the head of a `README.md`, where data sets name the files of each split.
Does not know: how splits are named here, what is in the files.
Source: https://huggingface.co/docs/hub/datasets-manual-configuration
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from oreo_envs.limits import read_yaml

_HEAD = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_MAX_CARD = 1 << 20


def card_splits(folder: Path) -> list[tuple[str, str]]:
    """Return pairs of a pattern of file names and the split that it is; [] if there is no card or it says nothing."""
    card = folder / "README.md"
    if not card.is_file() or card.stat().st_size > _MAX_CARD:
        return []
    head = _HEAD.match(card.read_text(encoding="utf-8", errors="replace"))
    if head is None or "data_files" not in head[1]:
        return []
    try:
        said = read_yaml(head[1])
    except ValueError:
        return []  # a card is for readers first: files are then told by their names
    return list(_pairs(said))


def split_of(file: PurePosixPath, pairs: list[tuple[str, str]]) -> str | None:
    """Return the split that a card says a file is, None for none or several."""
    splits = {split for pattern, split in pairs if fnmatchcase(str(file), pattern.removeprefix("./"))}
    return splits.pop() if len(splits) == 1 else None


def _pairs(said: Any) -> Iterator[tuple[str, str]]:
    configurations = said.get("configs") if isinstance(said, dict) else None
    for one in configurations if isinstance(configurations, list) else ():
        entries = one.get("data_files") if isinstance(one, dict) else None
        for entry in entries if isinstance(entries, list) else [entries]:
            split, paths = (entry.get("split"), entry.get("path")) if isinstance(entry, dict) else ("train", entry)
            for path in paths if isinstance(paths, list) else [paths]:
                if isinstance(split, str) and isinstance(path, str):
                    yield path, split
