"""Signals: what ends when, and what stays as it was."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from oreo_algos import stopping

SENT = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def listening() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SENT}
    try:
        with stopping.listening():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", SENT)
def test_the_first_signal_waits_for_a_safe_point_and_the_second_does_not(listening: None, number: int, capfd):
    done = []
    with pytest.raises(stopping.Interrupted) as raised, stopping.at_safe_points("the running step"):
        signal.raise_signal(number)
        done.append("first")
        signal.raise_signal(number)
        done.append("second")
    assert done == ["first"] and raised.value.number == number
    assert capfd.readouterr().err == (
        f"\noreo: {stopping.name_of(number)}: this ends after the running step; once more ends it at once\n"
    )


def test_work_ends_where_it_checks_and_says_what_is_kept(listening: None):
    with pytest.raises(stopping.Interrupted) as raised, stopping.at_safe_points("the part"):
        signal.raise_signal(signal.SIGTERM)
        stopping.check("two parts are collected")
    assert (raised.value.number, raised.value.kept) == (signal.SIGTERM, "two parts are collected")


def test_work_without_safe_points_ends_at_once_and_at_the_latest_at_the_end(listening: None):
    with pytest.raises(stopping.Interrupted):
        signal.raise_signal(signal.SIGINT)
    stopping.forget()
    reached = []
    with pytest.raises(stopping.Interrupted), stopping.at_safe_points("the last step"):
        signal.raise_signal(signal.SIGINT)
        reached.append("its end")
    assert reached and stopping.asked() == signal.SIGINT


def test_what_was_forgotten_ends_nothing(listening: None):
    for _ in range(3):  # a third signal would end the process
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        stopping.forget()
    stopping.check()


def test_an_ignored_signal_stays_ignored_and_handlers_come_back():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with stopping.listening():
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGINT) is not interrupt
        assert signal.getsignal(signal.SIGINT) is interrupt
        assert stopping.asked() is None
    finally:
        signal.signal(signal.SIGTERM, before)


WORKER = """
import os, signal
from oreo_algos import stopping
stopping.listen_beside()
for number in (signal.SIGINT, signal.SIGTERM):  # of a terminal, or a scheduler: the process that started this one tells
    with stopping.at_once():
        signal.raise_signal(number)
with stopping.at_once(), stopping.at_safe_points("a step"):
    pass
signal.raise_signal(stopping.TELL)  # between two jobs
try:
    with stopping.at_once():
        print("begun")
except stopping.Interrupted as error:
    print(error.number == stopping.TELL)
"""


def test_a_process_beside_others_hears_only_the_one_that_started_it():
    result = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("True\n", "")


def test_a_process_that_is_told_before_it_listens_hears_it_then():
    script = (
        "from oreo_algos import stopping\ninput()\nstopping.listen_beside()\nprint(stopping.asked() == stopping.TELL)"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with stopping.not_yet_beside():
        process = subprocess.Popen([sys.executable, "-c", script], text=True, **pipes)
    process.send_signal(stopping.TELL)
    assert process.communicate("\n")[0] == "True\n"
