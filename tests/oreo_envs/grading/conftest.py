"""What stops a scan that is not linear."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def stops_endless_scans() -> Iterator[None]:
    """Fail after 20 CPU seconds of this process, where a linear scan takes far less than one; no clock is read."""

    def stop(*_: object) -> None:
        raise AssertionError("20 CPU seconds: this scan is not linear")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, 20)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)
