"""Games by TextWorld's makers: made once, the same everywhere, won by their walkthroughs."""

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gymnasium as gym
import pytest

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_envs.prompts import prompt_template
from oreo_envs.textworld_maker import DEFAULTS, clean

pytest.importorskip("textworld", reason="the extra [alfworld] is not installed")
pytestmark = pytest.mark.usefixtures("data_folder")

QUICK = {"maker": "tw-treasure_hunter", "settings": {"level": 3}, "num_games": 4}


def make(**arguments):
    return gym.make("oreo/TextWorld-v0", **{**QUICK, **arguments}).unwrapped


def play(env, *actions, index=0):
    history = [env.reset(options={"index": index})]
    return [*history, *(env.step(action) for action in actions)]


@pytest.mark.parametrize("maker", DEFAULTS)
def test_the_walkthrough_of_every_maker_wins(maker):
    env = make(maker=maker, settings={})
    shown = env.demonstration(0)
    history = play(env, *shown.steps)
    assert [result[1] for result in history[1:]] == list(shown.rewards) == [0.0] * (len(shown.steps) - 1) + [1.0]
    assert tuple(history[-1][4]["messages"]) == shown.messages and history[-1][2]
    assert shown.info["success"] and shown.info["source"] == "walkthrough" and not any(shown.mistaken)
    for before, command in zip(history, shown.steps, strict=False):
        assert command in before[-1]["admissible_commands"]


def test_a_game_is_made_once(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("OREO_CACHE", str(tmp_path / "empty"))  # where no other process makes games
    make(settings={"level": 1}).reset(options={"index": 2})
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "empty").rglob("game.*")}
    make(settings={"level": 1}).reset(options={"index": 2})
    assert files and {path: path.stat().st_mtime_ns for path in (tmp_path / "empty").rglob("game.*")} == files
    assert not [path for path in (tmp_path / "empty").rglob(".ma*")], "nothing half made is left"


def test_many_that_want_one_game_at_once_get_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("OREO_CACHE", str(tmp_path / "empty"))
    with ThreadPoolExecutor(3) as pool:
        texts = list(pool.map(lambda _: make(settings={"level": 1}).reset(options={"index": 1})[0], range(3)))
    assert len(set(texts)) == 1
    assert len(list((tmp_path / "empty").rglob("game.z8"))) == 1


def test_games_are_the_same_in_another_process_with_another_hash_seed(tmp_path, monkeypatch, capsys):
    code = (
        "import gymnasium as gym, oreo_envs\n"
        f"env = gym.make('oreo/TextWorld-v0', **{QUICK!r}).unwrapped\n"
        "shown = env.demonstration(0)\n"
        "print(shown.task_id, shown.messages, env.reset(options={'index': 1}))\n"
    )
    monkeypatch.setenv("OREO_CACHE", str(tmp_path / "here"))
    exec(code, {})
    seed = "1234" if os.environ.get("PYTHONHASHSEED") == "0" else "0"  # of this process it is random, if not said
    environment = {**os.environ, "PYTHONHASHSEED": seed, "OREO_CACHE": str(tmp_path / "there")}
    run = [sys.executable, "-W", "error", "-c", code]
    there = subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout
    assert there and there == capsys.readouterr().out


def test_splits_have_other_games_and_the_foods_that_makers_hold_out():
    texts = {split: make(split=split).reset(options={"index": 0})[0] for split in ("train", "dev", "test")}
    assert len(set(texts.values())) == 3
    cooking = {split: make(maker="tw-cooking", settings={}, split=split).settings["split"] for split in texts}
    assert cooking == {"train": "train", "dev": "valid", "test": "test"}
    assert make(maker="tw-simple", settings={}, split="test").settings["test"] is True
    assert make(maker="tw-simple", settings={"test": False}, split="test").settings["test"] is False


def test_what_is_not_admissible_changes_nothing_and_says_so():
    env = make()
    (_, start), *rest = play(env, "go up", "undo", "save", "take key. look", "purloin key", "")
    assert {result[0] for result in rest} == {"That is not possible now."}
    for result in rest:
        assert (
            result[4]["invalid_action"] and result[4]["command_executed"] is None and result[1:4] == (0.0, False, False)
        )
        assert result[4]["admissible_commands"] == start["admissible_commands"]
    assert rest[-1][4]["step"] == 6


