"""Where numbers go: one JSON object a line in ``metrics.jsonl``, and the trackers of the run.

Knows: names and steps. Does not know: what the numbers mean. Names follow ``room/what``.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from oreo_algos.storage.atomic import write_text
from oreo_algos.training.trackers import DEFAULT, Tracked, Trackers

FILE_NAME = "metrics.jsonl"


class MetricsWriter:
    """Append metrics of one run; opened at step n, everything logged after step n before is dropped.

    Step 0 is what was found before the first step; a new run begins with it, whatever was logged before.

    Args:
        folder: run folder; both the JSON lines and the TensorBoard events are written there.
        resume_step: the step that the run continues from, 0 for a new run.
        trackers: which services are told the same, see ``trackers``.
        settings: of the run, for them.
    """

    def __init__(
        self,
        folder: Path,
        resume_step: int = 0,
        *,
        trackers: Sequence[str] = DEFAULT,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Open the files, keeping what was logged up to ``resume_step``."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE_NAME
        before = read_metrics(folder)
        kept = [row for row in before if row["step"] <= resume_step and resume_step > 0]
        # The texts of step 0 stay in the trackers, for warnings are given only once: its numbers are not shown again.
        self._shown = next((row for row in before if row["step"] == 0), None)
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._trackers = Trackers(trackers, Tracked(folder, resume_step), settings or {})
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, metrics: Mapping[str, float], texts: Mapping[str, str] | None = None) -> None:
        """Record the metrics of a step, a value that is not finite as null, and show texts of it in the trackers."""
        row = {"step": step} | {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if step == 0 and self._shown is not None and _counted(row) == _counted(self._shown):
            return
        self._trackers.scalars(step, metrics)
        for tag, text in (texts or {}).items():
            self._trackers.text(tag, text, step)

    def write_text(self, tag: str, text: str) -> None:
        """Show a text in the trackers."""
        self._trackers.text(tag, text)

    def flush(self) -> None:
        """Have all that was recorded on disk, and the trackers hand over what they hold."""
        os.fsync(self._file.fileno())
        self._trackers.flush()

    def close(self) -> None:
        """Close the file, and end what the trackers do."""
        self._file.close()
        self._trackers.finish()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


class SilentWriter:
    """What another process writes, is not written here: takes all that is said to a ``MetricsWriter`` or a log."""

    def write(self, step: int, metrics: Mapping[str, float], texts: Mapping[str, str] | None = None) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def write_text(self, tag: str, text: str) -> None:
        """Nothing."""

    def give(self, findings: Iterable[Any]) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing."""


def _counted(row: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return the numbers that are the same whenever they are taken."""
    return {name: value for name, value in row.items() if not name.endswith("seconds")}


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Read the metrics of a run folder; a last line cut off by a kill is ignored, a missing file is no metrics.

    Raises:
        ValueError: a line is damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            rows.append(row := json.loads(line))
            if not isinstance(row, dict) or not all(isinstance(value, int | float | None) for value in row.values()):
                raise ValueError("numbers by their names are expected")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: damaged ({error}); restore the file or remove it") from None
    return rows
