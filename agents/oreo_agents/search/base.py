"""What a search is: draw some episodes of a task, choose one of them.

Knows: episodes and their values. Does not know: how episodes are generated, models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from oreo_algos.episode import Episode


@dataclass(frozen=True, kw_only=True)
class Search:
    """Base class.

    Attributes:
        samples: episodes drawn for each task.
        temperature: of the sampling; 0 is greedy decoding.
    """

    samples: int = 1
    temperature: float = 1.0

    needs_value: ClassVar[bool] = False
    """Whether ``choose`` reads the learned value."""

    constrained: ClassVar[bool] = False
    """Whether the policy can say only what the environment admits, see ``rollout``."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        if self.temperature < 0 or (self.temperature == 0 and self.samples > 1):
            raise ValueError(
                f"temperature must be > 0 to draw {self.samples} different samples, got {self.temperature}"
            )

    def choose(self, episodes: Sequence[Episode], values: np.ndarray) -> int:
        """Return the index of the answer to give.

        Args:
            episodes: the samples of one task; their outcome must not be looked at.
            values: V of each just before its end token, float [N]; meaningful only if ``needs_value``.
        """
        raise NotImplementedError
