"""Jobs of a sweep that gave no result: written down as they fail, told when the others are done.

Knows: a file in the folder of a job. Does not know: who runs jobs, what they do.
The file is there from the begin of a job to its good end, so that a job that was killed has one too.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from oreo_algos.storage.atomic import write_text
from oreo_envs.limits import files_below, read_document, read_json, read_yaml

FILE = "failed.json"
_UNENDED = "it did not end: it was killed, perhaps for lack of memory, or is still at work"


@dataclass(frozen=True)
class FailedJob:
    """A job without a result.

    Attributes:
        folder: of its run.
        settings: that it was given and not all jobs of its sweep.
        why: in a sentence.
    """

    folder: Path
    settings: str
    why: str


def write_begin(folder: Path, settings: Sequence[str]) -> None:
    """Note that a job has begun."""
    write_failure(folder, settings, _UNENDED)


def write_failure(folder: Path, settings: Sequence[str], why: str) -> None:
    """Note why a job gives no result."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / FILE, json.dumps({"settings": list(settings), "why": why}, indent=2) + "\n")


def clear(folder: Path) -> None:
    """Note that a job has ended well."""
    (folder / FILE).unlink(missing_ok=True)


def load_failed(folders: Iterable[Path]) -> list[FailedJob]:
    """Return the jobs in or below folders that gave no result, by their folders."""
    files = {file for folder in folders for file in files_below(folder, FILE)}
    return [_read(file) for file in sorted(files, key=lambda file: (len(file.parts), _natural(file)))]


def failed_table(jobs: Sequence[FailedJob]) -> Table:
    """Return what failed and why, a row a job."""
    table = Table(title="Jobs without a result")
    table.add_column("job", no_wrap=True)
    table.add_column("settings")
    table.add_column("why")
    for job in jobs:
        table.add_row(job.folder.name, job.settings, job.why)
    return table


def _read(file: Path) -> FailedJob:
    try:
        said = read_json(read_document(file))
        everywhere = _of_all_jobs(file.parent.parent / "multirun.yaml")
        told = [str(setting) for setting in said["settings"] if setting not in everywhere]
        return FailedJob(file.parent, " ".join(told), str(said["why"]))
    except (ValueError, KeyError, TypeError) as error:
        return FailedJob(file.parent, "", f"{file} cannot be read ({error})")


def _of_all_jobs(file: Path) -> set[str]:
    """Return the settings that a sweep gave all its jobs alike, as far as it was written down."""
    try:
        return set(read_yaml(read_document(file).decode())["hydra"]["overrides"]["task"])
    except (OSError, KeyError, TypeError, ValueError):
        return set()


def _natural(file: Path) -> list[tuple[float, str]]:
    return [(float(part) if part.isdecimal() else -1.0, part) for part in file.parts]
