"""Buffers of ragged episodes."""

import numpy as np
import pytest

from oreo_algos import EpisodeBuffer


@pytest.fixture
def buffer(random_episodes):
    return EpisodeBuffer(random_episodes(14))


@pytest.fixture(scope="session")
def single_turn(make_episode):
    """Single-turn episodes of ten prompts with both outcomes, ragged."""
    rng = np.random.default_rng(2)
    return EpisodeBuffer(
        make_episode(
            [-1] * start + [0] * length,
            [float(i % 3 == 0)],
            tokens=rng.integers(1, 50, start + length),
            task_id=f"task-{i // 3}",
        )
        for i, (start, length) in enumerate(rng.integers(1, 6, (14, 2)))
    )
