"""Batches, the queue and those who leave it."""

from collections.abc import Sequence
from threading import Event
from typing import Any

import pytest

from oreo_agents.serving.worker import ClosedError, Job, QueueFullError, Worker


class Gate:
    """Work that waits until it may go on."""

    def __init__(self) -> None:
        """Begin closed."""
        self.entered, self.open = Event(), Event()

    def __call__(self, payloads: Sequence[Any]) -> list[Any]:
        self.entered.set()
        assert self.open.wait(20)
        return [payload * 10 for payload in payloads]


@pytest.fixture
def gate() -> Gate:
    return Gate()


def jobs(gate: Gate, *payloads: int, kind: str = "a", rows: int = 1) -> list[Job]:
    return [Job(kind, gate, payload, rows) for payload in payloads]


def test_what_waits_is_done_in_one_batch(gate: Gate):
    worker = Worker(batch_rows=8, queue=20)
    [first], more, others = jobs(gate, 0), jobs(gate, *range(1, 6)), jobs(gate, 6, kind="b")
    worker.submit([first])
    assert gate.entered.wait(20)
    worker.submit(more[:2])
    worker.submit(others)
    worker.submit(more[2:])
    assert (worker.running, worker.waiting) == (1, 6)
    gate.open.set()
    assert [job.future.result(20) for job in [first, *more, *others]] == [0, 10, 20, 30, 40, 50, 60]
    assert worker.batches == [1, 5, 1]
    worker.close()


def test_a_batch_has_so_many_rows_and_one_job_may_have_more(gate: Gate):
    worker = Worker(batch_rows=8, queue=20)
    first, more = jobs(gate, 0, rows=50), jobs(gate, 1, 2, 3, rows=4)
    worker.submit(first)
    assert gate.entered.wait(20)
    worker.submit(more)
    gate.open.set()
    assert [job.future.result(20) for job in more] == [10, 20, 30] and worker.batches == [1, 2, 1]
    worker.close()


def test_a_full_queue_takes_all_or_nothing(gate: Gate):
    worker = Worker(queue=2)
    worker.submit(jobs(gate, 0))
    assert gate.entered.wait(20)
    worker.submit(jobs(gate, 1))
    with pytest.raises(QueueFullError, match="1 requests wait") as refused:
        worker.submit(jobs(gate, 2, 3))
    assert refused.value.retry_after >= 1 and worker.waiting == 1
    worker.submit(jobs(gate, 4))
    gate.open.set()
    worker.close()


def test_who_leaves_the_queue_is_not_served(gate: Gate):
    worker = Worker()
    [first, second] = jobs(gate, 0, 1)
    worker.submit([first])
    assert gate.entered.wait(20)
    worker.submit([second])
    worker.cancel([first, second])
    assert worker.waiting == 0 and second.future.cancelled() and first.cancelled.is_set()
    gate.open.set()
    assert first.future.result(20) == 0
    worker.close()


def test_one_that_fails_spoils_no_other(gate: Gate, caplog: pytest.LogCaptureFixture):
    def work(payloads: Sequence[int]) -> list[float]:
        return [1 / payload for payload in payloads]

    worker = Worker()
    [blocking] = jobs(gate, 0)
    worker.submit([blocking])
    assert gate.entered.wait(20)
    found = [Job("x", work, payload) for payload in (1, 0, 2)]
    worker.submit(found)
    gate.open.set()
    assert [found[0].future.result(20), found[2].future.result(20)] == [1.0, 0.5]
    assert isinstance(found[1].future.exception(20), ZeroDivisionError)
    assert "a request failed" in caplog.text and worker.alive
    worker.close()


def test_a_closed_worker_takes_nothing(gate: Gate):
    worker = Worker()
    [running, waiting] = jobs(gate, 0, 1)
    worker.submit([running])
    assert gate.entered.wait(20)
    worker.submit([waiting])
    gate.open.set()
    worker.close()
    assert running.cancelled.is_set() and not worker.alive
    with pytest.raises(ClosedError):
        worker.submit(jobs(gate, 2))
