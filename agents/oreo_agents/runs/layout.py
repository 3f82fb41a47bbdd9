"""The layout of a run folder: where things lie, and what they are called in records.

Knows: names and paths. Does not know: what lies there, or how it is made.
"""

from dataclasses import dataclass
from pathlib import Path

from oreo_agents.evaluation.round_names import round_name

STARTS = Path("outputs") / "starts"
"""Where runs that begin in the same way, such as the jobs of a sweep, share the start and the episodes."""


@dataclass(frozen=True)
class Layout:
    """The folders of a run.

    Attributes:
        folder: of the run.
        start: where the start and the episodes of the first round lie, which runs may share.
    """

    folder: Path
    start: Path

    @property
    def demonstrations(self) -> Path:
        """The buffer of demonstrations."""
        return self.start / "data" / "demonstrations"

    @property
    def offline(self) -> Path:
        """The buffer collected for the first round, which all algorithms share."""
        return self.start / "data" / "episodes"

    def shard(self, name: str) -> Path:
        """Return the buffer of a shard of the offline episodes, which no other process writes."""
        return self.folder / "data" / f"episodes-{name}"

    def round(self, algorithm: str, number: int) -> Path:
        """Return the folder of a round of an algorithm: its policy, its value, its answers."""
        return self.folder / round_name(algorithm, number)

    def episodes(self, algorithm: str, number: int) -> Path:
        """Return the buffer that was made for a round of an algorithm, and for it alone."""
        return self.round(algorithm, number) / "data" / "episodes"

    def name(self, path: str | Path) -> str:
        """Name a path in a record: within this run by its place there."""
        for folder in (self.folder, self.start):
            if Path(path).is_relative_to(folder):
                return Path(path).relative_to(folder).as_posix()
        return str(path)
