"""Where numbers go: one JSON object a line in ``metrics.jsonl``, and TensorBoard events.

Knows: names and steps. Does not know: what the numbers mean. Names follow ``room/what``.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard import SummaryWriter

FILE_NAME = "metrics.jsonl"


class MetricsWriter:
    """Append metrics of one run; opened at step n, everything logged after step n before is dropped.

    Step 0 is what was found before the first step; a new run begins with it, whatever was logged before.

    Args:
        folder: run folder; both the JSON lines and the TensorBoard events are written there.
        resume_step: the step that the run continues from, 0 for a new run.
    """

    def __init__(self, folder: Path, resume_step: int = 0) -> None:
        """Open the files, keeping what was logged up to ``resume_step``."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE_NAME
        before = read_metrics(folder)
        kept = [row for row in before if row["step"] <= resume_step and resume_step > 0]
        # The texts of step 0 stay in TensorBoard, for warnings are given only once: its numbers are not shown again.
        self._shown = next((row for row in before if row["step"] == 0), None)
        # Renamed, so that a kill while rewriting loses no line.
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        temporary.replace(path)
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder), purge_step=resume_step + 1)

    def write(self, step: int, metrics: Mapping[str, float], texts: Mapping[str, str] | None = None) -> None:
        """Record the metrics of a step, a value that is not finite as null, and show texts of it in TensorBoard."""
        row = {"step": step} | {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if step == 0 and self._shown is not None and _counted(row) == _counted(self._shown):
            return
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)
        for tag, text in (texts or {}).items():
            self._board.add_text(tag, text, step)

    def write_text(self, tag: str, text: str) -> None:
        """Show a text in TensorBoard."""
        # Of step 0, for a run that continues drops the events of later steps, and a warning is given only once.
        self._board.add_text(tag, text, 0)
        self._board.flush()

    def flush(self) -> None:
        """Hand the TensorBoard events so far to the operating system, as every line of the file is at once."""
        self._board.flush()

    def close(self) -> None:
        """Flush and close both files."""
        self._file.close()
        self._board.close()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files."""
        self.close()


def _counted(row: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return the numbers that are the same whenever they are taken."""
    return {name: value for name, value in row.items() if not name.endswith("seconds")}


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Read the metrics of a run folder; a last line cut off by a kill is ignored, a missing file is no metrics."""
    path = folder / FILE_NAME
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]
