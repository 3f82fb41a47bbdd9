"""Direct advantage policy optimisation: the value of the start is learned first and held, then the policy learns.

Source: Liu et al. 2024 (arXiv:2412.18279), DAPO there, which is another algorithm than the DAPO of arXiv:2503.14476.
What is ours is said in ``docs/algorithms/direct-advantage.md``.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from oreo_algos.algos.base import (
    EpisodeAlgorithm,
    Losses,
    mean_entropy,
    require_one_of,
    require_positive,
    require_whole,
    score,
    subset_mean,
    token_log_ratio,
)
from oreo_algos.algos.value_metrics import bellman_metrics, ratio_metrics, value_metrics
from oreo_algos.batch import Batch
from oreo_algos.episode import Episode
from oreo_algos.losses import advantage_regression_loss, masked_episode_mean, step_advantages
from oreo_algos.models import Models
from oreo_algos.segments import Granularity, regroup, reward_to_go, step_values, sum_by_step

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DirectAdvantage(EpisodeAlgorithm):
    """The log-ratio of a step is fitted to its advantage under the policy that made the data.

    V learns in the warm-up only, by regression on the outcomes, and is held from then on.

    Attributes:
        policy_lr: peak learning rate of the policy.
        value_lr: peak learning rate of the value network.
        value_warmup_steps: optimiser steps, before the epochs, in which V learns; 0: V is held as it was given, see
            ``value.path``.
        granularity: what a step of the policy's loss is; V learns before every action token.
        beta: KL temperature, reward units per nat.
    """

    policy_lr: float = 5e-6
    value_lr: float = 5e-6
    value_warmup_steps: int = 500
    granularity: Granularity = "step"
    beta: float = 0.03

    needs = frozenset({"reference", "value"})
    bootstraps = True
    trains_final_value = True

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_positive(self, "value_lr", "beta")
        require_whole(self, "value_warmup_steps")
        require_one_of(self, "granularity", get_args(Granularity))
        if self.value_warmup_steps < 0:
            raise ValueError(f"DirectAdvantage.value_warmup_steps must not be negative, got {self.value_warmup_steps}")

    def begin_run(self, models: Models, examples: Sequence[Episode]) -> None:
        """Warn where V will not learn."""
        if self.value_warmup_steps == 0:
            _log.warning(
                "direct-advantage: value_warmup_steps=0, so V is held as it was given; that of a fresh network is 0 "
                "in every state, and then only the last action of an episode learns: give value.path=... too"
            )

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """In the warm-up the value loss, then the policy loss; means over episodes."""
        if models.value is None:
            raise ValueError("DirectAdvantage needs a value network")
        with torch.set_grad_enabled(models.policy_frozen):
            token_values = models.value.token_values(batch)
        batch = self.with_cut_off_values(batch, token_values)
        learn = self._value_loss if models.policy_frozen else self._policy_loss
        return learn(batch, models, token_values)

    def _value_loss(self, batch: Batch, models: Models, token_values: Tensor) -> Losses:
        tokens = regroup(batch, "token")
        values, returns = step_values(token_values, tokens), reward_to_go(tokens.rewards, tokens.step_mask)
        loss, fixed = masked_episode_mean((values - returns).square(), tokens.step_mask), values.detach()
        metrics = {
            "losses/value": loss.item(),
            **value_metrics(token_values.detach(), fixed, tokens),
            **bellman_metrics(fixed, torch.zeros_like(fixed), returns, tokens, self.beta),
        }
        return Losses({"value": loss}, metrics)

    def _policy_loss(self, batch: Batch, models: Models, token_values: Tensor) -> Losses:
        steps = regroup(batch, self.granularity)
        scores = score(batch, models)
        log_ratio = sum_by_step(token_log_ratio(scores), steps)
        advantages = step_advantages(step_values(token_values, steps), steps.rewards, steps.step_mask)
        loss = advantage_regression_loss(log_ratio, advantages, steps.step_mask, beta=self.beta)
        metrics = {
            "losses/policy": loss.item(),
            "advantages/abs": subset_mean(advantages.abs(), steps.step_mask),
            **ratio_metrics(log_ratio.detach().sum(dim=1), batch),
            **mean_entropy(scores, batch.action_mask),
        }
        return Losses({"policy": loss}, metrics)
