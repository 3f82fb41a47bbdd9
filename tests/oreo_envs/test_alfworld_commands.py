"""Commands as agents write them: thoughts, spellings; threads of users in the names."""

import re

import numpy as np
import pytest
from alfworld_play import FORMATS, KNIFE, NOTHING, STYLES, begin, make, refused

from oreo_envs.alfworld.commands import native_command

pytestmark = pytest.mark.usefixtures("data_folder")


@FORMATS
@pytest.mark.parametrize("spelling", ["lenient", "strict"])
def test_alfworld_88_stateact_3_think_answers_ok_in_the_style_of_react(action_format, spelling):
    env = begin(text_style="paper", action_format=action_format, spelling=spelling)
    before = env.clone_state().inner
    action = env.action_text("think: I need a knife. Knives are on countertops.")
    observation, reward, terminated, truncated, info = env.step(action)
    assert (observation, reward, terminated, truncated) == ("OK.", 0.0, False, False)
    assert (info["invalid_action"], info["invalid_reason"], info["command_executed"]) == (False, None, None)
    assert info["step"] == 1 and env.clone_state().inner == before
    assert env.step(env.action_text("go to desk 1"))[4]["command_executed"] == "go to desk 1"


@pytest.mark.parametrize("text", ["Think: a", "> think: a", "think:"])
def test_a_thought_may_be_written_as_models_write_it(text):
    assert begin(text_style="paper").step(text)[0] == "OK."
    strict = begin(text_style="paper", spelling="strict").step(text)
    assert strict[0] == ("OK." if text == "think:" else NOTHING)


def test_a_long_thought_is_one_and_a_step_of_the_limit():
    env = begin(text_style="paper", max_steps=2)
    assert env.step("think: " + "a " * 999)[0] == "OK."
    assert env.step("think: b")[3], "as in the loops of ReAct and Reflexion, whose thoughts are steps"


def test_the_stock_game_knows_no_thoughts():
    assert refused(begin(), "think: where is it?") == "thought"


@pytest.mark.parametrize("text", ["I think: go to desk 1", "rethink: a", "think about it"])
def test_what_only_looks_like_a_thought_is_none(text):
    assert refused(begin(text_style="paper"), text) == "unknown_command"


def test_a_leading_mark_of_the_prompt_is_stripped():
    assert begin().step("> go to desk 1")[4]["command_executed"] == "go to desk 1"
    assert refused(begin(spelling="strict"), "> go to desk 1") == "spelling"


