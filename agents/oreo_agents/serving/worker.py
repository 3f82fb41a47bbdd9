"""One thread that owns the networks; what waits for it is answered in batches.

Knows: which jobs may share a batch, how many may wait. Does not know: HTTP, what an answer is.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

_log = logging.getLogger(__name__)

# How many of the last batches tell how long one takes.
_REMEMBERED = 16


class QueueFullError(Exception):
    """As many jobs wait as may; ``retry_after`` says in how many seconds to come again."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        """Say how many wait."""
        super().__init__(f"the queue is full: {waiting} requests wait; come again in about {retry_after} s")
        self.retry_after = retry_after


class ClosedError(Exception):
    """The worker takes nothing more."""


@dataclass(eq=False)
class Job:
    """Something to be done, alone or with others of the same ``kind``.

    Attributes:
        kind: jobs of one kind share a batch.
        work: does a batch of this kind: payloads in, results out, in their order.
        payload: of this job.
        rows: how much of a batch it takes.
        future: of its result.
        cancelled: nobody waits for it any more.
    """

    kind: Hashable
    work: Callable[[Sequence[Any]], Sequence[Any]]
    payload: Any
    rows: int = 1
    future: "Future[Any]" = field(default_factory=Future)
    cancelled: threading.Event = field(default_factory=threading.Event)


class Worker:
    """Takes jobs in their order; each time all that wait and are of the first one's kind, up to a batch."""

    def __init__(self, *, batch_rows: int = 64, queue: int = 64, wait_s: float = 0.005) -> None:
        """Start the thread.

        Args:
            batch_rows: rows of a batch; one job alone may have more.
            queue: jobs that may wait, those being done not counted.
            wait_s: how long to wait for company before a batch begins, seconds.
        """
        self.batch_rows, self.queue, self.wait_s = batch_rows, queue, wait_s
        self.batches: list[int] = []
        """Sizes of the batches done, the last thousand of them, jobs."""
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="oreo-serve", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Jobs being done."""
        return len(self._running)

    @property
    def alive(self) -> bool:
        """Whether it still takes jobs."""
        return self._thread.is_alive() and not self._closed

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs, all or none.

        Raises:
            QueueFullError: so many may not wait.
            ClosedError: the worker is closed.
        """
        with self._changed:
            if not self.alive:
                raise ClosedError("the server is shutting down")
            if len(self._waiting) + len(jobs) > self.queue:
                raise QueueFullError(len(self._waiting), self._retry_after())
            self._waiting.extend(jobs)
            self._changed.notify_all()

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Say that nobody waits for these: those in the queue leave it, those being done end at their next token."""
        with self._changed:
            for job in jobs:
                job.cancelled.set()
                if job in self._waiting:
                    self._waiting.remove(job)
                    job.future.cancel()

    def close(self) -> None:
        """Cancel everything and end the thread."""
        with self._changed:
            self._closed = True
            jobs = [*self._waiting, *self._running]
            self._changed.notify_all()
        self.cancel(jobs)
        self._thread.join()

    def _retry_after(self) -> int:
        seconds = sum(self._seconds) / len(self._seconds) if self._seconds else 1.0
        return min(max(math.ceil(seconds), 1), 60)

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._closed and self.wait_s:
                    self._changed.wait_for(lambda: self._closed, self.wait_s)
                if self._closed:
                    return
                self._running = self._next()
            begun = time.monotonic()
            if self._running:
                self._do(self._running)
                self._seconds.append(time.monotonic() - begun)
            with self._changed:
                self._running = []

    def _next(self) -> list[Job]:
        batch: list[Job] = []
        rows = 0
        for job in list(self._waiting):
            if batch and (job.kind != batch[0].kind or rows + job.rows > self.batch_rows):
                continue
            self._waiting.remove(job)
            if job.future.set_running_or_notify_cancel():
                batch.append(job)
                rows += job.rows
        return batch

    def _do(self, batch: list[Job]) -> None:
        """Do a batch; where it fails, each job alone, so that one spoils no other."""
        self.batches = [*self.batches[-999:], len(batch)]
        try:
            results = batch[0].work([job.payload for job in batch])
        except Exception as error:  # whatever a model raises must reach who waits, and not end the thread
            if len(batch) > 1:
                for job in batch:
                    self._do([job])
                return
            if not isinstance(error, ValueError):
                _log.exception("a request failed")
            batch[0].future.set_exception(error)
            return
        for job, result in zip(batch, results, strict=True):
            job.future.set_result(result)
