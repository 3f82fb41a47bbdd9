"""What every test leaves as it found it."""

import logging
import os
import signal
from collections.abc import Iterator

import pytest

# A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """A command run within a test sets the level of all logs, silences them, or writes them to a file.

    The next test counts what it hears, and a file that is left open fails whichever test comes when it is collected.
    """
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    for handler in [*root.handlers]:
        if isinstance(handler, logging.FileHandler) and handler.baseFilename != os.path.abspath(os.devnull):
            root.removeHandler(handler)
            handler.close()
    for logger in root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False


@pytest.fixture
def signals_restored() -> Iterator[None]:
    """Once a signal has ended work, the next is left to the system, which would end the tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
