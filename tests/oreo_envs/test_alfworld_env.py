"""Episodes of ``oreo/ALFWorld-v0`` on a kitchen written by hand, and on the real games where they are."""

import copy
import dataclasses
import json
import os
import pickle
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from alfworld_samples import GOALS, write_games

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_envs.alfworld.commands import native_command
from oreo_envs.alfworld.games import TASK_TYPES, open_games

INFO_KEYS = {
    *("messages", "task_id", "index", "split", "step", "success", "answer"),
    *("admissible_commands", "task_type", "invalid_action", "invalid_reason", "command_executed", "goal_progress"),
}
KNIFE = "train/pick_and_place_simple-Mug-None-Desk-1/trial_1"


def make(**settings):
    return gym.make("oreo/ALFWorld-v0", **settings).unwrapped


@pytest.fixture
def env(data_folder):
    return make(split="train")


def test_an_episode_is_won_once_and_ends(env):
    observation, info = env.reset(options={"task_id": KNIFE})
    assert set(info) == INFO_KEYS
    assert "Your task is to: put a knife in desk." in observation and info["messages"][-1]["content"] == observation
    assert (info["task_type"], info["invalid_action"], info["command_executed"]) == (
        "pick_and_place_simple",
        False,
        None,
    )
    rewards = []
    for step, command in enumerate(GOALS["pick_and_place_simple"][3], start=1):
        assert command in info["admissible_commands"]
        observation, reward, terminated, truncated, info = env.step(command)
        rewards.append(reward)
        assert set(info) == INFO_KEYS and info["step"] == step and info["command_executed"] == command
        assert info["messages"][-2:] == [
            {"role": "assistant", "content": command},
            {"role": "user", "content": observation},
        ]
    assert rewards == [0.0, 0.0, 0.0, 1.0] and terminated and not truncated and info["success"]
    json.dumps(info)
    with pytest.raises(gym.error.ResetNeeded, match="is over"):
        env.step("look")


@pytest.mark.parametrize(
    "action",
    [
        "",
        "\n",
        "go to desk 1\nlook",
        "x" * 10_000,
        "gö to desk 1",
        "look\0",
        " ",
        "🎲" * 99,
        "\u00a0loo\u00a0k",
        "loo\x1ck",
        "look" + " " * 9_999 + "now",
    ],
)
def test_hostile_actions_change_nothing_in_the_game(env, action):
    env.reset(options={"task_id": KNIFE})
    before = env.clone_state().inner
    observation, reward, terminated, truncated, info = env.step(action)
    assert (observation, reward, terminated, truncated) == ("Nothing happens.", 0.0, False, False)
    assert info["invalid_action"] and info["command_executed"] is None and info["step"] == 1
    assert env.clone_state().inner == before
    assert [message["role"] for message in info["messages"][-3:]] == ["user", "assistant", "user"]


def test_invalid_commands_count_as_steps(data_folder):
    env = make(split="train", max_steps=3)
    env.reset(options={"index": 0})
    results = [env.step("dance") for _ in range(3)]
    assert [result[3] for result in results] == [False, False, True] and not results[-1][2]


@pytest.mark.parametrize(
    ("spelling", "native"),
    [
        ("put mug 1 in/on desk 1", "move mug 1 to desk 1"),
        ("put mug 1 in desk 1", "move mug 1 to desk 1"),
        ("place mug 1 on desk 1", "move mug 1 to desk 1"),
        ("put mug 1 in on desk 1", "move mug 1 to desk 1"),
        ("put mug 1 into desk 1", "move mug 1 to desk 1"),
        ("put mug 1 onto desk 1", "move mug 1 to desk 1"),
        ("put mug 1 to desk 1", "move mug 1 to desk 1"),
        ("move mug 1 in/on desk 1", "move mug 1 to desk 1"),
        ("toggle desklamp 1", "use desklamp 1"),
        ("turn on desklamp 1", "use desklamp 1"),
        ("task mug 1 from desk 1", "take mug 1 from desk 1"),
        ("  Go To   Desk 1. ", "go to desk 1"),
        ("LOOK.", "look"),
        ("take mug 1 from desk 1", "take mug 1 from desk 1"),
        # Not what was meant, or not clear: left as it is, and so not admissible.
        ("put mug in desk 1", "put mug in desk 1"),
        ("put mug 01 in desk 1", "move mug 01 to desk 1"),
        ("put mug 1 at desk 1", "put mug 1 at desk 1"),
        ("put mug 1 in/on desk 1 now", "put mug 1 in/on desk 1 now"),
        ("go to\tdesk 1", "go to\tdesk 1"),
    ],
)
def test_other_spellings_keep_the_things_named(spelling, native):
    assert native_command(spelling) == native


