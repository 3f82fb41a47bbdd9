"""A reward that is no number is refused where it is given, by the environment's name and the action."""

import math

import gymnasium as gym
import pytest

from oreo_envs import FreeText, PlainEnv
from oreo_envs.arithmetic import ArithmeticEnv
from oreo_envs.records import Outcome


class Paying(gym.Env):
    """Pays whatever it is told to."""

    observation_space = action_space = FreeText()

    def __init__(self, reward):
        """Keep the reward."""
        self.reward = reward

    def reset(self, *, seed=None, options=None):
        return "say", {}

    def step(self, action):
        return "", self.reward, True, False, {}


WRONG = [math.nan, math.inf, "one", None, 10**400]


@pytest.mark.parametrize("reward", WRONG, ids=lambda reward: f"{reward!r:.5}")
def test_of_a_plain_environment(reward):
    env = PlainEnv(Paying(reward))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"step\('hello'\) returned the reward .*; a reward is a finite"):
        env.step("hello")


def test_of_an_environment_of_the_suite():
    class Mine(ArithmeticEnv):
        def _respond(self, action):
            return Outcome(reward=math.nan, terminated=True)

    env = Mine(split="train")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"Mine: _respond\('hello'\) returned the reward nan; a reward is a finite"):
        env.step("hello")


def test_what_counts_as_a_number():
    env = PlainEnv(Paying(True))
    env.reset(seed=0)
    assert env.step("x")[1] == 1.0
