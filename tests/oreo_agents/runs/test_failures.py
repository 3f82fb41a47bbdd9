"""What a machine or a signal ends: one sentence, its exit code, no traceback, nothing half-written, no process left."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_parallel import running

from oreo_agents.runs import cli, jobs
from oreo_agents.runs.failures import machine_failure
from oreo_algos import stopping
from oreo_algos.storage import atomic

OREO = [sys.executable, "-m", "oreo_agents.runs.cli"]
SENT = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Run a command in an empty folder that ends with a sentence; returns the exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in SENT}

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["oreo", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr().err
        assert "Traceback" not in said and said.count("oreo: ") == 1, said
        return int(stopped.value.code or 0), said

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def rows(folder: Path, count: int = 40) -> Path:
    file = folder / "rows.jsonl"
    row = {"prompt": "What is 2 + 2?", "response": "It is\n4.", "label": True}
    file.write_text("".join(json.dumps(row | {"response": f"It is\n{n}."}) + "\n" for n in range(count)))
    return file


def torch_says(text: str) -> Exception:
    error = RuntimeError(text)
    error.__context__ = RuntimeError("while it was handled")
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "x", "/no/such/run/file"), "/no/such/run/file: the disk is full"),
        (OSError(errno.ENOSPC, "x", "/a/.policy.tmp-0bbfd16a-12-345-6/model.bin"), "/a/policy: the disk is full"),
        (PermissionError(errno.EACCES, "x", "/a/b"), "/a/b: you may not write or read there; choose another folder"),
        (OSError(errno.EROFS, "x", "/a/b"), "/a/b: the file system is read-only"),
        (NotADirectoryError(errno.ENOTDIR, "x", "/a/b"), "/a/b: a file stands where a folder is to be"),
        (OSError(errno.EMFILE, "x", "/a/b"), "allow more (ulimit -n)"),
        (OSError(errno.EDQUOT, "x"), "runs/1: your quota of the disk is used up"),
        (Exception("Error while serializing: I/O error: No space left on device (os error 28)"), "the disk is full"),
        (OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left"), "the disk is full"),
        (torch_says("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), "the disk is full"),
        (torch_says("PytorchStreamWriter failed writing file data/3: file write failed"), "the disk is full"),
    ],
)
def test_errors_of_the_machine_are_a_sentence_with_place_and_mend(error: Exception, said: str):
    found = machine_failure(error, Path("runs/1"))
    assert found is not None and said in found and "give the same command again" in found


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_memory_that_cannot_be_had_is_a_sentence(error: Exception):
    said = machine_failure(error, Path("run"))
    assert said is not None and said.startswith("run: memory is used up (") and "trainer.micro_batch_tokens" in said


@pytest.mark.parametrize(
    ("override", "code", "said"),
    [
        ("hydra.job_logging=nope", 2, "Error merging override hydra.job_logging=nope Cannot assign str to Dict"),
        ("hydra.job_logging.handlers=5", 2, "settings of Hydra (hydra.*): "),
        ("hydra.run.dir=/proc/here", 1, "nothing can be made there; choose another hydra.run.dir=FOLDER"),
    ],
)
def test_settings_that_hydra_itself_cannot_use_are_a_sentence(override: str, code: int, said: str, ended):
    found, text = ended("train", override)
    assert found == code and said in text and "Traceback" not in text and text.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), KeyError("a"), FileNotFoundError(2, "x", "/a")])
def test_other_errors_are_none_of_the_machine(error: Exception):
    assert machine_failure(error) is None


@pytest.mark.parametrize("arguments", [("data", "import", "rows.jsonl", "--out"), ("report", "runs", "--out")])
def test_a_file_in_place_of_a_folder_is_named(arguments: tuple[str, ...], ended, tmp_path: Path):
    rows(tmp_path)
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "runs").mkdir()
    row = {"algo": "oreo", "search": "greedy", "env": "e", "split": "test", "seed": 0, "n": 4, "correct": 2}
    (tmp_path / "runs" / "results.json").write_text(
        json.dumps({"results": [row | {"accuracy": 0.5, "tokens_per_task": 3.0, "env_options": {}}]})
    )
    code, said = ended(*arguments, "taken/inside")
    assert code == 1 and "taken" in said and "a file stands where a folder is to be" in said
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_run_folder_that_cannot_be_made_is_named_before_anything_is_done(ended, tmp_path: Path):
    (tmp_path / "taken").write_text("mine")
    code, said = ended("collect", "hydra.run.dir=taken/run")
    assert code == 1 and "taken" in said and "a file stands where a folder is to be" in said


@pytest.mark.parametrize("command", ["run", "sft", "collect", "train", "eval"])
def test_a_full_disk_ends_each_job_with_its_folder(command: str, ended, monkeypatch: pytest.MonkeyPatch):
    def fill(config: Any, folder: Path) -> None:
        with atomic.replace_folder(folder / "policy") as temporary:
            (temporary / "half").write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(jobs.JOBS, command, fill)
    more = ["algo=oreo"] if command == "train" else []
    code, said = ended(command, *more, "hydra.run.dir=run")
    assert code == 1 and "run/policy: the disk is full" in said and "MB free" in said
    assert not [path for path in Path("run").iterdir() if "policy" in path.name]


@pytest.mark.parametrize("number", SENT)
def test_a_signal_ends_a_job_with_what_is_kept_and_the_code_of_a_shell(number: int, ended, monkeypatch):
    def work(config: Any, folder: Path) -> None:
        with stopping.at_safe_points("the running step"):
            signal.raise_signal(number)
            stopping.check("one part is collected")

    monkeypatch.setitem(jobs.JOBS, "collect", work)
    code, said = ended("collect", "hydra.run.dir=run")
    assert code == 128 + number
    assert f"ended by {stopping.name_of(number)}: one part is collected" in said
    assert f"with hydra.run.dir={Path('run').absolute()} goes on from there" in said


def test_a_signal_ends_a_sweep_and_not_one_of_its_jobs(ended, monkeypatch, tmp_path: Path):
    begun = []

    def work(config: Any, folder: Path) -> None:
        begun.append(config.seed)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setitem(jobs.JOBS, "collect", work)
    code, said = ended("collect", "-m", "seed=1,2,3", "hydra.sweep.dir=sweep")
    assert code == 143 and begun == [1] and "hydra.sweep.dir=sweep goes on" in said


def start(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen:
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    return subprocess.Popen([*OREO, *arguments], cwd=folder, text=True, **pipes, **options)


def test_a_limit_of_file_sizes_leaves_nothing_half_written(tmp_path: Path):
    """Whoever this process belongs to: that a folder is read-only does not stop root, and this does."""
    rows(tmp_path)
    before = set(os.listdir(tmp_path))
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # noqa: E731
    process = start(tmp_path, "data", "import", "rows.jsonl", "--out", "buffer", preexec_fn=limit)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1 and said.startswith("oreo: ") and "buffer: a file would be larger" in said, said
    assert said.count("\n") == 1 and set(os.listdir(tmp_path)) == before


@pytest.mark.slow
def test_ctrl_c_ends_a_game_with_a_sentence(tmp_path: Path):
    process = start(tmp_path, "play", "arithmetic")
    assert process.stdout is not None
    while "hands it in" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130 and said == "oreo: ended by Ctrl-C: nothing half-written is left\n"


SIDE_BY_SIDE = """
import os, sys, time
from pathlib import Path
from oreo_agents.runs.parallel import side_by_side
from oreo_algos import stopping

