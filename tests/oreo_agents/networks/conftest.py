"""A ragged batch for the networks, and the small models of `benchmarks/families.py`."""

import sys
from pathlib import Path

import pytest
from tiny_models import draw_episodes

from oreo_algos.batch import Batch, collate

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))


@pytest.fixture
def batch() -> Batch:
    """Documents of 3 to 16 tokens, several groups of which hold padding."""
    return collate(draw_episodes(12))
