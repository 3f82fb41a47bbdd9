"""Commands in processes of their own, forked from one that has loaded torch and the suite: a start costs no seconds.

What a test says of starting itself (what is imported, what a shell sees) needs an interpreter of its own.
"""

import atexit
import gc
import multiprocessing
import os
import runpy
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import mkdtemp
from typing import Any
from weakref import finalize

import pytest

OREO = ("-m", "oreo_agents.runs.cli")
_LOADED = (
    *("oreo_agents.runs.cli", "oreo_agents.runs.pipeline", "oreo_agents.evaluation.report", "oreo_envs"),
    *("torch.distributed.fsdp", "torch.distributed.checkpoint", "torch.utils.tensorboard", "peft"),
    "transformers.models.llama.modeling_llama",
    *("matplotlib.pyplot", "sympy", "math_verify", "pyarrow.parquet"),
)
_STREAMS = ("stdin", "stdout", "stderr")
_CONTEXT = multiprocessing.get_context("forkserver")


def settle_threads() -> None:
    """Have torch make its pool of threads anew after a fork: two threads of autograd that do so at once crash."""
    import torch

    torch.set_num_threads(torch.get_num_threads())


def _settle() -> None:
    settle_threads()
    os.fsync = lambda _: None  # as in conftest.py


def _be(arguments: Sequence[str], folder: str, environment: Mapping[str, str], outputs: str) -> None:
    """Be ``python ARGUMENTS``, in a session of its own."""
    gc.freeze()  # no pass of the collector reads, and copies, what was loaded before the fork
    os.setsid()
    _settle()
    for number, name in enumerate(_STREAMS):
        os.dup2(os.open(f"{outputs}/{name}", os.O_RDWR | os.O_APPEND), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 (it is read until this process ends)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # A command that a shell starts has no parent of multiprocessing, and Python has no public name for it.
    multiprocessing.process._parent_process = None  # type: ignore[attr-defined]
    given = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [*given, *(path for path in sys.path if not Path(path).is_relative_to(Path(__file__).parent))]
    try:
        if arguments[0] == "-m":
            sys.argv, sys.path[:0] = [*arguments[1:]], [folder]
            sys.modules.pop(arguments[1], None)
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[:0] = [*arguments], [str(Path(arguments[0]).parent)]
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a fork of multiprocessing ends without


def _have_server() -> None:
    """Have the process that is forked from; neither it nor a fork reaches the hub or a GPU."""
    with pytest.MonkeyPatch.context() as patch:  # what is read when a library is loaded
        for name, value in {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}.items():
            patch.setenv(name, value)
        _CONTEXT.set_forkserver_preload([*_LOADED])
        forkserver.ensure_running()


def side_by_side(work: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Call ``work(RANK, *ARGUMENTS)`` in some processes at once; raise what one of them raises."""
    from torch.multiprocessing import start_processes

    _have_server()
    start_processes(_work, (work, *arguments), processes, start_method="forkserver")


def _work(rank: int, work: Callable[..., None], *arguments: Any) -> None:
    _settle()
    work(rank, *arguments)


class Forked:
    """A command that runs, as far as tests ask for what ``subprocess.Popen`` has."""

    def __init__(
        self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> None:
        """Start ``python ARGUMENTS`` in a folder."""
        _have_server()
        self.args = arguments
        self._outputs = mkdtemp()
        finalize(self, shutil.rmtree, self._outputs)
        for name in _STREAMS:
            Path(self._outputs, name).write_text(stdin if name == "stdin" else "", encoding="utf-8")
        environment = dict(os.environ if env is None else env)
        work = ([*arguments], str(cwd), environment, self._outputs)
        self._process = _CONTEXT.Process(target=_be, args=work)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number: int) -> None:
        """Send a signal to it alone."""
        os.kill(self.pid, number)

    def said(self) -> tuple[str, str]:
        """Return what it has printed and what it has said of errors so far."""
        out, errors = (Path(self._outputs, name).read_text(encoding="utf-8") for name in _STREAMS[1:])
        return out, errors

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return the exit code."""
        self._process.join(timeout)
        assert self.returncode is not None, f"{self.args} runs on after {timeout} s"
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; return what it printed and what it said of errors."""
        self.wait(timeout)
        return self.said()


def run(
    arguments: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None, stdin: str = ""
) -> CompletedProcess[str]:
    """Run ``python ARGUMENTS`` in a folder to its end."""
    process = Forked(arguments, cwd, env, stdin)
    out, errors = process.communicate()
    return CompletedProcess([*arguments], process.wait(), out, errors)
