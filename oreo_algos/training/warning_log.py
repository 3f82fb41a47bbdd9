"""Where the doctor's warnings go, each once: the console, TensorBoard and ``warnings.jsonl`` of a run folder.

Knows: names, texts, the file. Does not know: what is wrong, or how it was found.
"""

import json
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from oreo_algos.storage.atomic import write_text

FILE_NAME = "warnings.jsonl"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong.

    Attributes:
        name: of the warning, as in ``docs/doctor.md``.
        text: what was seen, with numbers; what it means; what to do.
    """

    name: str
    text: str


class WarningLog:
    """The warnings of one run folder; one that was given before, also by a process before this one, is not repeated.

    Args:
        folder: run folder; created with the first warning.
        add_text: writes (tag, text) to TensorBoard events that are open already, which a second file of events in
            the same folder would hide from a running TensorBoard; None: nothing else writes events there now.
        events: whether a warning opens a file of events where there is no ``add_text``.
    """

    def __init__(
        self, folder: Path, add_text: Callable[[str, str], None] | None = None, *, events: bool = True
    ) -> None:
        """Read what was given before."""
        self._folder, self._add_text, self._events = folder, add_text, events
        self._given = read_warnings(folder)

    def give(self, findings: Iterable[Finding]) -> None:
        """Give those warnings whose name is new to the folder."""
        for finding in findings:
            if all(finding.name != given.name for given in self._given):
                _log.warning("doctor: %s: %s: %s", _shown(self._folder), finding.name, finding.text)
                self._show(f"doctor/{finding.name}", finding.text)
                # Last, so that a kill in between makes a warning come twice, and not stay away.
                self._given.append(finding)
                self._save()

    def _save(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"name": finding.name, "text": finding.text}) + "\n" for finding in self._given]
        write_text(self._folder / FILE_NAME, "".join(lines))

    def _show(self, tag: str, text: str) -> None:
        if self._add_text is not None:
            self._add_text(tag, text)
        elif self._events:
            from torch.utils.tensorboard import SummaryWriter  # whoever reads warnings loads no torch

            with SummaryWriter(str(self._folder)) as board:
                board.add_text(tag, text)


def _shown(folder: Path) -> str:
    """Name a folder as commands take it: the last part alone, such as the number of a job, says too little."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) and folder != here else folder)


def read_warnings(folder: Path) -> list[Finding]:
    """Return the warnings given in a run folder, oldest first; without a file, none; what is no warning is left out."""
    path = folder / FILE_NAME
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            said = json.loads(line)
            found.append(Finding(str(said["name"]), str(said["text"])))
    return found
