"""Finding and reading games: layouts, broken files, the cached index."""

import json
import multiprocessing
import os
import pickle
import shutil
import tarfile

import pytest
from alfworld_samples import GOALS, sample_game, write_games

from oreo_envs.alfworld import games as games_module
from oreo_envs.alfworld.cache import read_cache, write_cache
from oreo_envs.alfworld.games import open_games


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and none of this machine's games."""
    monkeypatch.setenv("OREO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for variable in ("OREO_DATA", "ALFWORLD_DATA"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    return write_games(tmp_path / "data" / "alfworld")


def pack(folder, archive):
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(folder / "json_2.1.1", "json_2.1.1")
    return archive


def first_game(folder, split="train"):
    return sorted((folder / "json_2.1.1" / split).glob("*/*/game.tw-pddl"))[0]


def test_every_way_to_name_the_same_games(folder, tmp_path, monkeypatch):
    expected = open_games("train", folder).task_ids
    assert len(expected) == len(GOALS) and list(expected) == sorted(expected)
    (tmp_path / "packed").mkdir()
    archive = pack(folder, tmp_path / "packed" / "games.tar.xz")
    for path in (str(folder), folder / "json_2.1.1", archive, archive.parent):
        source = open_games("train", path)
        assert source.task_ids == expected
        assert source[0].intro == open_games("train", folder)[0].intro
        assert source.data(3) == {
            **sample_game("pick_cool_then_place_in_recep"),
            "walkthrough": list(source.walkthrough(3)),
        }
    monkeypatch.setenv("ALFWORLD_DATA", str(folder))
    assert open_games("train").task_ids == expected
    monkeypatch.setenv("OREO_DATA", str(tmp_path / "nothing"))
    assert open_games("train").task_ids == expected
    monkeypatch.setenv("OREO_DATA", str(folder.parent))
    monkeypatch.delenv("ALFWORLD_DATA")
    assert open_games("train").task_ids == expected
    monkeypatch.delenv("OREO_DATA")
    (tmp_path / "home" / ".cache").mkdir(parents=True)
    (tmp_path / "home" / ".cache" / "alfworld").symlink_to(folder)
    assert open_games("train").task_ids == expected


def test_missing_games_are_an_error_that_says_how_to_get_them(folder, tmp_path):
    for path in (None, tmp_path / "nowhere", folder):
        with pytest.raises(FileNotFoundError, match=r"no games of split 'valid_unseen'.*alfworld-download") as caught:
            open_games("valid_unseen", path)
        message = str(caught.value)
        assert all(word in message for word in ("path=", "OREO_DATA", "ALFWORLD_DATA", 'path="generated"'))
        assert str(path or ".cache/alfworld") in message


PROBLEM = sample_game()["pddl_problem"]
GOAL = PROBLEM.index("(:goal")
NO_GOAL = PROBLEM[:GOAL] + "(:goal (and)))"
TWICE = PROBLEM[:GOAL] + "(:init) " + PROBLEM[GOAL:]
WON = PROBLEM[:GOAL] + "(:goal (exists (?r - receptacle) (openable ?r))))"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a JSON object but list"),
        (b"{}", "no text in field 'pddl_domain', so not a game of ALFWorld"),
        (json.dumps(sample_game(pddl_problem=7)).encode(), "no text in field 'pddl_problem'"),
        (json.dumps(sample_game(walkthrough="look")).encode(), "'walkthrough' is no list"),
        (json.dumps(sample_game()).encode()[:-50], "not JSON"),
        (json.dumps(sample_game(pddl_problem="(define (problem p) (:domain blocks))")).encode(), "another domain"),
        (json.dumps(sample_game(pddl_domain="(define)")).encode(), "'pddl_domain' is not the domain"),
        (json.dumps(sample_game(grammar="")).encode(), "'grammar' is not the grammar"),
        (json.dumps(sample_game(solvable="true")).encode(), "'solvable' is neither true nor false"),
        (b"[" * 100_000, "lists and objects more than 100 deep"),
        (json.dumps(sample_game(pddl_problem=NO_GOAL)).encode(), "nothing is asked for"),
        (json.dumps(sample_game(pddl_problem=WON)).encode(), "met before the first command"),
        (json.dumps(sample_game(pddl_problem=TWICE)).encode(), "a section that is given twice"),
    ],
)
def test_a_broken_game_is_named(folder, tmp_path, content, message):
    file = first_game(folder)
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        open_games("train", folder)
    assert str(file) in str(caught.value)
    archive = pack(folder, tmp_path / "games.tar.xz")
    with pytest.raises(ValueError, match=message) as caught:
        open_games("train", archive)
    assert f"{archive}, member json_2.1.1/train/{'/'.join(file.parts[-3:])}" in str(caught.value)
    assert len(open_games("valid_seen", folder)) == len(GOALS)