def test_aliases_are_obeyed_and_reported_in_the_native_spelling(env):
    env.reset(options={"task_id": KNIFE})
    env.step("GO TO countertop 1.")
    env.step("Take  knife 1 from countertop 1")
    env.step("go to desk 1")
    *_, info = env.step("turn on desklamp 1")
    assert info["command_executed"] == "use desklamp 1" and not info["invalid_action"]
    observation, reward, terminated, _, info = env.step("Put knife 1 in/on desk 1.")
    assert observation == "You move the knife 1 to the desk 1." and info["command_executed"] == "move knife 1 to desk 1"
    assert (reward, terminated) == (1.0, True)


def test_the_paper_style_shows_what_its_models_know(data_folder):
    env = make(split="train", text_style="paper", expert=True)
    observation, info = env.reset(options={"task_id": KNIFE})
    assert observation == (
        "You are in the middle of a room. Looking quickly around you, you see a countertop 1, a desk 1, a fridge 1, "
        "a microwave 1, and a sinkbasin 1.\nYour task is to: put a knife in desk."
    )
    assert info["walkthrough"][-1] == "put knife 1 in/on desk 1"
    texts = []
    for command in info["walkthrough"]:
        assert command in info["admissible_commands"] == sorted(info["admissible_commands"])
        observation, reward, terminated, _, info = env.step(command)
        texts.append(observation)
    assert texts == [
        "On the countertop 1, you see a apple 1, a bowl 1, a knife 1, and a mug 1.",
        "You pick up the knife 1 from the countertop 1.",
        "On the desk 1, you see a desklamp 1, and a mug 2.",
        "You put the knife 1 in/on the desk 1.",
    ]
    assert reward == 1.0 and terminated
    env.reset(options={"index": 0})
    assert "  put (object) in/on (receptacle):  place an object" in env.step("help")[0]


@pytest.mark.parametrize("style", ["native", "paper"])
def test_every_task_type_can_be_won(data_folder, style):
    env = make(split="train", text_style=style, expert=True)
    assert sorted(env.games.task_ids) == list(env.games.task_ids) and env.num_tasks == len(TASK_TYPES)
    seen = set()
    for index in range(env.num_tasks):
        _, info = env.reset(options={"index": index})
        seen.add(info["task_type"])
        results = [env.step(command) for command in info["walkthrough"]]
        assert [result[1] for result in results] == [0.0] * (len(results) - 1) + [1.0] and results[-1][2]
    assert seen == set(TASK_TYPES)


def test_states_are_small_and_exact(env):
    env.reset(options={"task_id": KNIFE})
    env.step("go to countertop 1")
    state = env.clone_state()
    assert len(pickle.dumps(state)) < 50_000, "one game and no split of them"
    env.restore_state(state)
    first = env.step("take knife 1 from countertop 1")
    env.reset(options={"index": 0})
    env.restore_state(state)
    assert env.step("take knife 1 from countertop 1") == first
    other = make(split="train")
    other.restore_state(state)
    assert other.step("take knife 1 from countertop 1") == first


def test_a_copy_shares_the_games_and_is_independent(env):
    env.reset(options={"task_id": KNIFE})
    env.step("go to countertop 1")
    twin = copy.deepcopy(env)
    assert twin.games is env.games
    twin.step("take knife 1 from countertop 1")
    assert "knife 1" in env.step("examine countertop 1")[0]


