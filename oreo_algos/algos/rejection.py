"""Rejection sampling: supervised fine-tuning on the policy's own successful episodes.

Source: Yuan et al. 2023 (arXiv:2308.01825); baseline of Wang et al. 2024 (arXiv:2412.16145).
"""

from dataclasses import dataclass

import numpy as np

from oreo_algos.algos.selection import NothingToLearnError
from oreo_algos.algos.sft import Sft
from oreo_algos.storage.buffer import EpisodeBuffer


@dataclass(frozen=True, kw_only=True)
class RejectionSampling(Sft):
    """Learn from the successful episodes of the buffer."""

    policy_lr: float = 5e-6
    epochs: int = 1

    reads_success_only = True

    def select(self, buffer: EpisodeBuffer, rng: np.random.Generator) -> EpisodeBuffer:
        """Keep the successful episodes."""
        successes = np.flatnonzero(buffer.columns.success)
        if not len(successes):
            raise NothingToLearnError(
                f"none of the {len(buffer)} episodes of this buffer succeeded, so rejection sampling has "
                "nothing to learn from: a success is what its maker called one, or else a return of 1; collect more "
                "samples or easier tasks"
            )
        return buffer[successes]
