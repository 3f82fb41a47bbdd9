"""Builders of episodes: ragged, with observations in the middle, drawn from a seeded generator."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from oreo_algos.episode import Episode


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors of a few numbers gain nothing from threads and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_episode() -> Callable[..., Episode]:
    """Build an episode from what the losses look at; token t is t + 1."""
    return _make_episode


@pytest.fixture(scope="session")
def random_episodes() -> Callable[..., list[Episode]]:
    """Draw `count` ragged episodes with 1-5 steps of 1-4 tokens and observations in and between."""

    def draw(count: int, seed: int = 0) -> list[Episode]:
        rng = np.random.default_rng(seed)
        return [_random_episode(rng) for _ in range(count)]

    return draw


def _make_episode(step_id: list[int], rewards: list[float], **fields: object) -> Episode:
    defaults: dict[str, object] = {
        "tokens": np.arange(1, len(step_id) + 1),
        "terminated": True,
        "truncated": False,
        "task_id": "task-0",
        "env_id": "oreo/Test-v0",
    }
    return Episode(step_id=step_id, rewards=rewards, **(defaults | fields))


def _random_episode(rng: np.random.Generator) -> Episode:
    step_id = [-1] * int(rng.integers(1, 5))
    steps = int(rng.integers(1, 6))
    for step in range(steps):
        step_id += [step] * int(rng.integers(1, 5))
        if rng.random() < 0.4:
            step_id += [-1] * int(rng.integers(1, 4))
            if rng.random() < 0.5:
                step_id += [step]
    rewards = rng.normal(size=steps)
    return _make_episode(
        step_id,
        rewards.tolist(),
        success=bool(rewards.sum() > 0),
        tokens=rng.integers(1, 50, size=len(step_id)),
        loss_mask=rng.random(len(step_id)) < 0.7 if rng.random() < 0.5 else None,
        task_id=f"task-{rng.integers(3)}",
    )
