"""Writing generated games as ``game.tw-pddl`` files.

Knows: ALFWorld's folder layout, how to write a split whole or not at all.
Does not know: how houses are made (``houses``), how files are read (``games``).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from oreo_envs.alfworld.games import GAME_FILE, LAYOUT_FOLDER
from oreo_envs.alfworld.houses import generated_games


def write_games(folder: Path, split: str, count: int | None = None, *, seed: int = 0) -> int:
    """Write the generated games of a split to ``folder/json_2.1.1/<split>/<task>/<trial>/game.tw-pddl``.

    The split appears under its name when all of it is written.

    Args:
        folder: is made where it is missing; pass it as ``path`` to play the games.
        split: "train", "valid_seen" or "valid_unseen".
        count: the first so many games, see ``generated_games``.
        seed: another seed draws other games.

    Returns:
        Number of games.

    Raises:
        ValueError: the folder is a file or has this split already, an unknown split, or a count below 1.
    """
    games = generated_games(split, count, seed=seed)
    place = folder / LAYOUT_FOLDER / split
    if place.exists():
        raise ValueError(f"{place} is there already; choose another folder, or remove it first")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"{folder} is, or lies in, a file; choose a folder") from None
    unfinished = place.with_name(f".{split}.tmp-{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that had our number
    try:
        unfinished.mkdir()
        for index, task_id in enumerate(games.task_ids):
            trial = unfinished.joinpath(*task_id.split("/")[1:])
            trial.mkdir(parents=True)
            (trial / GAME_FILE).write_text(json.dumps(games.data(index)), encoding="utf-8")
        os.sync()  # once, rather than a thousand times: what has its name is on disk
        unfinished.rename(place)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return len(games)