def test_a_wrong_argument_is_named(data_folder):
    for settings, message in [
        ({"split": "valid"}, r"unknown split 'valid'"),
        ({"engine": "texworld"}, r"unknown engine 'texworld'; did you mean 'textworld'\?"),
        ({"text_style": "papr"}, r"unknown text_style 'papr'; did you mean 'paper'\?"),
        ({"prompt": "alfword"}, r"unknown prompt 'alfword'; did you mean 'alfworld@1'\?"),
    ]:
        with pytest.raises(ValueError, match=message):
            make(**settings)
    with pytest.raises(ValueError, match=r"unknown task_id 'train/.*'; did you mean 'train/"):
        make(split="train").reset(options={"task_id": KNIFE.replace("trial_1", "trial_01")})


def test_the_prompt_speaks_the_style_of_the_texts(data_folder):
    for style, other in (("native", "put O in/on R"), ("paper", "move O to R")):
        for action_format in ("command", "react", "tags"):
            env = make(split="train", text_style=style, action_format=action_format)
            messages = env.reset(options={"index": 0})[1]["messages"]
            assert other not in messages[0]["content"]


def test_a_foreign_state_is_refused(env, data_folder):
    env.reset(options={"task_id": KNIFE})
    state = env.clone_state()
    with pytest.raises(ValueError, match="is not game"):
        make(split="valid_seen", path="generated").restore_state(state)
    with pytest.raises(ValueError, match="of another engine"):
        env.restore_state(dataclasses.replace(state, inner=None))
    assert env.step("look")[0] != ""


def test_games_of_another_split_and_no_environments_are_refused(data_folder):
    with pytest.raises(ValueError, match="games of another split: valid_seen/"):
        make(split="train", games=open_games("valid_seen", "generated"))
    with pytest.raises(ValueError, match="num_envs must be an integer >= 1, got 0"):
        gym.make_vec("oreo/ALFWorld-v0", num_envs=0, path="generated")


def test_a_failed_reset_leaves_the_running_episode(env, monkeypatch):
    env.reset(options={"task_id": KNIFE})

    def fail(index):
        raise OSError("the file is gone")

    with monkeypatch.context() as patch:
        patch.setattr(env, "_new_play", fail)
        with pytest.raises(OSError):
            env.reset(options={"index": 0})
    assert env.step("look")[4]["task_id"] == KNIFE


def test_environments_and_their_games_can_be_pickled(env):
    env.reset(options={"task_id": KNIFE})
    twin = pickle.loads(pickle.dumps(env))
    assert twin.step("look")[0] == env.step("look")[0]
    games = pickle.loads(pickle.dumps(open_games("valid_seen", "generated:5")))
    assert games.task_ids == open_games("valid_seen", "generated:5").task_ids


def test_solutions_of_held_out_games_stay_where_they_are(data_folder):
    with pytest.raises(ValueError, match="split 'valid_seen' is held out"):
        make(split="valid_seen").demonstration(0)


def test_another_process_with_another_hash_seed_plays_the_same_episodes(data_folder):
    code = (
        "import json, gymnasium as gym, oreo_envs\n"
        "env = gym.make('oreo/ALFWorld-v0', split='train')\n"
        "history = [env.reset(seed=7)]\n"
        "for step in range(20):\n"
        "    commands = history[-1][-1]['admissible_commands']\n"
        "    history.append(env.step(commands[step * 7 % len(commands)]))\n"
        "print(json.dumps(history))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1234")
    }
    assert len(outputs) == 1


def assert_equal_results(ours, theirs):
    for mine, other in zip(ours[:-1], theirs[:-1], strict=True):
        assert np.array_equal(mine, other)
    assert ours[-1].keys() == theirs[-1].keys()
    for key, values in ours[-1].items():
        assert np.array_equal(values, theirs[-1][key]), key
        assert values.dtype == theirs[-1][key].dtype


