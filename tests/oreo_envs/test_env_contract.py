"""What every registered id promises, checked on all of them."""

import copy
import json
import os
import pickle
import subprocess
import sys
from collections import defaultdict

import gymnasium as gym
import numpy as np
import pytest
from env_samples import ANSWER_ENV_IDS, ENV_IDS, OPTIONAL_ENV_IDS, with_optional
from gymnasium.utils.env_checker import check_env

import oreo_envs

pytestmark = pytest.mark.usefixtures("data_folder")

INFO_KEYS = {"messages", "task_id", "index", "split", "step", "success", "answer"}
SECRET_KEYS = {"reference", "solution", "target", "walkthrough"}

each_env = pytest.mark.parametrize("env_id", with_optional(ENV_IDS, *OPTIONAL_ENV_IDS))
each_answer_env = pytest.mark.parametrize("env_id", with_optional(ANSWER_ENV_IDS, "oreo/ReasoningGym-v0"))
each_demonstrating_env = pytest.mark.parametrize("env_id", with_optional(ENV_IDS, "oreo/TextWorld-v0"))
each_demonstrating_answer_env = pytest.mark.parametrize("env_id", ANSWER_ENV_IDS)


def play(env, actions, **reset):
    """All that an episode returns."""
    history = [env.reset(**reset)]
    history += [env.step(action) for action in actions]
    return history


def test_the_table_of_ids_is_complete():
    registered = {env_id for env_id in gym.registry if env_id.startswith("oreo/")}
    assert registered >= {*ENV_IDS, *OPTIONAL_ENV_IDS}


@each_env
def test_check_env_has_no_complaint(env_id):
    check_env(gym.make(env_id).unwrapped)


@each_answer_env
def test_info_has_the_promised_keys_and_no_solution(env_id):
    env = gym.make(env_id)
    observation, info = env.reset(options={"index": 1})
    assert set(info) == INFO_KEYS
    assert info["messages"][-1]["role"] == "user" and observation in info["messages"][-1]["content"]
    assert (info["index"], info["step"], info["success"], info["answer"]) == (1, 0, False, None)
    observation, reward, terminated, truncated, info = env.step("Let me see.\n")
    assert (observation, reward, terminated, truncated) == ("", 0.0, False, False)
    assert set(info) == INFO_KEYS and info["step"] == 1
    assert info["messages"][-1] == {"role": "assistant", "content": "Let me see.\n"}
    observation, reward, terminated, truncated, info = env.step("#### 99999")
    assert (observation, reward, terminated, truncated) == ("", 0.0, True, False)
    assert info["grade_reason"] == "different" and info["answer"] == "99999"
    assert info["messages"][-1]["content"] == "Let me see.\n#### 99999"
    assert not SECRET_KEYS & set(info)
    json.dumps(info)


@each_env
def test_a_number_in_info_never_changes_its_type(env_id):
    """Gymnasium's vectors convert a column to the type of the first environment that says it: 0.5 beside 1 is 0."""
    env = gym.make(env_id, split="train")
    types = defaultdict(set)
    shown = () if env_id == "oreo/ReasoningGym-v0" else env.unwrapped.demonstration(0, seed=0).steps
    for actions in (shown, ["x\n", "look", "#### 3"], [*shown[:-1], ""], ["think: x", "go", "open door"]):
        history = [env.reset(options={"index": 0})[1]]
        for action in actions:
            *_, terminated, truncated, info = env.step(action)
            history.append(info)
            if terminated or truncated:
                break
        for key, value in ((key, value) for info in history for key, value in info.items()):
            types[key].add(type(value))
    changing = {key: kinds for key, kinds in types.items() if kinds & {int, float, bool} and len(kinds) > 1}
    assert not changing and types["success"] == {bool}


@each_answer_env
def test_an_episode_can_be_named_by_its_task_id(env_id):
    env = gym.make(env_id)
    first = play(env, ["a\n", ""], options={"index": 1})
    assert play(env, ["a\n", ""], options={"task_id": first[0][1]["task_id"]}) == first
    with pytest.raises(ValueError, match=r"unknown task_id '.*'; did you mean"):
        env.reset(options={"task_id": first[0][1]["task_id"].replace("/1", "/01")})


@each_env
def test_the_same_seed_gives_the_same_episode(env_id):
    env, twin = gym.make(env_id), gym.make(env_id)
    for seed in range(5):
        assert play(env, ["x\n", "#### 3"], seed=seed) == play(twin, ["x\n", "#### 3"], seed=seed)


@each_demonstrating_answer_env
def test_steps_of_a_demonstration_play_out_as_it_says(env_id):
    env = gym.make(env_id, split="train")
    for index in range(2 if env.unwrapped.num_tasks else 50):
        shown = env.unwrapped.demonstration(index, seed=3)
        assert shown == env.unwrapped.demonstration(index, seed=3)
        history = play(env, shown.steps, options={"index": index})
        assert [result[1] for result in history[1:]] == list(shown.rewards)
        assert [result[2] for result in history[1:]] == [False] * (len(shown.steps) - 1) + [True]
        end = history[-1][4]
        assert tuple(end["messages"]) == shown.messages and end["task_id"] == shown.task_id
        assert {key: end[key] for key in ("success", "answer")}.items() <= shown.info.items()
        assert all(isinstance(value, str | int | float | bool | None) for value in shown.info.values())
        delimiters = env.unwrapped.step_delimiters
        assert all(step.rstrip(" \n") + "\n" and step.endswith(delimiters) for step in shown.steps[:-1])


