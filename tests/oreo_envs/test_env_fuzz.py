"""Whatever is said to an environment, and however it is wrapped, copied and vectorised: the contract holds; seeded."""

import copy
import json
import pickle
import random

import gymnasium as gym
import pytest
from env_samples import ENV_IDS, OPTIONAL_ENV_IDS, with_optional
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit
from gymnasium.wrappers.vector import DictInfoToList
from gymnasium.wrappers.vector import RecordEpisodeStatistics as RecordVectorStatistics

import oreo_envs  # noqa: F401 (registers the ids)

pytestmark = pytest.mark.usefixtures("data_folder")
each_env = pytest.mark.parametrize("env_id", with_optional(ENV_IDS, *OPTIONAL_ENV_IDS))

HOSTILE = (
    *("", " ", "\0", "\ud800", "\u202e", "漢字🎲", "\r\n", "%s %d {0}", "<|im_end|>", "</s>", "a" * 9_000, "\n" * 900),
    *("<think>", "</think>", "<answer>", "</answer>", "<answer>1</answer>", "Action:" * 200, "> look", "Action: look"),
    *("<think>a</think><action>look</action>", "go to desk 1", "look", "inventory", "#### ", "#### 2", "#### 1/0"),
    *("#### " + "9" * 900, "####  9**9**9", "#### " + "(" * 900, "#### 1e999999999", "#### nan", "1+1" * 900),
    *("\\boxed{", "\\boxed{}" * 90, "\\boxed{-2, 2}", "\\frac{" * 300, "[[[[", "{}[]()", "$$$$", "x = " * 300),
)


def draw(rng, info):
    roll = rng.random()
    if roll < 0.2 and info.get("admissible_commands"):
        return rng.choice(list(info["admissible_commands"]))
    if roll < 0.4:
        return "".join(chr(rng.choice((rng.randrange(127), rng.randrange(0x11000)))) for _ in range(rng.randrange(30)))
    return rng.choice(HOSTILE) + "\n" * (roll < 0.6) + rng.choice(("", *HOSTILE))


@each_env
@pytest.mark.parametrize("wrap", [lambda env: env, RecordEpisodeStatistics, lambda env: TimeLimit(env, 4)])
def test_whatever_is_said_the_contract_holds_and_copies_agree(env_id, wrap):
    rng = random.Random(f"{env_id}-7")
    for settings in ({}, {"max_steps": 3}, {"max_chars": 500, "render_mode": "ansi"}, {"max_steps": None}):
        env = wrap(gym.make(env_id, **settings))
        _, info = env.reset(seed=rng.randrange(1000))
        twin, over = pickle.loads(pickle.dumps(env)), False
        for step in range(12):
            action = draw(rng, info)
            state = env.unwrapped.clone_state()
            observation, reward, terminated, truncated, info = result = env.step(action)
            told = twin.step(action)
            for one in (result[4], told[4]):
                one.pop("episode", None)  # holds the time that it took
            assert told == result
            assert isinstance(observation, str) and reward in (0.0, 1.0) and info["success"] is (reward == 1.0)
            assert type(terminated) is bool and type(truncated) is bool
            json.dumps(info)
            if env.unwrapped.render_mode:
                assert env.render().endswith(info["messages"][-1]["content"])
            if terminated or truncated:
                over = env.unwrapped._over
                break
            if step < 2:
                again = copy.deepcopy(env.unwrapped)
                again.restore_state(state)
                assert again.step(action)[:3] == result[:3]
        if over:
            with pytest.raises(gym.error.ResetNeeded):
                env.step("look")


@each_env
def test_every_vector_plays_the_same_episodes_whatever_is_said(env_id):
    rng = random.Random(f"{env_id}-8")
    said = [[draw(rng, {}) for _ in range(2)] for _ in range(8)]

    def histories(**mode):
        envs = gym.make_vec(env_id, 2, max_steps=3, **mode)
        texts, found = envs.reset(seed=5)[0], []
        for actions in said:
            found.append((tuple(texts), *(part.tolist() for part in envs.step(actions)[1:4])))
            texts = envs._env_obs if hasattr(envs, "_env_obs") else texts
        envs.close()
        return found

    assert histories() == histories(vectorization_mode="sync")
    wrapped = DictInfoToList(RecordVectorStatistics(gym.make_vec(env_id, 2, max_steps=2)))
    wrapped.reset(seed=0)
    infos = [wrapped.step(["a", "b"])[-1] for _ in range(3)]
    assert [["episode" in one for one in each] for each in infos] == [[False] * 2, [True] * 2, [False] * 2]
