"""Solutions to import, and what an environment says of them.

Knows: tasks of an environment's own data, answers that a limit cut. Does not know: files, labels, buffers.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from oreo_agents.episodes.ungraded import is_graded
from oreo_envs.answers import AnswerEnv
from oreo_envs.grading import answer_may_go_on


class Verdict(Enum):
    """What the environment says of a solution."""

    RIGHT = auto()
    WRONG = auto()
    CUT_OFF = auto()
    LOST = auto()


@dataclass(frozen=True)
class Task:
    """A task of the environment's own data."""

    env: AnswerEnv
    index: int

    @property
    def held_out(self) -> bool:
        """Whether its solutions must not reach a buffer."""
        return self.env.split in self.env.held_out_splits

    def judge(self, response: str, *, cut: bool) -> Verdict:
        """Grade a response, one that a limit may have ``cut`` only where its answer is whole."""
        self.env.reset(options={"index": self.index})
        if cut and answer_may_go_on(response, self.env.thoughts):
            return Verdict.CUT_OFF
        *_, terminated, _, info = self.env.step(response)
        if not terminated:
            if cut:
                return Verdict.CUT_OFF
            info = self.env.step("")[-1]
        if not is_graded(info):
            return Verdict.LOST
        return Verdict.RIGHT if info["success"] else Verdict.WRONG

    @property
    def task_id(self) -> str:
        """Its name."""
        return str(self.env.reset(options={"index": self.index})[1]["task_id"])


@dataclass
class Solution:
    """An answer, one that a limit may have ``cut``, and what the environment says of it."""

    where: str
    cut: bool
    response: str
    label: Any
    task: Task
    _verdict: Verdict | None = None

    def verdict(self, *, again: bool = False) -> Verdict | None:
        """Return the environment's verdict, asked for once, or ``again``."""
        if again or self._verdict is None:
            self._verdict = self.task.judge(self.response, cut=self.cut)
        return self._verdict
