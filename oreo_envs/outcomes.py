"""What came of an evaluation: rows, and what they say together.

Knows: which rows count, rates and their intervals. Does not know: agents, environments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from oreo_envs.checks import positive
from oreo_envs.messages import Message
from oreo_envs.recording import Row
from oreo_envs.replies import Usage

_Z = 1.959963984540054


@dataclass(frozen=True)
class Evaluation:
    """All episodes that were played, in the order of their tasks' index."""

    env_id: str
    split: str
    rows: tuple[Row, ...]

    @property
    def counted(self) -> tuple[Row, ...]:
        """The rows that say something of success: those without an error, and with a verdict."""
        return tuple(row for row in self.rows if row.counted)

    def _shares(self) -> list[float]:
        """For each task the share of its counted episodes that solved it."""
        tasks: dict[int, list[bool]] = {}
        for row in self.counted:
            tasks.setdefault(row.index, []).append(row.success)
        return [sum(solved) / len(solved) for solved in tasks.values()]

    @property
    def success_rate(self) -> float:
        """Share of the tasks that were solved, 0..1: the mean over tasks of their episodes; nan without any."""
        shares = self._shares()
        return sum(shares) / len(shares) if shares else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the success rate.

        With several episodes a task it is that of the effective number of episodes, which the spread between tasks
        tells (Korn & Graubard 1998, who take it for another interval): between that of tasks and that of episodes.
        """
        shares, episodes = self._shares(), len(self.counted)
        if not shares:
            return 0.0, 1.0
        rate, count = sum(shares) / len(shares), float(len(shares))
        spread = sum((share - rate) ** 2 for share in shares)
        if episodes > count > 1 and 0 < rate < 1:
            effective = rate * (1 - rate) * count * (count - 1) / spread if spread else math.inf
            count = min(max(effective, count), float(episodes))
        centre, scale = rate + _Z**2 / (2 * count), 1 + _Z**2 / count
        swing = _Z * math.sqrt(rate * (1 - rate) / count + _Z**2 / (4 * count**2))
        return max(0.0, (centre - swing) / scale), min(1.0, (centre + swing) / scale)

    def pass_at(self, k: int) -> float:
        """How often at least one of k episodes of a task solves it (the unbiased estimate of Chen et al. 2021).

        Raises:
            ValueError: a task has fewer than k counted episodes.
        """
        tasks: dict[int, list[bool]] = {}
        for row in self.counted:
            tasks.setdefault(row.index, []).append(row.success)
        if not tasks or min(map(len, tasks.values())) < positive("k", k):
            raise ValueError(f"pass_at({k}) needs {k} counted episodes of each task; play with episodes_per_task={k}")
        missed = [math.comb(len(one) - sum(one), k) / math.comb(len(one), k) for one in tasks.values()]
        return 1 - sum(missed) / len(missed)

    @property
    def conversations(self) -> dict[str, tuple[Message, ...]]:
        """The conversation of each task, the first of several; all are in ``rows``."""
        return {row.task_id: row.messages for row in reversed(self.rows)}

    @property
    def errors(self) -> dict[str, str]:
        """What the agent raised, for the tasks where it did."""
        return {row.task_id: row.error for row in self.rows if row.error is not None}

    @property
    def usage(self) -> Usage:
        """Replies, tokens and cost of all rows, as far as the agent says."""
        return sum((row.usage for row in self.rows), Usage())

    def __str__(self) -> str:
        """One line: tasks solved, rate, interval, what is not counted, limits, tokens."""
        counted, usage = self.counted, self.usage
        solved, tasks = sum(row.success for row in counted), len({row.index for row in counted})
        many = "tasks" if tasks == len(counted) else f"episodes of {tasks} tasks"
        said = [f"{self.env_id} {self.split}: {solved} of {len(counted)} {many} solved"]
        if counted:
            low, high = self.interval
            said[0] += f", {self.success_rate:.1%} [{low:.1%}, {high:.1%}]"
        failed, errors = sum(row.error is not None for row in self.rows), [row.error for row in self.rows if row.error]
        if cut := sum(row.truncated for row in counted):
            said.append(f"{cut} ended at a limit")
        if ungraded := len(self.rows) - len(counted) - failed:
            said.append(f"{ungraded} could not be graded and are not counted")
        if usage.prompt_tokens or usage.completion_tokens:
            said.append(f"{usage.prompt_tokens:,} tokens read, {usage.completion_tokens:,} written")
        if usage.cost:
            said.append(f"cost {usage.cost:.4g}")
        if failed:
            said.append(f"{failed} ended in an error and are not counted")
            said[-1] += f", the first: {' '.join(errors[0].split()):.200}" if errors else ""
        return "; ".join(said)


class EvaluationStopped(RuntimeError):
    """No task can be finished any more; ``evaluation`` holds those that were."""

    def __init__(self, why: str, evaluation: Evaluation) -> None:
        """Keep what was finished."""
        super().__init__(why)
        self.evaluation = evaluation
