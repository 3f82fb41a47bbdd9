"""The game of these tests, and what they do with it."""

import gymnasium as gym
import pytest

import oreo_envs  # noqa: F401 (registers the ids)

KNIFE = "train/pick_and_place_simple-Mug-None-Desk-1/trial_1"
FORMATS = pytest.mark.parametrize("action_format", ["command", "react", "tags"])
STYLES = pytest.mark.parametrize("style", ["native", "paper"])
NOTHING = "Nothing happens."


def make(**settings):
    return gym.make("oreo/ALFWorld-v0", **settings).unwrapped


def begin(task_id: str = KNIFE, **settings):
    env = make(**settings)
    env.reset(options={"task_id": task_id})
    return env


def refused(env, action: str) -> str | None:
    """Why an action is refused; the text says nothing of it and the game does not change."""
    before = env.clone_state().inner
    observation, *_, info = env.step(action)
    assert info["invalid_action"] is (info["invalid_reason"] is not None)
    if info["invalid_action"]:
        assert observation == NOTHING and info["command_executed"] is None and env.clone_state().inner == before
    return info["invalid_reason"]
