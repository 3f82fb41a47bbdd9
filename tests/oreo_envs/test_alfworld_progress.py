"""The progress of a goal and the expert's advice; threads of users in the names."""

import numpy as np
import pytest
from alfworld_play import FORMATS, STYLES, begin, make
from alfworld_samples import GOALS

pytestmark = pytest.mark.usefixtures("data_folder")


@pytest.mark.parametrize(
    ("task_type", "parts"),
    [
        ("pick_and_place_simple", [0, 1 / 2, 1]),
        ("look_at_obj_in_light", [0, 1 / 2, 1]),
        ("pick_clean_then_place_in_recep", [0, 1 / 3, 2 / 3, 1]),
        ("pick_heat_then_place_in_recep", [0, 1 / 3, 2 / 3, 1]),
        ("pick_cool_then_place_in_recep", [0, 1 / 3, 2 / 3, 1]),
        ("pick_two_obj_and_place", [1 / 2, 3 / 4, 1]),  # one of the two lies there
    ],
)
def test_progress_of_the_goal_grows_part_by_part(task_type, parts):
    env = make()
    index = next(i for i, task_id in enumerate(env.games.task_ids) if task_type in task_id)
    _, info = env.reset(options={"index": index})
    seen = [info["goal_progress"]]
    for command in GOALS[task_type][3]:
        seen.append(env.step(command)[4]["goal_progress"])
    assert list(dict.fromkeys(seen)) == pytest.approx(parts)


def test_progress_is_one_where_the_game_is_won_and_falls_with_what_is_undone():
    env = begin("train/pick_heat_then_place_in_recep-Mug-None-Fridge-1/trial_4")
    seen = {}
    for command in (
        *("go to desk 1", "take mug 2 from desk 1", "move mug 2 to desk 1", "take mug 2 from desk 1"),
        *("go to microwave 1", "heat mug 2 with microwave 1", "go to fridge 1", "cool mug 2 with fridge 1"),
        *("open fridge 1", "move mug 2 to fridge 1"),
    ):
        *_, info = env.step(command)
        seen.setdefault(command, []).append(round(info["goal_progress"], 2))
    assert seen["take mug 2 from desk 1"] == [0.33, 0.33] and seen["move mug 2 to desk 1"] == [0.0]
    assert seen["heat mug 2 with microwave 1"] == [0.67] and seen["cool mug 2 with fridge 1"] == [0.33]
    assert seen["move mug 2 to fridge 1"] == [0.0] and not info["success"], "cold in the fridge is not half of it"


@pytest.mark.parametrize("seed", range(3))
def test_progress_says_the_same_as_success_whatever_is_played(seed):
    env, rng = make(path="generated", split="valid_seen", max_steps=200), np.random.default_rng(seed)
    for index in range(0, 60, 6):
        _, info = env.reset(options={"index": index})
        while True:
            deeds = [c for c in info["admissible_commands"] if not c.startswith(("go to", "examine", "look"))]
            *_, over, truncated, info = env.step(str(rng.choice([*deeds, *info["admissible_commands"]])))
            assert 0.0 <= info["goal_progress"] <= 1.0 and (info["goal_progress"] == 1.0) == info["success"] == over
            if over or truncated:
                break


@STYLES
@pytest.mark.parametrize("wandering", [0, 8])
def test_alfworld_114_91_the_expert_goes_on_from_the_present_state(style, wandering):
    """After commands at random, which may carry the wrong thing about, the game is still won by its advice."""
    env, rng = make(path="generated", split="valid_seen", expert=True, text_style=style, max_steps=80), None
    rng = np.random.default_rng(5)
    for index in range(0, 60, 4):
        _, info = env.reset(options={"index": index})
        over = False
        for step in range(80):
            advice = info["expert_action"]
            if step < wandering:
                advice = str(rng.choice(info["admissible_commands"]))
            _, _, over, _, info = env.step(advice)
            if over:
                break
        assert over and info["expert_action"] is None, info["task_id"]


def test_the_advice_changes_nothing_and_is_the_same_after_going_back():
    env, plain = begin(expert=True), begin()
    assert env.clone_state().inner.state == plain.clone_state().inner
    states, advice = [], []
    for command in ("go to desk 1", "take mug 2 from desk 1", "dance", "think: a", "go to fridge 1", "Open fridge 1."):
        info = env.step(command)[4]
        assert plain.step(command)[0] == info["messages"][-1]["content"]
        states.append(env.clone_state())
        advice.append(info["expert_action"])
    assert len(set(advice)) > 2
    for other in (env, make(expert=True)):
        for k in (0, 5, 2, 4, 1, 3):
            other.restore_state(states[k])
            assert other._info({})["expert_action"] == advice[k]
    plain.restore_state(states[2])
    assert plain.step("look")[4]["step"] == 4
    with pytest.raises(ValueError, match="a state of an environment without expert=True"):
        env.restore_state(begin().clone_state())


def test_a_command_that_was_only_misspelt_teaches_the_expert_nothing_of_the_house():
    """That "go to desk 1" is refused says that the player is there; that "Go to desk 1" is, in strict, does not."""
    env = begin(expert=True, spelling="strict")
    untouched = env._info({})["expert_action"]
    place = untouched.removeprefix("go to ")
    assert untouched.startswith("go to ")
    assert env.step(f"Go to the {place}.")[4]["expert_action"] == untouched


@FORMATS
def test_no_advice_without_asking(action_format):
    info = begin(action_format=action_format).step("look")[4]
    assert not {"expert_action", "walkthrough"} & set(info)
