"""Group relative policy optimisation: a clipped policy gradient whose baseline is the mean of a task's samples.

On-policy where the policy that learns has just made the samples: rounds of collection and training, see
``docs/algorithms/grpo.md``. Nothing here knows who made them.
Source: Shao et al. 2024 (arXiv:2402.03300).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from oreo_algos.algos.base import EpisodeAlgorithm, Losses, ReferenceUse, mean_entropy, score, subset_mean
from oreo_algos.algos.selection import NothingToLearnError
from oreo_algos.batch import BEHAVIOR_LOGPROBS, Batch
from oreo_algos.episode import Episode
from oreo_algos.losses import clipped_ratio_loss, masked_episode_mean
from oreo_algos.models import Models
from oreo_algos.storage.buffer import EpisodeBuffer

ADVANTAGE = "advantage"
_EQUAL = 1e-6
"""Standard deviation of the returns of a task, reward units, up to which they are the same."""


@dataclass(frozen=True, kw_only=True)
class Grpo(EpisodeAlgorithm):
    """GRPO over tokens; a task whose samples have one return teaches nothing and is left out.

    Attributes:
        policy_lr: peak learning rate.
        clip: how far from 1 the ratio to the policy that sampled may be and still have a gradient that leads further.
        scale_by_deviation: divide the advantages of a task by the standard deviation of its returns; false: they are
            differences of returns, as in arXiv:2503.20783.
        alpha: weight of the KL to the reference, as k3 estimates it; 0: no reference is needed.
    """

    policy_lr: float = 1e-6
    clip: float = 0.2
    scale_by_deviation: bool = True
    alpha: float = 0.0

    extra = (BEHAVIOR_LOGPROBS, ADVANTAGE)

    def __post_init__(self) -> None:
        """Check the settings, and ask for a reference where a KL to it is wanted."""
        super().__post_init__()
        if not 0 < self.clip < 1:
            raise ValueError(f"Grpo.clip must be in (0, 1), got {self.clip}")
        if self.alpha < 0:
            raise ValueError(f"Grpo.alpha must not be negative, got {self.alpha}")
        if self.alpha:
            object.__setattr__(self, "needs", frozenset({"reference"}))

    @property
    def reference_use(self) -> ReferenceUse:
        """The k3 estimate needs the tokens taken only."""
        return "logprobs" if self.alpha else "nothing"

    def select(self, buffer: EpisodeBuffer, rng: np.random.Generator) -> Sequence[Episode]:
        """Take the episodes of tasks with several returns, each with its advantage in ``info``."""
        advantages = group_advantages(buffer, scale=self.scale_by_deviation)
        chosen = np.flatnonzero(~np.isnan(advantages)).tolist()
        if not chosen:
            raise NothingToLearnError(
                f"in each of the {len(buffer.columns.task_ids)} tasks of this buffer all samples have the same return, "
                "so there is no advantage to learn from; collect more samples a task (collect.samples), or tasks that "
                "are sometimes solved"
            )
        rows = [(buffer[i], float(advantages[i])) for i in chosen]
        return [replace(episode, info={**episode.info, ADVANTAGE: gain}) for episode, gain in rows]

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """Clipped policy gradient with its KL regulariser, means over episodes."""
        behavior, gains = batch.extra[BEHAVIOR_LOGPROBS], batch.extra[ADVANTAGE]
        scores = score(batch, models, kl="k3") if self.alpha else models.policy.score(batch)
        mask = batch.action_mask
        loss = clipped_ratio_loss(scores.logprobs, behavior, gains, mask, clip=self.clip)
        ratio = (scores.logprobs.detach() - behavior).exp()
        still = (ratio - 1) * gains.sign()[:, None] > self.clip
        metrics = {
            "losses/policy": loss.item(),
            "ratio/mean": subset_mean(ratio, mask),
            "ratio/clipped": subset_mean(still.double(), mask),
            **mean_entropy(scores, mask),
        }
        if not self.alpha:
            return Losses({"policy": loss}, metrics)
        assert scores.kl is not None
        kl = masked_episode_mean(scores.kl, mask)
        return Losses({"policy": loss + self.alpha * kl}, metrics | {"kl": kl.item()})


def group_advantages(buffer: EpisodeBuffer, *, scale: bool) -> np.ndarray:
    """Return the return of each episode less the mean of its task, float64 [N]; NaN where all of a task are the same.

    Args:
        buffer: the episodes.
        scale: divide by the standard deviation of the task's returns, that of a sample (n - 1).
    """
    columns = buffer.columns
    task, returns = columns.task, columns.total_reward.astype(np.float64)
    count = np.bincount(task, minlength=len(columns.task_ids))
    from_mean = returns - (np.bincount(task, returns, len(count)) / np.maximum(count, 1))[task]
    variance = np.bincount(task, from_mean**2, len(count)) / np.maximum(count - 1, 1)
    deviation = np.sqrt(variance)[task]
    advantages = from_mean / np.maximum(deviation, _EQUAL) if scale else from_mean
    return np.where(deviation > _EQUAL, advantages, np.nan)
