"""What who made the episodes said of them: written down at sampling, or else what the reference says.

Knows: where either is found. Does not know: losses.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from oreo_algos.algos.saying import warn_once
from oreo_algos.batch import BEHAVIOR_LOGPROBS, Batch
from oreo_algos.episode import Episode
from oreo_algos.models import TokenScores

_log = logging.getLogger(__name__)

_KNOWN = "behavior_known"

BEHAVIOR_EXTRA = (BEHAVIOR_LOGPROBS, _KNOWN)
"""What ``behavior_scores`` reads of ``Batch.extra``, of episodes that ``with_behavior`` returned."""


def with_behavior(episodes: Sequence[Episode], *, silent: bool = False) -> list[Episode]:
    """Return the episodes, each saying whether its log-probabilities at sampling are known; warn of those without."""
    unknown = sum(episode.behavior_logprobs is None for episode in episodes)
    if unknown and not silent:
        warn_once(
            _log,
            f"{unknown} of {len(episodes)} episodes have no log-probabilities at sampling (`oreo collect` writes them "
            "down), so those of the reference stand in",
        )
    return [
        replace(e, info=e.info | {_KNOWN: 1.0})
        if e.behavior_logprobs is not None
        else replace(e, behavior_logprobs=np.zeros(e.num_tokens, np.float32), info=e.info | {_KNOWN: 0.0})
        for e in episodes
    ]


def behavior_scores(batch: Batch, scores: TokenScores) -> Tensor:
    """Return log mu of each token, nats, float [B, T], 0 outside actions, without gradient.

    Args:
        batch: with ``BEHAVIOR_EXTRA``.
        scores: taken with a reference.
    """
    if scores.ref_logprobs is None:
        raise ValueError("these scores were taken without a reference, which stands in where nothing was written down")
    known = batch.extra[_KNOWN][:, None] > 0
    own = batch.extra[BEHAVIOR_LOGPROBS].to(scores.ref_logprobs.dtype)
    return torch.where(known, own, scores.ref_logprobs).detach()