def test_case_spaces_a_prompt_and_a_full_stop_do_not_count():
    env = make()
    for action in ("look", "<think>go up</think> >  Look.", "LOOK ."):
        observation, _, _, _, info = play(env, action)[1]
        assert info["command_executed"] == "look" and not info["invalid_action"] and observation.startswith("-= ")
    for action in ("look around", "<think>look", "look. look", "look!", ">> look"):
        assert play(env, action)[1][4]["invalid_action"], action


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("action_format", ["command", "react", "tags"])
def test_turns_are_written_in_every_format_of_alfworld(action_format, listed):
    env = make(action_format=action_format, admissible_in_prompt=listed)
    prompt = env.reset(options={"index": 0})[1]["messages"][0]["content"]
    assert prompt == prompt_template("textworld" + {"command": ""}.get(action_format, f"-{action_format}")).system
    shown = env.demonstration(0)
    history = play(env, *shown.steps)
    assert tuple(history[-1][4]["messages"]) == shown.messages and history[-1][4]["success"]
    for (text, *_, before), command in zip(history, env.game(0).walkthrough, strict=False):
        assert env.command_in(env.action_text(command, "I try.")) == command
        assert text.endswith(f"'{before['admissible_commands'][-1]}'].") is listed
    assert "admissible actions" not in history[-1][0], "a game that is over has nothing more to say"
    invented = env.action_text("look") + "\nObservation: a key.\nAction: take key"
    *_, info = play(env, invented)[1]
    if action_format == "command":
        assert info["invalid_reason"] == "not_possible" and "action_rest" not in info
    else:
        assert info["command_executed"] == "look" and info["action_rest"] == "Observation: a key.\nAction: take key"
    assert info.get("action_valid", True) is True
    *_, info = play(env, env.action_text(""))[1]
    assert (info["invalid_action"], info["invalid_reason"]) == (True, "no_command")
    *_, info = env.cut_off("go no")
    assert (info["invalid_reason"], info.get("action_valid", False)) == ("cut_off", False)


def test_a_format_that_is_none_is_refused():
    for settings, message in [
        ({"action_format": "tag"}, "unknown action_format 'tag'; did you mean 'tags'"),
        ({"react": "eto"}, "has no effect with action_format='command'"),
        ({"admissible_in_prompt": "all"}, "unknown admissible_in_prompt 'all'"),
    ]:
        with pytest.raises(ValueError, match=message):
            make(**settings)


def test_a_lost_game_is_over_and_not_paid():
    """In a hunt for treasure the other thing that lies about loses the game."""
    lost = 0
    for index in range(4):
        env = make()
        _, info = env.reset(options={"index": index})
        seen = 0
        while seen < 12:
            takes = [command for command in info["admissible_commands"] if command.startswith("take")]
            wrong = [command for command in takes if command not in env.game(index).walkthrough]
            goes = [command for command in info["admissible_commands"] if command.startswith("go")]
            _, reward, terminated, _, info = env.step(wrong[0] if wrong else goes[seen % len(goes)])
            seen += 1
            if terminated:
                assert (reward, info["success"]) == (0.0, False)
                lost += 1
                break
    assert lost


def test_states_copies_and_pickles_go_on_from_where_they_were():
    env = make()
    shown = env.demonstration(1)
    env.reset(options={"index": 1})
    start = env.clone_state()
    env.step(shown.steps[0])
    middle = env.clone_state()
    twins = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    end = [env.step(command) for command in shown.steps[1:]]
    for twin in twins:
        assert [twin.step(command) for command in shown.steps[1:]] == end
    env.restore_state(middle)
    assert [env.step(command) for command in shown.steps[1:]] == end
    other = make()
    other.restore_state(start)
    assert [other.step(command) for command in shown.steps][1:] == end


def test_task_ids_tell_settings_apart():
    task_id = make().reset(options={"index": 3})[1]["task_id"]
    assert task_id.startswith("textworld/tw-treasure_hunter-") and task_id.endswith("/train/3")
    for other in (make(settings={"level": 2}), make(num_games=3), make(split="dev")):
        with pytest.raises(ValueError, match="unknown task_id"):
            other.reset(options={"task_id": task_id})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"maker": "tw-simpel"}, "unknown maker 'tw-simpel'; did you mean 'tw-simple'"),
        ({"settings": {"levl": 3}}, "unknown setting of tw-treasure_hunter 'levl'; did you mean 'level'"),
        ({"settings": "level 3"}, "settings must be those of the maker by name, got 'level 3'"),
        ({"num_games": 0}, "num_games must be an integer >= 1, got 0"),
        ({"num_games": 1 << 25}, "num_games must be at most 16777216"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_settings_that_a_maker_refuses_are_a_sentence():
    with pytest.raises(ValueError, match=r"tw-treasure_hunter makes no game of {'level': 99} with seed 0"):
        make(settings={"level": 99}).reset(options={"index": 0})


def test_texts_lose_what_is_asked_after_them():
    assert clean("A.\n \n\n\nB.\n\n> \n\n -= Attic =-0/1") == "A.\n\nB.\n\n>\n\n-= Attic =-0/1"
    assert clean("You win.\n\n*** The End ***\n\nWould you like to RESTART, QUIT?\n> ") == "You win.\n\n*** The End ***"
    assert clean("A > B\nC") == "A > B\nC"
