"""Why nothing happens; threads of users in the names."""

import numpy as np
import pytest
from alfworld_play import FORMATS, KNIFE, begin, make, refused

from oreo_envs.alfworld.refusals import REASONS

pytestmark = pytest.mark.usefixtures("data_folder")


def test_alfworld_97_131_expel_8_nothing_happens_for_a_reason():
    env = begin()
    for action, reason in [
        ("", "no_command"),
        ("dance", "unknown_command"),
        ("take knife from countertop 1", "unknown_command"),
        ("go to desk 2", "unknown_name"),
        ("take pen 1 from desk 1", "unknown_name"),
        ("take knife 1 from countertop 1", "not_here"),
        ("open fridge 1", "not_here"),
        ("examine desk 1", "not_here"),
        ("examine knife 1", "not_in_hand"),
        ("go to knife 1", "not_possible"),
        ("go to fridge 1", None),
        ("go to fridge 1", "already_there"),
        ("take apple 2 from fridge 1", "closed"),
        ("close fridge 1", "already_closed"),
        ("open fridge 1", None),
        ("open fridge 1", "already_open"),
        ("take apple 1 from fridge 1", "not_here"),
        ("move apple 2 to fridge 1", "not_in_hand"),
        ("take apple 2 from fridge 1", None),
        ("take apple 2 from fridge 1", "hands_full"),
        ("heat apple 2 with fridge 1", "not_possible"),
        ("heat apple 2 with microwave 1", "not_here"),
        ("cool mug 1 with fridge 1", "not_in_hand"),
        ("go to countertop 1", None),
        ("go to sinkbasin 1", "already_there"),
        ("open countertop 1", "not_possible"),
        ("slice apple 1 with knife 1", "not_in_hand"),
        ("use mug 1", "not_possible"),
        ("use desklamp 1", "not_here"),
        ("move apple 2 to countertop 1", None),
        ("take knife 1 from countertop 1", None),
        ("slice mug 1 with knife 1", "not_possible"),
        ("slice apple 1 with knife 1", None),
        ("clean knife 1 with countertop 1", "not_possible"),
        ("go to fridge 1", None),
        ("move knife 1 to fridge 1", "not_possible"),
        ("take desklamp 1 from desk 1", "not_here"),
    ]:
        assert refused(env, action) == reason, action


@pytest.mark.parametrize(
    ("action_format", "action", "reason"),
    [
        ("react", "go to desk 1", "no_command"),
        ("react", "Thought: hm.\nAction:", "no_command"),
        ("react", "Action: fly", "unknown_command"),
        ("tags", "<think>go to desk 1</think>", "no_command"),
        ("tags", "<think>a</think><action>go to bed 1</action>", "unknown_name"),
        ("command", "<think>go to desk 1", "no_command"),
    ],
)
def test_the_form_of_an_action_is_a_reason_too(action_format, action, reason):
    assert refused(begin(action_format=action_format), action) == reason


def test_text_over_the_limit_is_a_reason():
    env = begin(max_chars=300)
    info = env.step("look" + " " * 400)[4]
    assert info["invalid_action"] and info["invalid_reason"] == "too_long"


@FORMATS
def test_an_action_that_was_cut_in_its_middle_is_none(action_format):
    env = begin(action_format=action_format)
    *_, info = env.cut_off(env.action_text("look")[:-1])
    assert (info["invalid_action"], info["invalid_reason"], info["command_executed"]) == (True, "cut_off", None)
    assert info.get("action_valid", False) is False


def test_every_refusal_of_a_player_who_says_anything_has_a_reason_of_the_list():
    """Commands of any game, given in any state; what is admissible has none."""
    env = begin()
    names = [*env.games[0].problem.objects, *env.games[0].problem.receptacles, "pen 1"]
    forms = ("go to {}", "open {}", "close {}", "examine {}", "use {}", "take {} from {}", "move {} to {}")
    forms += tuple(f"{verb} {{}} with {{}}" for verb in ("clean", "heat", "cool", "slice"))
    rng, seen = np.random.default_rng(1), set()
    for _ in range(1500):
        admissible = env._info({})["admissible_commands"]
        command = str(rng.choice(forms)).format(*rng.choice(names, 2))
        command = str(rng.choice(admissible)) if rng.random() < 0.3 else command
        *_, over, info = env.step(command)
        assert (info["invalid_reason"] is None) == (command in admissible)
        assert info["invalid_reason"] in (None, *REASONS)
        seen.add(info["invalid_reason"])
        if info["success"] or over:
            env.reset(options={"task_id": KNIFE})
    # That something is open already is rarely said at random.
    assert seen | {"already_open"} == {*REASONS, None} - {
        *("spelling", "thought", "too_long", "cut_off", "no_command", "unknown_command")
    }


def test_reasons_speak_of_the_numbers_that_the_player_sees():
    env = make(path="generated", split="train_renumbered", renumber=1.0)
    for index in range(8):
        _, info = env.reset(options={"index": index})
        [first, second, *_] = [c.removeprefix("go to ") for c in info["admissible_commands"] if c.startswith("go to ")]
        assert refused(env, f"examine {first}") == "not_here"
        assert refused(env, f"go to {first}") is None and refused(env, f"go to {first}") == "already_there"
        assert refused(env, f"move {second} to {first}") == "not_possible"
        assert refused(env, "go to desk 99") == "unknown_name"
