"""Environments of one turn and of two, and rollouts in them."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar

import gymnasium as gym
import pytest
from tiny_models import CHATML, make_model, make_tokenizer

from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.rollout import RolloutCounts, rollout
from oreo_agents.networks.policy import CausalPolicy
from oreo_algos.episode import Episode
from oreo_envs.answers import AnswerEnv, Item
from oreo_envs.base import Opening, Outcome, TextEnv

QUESTION_ENV, DIALOGUE_ENV = "oreo_test/Question-v0", "oreo_test/Dialogue-v0"


class QuestionEnv(AnswerEnv):
    """How many letters; the answer is the index."""

    splits: ClassVar[tuple[str, ...]] = ("train",)
    step_delimiters: ClassVar[tuple[str, ...]] = ("\n",)

    def __init__(self, *, split: str = "train", max_steps: int = 8, long: bool = False) -> None:
        """Every other question is long when ``long`` says so."""
        super().__init__(split=split, prompt="question", max_steps=max_steps, max_chars=1000)
        self.long = long

    @property
    def num_tasks(self) -> int:
        return 40

    def _make_item(self, index: int) -> Item:
        question = "a long question " * 40 if self.long and index % 2 else "n" * (index % 5 + 1)
        return Item(f"question/{index}", question, str(index))

    def _index_of(self, task_id: str) -> int | None:
        return None

    def _solution(self, index: int, seed: int) -> tuple[str, dict]:
        return f"#### {index}", {}


class DialogueEnv(TextEnv):
    """Two turns; the second is right when it is longer than the first."""

    splits: ClassVar[tuple[str, ...]] = ("train",)

    def __init__(self, *, split: str = "train", observation: str = "and then?") -> None:
        """Answer the first turn with ``observation``."""
        super().__init__(split=split, max_steps=4, max_chars=10_000)
        self.observation = observation

    @property
    def num_tasks(self) -> int:
        return 40

    def _open(self, index: int) -> Opening:
        return Opening(f"dialogue/{index}", "say", ({"role": "user", "content": f"say {index}"},))

    def _index_of(self, task_id: str) -> int | None:
        return None

    def _respond(self, action: str) -> Outcome:
        if self._num_steps == 1:
            return Outcome(observation=self.observation)
        success = len(self._messages[-1]["content"]) > len(self._messages[-3]["content"])
        return Outcome(reward=float(success), terminated=True, info={"success": success})


PLAIN = PromptFormat(make_tokenizer())
CHAT = PromptFormat(make_tokenizer(template=CHATML, end_of_turn=True))
FORMATS = pytest.mark.parametrize("prompt_format", [PLAIN, CHAT], ids=["plain", "chatml"])


def make_policy(context: int = 512) -> CausalPolicy:
    return CausalPolicy(make_model("llama", context=context))


# Of rollouts that change nothing about it.
shared_policy = cache(make_policy)


def maker(env_id: str, **options: Any) -> Callable[[], gym.Env]:
    return lambda: gym.make(env_id, disable_env_checker=True, **options)


def play(
    env_id: str,
    prompt_format: PromptFormat,
    indices: Sequence[int],
    *,
    policy: CausalPolicy | None = None,
    options: dict | None = None,
    counts: RolloutCounts | None = None,
    seed: int = 0,
    samples: Sequence[int] | None = None,
    **sampling: Any,
) -> dict[int, Episode]:
    limits = {"max_new_tokens": 24, **sampling}
    return dict(
        rollout(
            maker(env_id, **(options or {})),
            policy or shared_policy(),
            prompt_format,
            indices,
            Sampling(**limits),
            seed=seed,
            samples=samples,
            counts=counts,
        )
    )
