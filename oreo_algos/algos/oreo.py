"""OREO: a policy and a value function that satisfy the soft Bellman equation on offline episodes.

Source: Wang et al. 2024 (arXiv:2412.16145), Eq. 8 (value), Eq. 9 (policy), Eq. 10 (response level); the options are
those of the authors' released code. Every equation and deviation: ``docs/algorithms.md``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from oreo_algos.algos.adaptation import dual_ascent, frozen_copy, move_towards
from oreo_algos.algos.base import (
    EpisodeAlgorithm,
    Losses,
    ReferenceUse,
    mean_entropy,
    require_one_of,
    require_positive,
    require_whole,
    score,
    subset_mean,
    token_log_ratio,
)
from oreo_algos.algos.value_metrics import bellman_metrics, ratio_metrics, temperature_metrics, value_metrics
from oreo_algos.batch import Batch
from oreo_algos.episode import Episode
from oreo_algos.losses import (
    full_gradient_policy_loss,
    lambda_value_loss,
    masked_episode_mean,
    one_step_policy_loss,
    oreo_policy_loss,
    oreo_value_loss,
    partial_episode_mean,
    positive_hinge_loss,
)
from oreo_algos.models import KLEstimate, Models, TokenScores
from oreo_algos.segments import Granularity, regroup, reward_to_go, step_values, sum_by_step, unread_states

Consistency = Literal["path", "full_gradient", "one_step"]
"""What must add up: Eq. 8 and 9 to the end of the episode; the same with all gradients; one step, bootstrapped."""

ALPHA: dict[str, float] = {"token": 0.01, "step": 0.1, "response": 0.3}
"""The paper's weight of the KL regulariser by granularity, reward units squared per nat."""


