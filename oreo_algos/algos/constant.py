"""OREO's policy loss with a mean in place of the learned value: what the value network has to beat.

Source: Wang et al. 2024 (arXiv:2412.16145), Eq. 9, with V(s) = c everywhere, or the mean return of a question's samples
or of those in the same state of it (``baselines``); ours, as a control.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from oreo_algos.algos.base import (
    EpisodeAlgorithm,
    Losses,
    ReferenceUse,
    mean_entropy,
    require_one_of,
    require_positive,
    score,
    token_log_ratio,
)
from oreo_algos.algos.baselines import baseline_values, less_baseline
from oreo_algos.algos.oreo import ALPHA
from oreo_algos.algos.value_metrics import ratio_metrics, temperature_metrics
from oreo_algos.batch import Batch
from oreo_algos.episode import Episode
from oreo_algos.losses import masked_episode_mean, oreo_policy_loss
from oreo_algos.models import KLEstimate, Models
from oreo_algos.segments import Granularity, regroup, reward_to_go, sum_by_step
from oreo_algos.storage.buffer import EpisodeBuffer


@dataclass(frozen=True, kw_only=True)
class ConstantBaseline(EpisodeAlgorithm):
    """OREO without a value network: every state is worth the same, or what its samples returned.

    Attributes:
        policy_lr: peak learning rate of the policy.
        granularity: what a step of the loss is: every token, every step of the environment, or the response.
        baseline: the constant, reward units; None: the mean reward of the episodes learned from. ``question``: for each
            question the mean of its samples; ``state``: for each action the mean return of the samples of its question
            that were in the same state.
        beta: KL temperature, reward units per nat.
        alpha: weight of the KL regulariser, reward units squared per nat; None: the paper's for the granularity.
        kl: how the regulariser is computed.
    """

    policy_lr: float = 5e-6
    granularity: Granularity = "token"
    baseline: float | Literal["question", "state"] | None = None
    beta: float = 0.03
    alpha: float | None = None
    kl: KLEstimate = "exact"

    needs = frozenset({"reference"})

    def __post_init__(self) -> None:
        """Check the settings, and choose alpha by the granularity where none is given."""
        super().__post_init__()
        require_positive(self, "beta")
        require_one_of(self, "granularity", get_args(Granularity))
        require_one_of(self, "kl", get_args(KLEstimate))
        if self.alpha is None:
            object.__setattr__(self, "alpha", ALPHA[self.granularity])
        assert self.alpha is not None
        if self.alpha < 0:
            raise ValueError(f"alpha must not be negative, got {self.alpha}")

    @property
    def reference_use(self) -> ReferenceUse:
        """A sum over the vocabulary needs the whole distribution."""
        return "logprobs" if self.kl == "k3" else "distribution"

    def select(self, buffer: EpisodeBuffer, rng: np.random.Generator) -> Sequence[Episode]:
        """Take every episode; where means of groups are the value, with advantages in place of its rewards."""
        if isinstance(self.baseline, str):
            return less_baseline(buffer, baseline_values(buffer, self.baseline))
        return super().select(buffer, rng)

    def begin_run(self, models: Models, examples: Sequence[Episode]) -> None:
        """Take the mean reward of the examples where no constant is given; 0 where their rewards are advantages."""
        buffer = examples if isinstance(examples, EpisodeBuffer) else EpisodeBuffer(examples)
        mean = float(np.mean(buffer.columns.total_reward))
        given = 0.0 if isinstance(self.baseline, str) else self.baseline
        models.numbers = {"baseline": mean if given is None else given}

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """Policy loss with its KL regulariser, means over episodes."""
        steps = regroup(batch, self.granularity)
        scores = score(batch, models, kl=self.kl)
        log_ratio = sum_by_step(token_log_ratio(scores), steps)
        returns = reward_to_go(steps.rewards, steps.step_mask)
        values = returns.new_full(returns.shape, models.numbers["baseline"])
        loss = oreo_policy_loss(values, log_ratio, returns, steps.step_mask, beta=self.beta)
        assert scores.kl is not None and self.alpha is not None
        kl = masked_episode_mean(scores.kl, batch.action_mask)
        metrics = {
            "losses/policy": loss.item(),
            "kl": kl.item(),
            **temperature_metrics(self.beta, self.alpha, batch, steps),
            **ratio_metrics(log_ratio.detach().sum(dim=1), batch),
            **mean_entropy(scores, batch.action_mask),
        }
        return Losses({"policy": loss + self.alpha * kl}, metrics)
