"""Advantage-weighted regression, and implicit Q-learning where Q is the reward and the next state's value.

Source: Peng et al. 2019 (arXiv:1910.00177), AWR; Kostrikov et al. 2021 (arXiv:2110.06169), IQL, and of language models
Snell et al. 2022 (arXiv:2206.11871), ILQL. What is ours is said in ``docs/algorithms/awr.md``.
"""

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
    subset_mean,
)
from oreo_algos.algos.value_metrics import bellman_metrics, logprob_metrics, value_metrics
from oreo_algos.batch import Batch
from oreo_algos.losses import advantage_weights, expectile_loss, soft_lambda_returns, weighted_nll_loss
from oreo_algos.models import Models
from oreo_algos.segments import Granularity, regroup, reward_to_go, step_values


@dataclass(frozen=True, kw_only=True)
class AdvantageWeighted(EpisodeAlgorithm):
    """Imitate every action, by how much better it went than its state is worth.

    Attributes:
        policy_lr: peak learning rate of the policy.
        value_lr: peak learning rate of the value network.
        value_warmup_steps: optimiser steps, before the epochs, that train the value only.
        granularity: what a step of the value is: every token, every step of the environment, or the response.
        beta: temperature of the weights ``exp(advantage / beta)``, reward units per nat.
        max_weight: bound on a weight.
        expectile: of what follows a state, in (0, 1), that its value is: 0.5 the mean (AWR), nearer to 1 nearer to the
            best that the data hold (IQL), luck included.
        trace: lambda of the return that the value and the advantage are made of: 1 is what the episode returned (AWR),
            0 the reward and the value of the next state (IQL).
    """

    policy_lr: float = 5e-6
    value_lr: float = 5e-6
    value_warmup_steps: int = 0
    granularity: Granularity = "token"
    beta: float = 0.3
    max_weight: float = 20.0
    expectile: float = 0.5
    trace: float = 1.0

    needs = frozenset({"value"})
    bootstraps = True

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_positive(self, "value_lr", "beta", "max_weight")
        require_whole(self, "value_warmup_steps")
        require_one_of(self, "granularity", get_args(Granularity))
        name = type(self).__name__
        if not 0 < self.expectile < 1:
            raise ValueError(f"{name}.expectile must be in (0, 1), got {self.expectile}")
        if not 0 <= self.trace <= 1:
            raise ValueError(f"{name}.trace must be in [0, 1], got {self.trace}")
        if self.value_warmup_steps < 0:
            raise ValueError(f"{name}.value_warmup_steps must not be negative, got {self.value_warmup_steps}")

    @property
    def trains_final_value(self) -> bool:
        """Whether V is trained just before the end token, where a search reads it."""
        return self.granularity == "token"

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """Value loss and weighted likelihood, means over episodes."""
        if models.value is None:
            raise ValueError("AdvantageWeighted needs a value network")
        token_values = models.value.token_values(batch)
        steps = regroup(self.with_cut_off_values(batch, token_values), self.granularity)
        values = step_values(token_values, steps)
        zeros = torch.zeros_like(values)
        targets = soft_lambda_returns(values, zeros, steps.rewards, steps.step_mask, beta=1.0, trace=self.trace)
        terms = {"value": expectile_loss(values, targets, steps.step_mask, expectile=self.expectile)}
        returns = reward_to_go(steps.rewards, steps.step_mask)
        metrics = {
            "losses/value": terms["value"].item(),
            **value_metrics(token_values.detach(), values.detach(), steps),
            **bellman_metrics(values.detach(), zeros, returns, steps, 0.0),
        }
        if not models.policy_frozen:
            weights = advantage_weights(targets - values, beta=self.beta, max_weight=self.max_weight)
            terms["policy"] = self._policy_loss(weights, steps, models, metrics)
        return Losses(terms, metrics)

    def _policy_loss(self, weights: Tensor, steps: Batch, models: Models, metrics: dict[str, float]) -> Tensor:
        """Score the policy; note what the weights are like."""
        scores = models.policy.score(steps)
        of_tokens = weights.gather(1, steps.step_id.clamp(min=0))
        clipped = (weights >= self.max_weight * (1 - 1e-6)).to(weights.dtype)
        metrics |= {
            "weights/mean": subset_mean(weights, steps.step_mask),
            "weights/clipped": subset_mean(clipped, steps.step_mask),
            **logprob_metrics(scores, steps),
            **mean_entropy(scores, steps.action_mask),
        }
        return weighted_nll_loss(scores.logprobs, of_tokens, steps.loss_mask)
