"""Checkpoints: folders ``checkpoint-N`` that are whole or absent, so that a kill leaves the last one usable.

Knows: names and how many to keep. Does not know: what the state holds.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import torch

from oreo_algos.storage.atomic import replace_folder

_NAME = re.compile(r"checkpoint-(\d+)")
_STATE = "state.pt"


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write ``folder/checkpoint-<step>`` and drop all but the last ``keep``."""
    path = folder / f"checkpoint-{step}"
    with replace_folder(path) as temporary:
        torch.save(state, temporary / _STATE)
    for _, old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return path


def remove_checkpoints(folder: Path) -> None:
    """Drop all checkpoints of a run folder: what they lead to is there."""
    for _, path in list_checkpoints(folder):
        shutil.rmtree(path)


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return (step, folder) of every whole checkpoint, oldest first."""
    found = [
        (int(match[1]), path)
        for path in folder.glob("checkpoint-*")
        if (match := _NAME.fullmatch(path.name)) and (path / _STATE).exists()
    ]
    return sorted(found)


def load_last_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Load the newest checkpoint of a run folder to the CPU, or return None when there is none.

    Raises:
        ValueError: the newest checkpoint cannot be read; the message names the file and the mend.
    """
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        return None
    path = checkpoints[-1][1] / _STATE
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path}: this checkpoint cannot be read ({type(error).__name__}); delete the folder {path.parent} to "
            "continue from the checkpoint before it, or from the start"
        ) from error