def work(name):
    with stopping.at_safe_points("the running step"):
        Path(name + ".pid").write_text(str(os.getpid()))
        while not (stopping.asked() and {waits}):
            time.sleep(0.01)
        Path(name + ".checkpoint").touch()
        stopping.check(name + " has a checkpoint")

def nothing():
    pass

if __name__ == "__main__":
    try:
        with stopping.listening():
            side_by_side(work, ["a", "b", "c"], 2, initializer=nothing, steps_of=lambda name: 0)
    except stopping.Interrupted as error:
        print(error.number, error.kept)
"""


def await_that(reached: Callable[[], bool]) -> None:
    """For ever, if it never comes."""
    while not reached():
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are told apart by /proc")
@pytest.mark.parametrize("again", [False, True])
def test_workers_end_at_their_safe_points_or_at_once(again: bool, tmp_path: Path):
    (tmp_path / "job.py").write_text(SIDE_BY_SIDE.format(waits=not again))
    process = subprocess.Popen([sys.executable, "job.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    files = [tmp_path / f"{name}.pid" for name in "ab"]
    await_that(lambda: all(file.exists() and file.read_text() for file in files))
    workers = [int(file.read_text()) for file in files]
    os.kill(process.pid, signal.SIGTERM)
    if again:
        time.sleep(0.1)  # two signals of a kind at once would be one
        os.kill(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=300)
    assert "15 " in out
    assert {path.name for path in tmp_path.glob("*.checkpoint")} == (
        set() if again else {"a.checkpoint", "b.checkpoint"}
    )
    await_that(lambda: not any(map(running, workers)))
