"""A ragged batch for the networks."""

import pytest
from tiny_models import draw_episodes

from oreo_algos.batch import Batch, collate


@pytest.fixture
def batch() -> Batch:
    """Documents of 3 to 16 tokens, several groups of which hold padding."""
    return collate(draw_episodes(12))
