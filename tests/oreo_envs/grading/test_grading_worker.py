r"""The process that compares formulas: time limits, deaths, forks, threads, its own end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from oreo_envs.grading import Reason, grade, worker
from oreo_envs.grading.worker import DEADLINE_S, WORKER, Worker, WorkerLost

# Takes sympy many seconds, and looks harmless: the guard is not asked here.
ENDLESS = r"\binom{10^{8}}{5 \cdot 10^{7}}+x"


@pytest.fixture
def core():
    """A worker of this test's own, warm."""
    own = Worker()
    assert own.ask("equal", "x+1", "1+x") == "same"
    yield own
    with own._lock:
        if own._pid >= 0:
            own._kill()


def _children(pid):
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(child) for child in found.stdout.split()]


def _gone(pid):
    """Wait until the process has ended."""
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_the_questions_of_the_core(core):
    assert core.ask("equal", r"\sqrt{12}", r"2\sqrt{3}") == "same"
    assert core.ask("equal", "x^{2}", "x^{3}") == "different"
    assert core.ask("equal", r"\frac{1", "x") == "unparsable"
    assert core.ask("multiple", "(2x)-(4)", "(2)-(x)") == "same"
    assert core.ask("positive_multiple", "(2x)-(4)", "(2)-(x)") == "different"
    assert core.ask("between", r"\pi", "157/50", below="22/7") == "same"
    assert core.ask("between", r"\pi", "22/7", below="4") == "different"


def test_a_formula_that_takes_too_long_is_given_up_and_the_next_is_answered(core):
    start = time.perf_counter()
    assert core.ask("equal", ENDLESS, "x") == "timeout"
    assert core.ask("equal", "x+y", "y+x") == "same"
    assert time.perf_counter() - start < 2 * DEADLINE_S


def test_a_time_out_is_not_tried_again(core, monkeypatch):
    sent = []
    exchange = core._exchange
    monkeypatch.setattr(
        core, "_exchange", lambda message, patience_s: sent.append(message) or exchange(message, patience_s)
    )
    assert core.ask("equal", ENDLESS, "x", limit_s=0.2) == "timeout"
    assert len(sent) == 1


def test_a_killed_child_or_core_has_a_successor(core):
    for victim in (lambda: _children(core._pid)[0], lambda: core._pid):
        os.kill(victim(), signal.SIGKILL)
        assert core.ask("equal", "x+y", "y+x") == "same"


def test_a_child_killed_at_work_is_replaced_once(core):
    """The retry meets the same limit; it ends as a time-out, not as a verdict."""
    first = _children(core._pid)[0]
    killer = threading.Timer(0.2, os.kill, (first, signal.SIGKILL))
    killer.start()
    assert core.ask("equal", ENDLESS, "x", limit_s=0.5) == "timeout"
    killer.join()
    assert core.ask("equal", "x+y", "y+x") == "same"


def test_a_core_that_keeps_dying_is_said_so(core, monkeypatch, caplog):
    monkeypatch.setattr(core, "_exchange", lambda message, patience_s: None)
    with pytest.raises(WorkerLost):
        core.ask("equal", "x", "y")
    assert "killed from outside" in caplog.text


def test_a_lost_verdict_is_counted_and_not_kept(monkeypatch):
    def lose(*args, **kwargs):
        raise WorkerLost

    with monkeypatch.context() as patch:
        patch.setattr(worker.Worker, "ask", lose)
        assert grade(r"\boxed{q+\sqrt{17}}", r"\sqrt{17}+q").reason is Reason.TIMEOUT
    assert grade(r"\boxed{q+\sqrt{17}}", r"\sqrt{17}+q").correct


def test_a_core_that_cannot_start_is_an_error(monkeypatch, tmp_path):
    broken = tmp_path / "core.py"
    broken.write_text('input(); print(\'{"error": "ImportError: no sympy"}\', flush=True)', encoding="utf-8")
    monkeypatch.setattr(worker, "_CORE", broken)
    with pytest.raises(RuntimeError, match=r"ImportError: no sympy; install math-verify"):
        Worker().ask("equal", "x", "x+0")


def test_threads_agree():
    cases = [(f"{n}\\sqrt{{3}}", f"\\sqrt{{{3 * n * n + n % 2}}}") for n in range(2, 42)]

    def work(thread):
        # The blanks make every thread ask for itself: the cache keeps verdicts by text.
        return [grade(f"\\boxed{{{a}}}", r + " " * thread).correct for a, r in cases]

    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(work, range(8)))
    assert verdicts == [[n % 2 == 0 for n in range(2, 42)]] * 8


def _grade_elsewhere(answer):
    return grade(f"\\boxed{{{answer}}}", r"\sqrt{2}+x").correct, WORKER._pid


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_and_spawned_processes_have_a_core_of_their_own(method):
    assert grade(r"\boxed{x+\sqrt{2}}", r"\sqrt{2}+x").correct
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:  # its processes are daemons, which may have no multiprocessing children
        answers = pool.map(_grade_elsewhere, ["x + \\sqrt 2", "x+\\sqrt{3}"], chunksize=1)
    assert [correct for correct, _ in answers] == [True, False]
    assert WORKER._pid not in [pid for _, pid in answers]
    assert WORKER.ask("equal", "x+y", "y+x") == "same"


PARENT = r"""
import os, sys, threading, time
from oreo_envs.grading.worker import WORKER
assert WORKER.ask("equal", "x+y", "y+x") == "same"
print(WORKER._pid, flush=True)
if sys.argv[1] == "busy":
    threading.Thread(target=WORKER.ask, args=("equal", sys.argv[2], "x"), daemon=True).start()
    time.sleep(0.2)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["returns", "busy"])
def test_the_core_ends_with_its_parent(how):
    """The parent returns, or is killed while its core is at work."""
    command = [sys.executable, "-c", PARENT, how, ENDLESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        core = int(parent.stdout.readline())
        family = [core, *_children(core)]
        assert parent.wait(timeout=20) == (0 if how == "returns" else -signal.SIGKILL)
    assert len(family) == 2 and all(_gone(pid) for pid in family)
