r"""The process that compares formulas: time limits, deaths, forks, threads, its own end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from oreo_envs.grading import Reason, grade, lost_comparisons, worker
from oreo_envs.grading.worker import LIMIT_S, WORKER, Worker, WorkerLost

# Takes sympy many seconds, and looks harmless: the guard is not asked here.
ENDLESS = r"\binom{10^{8}}{5 \cdot 10^{7}}+x"


@pytest.fixture(scope="module")
def own():
    """A worker of these tests; one whose core a test has ended starts another."""
    own = Worker()
    yield own
    own._kill()


@pytest.fixture
def core(own):
    """It, warm."""
    own.lost = 0
    assert own.ask("equal", "x+1", "1+x").verdict == "same"
    return own


def _children(pid):
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(child) for child in found.stdout.split()]


def _gone(pid):
    """Wait until the process has ended; two minutes on a machine that stands still."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc to see other processes")
    for _ in range(2400):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_the_questions_of_the_core(core):
    assert core.ask("equal", r"\sqrt{12}", r"2\sqrt{3}").verdict == "same"
    assert core.ask("equal", "x^{2}", "x^{3}").verdict == "different"
    assert core.ask("equal", r"\frac{1", "x").verdict == "unparsable"
    assert core.ask("multiple", "(2x)-(4)", "(2)-(x)").verdict == "same"
    assert core.ask("positive_multiple", "(2x)-(4)", "(2)-(x)").verdict == "different"
    assert core.ask("between", r"\pi", "157/50", below="22/7").verdict == "same"
    assert core.ask("between", r"\pi", "22/7", below="4").verdict == "different"


def test_a_formula_that_takes_too_long_is_given_up_and_the_next_is_answered(core):
    server, child = core._core.pid, _children(core._core.pid)[0]
    assert core.ask("equal", ENDLESS, "x") == ("timeout", LIMIT_S)
    assert _gone(child) and core._core.pid == server  # only the child is killed
    assert core.ask("equal", "x+y", "y+x").verdict == "same"


def test_what_a_question_costs_is_cpu_time_of_the_child(core):
    """A child that stands still for longer than its limit has used none of it up."""
    child = _children(core._core.pid)[0]
    os.kill(child, signal.SIGSTOP)
    waker = threading.Timer(1.5 * LIMIT_S, os.kill, (child, signal.SIGCONT))
    waker.start()
    assert core.ask("equal", "x+y", "y+x").verdict == "same"
    waker.join()
    assert _children(core._core.pid) == [child]


def test_a_time_out_is_not_tried_again(core, monkeypatch):
    asked = []
    ask = core._core.ask
    monkeypatch.setattr(core._core, "ask", lambda *question: asked.append(question) or ask(*question))
    assert core.ask("equal", ENDLESS, "x", limit_s=0.2).verdict == "timeout"
    assert len(asked) == 1


def test_the_signal_of_the_limit_is_not_inherited_as_ignored_or_blocked():
    before = signal.signal(signal.SIGPROF, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF})
    own = Worker()
    try:
        assert own.ask("equal", ENDLESS, "x", limit_s=0.2).verdict == "timeout"
    finally:
        own._kill()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGPROF, before)


def test_a_killed_child_or_core_has_a_successor(core):
    for victim in (lambda: _children(core._core.pid)[0], lambda: core._core.pid):
        os.kill(victim(), signal.SIGKILL)
        assert core.ask("equal", "x+y", "y+x").verdict == "same"


def test_a_child_that_stands_still_is_given_up_by_its_core(core):
    child = _children(core._core.pid)[0]
    os.kill(child, signal.SIGSTOP)
    question = {"how": "equal", "left": "x+y", "right": "y+x", "below": "", "limit_s": LIMIT_S, "wall_s": 0.5}
    # On a busy machine half a second may be too little for its successor too: lost, which is asked again.
    assert core._core.ask(question, worker.START_S).verdict in ("same", "lost")
    assert _gone(child)


def test_a_core_that_stands_still_is_given_up_for_another(core, monkeypatch):
    stopped, ask = core._core, core._core.ask
    monkeypatch.setattr(stopped, "ask", lambda question, patience_s: ask(question, 0.2))
    os.kill(stopped.pid, signal.SIGSTOP)
    assert core.ask("equal", "x+y", "y+x").verdict == "same"
    assert _gone(stopped.pid) and core.lost == 0


