"""Games in every format: lists of what can be done, prompts, info, vectors, engines; threads of users in the names."""

import importlib.util
import json
import re

import gymnasium as gym
import pytest
from alfworld_play import FORMATS, KNIFE, STYLES, begin, make
from alfworld_samples import GOALS

from oreo_envs.prompts import LISTS, prompt_template, with_list

pytestmark = pytest.mark.usefixtures("data_folder")


@FORMATS
@STYLES
def test_react_38_observations_may_end_with_what_can_be_done(action_format, style):
    env = begin(action_format=action_format, text_style=style, admissible_in_prompt=True, expert=True)
    bare = begin(action_format=action_format, text_style=style, expert=True)
    observation, info = env.reset(options={"task_id": KNIFE})
    text, short = bare.reset(options={"task_id": KNIFE})
    over = False
    while not over:
        assert observation == with_list(text, info["admissible_commands"], "admissible@1")
        assert observation.startswith(f"{text}\nYour admissible actions of the current situation are: ['")
        assert "'help'" not in observation and observation.count("\n '") == len(info["admissible_commands"]) - 2
        assert info["messages"][-1]["content"].endswith(observation)
        assert info["expert_action"] == short["expert_action"]
        action = env.action_text(info["expert_action"])
        observation, _, over, _, info = env.step(action)
        text, *_, short = bare.step(action)
    assert observation == text, "a game that is won has nothing more to say"


@FORMATS
@STYLES
@pytest.mark.parametrize("listed", [False, True])
def test_demonstrations_are_what_a_player_of_the_format_reads_and_says(action_format, style, listed):
    env = make(action_format=action_format, text_style=style, admissible_in_prompt=listed, spelling="strict")
    for index in range(len(GOALS)):
        shown = env.demonstration(index)
        _, info = env.reset(options={"index": index})
        for step in shown.steps:
            *_, info = env.step(step)
            assert not info["invalid_action"] and info.get("action_valid", True) and not info.get("action_rest")
        assert info["success"] and info["messages"] == list(shown.messages)


@FORMATS
@STYLES
def test_every_format_has_a_prompt_with_a_name_and_a_version(action_format, style):
    name = "alfworld" + ("" if action_format == "command" else f"-{action_format}") + "-paper" * (style == "paper")
    messages = make(action_format=action_format, text_style=style).reset(seed=0)[1]["messages"]
    assert messages[0]["content"] == prompt_template(f"{name}@1").system == prompt_template(name).system
    assert make(prompt="question", action_format=action_format).reset(seed=0)[1]["messages"][0]["role"] == "user"


def test_lists_are_named_and_wrong_options_are_refused():
    assert begin(admissible_in_prompt="admissible@1").step("look") == begin(admissible_in_prompt=True).step("look")
    assert list(LISTS) == ["admissible@1"]
    for settings, message in [
        ({"admissible_in_prompt": "admisible"}, "unknown admissible_in_prompt 'admisible'"),
        ({"spelling": "strikt"}, "unknown spelling 'strikt'; did you mean 'strict'"),
        ({"action_format": "tag"}, "unknown action_format 'tag'; did you mean 'tags'"),
        ({"action_format": "react", "react": "last"}, "unknown react 'last'; known: first, eto"),
        ({"react": "eto"}, "has no effect with action_format='command'"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            make(**settings)


@FORMATS
def test_the_vector_plays_as_single_environments_do(action_format):
    settings = {"action_format": action_format, "admissible_in_prompt": True, "expert": True, "max_steps": 9}
    vector = gym.make_vec("oreo/ALFWorld-v0", num_envs=3, **settings)
    singles = [make(**settings) for _ in range(3)]
    observations, infos = vector.reset(seed=4)
    own = [env.reset(seed=4 + k) for k, env in enumerate(singles)]
    write = singles[0].action_text
    for step in range(8):
        assert list(observations) == [one[0] for one in own]
        for key in ("invalid_reason", "goal_progress", "expert_action", "action_rest", "action_valid"):
            assert (key in infos) == (key in own[0][-1])
            if key in infos:
                assert list(infos[key]) == [one[-1][key] for one in own]
        said = [write(one[-1]["expert_action"] or "look") for one in own] if step % 3 else ["dance", write("go"), ""]
        if any(one[-1]["success"] for one in own):
            break
        observations, _, _, _, infos = vector.step(said)
        own = [env.step(action) for env, action in zip(singles, said, strict=True)]
    assert step > 2
    vector.close()


@FORMATS
def test_info_is_plain_and_tells_what_was_dropped(action_format):
    env = begin(action_format=action_format, expert=True)
    _, info = env.reset(options={"task_id": KNIFE})
    again = env.step(env.action_text("look") + "\nObservation: a mug.\nAction: look")[4]
    assert set(again) == set(info)
    json.dumps(again)
    if action_format == "command":
        assert again["invalid_action"] and "action_rest" not in again
    else:
        assert again["action_rest"] == "Observation: a mug.\nAction: look" and not again["invalid_action"]
    assert again.get("action_valid", True) is info.get("action_valid", True) is True


@FORMATS
@STYLES
def test_commands_are_read_back_from_actions(action_format, style):
    env = begin(action_format=action_format, text_style=style)
    for command in env.reset(options={"task_id": KNIFE})[1]["admissible_commands"]:
        assert env.command_in(env.action_text(command, "I try.")) == command
    assert env.command_in(env.action_text("Put the mug 1 in / on desk 1")) == "move mug 1 to desk 1"
    assert env.command_in("<think>look") == ""


HAS_STOCK = all(importlib.util.find_spec(name) for name in ("textworld", "fast_downward"))


@pytest.mark.skipif(not HAS_STOCK, reason="TextWorld's planner is not installed: pip install 'oreo-suite[alfworld]'")
@pytest.mark.parametrize("spelling", ["lenient", "strict"])
def test_both_engines_say_the_same_of_every_action(spelling):
    """In another process's engine the facts are not kept: what is said beside the text comes from the same place."""
    settings = {"action_format": "react", "spelling": spelling, "expert": True, "admissible_in_prompt": True}
    envs = [make(engine=engine, **settings) for engine in ("direct", "textworld")]
    histories = []
    for env in envs:
        history = [env.reset(options={"index": 3})]
        for command in (
            *("go to fridge 1", "open fridge 1", "Take the apple 2 from fridge 1.", "dance", "go to fridge 1"),
            *("take apple 2 from fridge 1", "take apple 2 from fridge 1", "cool apple 2 with fridge 1"),
            *("go to countertop 1", "put apple 2 in / on countertop 1", "move apple 2 to countertop 1"),
        ):
            state = env.clone_state()
            if not history[-1][-1]["success"]:
                history.append(env.step(f"Thought: x\nAction: {command}\nObservation: y"))
                env.restore_state(state)
                assert env.step(f"Thought: x\nAction: {command}\nObservation: y") == history[-1]
        histories.append(history)
    assert histories[0] == histories[1] and histories[0][-1][-1]["success"]
    reasons = [info["invalid_reason"] for *_, info in histories[0][1:]]
    assert set(reasons) == {None, "unknown_command", "already_there", "hands_full"} | (
        {"spelling"} if spelling == "strict" else set()
    )
