"""OREO: a policy and a value function that satisfy the soft Bellman equation on offline episodes.

Source: Wang et al. 2024 (arXiv:2412.16145), Eq. 8 (value), Eq. 9 (policy), Eq. 10 (response level).
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
    subset_mean,
    token_log_ratio,
)
from oreo_algos.batch import Batch
from oreo_algos.losses import masked_episode_mean, oreo_policy_loss, oreo_value_loss
from oreo_algos.metrics import Maximum, Mean, Minimum
from oreo_algos.models import KLEstimate, Models, TokenScores
from oreo_algos.segments import (
    Granularity,
    final_values,
    regroup,
    reward_to_go,
    step_values,
    sum_by_step,
)


@dataclass(frozen=True, kw_only=True)
class Oreo(EpisodeAlgorithm):
    """OREO with the defaults of the paper.

    Attributes:
        policy_lr: peak learning rate of the policy.
        value_lr: peak learning rate of the value network.
        value_warmup_steps: optimiser steps, before the epochs, that train the value only. While the policy still
            is the reference these are the value loss with every log-ratio 0: regression on the reward-to-go.
        granularity: what a step of the loss is: every token, every step of the environment, or the response.
        beta: KL temperature, reward units per nat.
        alpha: weight of the KL regulariser, reward units squared per nat.
        kl: how the regulariser is computed.
    """

    policy_lr: float = 5e-6
    value_lr: float = 5e-6
    value_warmup_steps: int = 0
    granularity: Granularity = "token"
    beta: float = 0.03
    alpha: float = 0.01
    kl: KLEstimate = "exact"

    needs = frozenset({"reference", "value"})

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_positive(self, "value_lr", "beta")
        require_one_of(self, "granularity", get_args(Granularity))
        require_one_of(self, "kl", get_args(KLEstimate))
        if self.alpha < 0 or self.value_warmup_steps < 0:
            raise ValueError(
                f"alpha and value_warmup_steps must not be negative, got {self.alpha} and {self.value_warmup_steps}"
            )

    @property
    def trains_final_value(self) -> bool:
        """Whether V is trained just before the end token, where a search reads it: only the token level does."""
        return self.granularity == "token"

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """Value loss and policy loss with its KL regulariser, means over episodes.

        The metrics ``log_ratio/*_median`` and ``bellman/explained_variance`` are those of a micro-batch; a step of
        several logs their average, which is not the median or variance of the step.
        """
        if models.value is None:
            raise ValueError("OREO needs a value network")
        steps = regroup(batch, self.granularity)
        token_values = models.value.token_values(batch)
        values = step_values(token_values, steps)
        returns = reward_to_go(steps.rewards, steps.step_mask)
        scores = self._score(batch, models)
        log_ratio = torch.zeros_like(values) if scores is None else sum_by_step(token_log_ratio(scores), steps)
        arguments = (returns, steps.step_mask)
        terms = {"value": oreo_value_loss(values, log_ratio.detach(), *arguments, beta=self.beta)}
        metrics = {
            "losses/value": terms["value"].item(),
            **_value_metrics(token_values.detach(), values.detach(), steps),
            **_bellman_metrics(values.detach(), log_ratio.detach(), returns, steps, self.beta),
        }
        if scores is not None and not models.policy_frozen:
            policy_loss = oreo_policy_loss(values.detach(), log_ratio, *arguments, beta=self.beta)
            assert scores.kl is not None
            kl = masked_episode_mean(scores.kl, batch.action_mask)
            terms["policy"] = policy_loss + self.alpha * kl
            metrics |= {"losses/policy": policy_loss.item(), "losses/kl": kl.item()}
            metrics |= _ratio_metrics(log_ratio.detach().sum(dim=1), batch)
            metrics |= mean_entropy(scores, batch.action_mask)
        return Losses(terms, metrics)

    def _score(self, batch: Batch, models: Models) -> TokenScores | None:
        """Score the batch, or return None when every log-ratio is 0 and no gradient is wanted."""
        if not models.policy_frozen:
            return models.policy.score(batch, models.reference, kl=self.kl)
        if models.policy_is_reference:
            return None
        with torch.no_grad():
            return models.policy.score(batch, models.reference)


def _value_metrics(token_values: Tensor, values: Tensor, steps: Batch) -> dict[str, float]:
    """Describe V: over all states, at the start, and just before the end token by outcome."""
    seen = values[steps.step_mask]
    final = final_values(token_values, steps)
    solved = steps.rewards.sum(dim=1) > 0
    metrics = {
        "values/mean": subset_mean(values, steps.step_mask),
        "values/min": Minimum(seen.min().item()),
        "values/max": Maximum(seen.max().item()),
        "values/start": values[:, 0].mean().item(),
    }
    if solved.any():
        metrics["values/terminal_pos"] = subset_mean(final, solved)
    if not solved.all():
        metrics["values/terminal_neg"] = subset_mean(final, ~solved)
    return metrics


def _bellman_metrics(values: Tensor, log_ratio: Tensor, returns: Tensor, steps: Batch, beta: float) -> dict[str, float]:
    """Describe how well V explains its target, the reward-to-go less the KL-to-go."""
    kl_to_go = beta * reward_to_go(log_ratio, steps.step_mask)
    target = (returns - kl_to_go)[steps.step_mask]
    residual = values[steps.step_mask] - target
    metrics: dict[str, float] = {"bellman/residual_abs": Mean(residual.abs().mean().item(), len(residual))}
    variance = target.var(correction=0)
    if variance > 0:
        explained = 1 - residual.var(correction=0) / variance
        metrics["bellman/explained_variance"] = Mean(explained.item(), len(residual))
    return metrics


def _ratio_metrics(log_ratio: Tensor, batch: Batch) -> dict[str, float]:
    """Median log-ratio of whole transcripts by outcome, nats."""
    solved = batch.rewards.sum(dim=1) > 0
    return {
        f"log_ratio/{name}_median": Mean(log_ratio[rows].median().item(), int(rows.sum()))
        for name, rows in (("pos", solved), ("neg", ~solved))
        if rows.any()
    }