@pytest.mark.parametrize("killed", ["child", "core"])
def test_a_question_is_asked_again_when_who_works_on_it_is_killed(core, killed):
    """The retry meets the same limit; it ends as a time-out, and is not lost."""
    child = _children(core._core.pid)[0]
    victim = child if killed == "child" else core._core.pid
    os.kill(child, signal.SIGSTOP)  # so that the question is still open when the victim is killed
    killer = threading.Timer(0.2, os.kill, (victim, signal.SIGKILL))
    killer.start()
    assert core.ask("equal", ENDLESS, "x", limit_s=0.5) == ("timeout", 0.5)
    killer.join()
    assert _gone(victim) and core.lost == 0
    assert core.ask("equal", "x+y", "y+x").verdict == "same"


def _die(*args):
    raise EOFError


def test_a_core_that_keeps_dying_is_said_so_and_counted(core, monkeypatch, caplog):
    monkeypatch.setattr(worker._Core, "ask", _die)
    with pytest.raises(WorkerLost):
        core.ask("equal", "x", "y")
    assert core.lost == 1 and "lost: its process died" in caplog.text


def test_a_lost_verdict_is_counted_and_not_kept(monkeypatch):
    lost = lost_comparisons()
    with monkeypatch.context() as patch:
        patch.setattr(worker._Core, "ask", _die)
        assert grade(r"\boxed{q+\sqrt{17}}", r"\sqrt{17}+q").reason is Reason.NOT_GRADED
    assert lost_comparisons() == lost + 1
    assert grade(r"\boxed{q+\sqrt{17}}", r"\sqrt{17}+q").correct


def test_an_interruption_does_not_mix_up_answers(core, monkeypatch):
    """The answer to an interrupted question is never read as that to the next."""

    def interrupt(self, patience_s):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(worker._Core, "_receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            core.ask("equal", "x", "x+1")
    assert core.ask("equal", "x+y", "y+x").verdict == "same"
    assert core.ask("equal", "x+y", "y-x").verdict == "different"


def test_a_core_that_starts_slowly_is_waited_for(core, monkeypatch, tmp_path):
    """The successor of a dead core; its start uses up nothing of the question's time."""
    slow = tmp_path / "core.py"
    slow.write_text(
        f"import runpy, time; time.sleep(1.5)\nrunpy.run_path({str(worker._CORE)!r}, run_name='__main__')",
        encoding="utf-8",
    )
    monkeypatch.setattr(worker, "_CORE", slow)
    os.kill(core._core.pid, signal.SIGKILL)
    assert core.ask("equal", "x+y", "y+x").verdict == "same"


def test_a_core_that_does_not_start_is_lost_and_ended(core, monkeypatch, tmp_path):
    hangs, killed, kill = tmp_path / "core.py", [], worker._Core.kill
    hangs.write_text("import time; time.sleep(3600)", encoding="utf-8")
    os.kill(core._core.pid, signal.SIGKILL)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "_CORE", hangs)
        patch.setattr(worker, "START_S", 0.2)
        patch.setattr(worker._Core, "kill", lambda self: killed.append(self.pid) or kill(self))
        with pytest.raises(WorkerLost):
            core.ask("equal", "x+y", "y+x")
    assert core.lost == 1 and len(killed) == 3 and all(_gone(pid) for pid in killed)
    assert core.ask("equal", "x+y", "y+x").verdict == "same"


def test_a_core_that_ends_at_once_is_lost(monkeypatch, tmp_path):
    ends = tmp_path / "core.py"
    ends.write_text("", encoding="utf-8")
    monkeypatch.setattr(worker, "_CORE", ends)
    with pytest.raises(WorkerLost):
        Worker().ask("equal", "x", "x+0")