@pytest.mark.parametrize("autoreset_mode", ["NextStep", "SameStep"])
def test_the_vector_environment_plays_as_a_sync_one_does(data_folder, autoreset_mode):
    settings = {"split": "train", "max_steps": 6}
    ours = gym.make_vec("oreo/ALFWorld-v0", num_envs=5, autoreset_mode=autoreset_mode, **settings)
    assert type(ours).__name__ == "ALFWorldVectorEnv" and ours.metadata["autoreset_mode"].value == autoreset_mode
    sync = gym.make_vec(
        "oreo/ALFWorld-v0",
        num_envs=5,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": autoreset_mode},
        **settings,
    )
    results = ours.reset(seed=3), sync.reset(seed=3)
    assert_equal_results(*results)
    rng = np.random.default_rng(0)
    for _ in range(15):
        actions = [str(rng.choice(commands)) for commands in results[0][-1]["admissible_commands"]]
        results = ours.step(actions), sync.step(actions)
        if autoreset_mode == "NextStep":
            assert_equal_results(*results)
        assert results[0][0] == results[1][0]
    ours.close()
    sync.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_async_vector_environments_play_it_too(data_folder, context):
    envs = gym.make_vec(
        "oreo/ALFWorld-v0", num_envs=2, vectorization_mode="async", vector_kwargs={"context": context}, split="train"
    )
    try:
        observations, _ = envs.reset(options={"index": 0})
        assert observations[0] == observations[1] and "Your task is to" in observations[0]
        observations, *_ = envs.step(("go to desk 1", "dance"))
        assert observations == (
            "You arrive at desk 1. On the desk 1, you see a desklamp 1, and a mug 2.",
            "Nothing happens.",
        )
    finally:
        envs.close()


def test_hundreds_of_games_at_once(data_folder):
    envs = gym.make_vec("oreo/ALFWorld-v0", num_envs=300, split="train")
    _, infos = envs.reset(seed=0)
    assert len({*infos["task_id"]}) == len(GOALS)
    observations, *_ = envs.step(["go to desk 1"] * 300)
    assert {*observations} == {"You arrive at desk 1. On the desk 1, you see a desklamp 1, and a mug 2."}
    envs.close()


def test_make_reset_and_step_leave_the_process_as_it_was(data_folder, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("OREO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    before = (list(sys.argv), sys.stdout, os.getcwd(), dict(os.environ))
    env = make(split="train")
    env.reset(seed=0)
    env.step("look")
    assert (list(sys.argv), sys.stdout, os.getcwd(), dict(os.environ)) == before
    assert not list(home.iterdir())
    assert [file.name.split("-")[:2] for file in (tmp_path / "xdg" / "oreo-suite").iterdir()] == [["alfworld", "train"]]


def test_no_walkthrough_without_asking(env):
    _, info = env.reset(options={"index": 0})
    assert "walkthrough" not in info


@pytest.mark.parametrize("style", ["native", "paper"])
@pytest.mark.parametrize("split", ["valid_seen", pytest.param("train", marks=pytest.mark.slow)])
def test_every_real_walkthrough_wins(alfworld_pack, shared_folder, monkeypatch, split, style):
    monkeypatch.setenv("OREO_CACHE", str(shared_folder / "alfworld-cache"))
    env = make(split=split, path=alfworld_pack, text_style=style, expert=True)
    assert env.num_tasks == {"train": 3553, "valid_seen": 140}[split]
    for index in range(env.num_tasks):
        _, info = env.reset(options={"index": index})
        results = [env.step(command) for command in info["walkthrough"]]
        assert results[-1][1] == 1.0 and not any(result[2] for result in results[:-1]), info["task_id"]


def test_a_folder_of_games_may_be_anywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("OREO_CACHE", str(tmp_path / "cache"))
    env = make(split="valid_unseen", path=write_games(tmp_path, ("valid_unseen",)))
    assert env.reset(seed=1)[1]["task_id"].startswith("valid_unseen/")


def test_a_command_that_a_limit_cut_is_not_executed_and_counts_as_invalid(env):
    env.reset(options={"index": 0})
    observation, reward, terminated, truncated, info = env.unwrapped.cut_off("look")
    assert (observation, reward, terminated, truncated) == ("", 0.0, False, True)
    assert info["invalid_action"] and info["command_executed"] is None
