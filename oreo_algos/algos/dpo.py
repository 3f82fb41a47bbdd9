"""Direct preference optimisation on pairs of a right and a wrong episode of the same task.

Source: Rafailov et al. 2023 (arXiv:2305.18290); baseline of Wang et al. 2024 (arXiv:2412.16145).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from oreo_algos.algos.base import Algorithm, Losses, mean_entropy, require_positive, transcript_log_ratio
from oreo_algos.batch import Batch, collate
from oreo_algos.buffer import EpisodeBuffer
from oreo_algos.episode import Episode
from oreo_algos.losses import dpo_loss
from oreo_algos.models import Models
from oreo_algos.selection import preference_pairs


class Preference(NamedTuple):
    """Two batches of equal length: row b of ``chosen`` is preferred to row b of ``rejected``."""

    chosen: Batch
    rejected: Batch

    def to(self, device: Any) -> "Preference":
        """Move both batches."""
        return Preference(self.chosen.to(device), self.rejected.to(device))


@dataclass(frozen=True, kw_only=True)
class Dpo(Algorithm[tuple[Episode, Episode], Preference]):
    """Sigmoid DPO.

    Attributes:
        beta: KL temperature of the implicit reward, reward units per nat.
        max_pairs: pairs a task at most.
    """

    policy_lr: float = 5e-7
    beta: float = 0.1
    max_pairs: int = 6

    needs = frozenset({"reference"})

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_positive(self, "beta", "max_pairs")

    def select(self, buffer: EpisodeBuffer, rng: np.random.Generator) -> list[tuple[Episode, Episode]]:
        """Draw pairs of each task that has both outcomes."""
        return preference_pairs(buffer, self.max_pairs, rng)

    def collate(self, examples: Sequence[tuple[Episode, Episode]]) -> Preference:
        """Pad the chosen and the rejected episodes, each among themselves."""
        chosen, rejected = zip(*examples, strict=True)
        return Preference(collate(chosen), collate(rejected))

    def weight(self, batch: Preference) -> float:
        """Count pairs."""
        return float(len(batch.chosen))

    def losses(self, batch: Preference, models: Models, context: Any = None) -> Losses:
        """DPO loss, mean over pairs."""
        chosen = models.policy.score(batch.chosen, models.reference)
        rejected = models.policy.score(batch.rejected, models.reference)
        chosen_ratio, rejected_ratio = transcript_log_ratio(chosen), transcript_log_ratio(rejected)
        margins = (self.beta * (chosen_ratio - rejected_ratio)).detach()
        metrics = {
            "rewards/chosen": self.beta * chosen_ratio.mean().item(),
            "rewards/rejected": self.beta * rejected_ratio.mean().item(),
            "rewards/margins": margins.mean().item(),
            "rewards/accuracies": (margins > 0).float().mean().item(),
            "logps/chosen": chosen.logprobs.sum(dim=1).mean().item(),
            "logps/rejected": rejected.logprobs.sum(dim=1).mean().item(),
            **mean_entropy(chosen, batch.chosen.action_mask),
        }
        return Losses({"policy": dpo_loss(chosen_ratio, rejected_ratio, beta=self.beta)}, metrics)