# What is short is really short: limits of the kernel on a process of its own, whose core inherits them.
SHORT = r"""
import resource, sys
from oreo_envs.grading import grade, lost_comparisons
what, limit = getattr(resource, sys.argv[1]), int(sys.argv[2])
before = resource.getrlimit(what)
resource.setrlimit(what, (limit, before[1]))
plain = grade(r"\boxed{1.50}", r"\frac{3}{2}").reason
short = grade(r"\boxed{a+\sqrt{3}}", r"\sqrt{3}+a")
resource.setrlimit(what, before)
print(plain, short.correct, short.reason, lost_comparisons(), grade(r"\boxed{a+\sqrt{3}}", r"\sqrt{3}+a").reason)
"""


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="these limits are kept by Linux")


@LINUX
@pytest.mark.parametrize(
    ("name", "limit"), [("RLIMIT_NOFILE", 5), ("RLIMIT_NOFILE", 7), ("RLIMIT_NOFILE", 8), ("RLIMIT_AS", 48 << 20)]
)
def test_grading_does_not_raise_where_files_or_memory_are_short(name, limit):
    command = [sys.executable, "-c", SHORT, name, str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["numeric", "False", "not_graded", "1", "symbolic"]


@LINUX
@pytest.mark.parametrize("megabytes", [8, 24, 32])
def test_a_core_without_room_for_sympy_is_lost(core, monkeypatch, tmp_path, megabytes):
    cramped = tmp_path / "core.py"
    cramped.write_text(
        f"import resource, runpy; resource.setrlimit(resource.RLIMIT_AS, ({megabytes << 20},) * 2)\n"
        f"runpy.run_path({str(worker._CORE)!r}, run_name='__main__')",
        encoding="utf-8",
    )
    os.kill(core._core.pid, signal.SIGKILL)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "_CORE", cramped)
        with pytest.raises(WorkerLost):
            core.ask("equal", "x+y", "y+x")
    assert core.ask("equal", "x+y", "y+x").verdict == "same"


def test_a_core_that_cannot_start_is_an_error(monkeypatch, tmp_path):
    broken = tmp_path / "core.py"
    broken.write_text(
        'import os, sys; os.write(int(sys.argv[2]), b\'{"error": "ImportError: no sympy", "passing": false}\\n\')',
        encoding="utf-8",
    )
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
    return grade(f"\\boxed{{{answer}}}", r"\sqrt{2}+x").correct, WORKER._core.pid


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_and_spawned_processes_have_a_core_of_their_own(method):
    assert grade(r"\boxed{x+\sqrt{2}}", r"\sqrt{2}+x").correct
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:  # its processes are daemons, which may have no multiprocessing children
        answers = pool.map(_grade_elsewhere, ["x + \\sqrt 2", "x+\\sqrt{3}"], chunksize=1)
    assert [correct for correct, _ in answers] == [True, False]
    assert WORKER._core.pid not in [pid for _, pid in answers]
    assert WORKER.ask("equal", "x+y", "y+x").verdict == "same"


PARENT = r"""
import os, sys, threading, time
from oreo_envs.grading.worker import WORKER
assert WORKER.ask("equal", "x+y", "y+x").verdict == "same"
print(WORKER._core.pid, flush=True)
if sys.argv[1] == "busy":
    threading.Thread(target=WORKER.ask, args=("equal", sys.argv[2], "x"), daemon=True).start()
    time.sleep(0.2)
    os.kill(os.getpid(), 9)
"""


def test_a_child_that_nobody_can_kill_ends_by_itself(core):
    """The core and its parent die at once, while the child is at work."""
    child = _children(core._core.pid)[0]
    limit = Path(f"/proc/{child}/limits").read_text(encoding="utf-8")
    seconds = next(line for line in limit.splitlines() if line.startswith("Max cpu time")).split()[3]
    assert int(seconds) <= 10


def test_starting_fails_without_leaking_descriptors(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(RuntimeError, match="cannot be started"):
            Worker().ask("equal", "x", "y")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("how", ["returns", "busy"])
def test_the_core_ends_with_its_parent(how):
    """The parent returns, or is killed while its core is at work."""
    command = [sys.executable, "-c", PARENT, how, ENDLESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        core = int(parent.stdout.readline())
        family = [core, *_children(core)]
        assert parent.wait() == (0 if how == "returns" else -signal.SIGKILL)
    assert len(family) == 2 and all(_gone(pid) for pid in family)
