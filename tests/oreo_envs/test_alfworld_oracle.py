"""The direct engine against the stock one; skipped where TextWorld's planner is not installed."""

import importlib.util
import json
import os
import random
import sys
import threading
from collections import Counter
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from alfworld_samples import GOALS, sample_game, write_games

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_envs.alfworld.games import open_games, read_game_file
from oreo_envs.alfworld.houses import generated_games
from oreo_envs.alfworld.rules import domain_text, grammar_text
from oreo_envs.alfworld.simulator import DirectPlay, Game
from oreo_envs.alfworld.textworld_engine import TextWorldPlay, stock_engine

HAS_STOCK = all(importlib.util.find_spec(name) for name in ("textworld", "fast_downward"))
needs_stock = pytest.mark.skipif(
    not HAS_STOCK, reason="TextWorld's planner is not installed: pip install 'oreo-suite[alfworld]' compiles it"
)


@pytest.fixture(autouse=True)
def cache(shared_folder, monkeypatch):
    monkeypatch.setenv("OREO_CACHE", str(shared_folder / "alfworld-cache"))


def load_script():
    file = Path(__file__).parents[2] / "benchmarks" / "alfworld_lockstep.py"
    spec = importlib.util.spec_from_file_location("alfworld_lockstep", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def play_lockstep(game, data, steps, seed):
    counts = Counter()
    differences = load_script().lockstep(game, data, steps, random.Random(seed), counts)
    assert counts["steps"] == steps
    return differences


@needs_stock
@pytest.mark.parametrize(
    "task_type",
    [
        pytest.param(task_type, marks=() if task_type.startswith(("look", "pick_two")) else pytest.mark.slow)
        for task_type in GOALS
    ],
)
def test_lockstep_in_the_kitchen(task_type):
    data = sample_game(task_type)
    game = Game(read_game_file(json.dumps(data).encode(), "sample").problem)
    assert play_lockstep(game, data, 12, seed=len(task_type)) == []


@needs_stock
def test_every_description_of_an_object_is_the_same():
    """Two apples, one of them sliced, go through all treatments; a lamp is not examined, for nobody can lift it."""
    script = [
        "go to countertop 1",
        "take knife 1 from countertop 1",
        "slice apple 1 with knife 1",
        "slice apple 2 with knife 1",
    ]
    script += ["examine knife 1", "look", "move knife 1 to sinkbasin 1", "look", "take apple 1 from countertop 1"]
    washed = ["go to sinkbasin 1", "clean {} with sinkbasin 1", "examine {}"]
    heated = ["go to microwave 1", "heat {} with microwave 1", "examine {}"]
    cooled = ["go to fridge 1", "cool {} with fridge 1", "examine {}"]
    script += [step.format("apple 1") for step in ["examine {}", *heated, *cooled, *washed, *heated]]
    script += [
        "open microwave 1",
        "move apple 1 to microwave 1",
        "examine microwave 1",
        "go to fridge 1",
        "open fridge 1",
    ]
    script += [
        step.format("apple 2") for step in ["take {} from fridge 1", "examine {}", *cooled, *heated, *washed, *cooled]
    ]
    script += ["move apple 2 to fridge 1", "go to sinkbasin 1", "take bowl 1 from countertop 1", "examine bowl 1"]
    script += [
        "move bowl 1 to sinkbasin 1",
        "look",
        "go to desk 1",
        "use desklamp 1",
        "use desklamp 1",
        "examine desklamp 1",
    ]
    data = sample_game()
    ours = DirectPlay(Game(read_game_file(json.dumps(data).encode(), "sample").problem))
    stock = TextWorldPlay(data)
    for command in script:
        assert (ours.step(command), ours.commands()) == (stock.step(command), stock.commands()), command


@needs_stock
def test_lockstep_on_a_real_game(alfworld_pack):
    source = open_games("valid_seen", alfworld_pack)
    assert play_lockstep(source[40], source.data(40), 15, seed=1) == []


@needs_stock
@pytest.mark.slow
@pytest.mark.parametrize("index", range(0, 140, 20))
def test_lockstep_on_more_real_games(alfworld_pack, index):
    source = open_games("valid_seen", alfworld_pack)
    assert play_lockstep(source[index], source.data(index), 60, seed=index) == []


@needs_stock
@pytest.mark.parametrize(
    ("split", "index"),
    [
        ("train", 10),
        ("valid_unseen", 130),
        pytest.param("train", 1_100, marks=pytest.mark.slow),
        pytest.param("valid_seen", 60, marks=pytest.mark.slow),
    ],
)
def test_walkthroughs_of_generated_games_win_in_both_engines(split, index):
    games = generated_games(split)
    ours, stock = DirectPlay(games[index]), TextWorldPlay(games.data(index))
    for command in games.walkthrough(index):
        assert (ours.intro, ours.commands(), ours.won) == (stock.intro, stock.commands(), False)
        assert ours.step(command) == stock.step(command) is not None
    assert ours.won and stock.won


@needs_stock
@pytest.mark.slow
@pytest.mark.parametrize("index", range(5, 134, 12))
def test_lockstep_on_generated_games(index):
    games = generated_games("valid_unseen")
    assert play_lockstep(games[index], games.data(index), 40, seed=index) == []


@needs_stock
def test_the_stock_engine_plays_generated_games():
    env = gym.make("oreo/ALFWorld-v0", path="generated", split="valid_unseen", engine="textworld")
    observation, info = env.reset(options={"index": 40})
    assert info["task_id"] in generated_games("valid_unseen").task_ids
    assert "Your task is to: " in observation and info["admissible_commands"]


@needs_stock
def test_our_rules_play_a_real_game_as_its_own_do(alfworld_pack):
    source = open_games("valid_seen", alfworld_pack)
    game = source[40]
    data = {**source.data(40), "pddl_domain": domain_text(), "grammar": grammar_text(game.problem.task)}
    assert play_lockstep(game, data, 15, seed=1) == []


@needs_stock
def test_episodes_of_both_engines_are_equal(tmp_path):
    folder = write_games(tmp_path, ("train",))
    envs = [
        gym.make("oreo/ALFWorld-v0", split="train", path=folder, engine=engine) for engine in ("direct", "textworld")
    ]
    for style_command in ("move knife 1 to desk 1", "PUT knife 1 in/on desk 1."):
        histories = []
        for env in envs:
            history = [env.reset(options={"index": 5})]
            assert history[0][1]["task_type"] == "pick_two_obj_and_place"
            for command in (
                "go to countertop 1",
                "",
                "take knife 1 from countertop 1",
                "look",
                "go to desk 1",
                style_command,
            ):
                history.append(env.step(command))
            histories.append(history)
        assert histories[0] == histories[1]


@needs_stock
def test_states_of_the_stock_engine_are_exact_and_games_take_turns(tmp_path):
    folder = write_games(tmp_path, ("train",))
    one, two = (
        gym.make("oreo/ALFWorld-v0", split="train", path=folder, engine="textworld").unwrapped for _ in range(2)
    )
    one.reset(options={"index": 2})
    two.reset(options={"index": 0})
    one.step("go to desk 1")
    state = one.clone_state()
    taken = one.step("take mug 2 from desk 1")
    assert two.step("go to fridge 1")[0] == "You arrive at fridge 1. The fridge 1 is closed."
    one.restore_state(state)
    assert "take mug 2 from desk 1" in one.clone_state().inner.commands
    assert one.step("take mug 2 from desk 1") == taken
    assert two.step("open fridge 1")[0] == "You open the fridge 1. The fridge 1 is open. In it, you see a apple 2."


@needs_stock
def test_the_stock_engine_leaves_the_process_as_it_was(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    folder = write_games(tmp_path / "games", ("train",))
    seen, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            print(".", end="")
            seen.add((sys.stdout, tuple(sys.argv)))

    stock_engine()  # the translator's first import reads its options from sys.argv
    draws = np.random.get_state()[1].tolist()
    before = (list(sys.argv), sys.stdout, os.getcwd(), dict(os.environ))
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        env = gym.make("oreo/ALFWorld-v0", split="train", path=folder, engine="textworld")
        env.reset(options={"index": 0})
        env.step("look")
    finally:
        stop.set()
        thread.join()
    assert (list(sys.argv), sys.stdout, os.getcwd(), dict(os.environ)) == before
    assert not list(home.iterdir())
    assert seen == {(sys.stdout, tuple(sys.argv))}
    assert np.random.get_state()[1].tolist() == draws
    assert "alfworld" not in sys.modules


def test_without_textworld_the_error_says_what_to_install(tmp_path, monkeypatch):
    from oreo_envs.alfworld import textworld_engine

    monkeypatch.setattr(textworld_engine, "stock_engine", textworld_engine.StockEngine)
    monkeypatch.setitem(sys.modules, "fast_downward", None)
    folder = write_games(tmp_path, ("train",))
    env = gym.make("oreo/ALFWorld-v0", split="train", path=folder, engine="textworld")
    with pytest.raises(ImportError, match=r'pip install "oreo-suite\[alfworld\]"'):
        env.reset(seed=0)


def test_a_play_of_the_direct_engine_does_not_need_the_stock_one():
    data = sample_game()
    play = DirectPlay(Game(read_game_file(json.dumps(data).encode(), "sample").problem))
    assert all(play.step(command) for command in data["walkthrough"]) and play.won
