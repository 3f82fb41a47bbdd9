"""Votes count answers together as the environment says."""

from typing import Any

import gymnasium as gym
import pytest
from tiny_models import make_episode

from oreo_agents.search import Majority, Player
from oreo_agents.search.weighted_vote import WeightedVote
from oreo_envs.arithmetic import ArithmeticEnv
from oreo_envs.countdown import CountdownEnv
from oreo_envs.plain import PlainEnv
from oreo_envs.spaces import FreeText


class Words(gym.Env[str, str]):
    """Its answers are words: 1/2 and 0.5 are two of them."""

    action_space = observation_space = FreeText()
    step_delimiters = ("\n",)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        return str(self.np_random.integers(99)), {}


class Reversed(Words):
    """It says itself which answers are one."""

    def canonical(self, answer: str) -> str:
        return "".join(sorted(answer))


def chosen(env: gym.Env[str, str], answers: list[str | None]) -> str | None:
    """Return the answer of a vote over samples that a player drew in an environment."""
    search = Majority(samples=3)
    player: Any = Player(lambda: env, None, None, [0], None, seed=0)  # type: ignore[arg-type]
    key = (search.samples, search.temperature, False)
    player._samples[key] = [[make_episode([1], [2], info={"answer": a, "generated_tokens": 1}) for a in answers]]
    player._final_values[key] = [[]]
    [answer] = search.answer(player)
    assert answer is not None
    return answer.episode.info["answer"]


@pytest.mark.parametrize(
    ("env", "answers", "first"),
    [
        (ArithmeticEnv(), ["3", "18", "18.0"], "18"),
        (CountdownEnv(), ["3", "18", "18.0"], "3"),  # expressions
        (CountdownEnv(), ["1+2", "(3 + 4)", "(3+4)"], "(3 + 4)"),
        (PlainEnv(Words()), ["2", "1/2", "0.5"], "2"),
        (PlainEnv(Words()), ["2", "New  York", "new york"], "New  York"),
        (PlainEnv(Reversed()), ["2", "abc", "bca"], "abc"),
        (PlainEnv(Words()), [None, None, "x"], "x"),
    ],
)
def test_a_vote_groups_by_the_canonical_form_of_the_environment(env, answers, first):
    assert chosen(env, answers) == first


def test_a_weighted_vote_groups_alike():
    assert WeightedVote(samples=2).choose([make_episode([1], [2])] * 2, [0.2, 0.4], ["a", None]) == 0  # type: ignore
