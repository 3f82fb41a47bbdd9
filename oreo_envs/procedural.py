"""Questions drawn without end: the short way to an environment of one's own.

Knows: how a question of a split is drawn and named. Does not know: what is asked (a subclass draws and solves it).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from oreo_envs.answers import AnswerEnv, Item, index_after
from oreo_envs.base import Scalar
from oreo_envs.splits import SPLITS, split_of

_TASK_STREAM, _SOLVER_STREAM = 0x0E0_8, 0x0E0_9
_MAX_DRAWS = 1_000


class ProceduralEnv(AnswerEnv):
    """An ``AnswerEnv`` whose subclass says ``name``, ``draw`` and ``solve``, and perhaps ``_judge`` with ``canonical``.

    Action, observation, reward, end and info: see ``AnswerEnv``; a step is a line.
    Start: ``options={"index": i}`` for any i >= 0, ``{"task_id": ...}``, or drawn from the seed. The text of a question
        decides its split, so that none is in two of them.
    """

    name: ClassVar[str]
    """Begins the names of tasks."""
    splits: ClassVar[tuple[str, ...]] = SPLITS
    step_delimiters: ClassVar[tuple[str, ...]] = ("\n",)

    def __init__(
        self,
        *,
        split: str = "train",
        prompt: str | None = None,
        max_steps: int | None = 64,
        max_chars: int = 4_096,
        **shared: Any,
    ) -> None:
        """Check what all environments share.

        Args:
            split: "train", "dev" or "test".
            prompt: a template of ``oreo_envs.prompts``; None: ``default_prompt``.
            max_steps: actions before truncation; None: no limit.
            max_chars: characters of response before truncation.
            shared: see ``TextEnv``.
        """
        prompt = self.default_prompt if prompt is None else prompt
        super().__init__(split=split, prompt=prompt, max_steps=max_steps, max_chars=max_chars, **shared)
        self._last: tuple[int, Item] | None = None

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> tuple[str, str]:
        """Return a question and its right answer."""

    def solve(self, question: str, answer: str, rng: np.random.Generator) -> str:
        """Return a worked solution, which ends in its answer: ``#### 18``, or ``\\boxed{18}``."""
        raise NotImplementedError(f"{type(self).__name__} has no demonstrations: it has no method solve")

    @property
    def num_tasks(self) -> None:
        """None: tasks are drawn without end."""
        return None

    def _make_item(self, index: int) -> Item:
        if self._last is None or self._last[0] != index:
            self._last = index, self._drawn(index)
        return self._last[1]

    def _drawn(self, index: int) -> Item:
        entropy = [_TASK_STREAM, self.splits.index(self.split), index]
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        for _ in range(_MAX_DRAWS):
            question, answer = self.draw(rng)
            if split_of(question) == self.split:
                return Item(f"{self.name}/{self.split}/{index}", question, answer)
        raise ValueError(
            f"{self.name}: of {_MAX_DRAWS} questions none belongs to split {self.split!r}; draw more different ones"
        )

    def _index_of(self, task_id: str) -> int | None:
        return index_after(f"{self.name}/{self.split}", task_id)

    def _task_ids(self) -> tuple[str, ...]:
        return (f"{self.name}/{self.split}/0",)

    def _solution(self, index: int, seed: int) -> tuple[str, dict[str, Scalar]]:
        item = self._make_item(index)
        entropy = [_SOLVER_STREAM, self.splits.index(self.split), index, seed]
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        return self.solve(item.question, item.reference, rng), {"source": "solver"}
