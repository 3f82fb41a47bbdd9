"""What an evaluation from Python came to.

Knows: items, and how they are summed up. Does not know: how tasks were answered.
"""

from dataclasses import dataclass, field
from typing import Any

from oreo_agents.evaluation.evaluate import Item, summarize


@dataclass(frozen=True)
class Score:
    """Answered tasks of one split, by one search.

    Attributes:
        env_id: of the environment.
        split: of it.
        search: its name.
        items: one a task.
    """

    env_id: str
    split: str
    search: str
    items: tuple[Item, ...] = field(repr=False)

    def summary(self) -> dict[str, Any]:
        """Return counts, accuracy, its interval and means a task, see ``evaluation.evaluate.summarize``."""
        return summarize(self.items)

    @property
    def accuracy(self) -> float:
        """Share of the tasks that were solved, 0..1; those that nobody could grade left out."""
        return float(self.summary()["accuracy"])

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the accuracy."""
        summary = self.summary()
        return summary["wilson_low"], summary["wilson_high"]

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self.items)

    def __repr__(self) -> str:
        """One line: what was measured, solved tasks, accuracy with its interval, tokens."""
        summary = self.summary()
        rate = f"{summary['accuracy']:.1%} [{summary['wilson_low']:.1%}, {summary['wilson_high']:.1%}]"
        solved = f"{summary['correct']} of {summary['n']} solved, {rate}"
        tokens = f"{summary['tokens_per_task']:.0f} tokens a task"
        return f"Score({self.env_id} {self.split}, {self.search}: {solved}, {tokens})"

    def _repr_markdown_(self) -> str:
        """Return a table for a notebook."""
        summary = self.summary()
        rate = f"{summary['accuracy']:.1%} | {summary['wilson_low']:.1%} to {summary['wilson_high']:.1%}"
        return (
            "| environment | search | solved | accuracy | 95% interval | tokens a task |\n"
            "|---|---|---:|---:|---:|---:|\n"
            f"| {self.env_id}, {self.split} | {self.search} | {summary['correct']} of {summary['n']} | {rate} | "
            f"{summary['tokens_per_task']:.0f} |"
        )
