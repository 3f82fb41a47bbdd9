"""Folders that several processes write at once; kills are tested with what is saved in such folders."""

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from oreo_algos.storage import atomic
from oreo_algos.storage.atomic import recover_folder, replace_file, replace_folder

NO_PROCESS = 2**22 + 1  # above the highest number that Linux gives


@pytest.fixture
def spawn():
    """Start a function in another process, which must have ended well by the end of the test."""
    context = multiprocessing.get_context("spawn")
    started = []

    def start(function, *arguments):
        events = [context.Event() for _ in range(2)]
        process = context.Process(target=function, args=(*arguments, *events))
        process.start()
        started.append(process)
        return process, *events

    yield start
    for process in started:
        process.join()
        assert process.exitcode == 0


def fill(folder, text):
    for name in ("first", "second"):
        (folder / name).write_text(text)


def content(folder):
    assert {file.name for file in folder.iterdir()} == {"first", "second"}
    texts = {file.read_text() for file in folder.iterdir()}
    assert len(texts) == 1
    return texts.pop()


def write_slowly(path, ready, go):
    with replace_folder(path) as folder:
        fill(folder, "other")
        ready.set()
        go.wait()


def write_often(path, ready, go):
    ready.set()
    go.wait()
    for _ in range(100):
        with replace_folder(path) as folder:
            fill(folder, "other")


def test_a_live_writer_keeps_its_folder_and_the_last_to_finish_wins(spawn, tmp_path):
    path = tmp_path / "folder"
    other, ready, go = spawn(write_slowly, path)
    ready.wait()
    with replace_folder(path) as folder:
        fill(folder, "own")
    assert content(path) == "own"
    go.set()
    other.join()
    assert content(path) == "other"
    assert os.listdir(tmp_path) == ["folder"]


def test_two_processes_that_race_for_one_place_always_leave_a_whole_folder(spawn, tmp_path):
    path = tmp_path / "folder"
    other, ready, go = spawn(write_often, path)
    ready.wait()
    go.set()
    for _ in range(100):
        with replace_folder(path) as folder:
            fill(folder, "own")
    other.join()
    assert content(path) in ("own", "other")
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("kind", ["tmp", "old", "gone"])
def test_only_the_leftovers_of_dead_processes_and_of_this_one_are_removed(kind, tmp_path):
    leftovers = {pid: tmp_path / f".folder.{kind}-{pid}" for pid in (NO_PROCESS, os.getpid(), os.getppid())}
    for folder in [
        tmp_path / "folder",
        tmp_path / ".folder.tmp-note",
        tmp_path / ".folders.tmp-1",
        *leftovers.values(),
    ]:
        folder.mkdir()
        fill(folder, "before")
    with replace_folder(tmp_path / "folder") as folder:
        fill(folder, "own")
    assert content(tmp_path / "folder") == "own"
    alive = leftovers[os.getppid()].name
    assert set(os.listdir(tmp_path)) == {"folder", ".folder.tmp-note", ".folders.tmp-1", alive}


def test_of_several_folders_renamed_away_the_newest_is_put_back(tmp_path):
    for pid, time in ((NO_PROCESS, 1), (NO_PROCESS + 1, 3), (NO_PROCESS + 2, 2)):
        folder = tmp_path / f".folder.old-{pid}"
        folder.mkdir()
        fill(folder, str(time))
        os.utime(folder, (time, time))
    assert content(recover_folder(tmp_path / "folder")) == "3"


def test_an_exception_in_the_block_leaves_what_was_there(tmp_path):
    with replace_folder(tmp_path / "folder") as folder:
        fill(folder, "before")
    with pytest.raises(RuntimeError, match="stop"), replace_folder(tmp_path / "folder") as folder:
        fill(folder, "after")
        raise RuntimeError("stop")
    assert content(tmp_path / "folder") == "before"
    assert os.listdir(tmp_path) == ["folder"]


def test_a_file_that_is_written_takes_the_leftovers_of_dead_writers_of_any_file_with_it(tmp_path):
    stay = [f".other.tmp-{os.getppid()}", f".other.old-{NO_PROCESS}", ".other.tmp-note", f"other.tmp-{NO_PROCESS}"]
    for name in [f".file.tmp-{NO_PROCESS}", f".other.tmp-{NO_PROCESS}", f".other.tmp-{os.getpid()}", *stay]:
        (tmp_path / name).write_text("half")
    (tmp_path / f".folder.tmp-{NO_PROCESS}").mkdir()
    with replace_file(tmp_path / "file") as temporary:
        temporary.write_text("whole")
    assert set(os.listdir(tmp_path)) == {"file", *stay}
    assert (tmp_path / "file").read_text() == "whole"


def test_a_text_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced, done = [], tmp_path / "done.json"
    monkeypatch.setattr(
        atomic, "_fsync", lambda path: synced.append((path.is_file(), (tmp_path / "done.json").exists()))
    )
    atomic.write_text(done, "{}")
    assert synced == [(True, False), (False, True)]  # the file, then the folder that now names it
    assert [path.name for path in tmp_path.iterdir()] == ["done.json"]


def test_names_of_writers_differ_also_in_one_process(tmp_path: Path):
    with replace_file(tmp_path / "file") as first, replace_file(tmp_path / "file") as second:
        first.write_text("first")
        second.write_text("second")
        assert first != second
    assert (tmp_path / "file").read_text() == "first" and os.listdir(tmp_path) == ["file"]


def test_what_a_process_of_another_host_writes_is_left_alone_for_a_day(tmp_path: Path):
    elsewhere = [tmp_path / f".{name}.tmp-00c0ffee-{NO_PROCESS}-0-{number}" for number, name in enumerate("ab")]
    for file in elsewhere:
        file.write_text("half")
    os.utime(elsewhere[0], (1, 1))
    atomic.remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == [elsewhere[1].name]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this host does not tell when processes began")
def test_a_number_that_another_process_has_now_is_no_sign_of_life(tmp_path: Path):
    host, number = atomic._host(), os.getppid()
    now = atomic._start_of(number)
    for start in (now, now - 1):
        (tmp_path / f".file.tmp-{host}-{number}-{start}-0").write_text("half")
    atomic.remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == [f".file.tmp-{host}-{number}-{now}-0"]


def test_an_error_of_writing_says_what_was_written(tmp_path: Path):
    for write in (replace_file, replace_folder):
        with pytest.raises(OSError, match="No space") as raised, write(tmp_path / "place"):
            raise OSError(errno.ENOSPC, "No space left on device")
        assert raised.value.filename == str(tmp_path / "place")
    assert os.listdir(tmp_path) == []