@pytest.mark.parametrize("keep", [0, 100, 600])
def test_a_cut_archive_is_named(folder, tmp_path, keep):
    archive = pack(folder, tmp_path / "games.tar.xz")
    archive.write_bytes(archive.read_bytes()[:keep] if keep else b"not an archive")
    with pytest.raises(ValueError, match=r"games\.tar\.xz: not a whole (xz file|tar archive) .*; get it again"):
        open_games("train", archive)


def test_an_archive_is_unpacked_once_for_all_games(folder, tmp_path, monkeypatch):
    """`engine="textworld"` unpacked it at each reset."""
    source = open_games("train", pack(folder, tmp_path / "games.tar.xz"))
    unpacked, read = [], games_module.GameFiles._from_archive
    monkeypatch.setattr(
        games_module.GameFiles, "_from_archive", lambda files, wanted: unpacked.append(wanted) or read(files, wanted)
    )
    from_folder = open_games("train", folder)
    for _ in range(2):
        assert [source.data(index) for index in range(6)] == [from_folder.data(index) for index in range(6)]
    assert len(unpacked) == 1


def test_pickled_games_must_be_the_same_when_they_are_read_again(folder, tmp_path):
    source = open_games("train", folder)
    dumped = pickle.dumps(source)
    assert len(dumped) < 1_000 and pickle.loads(dumped) is source
    file = first_game(folder)
    file.write_text(json.dumps(sample_game(walkthrough=["look"])), encoding="utf-8")
    with pytest.raises(ValueError, match="the games have changed since this environment was pickled; make it anew"):
        pickle.loads(dumped)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="no games of split 'train' there any longer"):
        pickle.loads(dumped)


def test_games_without_a_known_solution_or_task_type_are_left_out_and_counted(folder, caplog):
    file = first_game(folder)
    file.write_text(json.dumps(sample_game("look_at_obj_in_light", solvable=False)))
    source = open_games("train", folder)
    assert len(source) == len(GOALS) - 1 and not source.task_ids[0].startswith("train/look")
    file.parents[1].rename(file.parents[2] / "pick_and_place_with_movable_recep-Mug-Bowl-Shelf-1")
    assert open_games("train", folder).task_ids == source.task_ids
    assert "1 games of split train are left out" in caplog.text


def test_the_index_is_read_from_the_cache_the_second_time(folder, cache, monkeypatch):
    expected = open_games("train", folder)
    games_module._index.cache_clear()
    monkeypatch.setattr(games_module, "read_problem", None)
    again = open_games("train", folder)
    assert again is not expected and again.task_ids == expected.task_ids
    assert [again[i].intro for i in range(len(again))] == [expected[i].intro for i in range(len(again))]
    assert [again.walkthrough(i) for i in range(len(again))] == [expected.walkthrough(i) for i in range(len(again))]


def test_a_changed_game_is_read_anew(folder):
    before = open_games("train", folder)[2].intro
    file = sorted((folder / "json_2.1.1" / "train").glob("*/*/game.tw-pddl"))[2]
    file.write_text(json.dumps(sample_game("pick_two_obj_and_place")))
    assert open_games("train", folder)[2].intro != before


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\n", "cut", "flip"])
def test_a_damaged_cache_is_as_none(folder, cache, damage):
    expected = open_games("train", folder).task_ids
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    file.write_bytes({"cut": whole[:-5], "flip": flipped}.get(damage, damage))
    games_module._index.cache_clear()
    assert open_games("train", folder).task_ids == expected
    assert file.read_bytes() == whole


def test_a_place_that_cannot_be_written_is_no_error(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for place in ("/proc/nothing", str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        monkeypatch.setenv("OREO_CACHE", place)
        games_module._index.cache_clear()
        assert len(open_games("train", folder)) == len(GOALS)


def test_the_cache_is_in_the_users_cache_folder_where_nothing_else_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("OREO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    write_cache("key", [b"a", b"b"])
    assert [file.name for file in (tmp_path / "xdg" / "oreo-suite").iterdir()] == ["key-1.txt"]
    assert read_cache("key") == [b"a", b"b"] and read_cache("other") is None
    monkeypatch.delenv("XDG_CACHE_HOME")
    write_cache("key", [])
    assert read_cache("key") == [] and (tmp_path / "home" / ".cache" / "oreo-suite" / "key-1.txt").exists()


def _write_often(number: int) -> bool:
    lines = [b"line %d" % line for line in range(2_000)]
    for _ in range(20):
        write_cache("shared", lines)
        if read_cache("shared") != lines:
            return False
    return True


def test_processes_that_write_at_the_same_time_read_whole_files(cache):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert all(pool.map(_write_often, range(3)))
    assert os.listdir(cache) == ["shared-1.txt"]
