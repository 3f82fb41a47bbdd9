"""Jobs in processes of their own: order of results, failures, a process that is killed."""

import os
import signal

import pytest

from oreo_agents.parallel import cores, side_by_side


def work(name: str) -> str:
    if name == "fails":
        raise ValueError("no such luck")
    if name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{name} in {os.environ['OREO_TEST_INITIALIZED']}"


def initialize() -> None:
    os.environ["OREO_TEST_INITIALIZED"] = "a worker"


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


def test_there_is_a_core():
    assert 1 <= cores() <= (os.cpu_count() or 1)
