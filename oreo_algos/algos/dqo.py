"""Direct Q-function optimisation: a soft Q-function made of the policy and the value, fitted to bootstrapped targets.

Source: Ji et al. 2024 (arXiv:2410.09302); baseline of Wang et al. 2024 (arXiv:2412.16145), whose reproduction is known
by its results only. What is ours is said in ``docs/algorithms.md``.
"""

from dataclasses import dataclass
from typing import Any

import torch

from oreo_algos.algos.base import (
    EpisodeAlgorithm,
    Losses,
    mean_entropy,
    require_positive,
    require_whole,
    score,
    token_log_ratio,
)
from oreo_algos.algos.value_metrics import bellman_metrics, ratio_metrics, value_metrics
from oreo_algos.batch import Batch
from oreo_algos.losses import lambda_value_loss, one_step_policy_loss
from oreo_algos.models import Models, TokenScores
from oreo_algos.segments import regroup, reward_to_go, step_values, sum_by_step


@dataclass(frozen=True, kw_only=True)
class Dqo(EpisodeAlgorithm):
    """DQO, every token a step: ``Q(s, a) = V(s) + beta * log(pi(a|s) / ref(a|s))``, without a KL regulariser.

    Attributes:
        policy_lr: peak learning rate of the policy.
        value_lr: peak learning rate of the value network.
        value_warmup_steps: optimiser steps, before the epochs, that train the value only.
        beta: KL temperature, reward units per nat.
        trace: lambda of the value's soft lambda-return; 0 bootstraps after one token, 1 never.
        importance_cap: weigh the squares of the value loss by ``exp(min(sum_{i >= k} l_i, cap))``, nats: the data are
            the reference's, the value is the policy's. None: weight 1.
    """

    policy_lr: float = 5e-6
    value_lr: float = 5e-6
    value_warmup_steps: int = 0
    beta: float = 0.03
    trace: float = 0.95
    importance_cap: float | None = 1.0

    needs = frozenset({"reference", "value"})
    bootstraps = True
    trains_final_value = True

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_positive(self, "value_lr", "beta")
        require_whole(self, "value_warmup_steps")
        if not 0 <= self.trace <= 1:
            raise ValueError(f"Dqo.trace must be in [0, 1], got {self.trace}")
        if self.value_warmup_steps < 0:
            raise ValueError(f"Dqo.value_warmup_steps must not be negative, got {self.value_warmup_steps}")

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """Value loss and Q loss, means over episodes."""
        if models.value is None:
            raise ValueError("DQO needs a value network")
        token_values = models.value.token_values(batch)
        batch = self.with_cut_off_values(batch, token_values)
        steps = regroup(batch, "token")
        values = step_values(token_values, steps)
        scores = self._score(batch, models)
        log_ratio = torch.zeros_like(values) if scores is None else sum_by_step(token_log_ratio(scores), steps)
        arguments = (steps.rewards, steps.step_mask)
        value_loss = lambda_value_loss(
            values, log_ratio.detach(), *arguments, beta=self.beta, trace=self.trace, importance_cap=self.importance_cap
        )
        returns = reward_to_go(*arguments)
        terms = {"value": value_loss}
        metrics = {
            "losses/value": value_loss.item(),
            **value_metrics(token_values.detach(), values.detach(), steps),
            **bellman_metrics(values.detach(), log_ratio.detach(), returns, steps, self.beta),
        }
        if scores is not None and not models.policy_frozen:
            terms["policy"] = one_step_policy_loss(values.detach(), log_ratio, *arguments, beta=self.beta)
            metrics["losses/policy"] = terms["policy"].item()
            metrics |= ratio_metrics(log_ratio.detach().sum(dim=1), batch)
            metrics |= mean_entropy(scores, batch.action_mask)
        return Losses(terms, metrics)

    @staticmethod
    def _score(batch: Batch, models: Models) -> TokenScores | None:
        """Score the batch, or return None when every log-ratio is 0 and no gradient is wanted."""
        if models.policy_frozen and models.policy_is_reference:
            return None
        with torch.set_grad_enabled(not models.policy_frozen):
            return score(batch, models)