@pytest.mark.parametrize(
    ("command", "native"),
    [
        ("put mug 1 in / on desk 1", "move mug 1 to desk 1"),
        ("put mug 1 in/ on desk 1", "move mug 1 to desk 1"),
        ("put the mug 1 in the fridge 1", "move mug 1 to fridge 1"),
        ("put a mug 1 inside the fridge 1", "move mug 1 to fridge 1"),
        ("put mug 1 inside of fridge 1", "move mug 1 to fridge 1"),
        ("place an apple 1 on top of the side table 2", "move apple 1 to sidetable 2"),
        ("go to the dining table 1", "go to diningtable 1"),
        ("go to toilet paper hanger 1", "go to toiletpaperhanger 1"),
        ("goto desk 1", "go to desk 1"),
        ("pick up the remote control 2 from the arm chair 1", "take remotecontrol 2 from armchair 1"),
        ("pick mug 1 up from desk 1", "take mug 1 from desk 1"),
        ("take mug 1 out of fridge 1", "take mug 1 from fridge 1"),
        ("clean the apple 1 in the sink basin 1", "clean apple 1 with sinkbasin 1"),
        ("heat mug 1 using microwave 1", "heat mug 1 with microwave 1"),
        ("cool mug 1 inside fridge 1", "cool mug 1 with fridge 1"),
        ("slice the bread 1 using the butter knife 1", "slice bread 1 with butterknife 1"),
        ("turn the desk lamp 1 on", "use desklamp 1"),
        ("switch on the floor lamp 1", "use floorlamp 1"),
        ('"open the fridge 1".', "open fridge 1"),
        ("`examine mug 1`", "examine mug 1"),
        ("put mug 1 down on desk 1", "move mug 1 to desk 1"),
        ("put down the mug 1 in/on the desk 1", "move mug 1 to desk 1"),
        ("set the mug 1 down on top of desk 1.", "move mug 1 to desk 1"),
        ("put mug 1 on to desk 1", "move mug 1 to desk 1"),
        ("put mug 1 in or on desk 1", "move mug 1 to desk 1"),
        ("take mug 1 from in/on desk 1", "take mug 1 from desk 1"),
        ("grab mug 1 from desk 1!", "take mug 1 from desk 1"),
        ("heat up mug 1 with microwave 1", "heat mug 1 with microwave 1"),
        ("cool mug 1 down in fridge 1", "cool mug 1 with fridge 1"),
        ("open up the fridge 1", "open fridge 1"),
        ('take "mug 1" from "side table 2"', "take mug 1 from sidetable 2"),
        ("take [mug 1] from **desk 1**", "take mug 1 from desk 1"),
        ("take mug_1 from side_table_2", "take mug 1 from sidetable 2"),
        ("go to desk1", "go to desk 1"),
        ("go to desk #1", "go to desk 1"),
        ("1. go to desk 1", "go to desk 1"),
        # Not another thing than the one named, and nothing that is not clear.
        ("take hot mug 1 from desk 1", "take hotmug 1 from desk 1"),
        ("take mug from desk 1", "take mug from desk 1"),
        ("take the mug from the desk 1", "take the mug from the desk 1"),
        ("put mug 1 in desk 1 or 2", "put mug 1 in desk 1 or 2"),
        ("pick up mug 1", "pick up mug 1"),
        ("turn off desklamp 1", "turn off desklamp 1"),
        ("slice bread 1 in sinkbasin 1", "slice bread 1 in sinkbasin 1"),
        ("go to sink 1", "go to sink 1"),
        ("take the 1 from desk 1", "take the 1 from desk 1"),
        ("put mug 1 on desk 1 and go to bed 1", "put mug 1 on desk 1 and go to bed 1"),
        ("put another mug 1 in desk 1", "move anothermug 1 to desk 1"),
        ("go to desk 1 [desk 2]", "go to desk 1 [desk 2"),
        ("look at mug 1", "look at mug 1"),
        ("put mug 1 down", "put mug 1 down"),
    ],
)
def test_lenient_spellings_name_the_same_things(command, native):
    assert native_command(command) == native
    numbers = re.findall(r"\d+", command.removeprefix("1. "))
    assert re.findall(r"\d+", native) == numbers


SLOPPY = ["Go to desk 1", "go to desk 1.", "go  to desk 1", "go to the desk 1", "> go to desk 1", "`go to desk 1`"]


@pytest.mark.parametrize("command", SLOPPY)
def test_strict_refuses_what_the_stock_engine_refuses(command):
    assert refused(begin(spelling="strict"), command) == "spelling"
    assert refused(begin(), command) is None


@pytest.mark.parametrize("command", [" go to desk 1\n", "\tgo to desk 1", "\u00a0go to desk 1", "go to desk 1\x1c"])
def test_blank_space_around_a_command_counts_for_nobody(command):
    for spelling in ("lenient", "strict"):
        assert begin(spelling=spelling).step(command)[4]["command_executed"] == "go to desk 1"


@STYLES
@pytest.mark.parametrize("spelling", ["lenient", "strict"])
def test_everything_that_is_listed_is_obeyed_and_in_strict_nothing_else(style, spelling):
    env = begin(text_style=style, spelling=spelling)
    other = make(text_style="paper" if style == "native" else "native")
    rng = np.random.default_rng(0)
    commands = env.reset(options={"task_id": KNIFE})[1]["admissible_commands"]
    foreign = set()
    for _ in range(30):
        state = env.clone_state()
        for command in commands:
            assert not env.step(command)[4]["invalid_action"], command
            env.restore_state(state)
        other.restore_state(state)
        for command in {*other._info({})["admissible_commands"]} - {*commands}:
            foreign.add(command.split()[0])
            assert env.step(command)[4]["invalid_reason"] == ("spelling" if spelling == "strict" else None), command
            env.restore_state(state)
        _, _, over, _, info = env.step(str(rng.choice([c for c in commands if not c.startswith("go")] + commands[:9])))
        commands = env.reset()[1]["admissible_commands"] if over else info["admissible_commands"]
    assert foreign == {"move" if style == "paper" else "put"}


def test_the_spelling_is_an_option_of_the_configuration():
    from hydra import compose, initialize_config_dir

    from oreo_agents.runs.cli import config_folder

    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        options = compose("run", ["env=alfworld", "env.options.spelling=strict"]).env.options
    assert make(**{key: options[key] for key in ("spelling", "react", "action_format")}).spelling == "strict"
