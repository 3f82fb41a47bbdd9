"""Whether networks can learn from episodes: what is found out before the first step.

Knows: types of weights, token ids. Does not know: model families, losses.
"""

import logging
from collections.abc import Collection, Sequence
from typing import Any

import torch

from oreo_algos.algos.selection import NothingToLearnError
from oreo_algos.models import Models

_log = logging.getLogger(__name__)


def require_examples(examples: Sequence[Any], selected: int, limit: int, algorithm: object) -> None:
    """Refuse to learn from nothing, and say how many examples are left out.

    Args:
        examples: those that fit into the policy's context.
        selected: how many the algorithm chose.
        limit: that context, tokens.
        algorithm: that chose them.

    Raises:
        ValueError: there is none.
    """
    if not selected:
        raise NothingToLearnError(
            f"{type(algorithm).__name__}.select chose no example of this buffer, so there is nothing to learn from"
        )
    if not examples:
        raise ValueError(f"all {selected} examples are longer than the policy's context of {limit} tokens")
    if len(examples) < selected:
        _log.warning(
            "%d of %d examples are longer than the policy's context of %d tokens and are skipped",
            selected - len(examples),
            selected,
            limit,
        )


def tell_dropped(episodes: int, left: int) -> int:
    """Say how many of a buffer's episodes are left out because a limit cut them off; return how many."""
    if left < episodes:
        _log.warning(
            "%d of %d episodes were cut off by a limit and are left out (on_truncation=drop)", episodes - left, episodes
        )
    return episodes - left


def require_fit(models: Models, needs: Collection[str], highest_token: int, tokenizer_fingerprint: str) -> None:
    """Refuse networks that cannot learn from these episodes, or would lose what they learn.

    A network may say how many token ids it reads (``vocabulary``) and its tokenizer (``tokenizer_fingerprint``).

    Args:
        models: the networks.
        needs: those of them that an algorithm has beside the policy.
        highest_token: that the episodes hold.
        tokenizer_fingerprint: of the tokenizer that encoded them; "": nobody knows.

    Raises:
        ValueError: trained weights that are coarser than float32, ids beyond a vocabulary, or another tokenizer.
    """
    for name in ("policy", "value"):
        network = getattr(models, name)
        if network is None or (name == "value" and "value" not in needs):
            continue
        coarse = {p.dtype for p in network.parameters() if p.requires_grad and p.is_floating_point()}
        if coarse - {torch.float32, torch.float64}:
            raise ValueError(
                f"the {name} has trained weights of {', '.join(map(str, coarse))}: most steps at usual learning "
                "rates are smaller than their precision and would be lost; train float32 weights (a GPU still "
                "computes in bfloat16), or adapters"
            )
        known = getattr(network, "vocabulary", None)
        if known is not None and highest_token >= known:
            raise ValueError(
                f"the episodes hold token {highest_token}, and the {name} knows {known} tokens: they were encoded for "
                "another model; encode them with its tokenizer (`oreo data encode`)"
            )
        reads, wrote = getattr(network, "tokenizer_fingerprint", None), tokenizer_fingerprint
        if reads and wrote and reads != wrote:
            raise ValueError(
                f"the episodes were encoded with tokenizer {wrote!r}, and the {name} reads {reads!r}: encode them "
                "again (`oreo data encode`)"
            )
