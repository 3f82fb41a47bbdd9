"""What tells a training run, and an episode that a step makes, from others.

Knows: hashes. Does not know: the loop (`trainer`), files.
"""

import hashlib
import json
from dataclasses import asdict
from typing import Any

import numpy as np

from oreo_algos.algos.base import Algorithm
from oreo_algos.episode import Episode
from oreo_algos.models import Models
from oreo_algos.storage.buffer import EpisodeBuffer
from oreo_algos.storage.fingerprint import policy_summary, value_summary
from oreo_algos.training.settings import TrainerConfig


def place(step: int, episode: Episode) -> bytes:
    """Tell an episode that a step makes by its tokens."""
    digest = hashlib.blake2b(episode.tokens.tobytes(), key=step.to_bytes(8), digest_size=16)
    digest.update(episode.step_id.tobytes())
    return digest.digest()


def seed_of(*numbers: int) -> int:
    """Return a seed for one of many streams of random numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def run_fingerprint(
    algorithm: Algorithm[Any],
    config: TrainerConfig,
    buffer: EpisodeBuffer,
    models: Models,
    *,
    bf16: bool,
    example: Episode,
) -> str:
    """Identify what a checkpoint may be continued with; how often to save or evaluate does not matter.

    ``example`` is one that all networks read.
    """
    networks = {"policy": policy_summary(models.policy, example)}
    if "reference" in algorithm.needs and models.reference is not None:
        networks["reference"] = policy_summary(models.reference, example)
    if "value" in algorithm.needs and models.value is not None:
        networks["value"] = value_summary(models.value, example)
    facts = [type(algorithm).__name__, asdict(algorithm), config.seed, bf16, buffer.identity, networks]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
