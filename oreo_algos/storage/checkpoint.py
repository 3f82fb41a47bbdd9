"""Checkpoints: folders ``checkpoint-N`` that are whole or absent, so that a kill leaves the last one usable.

Beside them, in ``best-N``, lie the networks of evaluations that were the best.
Knows: names and how many to keep. Does not know: what the state holds.
"""

import re
from collections.abc import Callable, Collection
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oreo_algos.ranks import Ranks
from oreo_algos.storage.atomic import remove, remove_leftovers, replace_folder
from oreo_algos.storage.shards import (
    Place,
    have_tensors,
    read_tensors,
    with_tensors,
    without_tensors,
    write_tensors,
)

_STATE = "state.pt"


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write ``folder/checkpoint-<step>`` and drop all but the last ``keep``."""
    path = _save(folder / f"checkpoint-{step}", state)
    keep_last(folder, keep)
    return path


def save_together(folder: Path, step: int, state: dict[str, Any], *, keep: int, ranks: Ranks) -> Path:
    """Do what ``save_checkpoint`` does where each of several processes holds a part of the tensors, or all of them.

    All write into the temporary folder; the first renames it when all have written.
    """
    path = folder / f"checkpoint-{step}"
    rest, tensors = without_tensors(state)
    with replace_folder(path) if ranks.leads else nullcontext(path) as temporary:
        write_tensors(ranks.gather(temporary)[0], tensors)
        ranks.barrier()
        if ranks.leads:
            torch.save(rest, temporary / _STATE)
    if ranks.leads:
        keep_last(folder, keep)
    ranks.barrier()
    return path


def keep_last(folder: Path, keep: int) -> None:
    """Drop all but the last checkpoints, and what killed processes left in the folder."""
    remove_leftovers(folder)
    for _, old in list_checkpoints(folder)[:-keep]:
        remove(old)


def _save(path: Path, state: dict[str, Any]) -> Path:
    with replace_folder(path) as temporary:
        torch.save(state, temporary / _STATE)
    return path


def save_best(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write ``folder/best-<step>``."""
    return _save(folder / f"best-{step}", state)


def load_best(folder: Path, step: int) -> dict[str, Any] | None:
    """Load what was the best of a step to the CPU, or return None when it is not there.

    Raises:
        ValueError: it cannot be read.
    """
    path = folder / f"best-{step}" / _STATE
    return _load(path, "training again from an empty folder makes it anew") if path.exists() else None


def remove_best(folder: Path, *, keep: Collection[int | None] = ()) -> None:
    """Drop the bests of all steps but some."""
    for step, path in _list(folder, "best"):
        if step not in keep:
            remove(path)


def remove_checkpoints(folder: Path) -> None:
    """Drop all checkpoints of a run folder, and the bests: what they lead to is there."""
    remove_leftovers(folder)
    remove_best(folder)
    for _, path in list_checkpoints(folder):
        remove(path)


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return (step, folder) of every whole checkpoint, oldest first."""
    return _list(folder, "checkpoint")


def _list(folder: Path, kind: str) -> list[tuple[int, Path]]:
    found = [
        (int(match[1]), path)
        for path in folder.glob(f"{kind}-*")
        if (match := re.fullmatch(rf"{kind}-(\d+)", path.name)) and (path / _STATE).exists()
    ]
    return sorted(found)


def load_last_checkpoint(
    folder: Path, like: Callable[[Place], Tensor | None] = lambda place: None
) -> dict[str, Any] | None:
    """Load the newest checkpoint of a run folder to the CPU, or return None when there is none.

    Args:
        folder: of the run.
        like: of a checkpoint that several processes wrote, what a tensor is to be like, see ``shards.read_tensors``.

    Raises:
        ValueError: the newest checkpoint cannot be read; the message names the file and the mend.
    """
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        return None
    path = checkpoints[-1][1]
    mend = f"delete the folder {path} to continue from the checkpoint before it, or from the start"
    state = _load(path / _STATE, mend)
    if not have_tensors(path):
        return state
    try:
        return with_tensors(state, read_tensors(path, like))
    except Exception as error:  # of damaged files anything
        raise ValueError(f"{path}: this checkpoint cannot be read ({type(error).__name__}); {mend}") from error


def _load(path: Path, mend: str) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: this checkpoint cannot be read ({type(error).__name__}); {mend}") from error