@dataclass(frozen=True, kw_only=True)
class Oreo(EpisodeAlgorithm):
    """OREO with the defaults of the paper.

    Attributes:
        policy_lr: peak learning rate of the policy.
        value_lr: peak learning rate of the value network.
        value_warmup_steps: optimiser steps, before the epochs, that train the value only. While the policy still
            is the reference these are the value loss with every log-ratio 0: regression on the reward-to-go.
        value_updates: optimiser steps of the value for each of the policy; see ``schedule.Schedule``.
        value_only: never train the policy; ``epochs`` then count passes of the value.
        granularity: what a step of the loss is: every token, every step of the environment, or the response.
        consistency: ``path``: Eq. 8 and 9; ``full_gradient``: the policy's residual with a gradient to all later
            log-ratios; ``one_step``: residuals of single steps, ``V(s_k) + beta * l_k - r_k - V(s_{k+1})``.
        beta: KL temperature, reward units per nat.
        alpha: weight of the KL regulariser, reward units squared per nat. None: the paper's for the granularity,
            0.01, 0.1 or 0.3, and then this field holds that number; ``dataclasses.replace`` with another
            granularity must therefore name alpha too.
        value_beta: what V's target charges for a nat of the log-ratios to come, reward units; None: beta, the paper's;
            0: V is the reward that the policy which wrote the episodes may expect. The policy's loss keeps beta.
        kl: how the regulariser is computed.
        kl_target: adapt alpha (its start) so that the KL of the regulariser nears this, nats; None: alpha is fixed.
        kl_target_rate: step of that controller in log alpha, per nat and optimiser step.
        boundary_values: at step and response level, also train V at the states that a search reads and no step
            begins with: where an action begins, and just before the last token of a turn. The policy's loss is not
            touched.
        target_decay: the value learns from the log-ratios of a moving average of the policy with this decay a step;
            None: from those of the policy itself.
        log_ratio_clip: the value loss holds the accumulated log-ratio within plus or minus this, nats; None: no clip.
        importance_cap: weigh the squares of the value loss by ``exp(min(sum_{i >= k} l_i, cap))``, nats (1 in the
            released code); None: weight 1.
        positive_hinge: weight of the hinge that keeps successes as likely as under the reference, reward units
            squared per nat; with response level the trajectory loss of the released code.
        nll_weight: of the negative log-likelihood of a success, mean over its tokens, that is added for each episode:
            imitation of successes beside OREO's credit, reward units squared per nat.
    """

    policy_lr: float = 5e-6
    value_lr: float = 5e-6
    value_warmup_steps: int = 0
    value_updates: int = 1
    value_only: bool = False
    granularity: Granularity = "token"
    consistency: Consistency = "path"
    beta: float = 0.03
    alpha: float | None = None
    value_beta: float | None = None
    kl: KLEstimate = "exact"
    kl_target: float | None = None
    kl_target_rate: float = 0.1
    boundary_values: bool = True
    target_decay: float | None = None
    log_ratio_clip: float | None = None
    importance_cap: float | None = None
    positive_hinge: float = 0.0
    nll_weight: float = 0.0

    needs = frozenset({"reference", "value"})
    bootstraps = True

    def __post_init__(self) -> None:
        """Check the settings, and choose alpha by the granularity where none is given."""
        super().__post_init__()
        require_positive(self, "value_lr", "beta", "value_updates", "kl_target_rate")
        require_whole(self, "value_warmup_steps", "value_updates")
        require_one_of(self, "granularity", get_args(Granularity))
        require_one_of(self, "consistency", get_args(Consistency))
        require_one_of(self, "kl", get_args(KLEstimate))
        if self.alpha is None:
            object.__setattr__(self, "alpha", ALPHA[self.granularity])
        if self.regulariser < 0 or self.value_warmup_steps < 0:
            raise ValueError(
                f"alpha and value_warmup_steps must not be negative, got {self.alpha} and {self.value_warmup_steps}"
            )
        self._check_options()

    def _check_options(self) -> None:
        for name in ("kl_target", "log_ratio_clip"):
            if getattr(self, name) is not None:
                require_positive(self, name)
        if self.kl_target is not None and self.regulariser == 0:
            raise ValueError("kl_target adapts alpha by factors, so alpha must be > 0, got 0")
        if self.target_decay is not None and not 0 <= self.target_decay < 1:
            raise ValueError(f"target_decay must be in [0, 1) or null, got {self.target_decay}")
        for name in ("positive_hinge", "nll_weight", "value_beta"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.consistency == "one_step" and self.log_ratio_clip is not None:
            raise ValueError(
                "log_ratio_clip bounds a sum of log-ratios, and consistency=one_step has none; leave it out"
            )
        if self.value_beta == 0 and self.importance_cap is not None:
            raise ValueError(
                "importance_cap weighs by log-ratios, which value_beta=0 leaves out; leave one of them out"
            )
        if self.value_only and self.value_updates > 1:
            raise ValueError("value_only trains the value at every step already; set epochs, not value_updates")

    @property
    def regulariser(self) -> float:
        """Weight of the KL regulariser at the start: ``alpha``, which is a number once the settings are checked."""
        assert self.alpha is not None
        return self.alpha

    @property
    def reference_use(self) -> ReferenceUse:
        """A sum over the vocabulary needs the whole distribution, and is taken of a policy that is trained."""
        return "logprobs" if self.kl == "k3" or self.value_only else "distribution"

    @property
    def trains_final_value(self) -> bool:
        """Whether V is trained just before the end token, where a search reads it."""
        return self.granularity == "token" or self.boundary_values

    def begin_run(self, models: Models, examples: Sequence[Episode]) -> None:
        """Start the controller at alpha and the moving average at the policy, where they are wanted."""
        models.numbers = {} if self.kl_target is None else {"log_alpha": math.log(self.regulariser)}
        models.target = None if self.target_decay is None else frozen_copy(models.policy)

    def end_step(self, models: Models, metrics: Mapping[str, float]) -> None:
        """Let the moving average and alpha follow a step of the policy."""
        if models.policy_frozen:
            return
        if self.target_decay is not None and models.target is not None:
            move_towards(models.target, models.policy, decay=self.target_decay)
        if self.kl_target is not None:
            models.numbers["log_alpha"] = dual_ascent(
                models.numbers["log_alpha"], metrics["kl"], target=self.kl_target, rate=self.kl_target_rate
            )

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """Value loss and policy loss with its KL regulariser, means over episodes."""
        if models.value is None:
            raise ValueError("OREO needs a value network")
        token_values = models.value.token_values(batch)
        batch = self.with_cut_off_values(batch, token_values)
        steps = regroup(batch, self.granularity)
        values = step_values(token_values, steps)
        returns = reward_to_go(steps.rewards, steps.step_mask)
        scores = self._score(batch, models)
        token_ratio = _token_ratio(scores, batch, token_values)
        target_ratio = self._target_ratio(scores, token_ratio, batch, models)
        if self.value_beta == 0:
            target_ratio = torch.zeros_like(target_ratio)
        log_ratio, fixed = sum_by_step(token_ratio, steps), sum_by_step(target_ratio, steps)
        terms = {"value": self._value_loss(values, fixed, returns, steps)}
        extra = self._boundary_loss(token_values, target_ratio, batch)
        if extra is not None:
            terms["value"] = terms["value"] + extra
        metrics = {
            "losses/value": terms["value"].item(),
            **value_metrics(token_values.detach(), values.detach(), steps),
            **bellman_metrics(values.detach(), fixed, returns, steps, self._value_temperature),
        }
        if extra is not None:
            metrics["losses/value_boundaries"] = extra.item()
        if scores is not None and not models.policy_frozen:
            policy_loss = self._policy_loss(values, log_ratio, returns, steps)
            assert scores.kl is not None
            kl = masked_episode_mean(scores.kl, batch.action_mask)
            alpha = math.exp(models.numbers["log_alpha"]) if "log_alpha" in models.numbers else self.regulariser
            terms["policy"] = policy_loss + alpha * kl
            metrics |= {"losses/policy": policy_loss.item(), "kl": kl.item()}
            if self.kl_target is not None:
                metrics["alpha"] = alpha
            all_gradients = self.consistency == "full_gradient"
            metrics |= temperature_metrics(self.beta, alpha, batch, steps, all_gradients=all_gradients)
            if self.positive_hinge:
                hinge = positive_hinge_loss(log_ratio.sum(dim=1), batch.success)
                terms["policy"] = terms["policy"] + self.positive_hinge * hinge
                metrics["losses/hinge"] = hinge.item()
            if self.nll_weight:
                imitated = batch.loss_mask & batch.success[:, None]
                nll = partial_episode_mean(-scores.logprobs, imitated)
                terms["policy"] = terms["policy"] + self.nll_weight * nll
                if imitated.any():
                    metrics["nll/successes"] = subset_mean(-scores.logprobs, imitated)
            metrics |= ratio_metrics(log_ratio.detach().sum(dim=1), batch)
            metrics |= mean_entropy(scores, batch.action_mask)
        return Losses(terms, metrics)

    @property
    def _value_temperature(self) -> float:
        """Of the value's losses; where its log-ratios are left out any number is."""
        return self.value_beta or self.beta

    def _score(self, batch: Batch, models: Models) -> TokenScores | None:
        """Score the batch, or return None when every log-ratio is 0 and no gradient is wanted."""
        if not models.policy_frozen:
            return score(batch, models, kl=self.kl)
        if models.policy_is_reference:
            return None
        with torch.no_grad():
            return score(batch, models if models.target is None else replace(models, policy=models.target))

    def _target_ratio(self, scores: TokenScores | None, token_ratio: Tensor, batch: Batch, models: Models) -> Tensor:
        """Return the token log-ratios that the value learns from, without gradient, float [B, T]."""
        if scores is None or scores.ref_logprobs is None or models.target is None or models.policy_frozen:
            return token_ratio.detach()
        with torch.no_grad():
            return models.target.score(batch).logprobs - scores.ref_logprobs

    def _value_loss(self, values: Tensor, log_ratio: Tensor, returns: Tensor, steps: Batch) -> Tensor:
        if self.consistency == "one_step":
            return lambda_value_loss(
                values,
                log_ratio,
                steps.rewards,
                steps.step_mask,
                beta=self._value_temperature,
                trace=0.0,
                importance_cap=self.importance_cap,
            )
        return oreo_value_loss(
            values,
            log_ratio,
            returns,
            steps.step_mask,
            beta=self._value_temperature,
            log_ratio_clip=self.log_ratio_clip,
            importance_cap=self.importance_cap,
        )

    def _boundary_loss(self, token_values: Tensor, token_ratio: Tensor, batch: Batch) -> Tensor | None:
        """Eq. 8 at the states that a search reads and no step begins with; None where every one is a step's."""
        if self.granularity == "token" or not self.boundary_values:
            return None
        tokens = regroup(batch, "token")
        return oreo_value_loss(
            step_values(token_values, tokens),
            sum_by_step(token_ratio, tokens),
            reward_to_go(tokens.rewards, tokens.step_mask),
            tokens.step_mask,
            beta=self._value_temperature,
            log_ratio_clip=self.log_ratio_clip,
            importance_cap=self.importance_cap,
            counted=unread_states(batch, self.granularity),
        )

    def _policy_loss(self, values: Tensor, log_ratio: Tensor, returns: Tensor, steps: Batch) -> Tensor:
        fixed = values.detach()
        match self.consistency:
            case "path":
                return oreo_policy_loss(fixed, log_ratio, returns, steps.step_mask, beta=self.beta)
            case "full_gradient":
                return full_gradient_policy_loss(fixed, log_ratio, returns, steps.step_mask, beta=self.beta)
            case "one_step":
                return one_step_policy_loss(fixed, log_ratio, steps.rewards, steps.step_mask, beta=self.beta)


def _token_ratio(scores: TokenScores | None, batch: Batch, like: Tensor) -> Tensor:
    """Return log pi - log ref of each token, 0 where no policy was scored, float [B, T]."""
    return like.new_zeros(batch.tokens.shape) if scores is None else token_log_ratio(scores)
