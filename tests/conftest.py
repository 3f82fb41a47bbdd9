"""What every test leaves as it found it."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def log_level_as_it_was() -> Iterator[None]:
    """A command line run within a test sets the level of all logs; the next test counts what it hears."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)