@each_demonstrating_env
def test_a_demonstration_leaves_the_running_episode_alone(env_id):
    env = gym.make(env_id, split="train")
    env.reset(options={"index": 1})
    before = env.unwrapped.clone_state()
    env.unwrapped.demonstration(0)
    assert env.unwrapped.clone_state() == before


@each_answer_env
def test_solutions_of_the_test_split_stay_where_they_are(env_id):
    with pytest.raises(ValueError, match="split 'test' is held out: its solutions must not"):
        gym.make(env_id, split="test").unwrapped.demonstration(0)


@each_answer_env
def test_a_wrong_argument_is_named(env_id):
    with pytest.raises(ValueError, match=r"unknown split 'tests'; did you mean 'test'\?"):
        gym.make(env_id, split="tests")
    with pytest.raises(ValueError, match=r"unknown prompt 'boxd'; did you mean 'boxed@1'\?"):
        gym.make(env_id, prompt="boxd")


@each_env
def test_an_unknown_argument_is_named_with_the_closest_and_all(env_id):
    """A bare TypeError named neither."""
    for make in (gym.make, gym.make_vec):
        with pytest.raises(TypeError, match=r"no argument 'max_step'; did you mean 'max_steps'\?; it takes: .*split"):
            make(env_id, max_step=3)
    with pytest.raises(TypeError, match=r"Env has no argument 'nonsense'; it takes: .*max_chars.*render_mode"):
        gym.make(env_id, nonsense=1)


@each_env
@pytest.mark.parametrize("index", [True, np.True_, 10**30, 10**18, 2**63, -1, "0", 1.0, None, [0]])
def test_what_is_no_number_of_a_task_is_refused(env_id, index):
    """True was task 1, and 10**30 a raw OverflowError."""
    for env in (gym.make(env_id), gym.make_vec(env_id, 1)):
        with pytest.raises(ValueError, match=r"task index .*out of range|a task index must be an integer|is a list"):
            env.reset(options={"index": index if index != [0] else [[0]]})


@each_answer_env
def test_copies_and_states_are_small_and_independent(env_id):
    env = gym.make(env_id)
    env.reset(options={"index": 0})
    env.step("a\n")
    state = env.unwrapped.clone_state()
    assert len(pickle.dumps(state)) < 5000, "no data set in it"
    env.unwrapped.restore_state(state)
    twin = copy.deepcopy(env)
    for name in ("problems", "world"):  # what all tasks share is not copied
        assert getattr(twin.unwrapped, name, None) is getattr(env.unwrapped, name, None)
    twin.step("b\n")
    assert env.step("c\n")[4]["messages"][-1]["content"] == "a\nc\n"


@each_env
def test_the_docstring_answers_the_seven_questions(env_id):
    doc = type(gym.make(env_id).unwrapped).__doc__
    answers = [
        "Action:",
        "Observation:",
        "Start:",
        "Reward:",
        "Episode end:",
        "Info:",
        "Source and version:",
    ]
    positions = [doc.find(f"\n    {answer}") for answer in answers]
    assert positions == sorted(positions) and -1 not in positions


def test_another_process_with_another_hash_seed_plays_the_same_episodes():
    code = (
        "import json, gymnasium as gym, oreo_envs\n"
        f"for env_id in {ANSWER_ENV_IDS!r}:\n"
        "    env = gym.make(env_id, split='train')\n"
        "    print(json.dumps([env.reset(seed=7), env.step('a\\n'), env.step('#### 5'),\n"
        "                      env.unwrapped.demonstration(1, seed=5).messages]))\n"
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
    assert len(outputs) == 1 and len(outputs.pop().splitlines()) == len(ANSWER_ENV_IDS)


def test_registering_again_changes_nothing_and_warns_of_nothing():
    before = dict(gym.registry)
    gym.register_envs(oreo_envs)
    oreo_envs.register_envs()
    assert dict(gym.registry) == before
    assert gym.make("oreo_envs:oreo/Arithmetic-v0").spec.id == "oreo/Arithmetic-v0"


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, oreo_envs\n"
        "import oreo_envs.arithmetic, oreo_envs.gsm8k, oreo_envs.math, oreo_envs.qa, oreo_envs.alfworld.vector\n"
        "import oreo_envs.countdown, oreo_envs.reasoning_gym_tasks, oreo_envs.textworld_games\n"
        "heavy = 'torch transformers sympy math_verify pyarrow pandas huggingface_hub datasets'\n"
        "heavy += ' textworld reasoning_gym'\n"
        "print([name for name in heavy.split() if name in sys.modules])"
    )
    run = [sys.executable, "-W", "error", "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "[]\n"


@each_env
def test_the_rightness_of_steps_is_known_for_each_or_not_at_all(env_id):
    env = gym.make(env_id).unwrapped
    task_id = env.reset(options={"index": 1})[1]["task_id"]
    env.step("Let me see.\n")
    before = env.clone_state()
    right = env.step_rightness(task_id, ["Let me see.\n", "#### 99999"])
    assert right is None or [type(one) for one in right] == [bool, bool]
    assert env.clone_state() == before
