"""Jobs in processes of their own: order of results, failures, a process that is killed."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import connection
from pathlib import Path

import pytest

from oreo_agents.runs.parallel import cores, side_by_side
from oreo_algos import stopping


def work(name: str) -> str:
    if name == "fails":
        raise ValueError("no such luck")
    if name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{name} in {os.environ['OREO_TEST_INITIALIZED']}"


def initialize() -> None:
    os.environ["OREO_TEST_INITIALIZED"] = "a worker"


def announce_and_wait(folder: str) -> str:
    Path(folder, "worker.pid").write_text(str(os.getpid()))
    while True:
        time.sleep(1)


def die_beside_another(name: str) -> str:
    folder, _, what = name.rpartition("/")
    if what == "waits":
        announce_and_wait(folder)
    while not Path(folder, "worker.pid").exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)
    return name


def learn_beside_one_that_fails(name: str) -> str:
    """The first learns until it is told to end; the second fails once that has begun; the third never begins."""
    folder, _, what = name.rpartition("/")
    Path(folder, what).touch()
    if what == "fails":
        while not Path(folder, "learns").exists():
            time.sleep(0.05)
        raise ValueError("no such luck")
    with stopping.at_safe_points("the running step"):
        while not stopping.asked():
            time.sleep(0.05)
        Path(folder, "checkpoint").touch()
    return name


def no_steps(name: str) -> int:
    return 0


def run(*names: str) -> list[str]:
    return side_by_side(work, names, 2, initializer=initialize, steps_of=lambda name: 1)


def test_results_come_in_the_order_of_the_names_from_initialized_processes():
    assert run("b", "a", "c") == ["b in a worker", "a in a worker", "c in a worker"]
    assert "OREO_TEST_INITIALIZED" not in os.environ


def test_what_a_job_raised_is_raised_as_it_is():
    with pytest.raises(ValueError, match="no such luck"):
        run("a", "fails")


def test_a_killed_process_is_an_error_that_says_how_to_go_on():
    with pytest.raises(
        ValueError, match=r"worked on .* was killed.*run the same command again to go on, with workers=1"
    ):
        run("dies", "a")


def test_the_others_end_when_one_is_killed(tmp_path: Path):
    with pytest.raises(ValueError, match="was killed"):
        side_by_side(
            die_beside_another,
            [f"{tmp_path}/waits", f"{tmp_path}/dies"],
            2,
            initializer=initialize,
            steps_of=no_steps,
        )
    while running(int((tmp_path / "worker.pid").read_text())):  # for ever, if it does not end
        time.sleep(0.05)


def test_a_killed_process_is_noticed_where_the_pool_does_not_watch_it(tmp_path: Path, monkeypatch):
    """In Python 3.11 a pool waits for the processes that it had when it began to wait: which these are, chance says."""
    watched, wait, shutdown = [], connection.wait, ProcessPoolExecutor.shutdown
    blind = partial(filter, lambda each: watched or not isinstance(each, int))
    monkeypatch.setattr(connection, "wait", lambda objects, timeout=None: wait([*blind(objects)], timeout))
    monkeypatch.setattr(ProcessPoolExecutor, "shutdown", lambda *_, **how: (watched.append(1), shutdown(*_, **how)))
    names = [f"{tmp_path}/waits", f"{tmp_path}/dies"]
    with pytest.raises(ValueError, match=f"{names[0]} or {names[1]} was killed, perhaps for lack of memory"):
        side_by_side(die_beside_another, names, 2, initializer=initialize, steps_of=no_steps)
    while running(int((tmp_path / "worker.pid").read_text())):  # for ever, if it does not end
        time.sleep(0.05)


def test_the_others_end_at_a_safe_point_when_one_fails(tmp_path: Path, caplog):
    names = [f"{tmp_path}/{name}" for name in ("learns", "fails", "waits", "waits too")]
    with pytest.raises(ValueError, match="no such luck"):
        side_by_side(learn_beside_one_that_fails, names, 2, initializer=initialize, steps_of=no_steps)
    assert {path.name for path in tmp_path.iterdir()} <= {"learns", "fails", "checkpoint", "waits"}
    assert (tmp_path / "checkpoint").exists()
    assert [text.partition("/fails ")[2] for text in caplog.messages] == [
        "failed, so the others end after their running steps: no such luck"
    ]


def test_workers_end_when_their_parent_is_killed(tmp_path: Path):
    script = (
        "from test_parallel import *\n"
        f"side_by_side(announce_and_wait, [{str(tmp_path)!r}], 1, initializer=initialize, steps_of=no_steps)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parent, stdout=subprocess.DEVNULL)
    announced = tmp_path / "worker.pid"
    while not (announced.exists() and announced.read_text()):
        assert parent.poll() is None, "it ended before its worker began"
        time.sleep(0.05)
    worker = int(announced.read_text())
    os.kill(worker, 0)
    parent.kill()
    parent.wait()
    while running(worker):  # for ever, if it does not end with its parent
        time.sleep(0.05)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_there_is_a_core():
    assert 1 <= cores() <= (os.cpu_count() or 1)
