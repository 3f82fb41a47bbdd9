"""Where a number that is none (NaN, infinite) comes from: found out once a step has made one.

Knows: weights, what a batch brings, what networks say. Does not know: equations, the loop (`trainer`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from oreo_algos.batch import Batch
from oreo_algos.models import Models, Network

_SHOWN = 3


def why_loss(
    name: str,
    terms: Mapping[str, Tensor],
    batch: Batch,
    models: Models,
    networks: Mapping[str, Network],
    *,
    alone: bool,
) -> str:
    """Say where a loss that is not finite comes from, and what to do.

    Args:
        name: of the algorithm.
        terms: its loss by network.
        batch: that gave it.
        models: that it was computed with.
        networks: those that are trained, by name.
        alone: a network may be asked once more, for no other process waits.
    """
    for found in _causes(batch, models, networks, alone=alone):
        return found
    broken = ", ".join(key for key, term in terms.items() if not torch.isfinite(term))
    return (
        f"weights, episodes and what the networks say of them are finite, and the term {broken or 'sum'!r} of {name} "
        "is not: its equation divides by 0, takes a logarithm of 0 or overflows"
    )


def why_gradient(name: str, network: Network) -> str:
    """Say where a gradient that is not finite comes from, after losses that were.

    Args:
        name: of the network.
        network: that it is of.
    """
    if found := _weights(name, network):
        return found
    broken = [key for key, p in network.named_parameters() if p.grad is not None and not _is_finite(p.grad)]
    return (
        f"the loss is finite, and its gradient in {_several(broken) or name} is not: lower the learning rates, or look "
        "for a root or a logarithm near 0 in the loss"
    )


def _causes(batch: Batch, models: Models, networks: Mapping[str, Network], *, alone: bool) -> Iterator[str]:
    for name, network in networks.items():
        if found := _weights(name, network):
            yield found
    if models.reference is not None and (found := _weights("reference", models.reference)):
        yield found
    brought = {"rewards": batch.rewards, "ref_logprobs": batch.ref_logprobs}
    brought |= {f"extra[{key!r}]": each for key, each in batch.extra.items()}
    for name, each in brought.items():
        if each is not None and not _is_finite(each):
            whence = "the reference" if name == "ref_logprobs" else "the data, or `select`"
            yield f"batch.{name}, from {whence}, is not finite"
    if alone:
        yield from _said(batch, models)


@torch.no_grad()
def _said(batch: Batch, models: Models) -> Iterator[str]:
    said: dict[str, Any] = {}
    if not models.policy_frozen:
        said["policy says log-probabilities"] = models.policy.score(batch).logprobs
    if models.reference is not None:
        said["reference says log-probabilities"] = models.reference.score(batch).logprobs
    if models.value is not None:
        said["value network says values"] = models.value.token_values(batch)
    for what, numbers in said.items():
        if not _is_finite(numbers):
            yield (
                f"the {what} that are not finite, and its weights are: they have grown too large for the precision of "
                "its forward; lower the learning rates, or give trainer.bf16=false"
            )


def _weights(name: str, network: Network) -> str | None:
    broken = [key for key, parameter in network.named_parameters() if not _is_finite(parameter)]
    if not broken:
        return None
    return (
        f"weights of the {name} are not finite ({_several(broken)}): lower the learning rates, or start from another "
        "checkpoint"
    )


def _several(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


@torch.no_grad()
def _is_finite(tensor: Tensor) -> bool:
    local: Any = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return bool(torch.isfinite(local).all())
