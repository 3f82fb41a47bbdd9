"""An environment of one's own: words to be written backwards, one letter a line.

It is played by hand, then by an agent that knows the task but slips on long words.
"""

import random
from typing import Any, ClassVar

import gymnasium as gym

import oreo_envs
from oreo_envs.answers import AnswerEnv, Item, index_after
from oreo_envs.base import Scalar

LETTERS = "abcdefghijklmnopqrstuvwxyz"
FIRST = {"train": 0, "test": 1_000_000}  # tasks of different splits differ


class ReverseEnv(AnswerEnv):
    """``examples/Reverse-v0``: a word of three to seven letters; the answer is the word backwards."""

    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    step_delimiters: ClassVar[tuple[str, ...]] = ("\n",)  # a line is a step
    num_tasks = 1000

    def __init__(self, *, split: str = "train", prompt: str = "question", **shared: Any) -> None:
        """Every further argument is one that all environments have."""
        super().__init__(**{"split": split, "prompt": prompt, "max_steps": 16, "max_chars": 512} | shared)

    def _word(self, index: int) -> str:
        rng = random.Random(FIRST[self.split] + index)
        return "".join(rng.choices(LETTERS, k=rng.randint(3, 7)))

    def _make_item(self, index: int) -> Item:
        word = self._word(index)
        return Item(f"reverse/{self.split}/{index}", f"Write {word} backwards.", word[::-1])

    def _index_of(self, task_id: str) -> int | None:
        index = index_after(f"reverse/{self.split}", task_id)
        return index if index is not None and index < self.num_tasks else None

    def _solution(self, index: int, seed: int) -> tuple[str, dict[str, Scalar]]:
        """A demonstration for the supervised start."""
        word = self._word(index)
        return "\n".join([*reversed(word), f"#### {word[::-1]}"]), {"source": "solver"}

    def _judge(self, index: int, response: str) -> tuple[bool, dict[str, Any]]:
        """Compare letter by letter: the grader of mathematics would read some words as formulas."""
        answer = response.rpartition("####")[2].strip() or None
        right = answer == self._make_item(index).reference
        reason = "exact" if right else "different" if answer else "no_answer"
        return right, {"success": right, "answer": answer, "grade_reason": reason}


if "examples/Reverse-v0" not in gym.registry:
    gym.register(id="examples/Reverse-v0", entry_point=ReverseEnv)


def slipping_agent(messages: list[dict[str, str]]) -> str:
    """Reverse the word of the question, but swap two letters of a long one."""
    word = messages[-1]["content"].split()[1]
    backwards = word[::-1] if len(word) < 7 else word[1] + word[0] + word[-3::-1]
    return f"#### {backwards}"


def main() -> None:
    """Play one task by hand, then all of a split by the agent."""
    env = gym.make("examples/Reverse-v0", split="test")
    question, info = env.reset(options={"index": 0})
    print(question)
    for action in (*reversed(question.split()[1]), "#### I do not know", ""):  # a step each; "" ends the answer
        _, reward, terminated, _, info = env.step(f"{action}\n" if action else action)
        if terminated:
            break
    print(info["task_id"], "reward", reward, "because", info["grade_reason"])

    print(oreo_envs.evaluate(slipping_agent, "examples/Reverse-v0", split="test", num_envs=8))


if __name__ == "__main__":
    main()
