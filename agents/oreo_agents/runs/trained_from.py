"""What a trained network came from, as its run recorded it: the policy that it began with, the tasks it learned from.

Knows: ``summary.json``, ``config.yaml``, and where the places they name lie. Does not know: how a run makes them.
"""

import os
from collections.abc import Mapping, Sequence
from os.path import expanduser
from pathlib import Path
from typing import Any

from oreo_agents.episodes.ungraded import only_graded
from oreo_agents.evaluation.run_settings import read_config
from oreo_agents.runs.layout import STARTS
from oreo_agents.runs.run_data import divide
from oreo_agents.runs.run_folders import at
from oreo_algos import EpisodeBuffer
from oreo_envs.limits import read_document, read_json

START = "start_folder"
"""In a summary: where a start lies that runs share, as seen from the run folder; without it: there."""


def start_record(run: Path, start: Path) -> dict[str, str]:
    """Return what a summary says of where the start lies that it names places in."""
    own = os.path.relpath(start.resolve(), run.resolve())
    return {} if own == "." else {START: own}


def untrained(policy_path: str) -> str | None:
    """Say that a policy is what the supervised fine-tuning of a run began with; None: it is another one."""
    folder = Path(policy_path).resolve()
    tuned = folder.parent / "sft" / "policy"
    if folder.name != "start" or not tuned.is_dir():
        return None
    return (
        f"policy.path={policy_path} is what supervised fine-tuning began with, random weights that have learned "
        f"nothing; the start of that run, which its algorithms were trained from, is policy.path={tuned}"
    )


def reference_of(policy_path: str) -> str | None:
    """Return the checkpoint that a policy of a run, ``RUN/NAME/policy``, was trained from; None: nothing tells.

    It is the reference of the training, and what the policy began with where it had none.

    Raises:
        ValueError: it was a policy of a start that is no longer there.
    """
    folder = Path(policy_path).parent
    summary = _summary(folder)
    named = summary.get("reference") or summary.get("policy")
    if named is None:
        return None
    found = _place(folder, summary, str(named))
    if not found.is_dir() and str(named) in ("start", "sft/policy"):
        raise ValueError(
            f"{folder} was trained from {named}, which lies neither in the run folder nor in the start that runs share "
            f"({summary.get(START, STARTS)}): it was moved or deleted; give it as reference.path=FOLDER"
        )
    return str(found) if found.is_dir() else str(named)


def learned_from(network_path: str) -> frozenset[str] | None:
    """Return the names of the tasks that a network of a run, such as ``RUN/NAME/policy``, learned from.

    Returns:
        None where nothing tells: it is of no run, or the episodes are no longer those that it learned from.
    """
    folder = Path(network_path).parent
    summary = _summary(folder)
    parts = summary.get("buffers") or ()
    if not parts:
        return None
    places = [_place(folder, summary, str(part["path"])) for part in parts]
    try:
        buffers = [only_graded(EpisodeBuffer.load(place), str(place)) for place in places]
        buffers = _without_held_back(buffers, parts, folder.parent / "config.yaml")
    except (FileNotFoundError, ValueError):
        return None
    whole = EpisodeBuffer.concatenate(buffers)
    if summary.get("identity") not in (None, whole.identity):
        return None
    return frozenset(whole.columns.task_ids)


def _without_held_back(
    buffers: Sequence[EpisodeBuffer], parts: Sequence[Mapping[str, Any]], config: Path
) -> list[EpisodeBuffer]:
    """Leave out, of the buffers that the settings of a run name, the tasks that it held back."""
    settings = read_config(config) if config.exists() else {}
    share, data = at(settings, "evaluate.pairs.share"), settings.get("data") or ()
    if share is None:
        return list(buffers)
    given = set(map(expanduser, [data] if isinstance(data, str) else data))
    own = [place for place, part in enumerate(parts) if part.get("given", part["path"]) in given]
    divided = dict(zip(own, divide([buffers[place] for place in own], float(share), held=False), strict=True))
    return [divided.get(place, buffer) for place, buffer in enumerate(buffers)]


def _summary(folder: Path) -> Mapping[str, Any]:
    try:
        found = read_json(read_document(folder / "summary.json"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _place(folder: Path, summary: Mapping[str, Any], named: str) -> Path:
    """Return where a place lies that a summary names: in the run, in its start, or as it is."""
    places: list[str | Path] = [folder.parent]
    if (start := summary.get(START)) is not None:
        places += [os.path.normpath(folder.parent.resolve() / start), STARTS / Path(start).name]
    inside = [Path(place, named) for place in places]
    return next((place for place in inside if place.exists()), Path(named))
