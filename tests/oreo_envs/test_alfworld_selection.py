"""Train scenes held out as split "dev", and generated houses mixed into training."""

import copy
import pickle
import re
from pathlib import Path

import gymnasium as gym
import pytest
from alfworld_samples import write_games

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_envs.alfworld.houses import generated_games
from oreo_envs.alfworld.selection import open_split, scene

SCENES = (1, 2, 2, 203, 301, 301)
HOUSES = 4


def make(**settings):
    return gym.make("oreo/ALFWorld-v0", **settings).unwrapped


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six train games in the rooms ``SCENES``, sorted by name as they are; six of valid_seen, all in room 1."""
    monkeypatch.setenv("OREO_CACHE", str(tmp_path / "cache"))
    write_games(tmp_path)
    for task, number in zip(sorted((tmp_path / "json_2.1.1" / "train").iterdir()), SCENES, strict=True):
        task.rename(task.with_name(f"{task.name.rpartition('-')[0]}-{number}"))
    return tmp_path


def scenes(games):
    return [scene(task_id) for task_id in games.task_ids]


@pytest.mark.parametrize(
    ("task_id", "number"),
    [
        ("train/pick_and_place_simple-Mug-None-Desk-301/trial_T20190909_070538_437648", 301),
        ("valid_unseen/pick_clean_then_place_in_recep-ButterKnife-None-SideTable-3/trial_1", 3),
    ],
)
def test_the_scene_is_the_last_number_of_the_tasks_folder(task_id, number):
    assert scene(task_id) == number


@pytest.mark.parametrize("path", [None, "generated"])
def test_dev_and_train_share_the_train_games_and_no_scene(folder, path):
    path = folder if path is None else path
    everything = open_split("train", path, (), 0)
    held_out = (2, 301)
    train, dev = (open_split(split, path, held_out, 0) for split in ("train", "dev"))
    assert set(scenes(dev)) == set(held_out) and set(scenes(train)) == set(scenes(everything)) - set(held_out)
    assert sorted([*train.task_ids, *dev.task_ids]) == list(everything.task_ids)
    assert list(dev.task_ids) == sorted(dev.task_ids) and list(train.task_ids) == sorted(train.task_ids)


def test_a_chosen_game_is_the_game_that_it_was(folder):
    everything = open_split("train", folder, (), 0)
    mixed = open_split("train_and_houses", folder, (2,), HOUSES)
    houses = generated_games("train", HOUSES)
    assert mixed.task_ids == tuple(t for t in everything.task_ids if scene(t) != 2) + houses.task_ids
    assert len(mixed) == 4 + HOUSES
    for index, task_id in enumerate(mixed.task_ids):
        source = houses if task_id in houses.task_ids else everything
        place = source.task_ids.index(task_id)
        assert mixed[index] == source[place]
        assert mixed.walkthrough(index) == source.walkthrough(place) and mixed.data(index) == source.data(place)


def test_houses_are_added_to_some_of_the_real_games(folder):
    everything, houses = open_split("train", folder, (), 0), generated_games("train", HOUSES)
    some = open_split("train_and_houses", folder, (2,), HOUSES, real_games=3)
    assert some.task_ids == open_split("train_and_houses", folder, (2,), HOUSES, real_games=3).task_ids
    real = some.task_ids[:3]
    assert some.task_ids == (*real, *houses.task_ids) and len(set(real)) == 3
    assert set(real) < {task_id for task_id in everything.task_ids if scene(task_id) != 2}
    assert list(real) == [task_id for task_id in everything.task_ids if task_id in real]
    assert len(open_split("train", folder, (2,), HOUSES, real_games=3)) == 4


def test_scenes_held_out_leave_the_validation_splits_alone(folder):
    assert len(make(split="valid_seen", path=folder).games) == 6
    with pytest.raises(ValueError, match=r"dev_scenes=\(1,\) does nothing on split 'valid_seen', only on: train, dev"):
        make(split="valid_seen", path=folder, dev_scenes=(1,))
    # Nor is a scene of theirs one of the train games.
    with pytest.raises(ValueError, match="no train game is in scene 10;"):
        open_split("train", write_games(folder / "other", ("train", "valid_seen")), (10,), 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "dev"}, r"split 'dev' holds .* some scenes: say which with dev_scenes=\[\.\.\.\]"),
        ({"split": "dev", "dev_scenes": [7]}, "no train game is in scene 7; those of them: 1, 2, 203, 301"),
        ({"split": "train", "dev_scenes": [2, 9, 7]}, "no train game is in scene 7, 9;"),
        ({"split": "train", "dev_scenes": [1, 2, 203, 301]}, "every scene of the train games: none is left"),
        ({"split": "train_and_houses"}, r"adds generated houses .* say how many with houses=\.\.\."),
        ({"split": "train_and_houses", "houses": -1}, "houses must be at least 0, got -1"),
        ({"split": "train_and_houses", "houses": 1, "real_games": 0}, "real_games: there are 6 train games, got 0"),
        ({"split": "train_and_houses", "houses": 1, "dev_scenes": [2], "real_games": 5}, "there are 4 train games"),
        ({"split": "developement"}, "unknown split 'developement'"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused_with_the_mend(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        make(path=folder, **settings)


@pytest.mark.parametrize("path", ["generated", "generated:7"])
def test_generated_houses_are_not_mixed_with_themselves(path):
    """Those of the path would be there twice, and held-out rooms would come back under other names."""
    with pytest.raises(ValueError, match=re.escape(f"path={path!r} all train games are generated houses")):
        make(split="train_and_houses", path=path, houses=5, dev_scenes=[1])


def test_games_whose_folders_name_no_scene_are_played_as_before(folder):
    for task in (folder / "json_2.1.1" / "train").iterdir():
        task.rename(task.with_name(f"{task.name.partition('-')[0]}-kitchen"))
    assert len(make(path=folder).games) == 6
    assert len(make(path=folder, split="train_and_houses", houses=2).games) == 8


def test_games_of_the_held_out_scenes_are_played_and_not_shown(folder):
    env = make(split="dev", path=folder, dev_scenes=[2], expert=True)
    assert env.num_tasks == 2
    for index in range(2):
        _, info = env.reset(options={"index": index})
        assert info["split"] == "dev" and info["task_id"].startswith("train/")
        for command in info["walkthrough"]:
            *_, info = env.step(command)
        assert info["success"]
        with pytest.raises(ValueError, match="split 'dev' is held out"):
            env.demonstration(index)
    assert env.reset(options={"task_id": env.games.task_ids[1]})[1]["index"] == 1


def test_demonstrations_are_of_games_and_houses_alike(folder):
    env = make(split="train_and_houses", path=folder, dev_scenes=[2], houses=HOUSES, mistakes=0.3, renumber=1.0)
    shown = [env.demonstration(index, seed=3) for index in range(env.num_tasks)]
    assert [one.task_id for one in shown] == list(env.games.task_ids)
    assert all(one.info["success"] for one in shown) and any(any(one.mistaken) for one in shown)


def test_the_same_game_is_shown_otherwise_in_another_split(folder):
    """Splits have streams of random numbers of their own."""
    train = make(split="train", path=folder, mistakes=0.5)
    mixed = make(split="train_and_houses", path=folder, mistakes=0.5, houses=1)
    assert train.games.task_ids == mixed.games.task_ids[:-1]
    assert any(train.demonstration(i).steps != mixed.demonstration(i).steps for i in range(6))


@pytest.mark.parametrize(("split", "count"), [("dev", 2), ("train_and_houses", 4 + HOUSES)])
def test_chosen_games_are_pickled_copied_and_played_side_by_side(folder, split, count):
    settings = {"split": split, "path": folder, "dev_scenes": [2], "houses": HOUSES if split != "dev" else 0}
    env = make(**settings)
    env.reset(options={"index": count - 1})
    twins = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    expected = env.step("inventory")
    assert twins[0].games is env.games
    for twin in twins:
        assert twin.games.task_ids == env.games.task_ids and twin.step("inventory") == expected
    many = gym.make_vec("oreo/ALFWorld-v0", num_envs=20, **settings)
    _, infos = many.reset(seed=0)
    assert set(infos["task_id"]) <= set(env.games.task_ids) and len(set(infos["task_id"])) > 1
    assert all(one.games is many.envs[0].games for one in many.envs)
    many.close()


@pytest.mark.slow
def test_the_real_train_games_divide_into_train_and_dev(alfworld_pack, shared_folder, monkeypatch):
    monkeypatch.setenv("OREO_CACHE", str(shared_folder / "alfworld-cache"))
    everything = open_split("train", alfworld_pack, (), 0)
    rooms = sorted(set(scenes(everything)))
    held_out = rooms[::9]
    train, dev = (open_split(split, alfworld_pack, held_out, 0) for split in ("train", "dev"))
    assert (len(everything), len(rooms)) == (3553, 108)
    assert set(scenes(dev)) == set(held_out) and not set(scenes(train)) & set(held_out)
    assert len(train) + len(dev) == len(everything)
