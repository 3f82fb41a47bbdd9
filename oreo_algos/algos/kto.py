"""Kahneman-Tversky optimisation: unpaired episodes, desirable when they succeeded.

Source: Ethayarajh et al. 2024 (arXiv:2402.01306); baseline of Wang et al. 2024 (arXiv:2412.16145).
"""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from oreo_algos.algos.base import (
    EpisodeAlgorithm,
    Losses,
    mean_entropy,
    require_positive,
    subset_mean,
    transcript_log_ratio,
)
from oreo_algos.batch import Batch
from oreo_algos.losses import kto_loss
from oreo_algos.models import Models
from oreo_algos.segments import prompt_lengths

_log = logging.getLogger(__name__)


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

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_positive(self, "beta", "desirable_weight", "undesirable_weight")

    def begin_step(self, batches: Sequence[Batch], models: Models) -> Tensor:
        """Estimate KL(pi || ref), nats, at least 0, without gradient.

        Single-turn episodes: the mean log-ratio of mismatched pairs, the prompt of one episode with the completion
        of the next. A mismatched transcript of several turns is no state that its environment could reach, so
        there the matched log-ratios are averaged instead. Without a mismatched pair that fits the estimate is 0.
        """
        pairs = mismatched_pairs(batches, models.policy.max_length)
        if pairs is None:
            _warn_once(
                "kto: episodes of several turns, so the KL reference point is the mean of the matched log-ratios "
                "of a step's batch, clamped at 0"
            )
        elif not len(pairs):
            _warn_once(
                "kto: a step whose batch has no mismatched pair (its prompts are all equal, or every pair is longer "
                "than the policy's context), so its KL reference point is 0"
            )
        # Scored in pieces no larger than the micro-batches, which are known to fit in memory.
        size = max(len(batch) for batch in batches)
        scored = (
            list(batches) if pairs is None else [pairs.rows(slice(i, i + size)) for i in range(0, len(pairs), size)]
        )
        with torch.no_grad():
            log_ratio = [transcript_log_ratio(models.policy.score(batch, models.reference)) for batch in scored]
        return torch.cat(log_ratio).mean().clamp(min=0) if log_ratio else torch.tensor(0.0)

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """KTO loss, mean over episodes; ``context`` is the KL estimate of the step."""
        scores = models.policy.score(batch, models.reference)
        log_ratio = transcript_log_ratio(scores)
        desirable = batch.rewards.sum(dim=1) > 0
        loss = kto_loss(
            log_ratio,
            desirable,
            context.to(log_ratio.device),
            beta=self.beta,
            desirable_weight=self.desirable_weight,
            undesirable_weight=self.undesirable_weight,
        )
        rewards = self.beta * log_ratio.detach()
        metrics = {"kl": context.item(), **mean_entropy(scores, batch.action_mask)}
        for name, rows in (("chosen", desirable), ("rejected", ~desirable)):
            if rows.any():
                metrics[f"rewards/{name}"] = subset_mean(rewards, rows)
                metrics[f"logps/{name}"] = subset_mean(scores.logprobs.sum(dim=1), rows)
        return Losses({"policy": loss}, metrics)


def mismatched_pairs(batches: Sequence[Batch], max_length: int) -> Batch | None:
    """Pair the prompt of each row with the completion of the next row, over all batches together.

    The prompt is everything before the first action token. Pairs of equal prompts (two samples of one question)
    and pairs longer than ``max_length`` tokens are left out, so the result may have no row.

    Returns:
        One batch, or None when a row has observations after its first action (several turns).
    """
    rows: list[tuple[Tensor, Tensor]] = []
    for batch in batches:
        for row, start in enumerate(prompt_lengths(batch).tolist()):
            length = int(batch.attention[row].sum())
            if (batch.step_id[row, start:length] < 0).any():
                return None
            transcript = batch.tokens[row, :length]
            rows.append((transcript[:start], transcript[start:]))
    pairs = [
        (prompt, completion)
        for (prompt, _), (other, completion) in zip(rows, rows[1:] + rows[:1], strict=True)
        if not torch.equal(prompt, other) and len(prompt) + len(completion) <= max_length
    ]
    if not pairs:
        return batches[0].rows(slice(0, 0))
    tokens = [torch.cat(pair) for pair in pairs]
    step_id = [torch.cat([torch.full_like(prompt, -1), torch.zeros_like(completion)]) for prompt, completion in pairs]
    device = batches[0].tokens.device
    padded_steps = pad_sequence(step_id, batch_first=True, padding_value=-1)
    attention = pad_sequence([torch.ones_like(t, dtype=torch.bool) for t in tokens], batch_first=True)
    return Batch(
        tokens=pad_sequence(tokens, batch_first=True),
        step_id=padded_steps,
        loss_mask=padded_steps >= 0,
        attention=attention,
        rewards=torch.zeros(len(tokens), 1, device=device),
        step_mask=torch.ones(len(tokens), 1, dtype=torch.bool, device=device),
    )


@functools.cache
def _warn_once(message: str) -> None:
    """Say something once a process."""
    _log.warning(message)
