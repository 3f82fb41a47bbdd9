"""Conversations of no task: the environment of episodes that others collected.

Knows: prompts. Does not know: what is a good answer, which nothing here judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from oreo_envs.answers import index_after
from oreo_envs.base import Opening, Outcome, TextEnv
from oreo_envs.grading import Reason
from oreo_envs.messages import message


class ConversationEnv(TextEnv):
    """``oreo/Chat-v0``: what is said to an assistant, and its answer, which nobody judges.

    It names imported episodes that are of no environment. Its tasks are ``prompts``; without any it has none.

    Action: a whole answer.
    Observation: the prompt at reset, then "".
    Start: ``options={"index": i}`` in the order of ``prompts``, ``{"task_id": "chat/train/1"}``, or drawn from a seed.
    Reward: 0.0; no answer is right or wrong.
    Episode end: terminated by any action.
    Info: ``messages, task_id, index, split, step, success, answer, grade_reason``; the last says "not_graded", so
        that nothing takes the reward for a verdict.
    Source and version: the user's prompts; v0.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "dev", "test")
    held_out_splits: ClassVar[tuple[str, ...]] = ()  # all have the same prompts, and nothing measures an answer

    def __init__(
        self,
        *,
        split: str = "train",
        prompts: Sequence[str] = (),
        max_steps: int | None = 1,
        max_chars: int = 131_072,
        **shared: Any,
    ) -> None:
        """Keep the prompts.

        Args:
            split: of which all have the same prompts.
            prompts: what a user says.
            max_steps: actions before truncation; None: no limit.
            max_chars: characters of text before truncation.
            shared: ``thoughts``, ``order``, ``place`` and ``render_mode``, see ``TextEnv``.
        """
        super().__init__(split=split, max_steps=max_steps, max_chars=max_chars, **shared)
        if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
            raise ValueError(f"prompts must be a list of texts, got {prompts!r:.80}")
        self.prompts = tuple(prompts)

    @property
    def num_tasks(self) -> int:
        """Number of prompts."""
        return len(self.prompts)

    def _open(self, index: int) -> Opening:
        prompt = self.prompts[index]
        return Opening(f"chat/{self.split}/{index}", prompt, (message("user", prompt),))

    def _index_of(self, task_id: str) -> int | None:
        index = index_after(f"chat/{self.split}", task_id)
        return index if index is not None and index < self.num_tasks else None

    def _task_ids(self) -> Iterable[str]:
        return (f"chat/{self.split}/{index}" for index in range(self.num_tasks))

    def _respond(self, action: str) -> Outcome:
        return Outcome(terminated=True, info={"success": False, "grade_reason": Reason.NOT_GRADED.value})
