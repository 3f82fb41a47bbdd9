"""What tells networks apart.

Knows: names, shapes and bits of parameters, and what a network says of one episode. Does not know: files, model
families.

Weights are not all that a network computes with: the base of its rotary positions, the cap on its logits and much else
stand in a configuration that only its own code can read. What it says of an episode depends on all of it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from oreo_algos.batch import Batch, collate
from oreo_algos.episode import Episode
from oreo_algos.models import Network, Policy, Value

_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def policy_summary(policy: Policy, example: Episode) -> list[Any]:
    """Summarise a policy as JSON: its parameters, and what it says of an example that fits its context."""
    return [*_parameters(policy), _said(policy, lambda batch: policy.score(batch).logprobs, example)]


def value_summary(value: Value, example: Episode) -> list[Any]:
    """Summarise a value network as JSON: its parameters, and what it says of an example that fits its context."""
    return [*_parameters(value), _said(value, value.token_values, example)]


def _parameters(network: Network) -> list[Any]:
    """Return the names, and of each parameter the shape, a checksum and the first numbers.

    Bits are added as integers, so that neither device nor number of threads changes the sum.
    """
    parts: list[Any] = [list(network.state_dict())]
    for parameter in network.parameters():
        bits = parameter.detach().view(_INTEGER[parameter.element_size()])
        parts.append([list(bits.shape), bits.sum(dtype=torch.int64).item(), bits.flatten()[:4].tolist()])
    return parts


def _said(network: Network, numbers: Callable[[Batch], Tensor], example: Episode) -> str:
    """Add up what a network says, to four digits: later ones hang on the device."""
    device = next(network.parameters()).device
    # Dropout, where there is any, is drawn alike each time, and nobody's randomness is used up.
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        said = numbers(collate([example]).to(device))
    return f"{said.double().sum().item() + 0.0:.4g}"  # + 0.0: there is a minus 0
