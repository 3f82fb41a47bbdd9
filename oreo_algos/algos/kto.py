"""Kahneman-Tversky optimisation: unpaired episodes, desirable when they succeeded.

Source: Ethayarajh et al. 2024 (arXiv:2402.01306); baseline of Wang et al. 2024 (arXiv:2412.16145).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oreo_algos import ranks
from oreo_algos.algos.base import (
    EpisodeAlgorithm,
    Losses,
    MicroBatches,
    mean_entropy,
    require_positive,
    score,
    subset_mean,
    transcript_log_ratio,
)
from oreo_algos.algos.saying import warn_once
from oreo_algos.batch import Batch
from oreo_algos.episode import Episode
from oreo_algos.losses import kto_loss
from oreo_algos.models import Models

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferencePoint:
    """KTO's estimate of KL(pi || ref) in a step.

    Attributes:
        nats: of a response, at least 0, scalar without gradient.
        tokens: action tokens of those that it was estimated on, mean.
    """

    nats: Tensor
    tokens: float

    @property
    def per_token(self) -> float:
        """Nats a token."""
        return self.nats.item() / self.tokens


@dataclass(frozen=True, kw_only=True)
class Kto(EpisodeAlgorithm):
    """KTO with the KL reference point of its paper, estimated over the whole batch of a step.

    Attributes:
        beta: KL temperature of the implicit reward, reward units per nat.
        desirable_weight: weight of successful episodes.
        undesirable_weight: weight of failed episodes.
    """

    policy_lr: float = 5e-8
    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    needs = frozenset({"reference"})
    reads_success_only = True

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_positive(self, "beta", "desirable_weight", "undesirable_weight")

    def scored_beside(self, examples: Sequence[Episode], models: Models) -> list[Episode]:
        """Return the mismatched pairs of a step."""
        return mismatched_pairs(examples, models.policy.max_length) or []

    def begin_step(self, examples: Sequence[Episode], models: Models, micro_batches: MicroBatches) -> ReferencePoint:
        """Estimate KL(pi || ref), nats, at least 0, without gradient.

        Single-turn episodes: the mean log-ratio of mismatched pairs, the prompt of one episode with the completion
        of the next. A mismatched transcript of several turns is no state that its environment could reach, so
        there the matched log-ratios are averaged instead. Without a mismatched pair that fits the estimate is 0.
        Either takes a policy forward of its own.
        """
        pairs = mismatched_pairs(examples, models.policy.max_length)
        if pairs is None:
            warn_once(
                _log,
                "kto: episodes of several turns, so the KL reference point is the mean of the matched log-ratios "
                "of a step's batch, clamped at 0",
            )
        elif not pairs:
            warn_once(
                _log,
                "kto: a step whose batch has no mismatched pair (its prompts are all equal, or every pair is longer "
                "than the policy's context), so its KL reference point is 0",
            )
        scored = micro_batches(examples if pairs is None else pairs)
        with torch.no_grad():
            log_ratio = ranks.current().map(
                lambda batch: transcript_log_ratio(score(batch, models)).cpu(), scored, together=True
            )
        if not log_ratio:
            return ReferencePoint(torch.tensor(0.0), 1.0)
        tokens = sum(batch.num_action_tokens for batch in scored) / sum(map(len, scored))
        return ReferencePoint(torch.cat(log_ratio).mean().clamp(min=0), tokens)

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """KTO loss, mean over episodes; ``context`` is the reference point of the step."""
        scores = score(batch, models)
        log_ratio = transcript_log_ratio(scores)
        desirable = batch.success
        loss = kto_loss(
            log_ratio,
            desirable,
            context.nats.to(log_ratio.device),
            beta=self.beta,
            desirable_weight=self.desirable_weight,
            undesirable_weight=self.undesirable_weight,
        )
        rewards = self.beta * log_ratio.detach()
        metrics = {
            "kl": context.per_token,
            "rewards/reference_point": self.beta * context.nats.item(),
            **mean_entropy(scores, batch.action_mask),
        }
        for name, rows in (("chosen", desirable), ("rejected", ~desirable)):
            if rows.any():
                metrics[f"rewards/{name}"] = subset_mean(rewards, rows)
                metrics[f"logps/{name}"] = subset_mean(scores.logprobs.sum(dim=1), rows)
        return Losses({"policy": loss}, metrics)


def mismatched_pairs(episodes: Sequence[Episode], max_length: int) -> list[Episode] | None:
    """Pair the prompt of each episode with the completion of the next, that of the last with the first's.

    The prompt is everything before the first action token. Pairs of equal prompts (two samples of one question)
    and pairs longer than ``max_length`` tokens are left out, so there may be none.

    Returns:
        Episodes of one action without a reward, or None when one has observations after its first action (several
        turns).
    """
    starts = [int(np.argmax(episode.step_id >= 0)) for episode in episodes]
    if any((episode.step_id[start:] < 0).any() for episode, start in zip(episodes, starts, strict=True)):
        return None
    prompts = [episode.tokens[:start] for episode, start in zip(episodes, starts, strict=True)]
    completions = [episode.tokens[start:] for episode, start in zip(episodes, starts, strict=True)]
    return [
        _one_action(episode, prompt, completion)
        for episode, prompt, other, completion in zip(
            episodes, prompts, _rotated(prompts), _rotated(completions), strict=True
        )
        if not np.array_equal(prompt, other) and len(prompt) + len(completion) <= max_length
    ]


def _rotated(rows: list[NDArray[np.int32]]) -> list[NDArray[np.int32]]:
    """Put the first row last."""
    return rows[1:] + rows[:1]


def _one_action(episode: Episode, prompt: NDArray[np.int32], completion: NDArray[np.int32]) -> Episode:
    """Return an episode of the same task whose action is ``completion`` after ``prompt``."""
    return Episode(
        tokens=np.concatenate([prompt, completion]),
        step_id=np.repeat([-1, 0], [len(prompt), len(completion)]),
        rewards=np.zeros(1, np.float32),
        terminated=True,
        truncated=False,
        task_id=episode.task_id,
        env_id=episode.env_id,
    )
