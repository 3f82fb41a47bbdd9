"""What tells networks apart.

Knows: names, shapes and bits of parameters. Does not know: files, model families.
"""

from typing import Any

import torch

from oreo_algos.models import Network

_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def summary(network: Network) -> list[Any]:
    """Summarise a network as JSON: names, and of each parameter the shape, a checksum and the first numbers.

    Bits are added as integers, so that neither device nor number of threads changes the sum.
    """
    parts: list[Any] = [list(network.state_dict())]
    for parameter in network.parameters():
        bits = parameter.detach().view(_INTEGER[parameter.element_size()])
        parts.append([list(bits.shape), bits.sum(dtype=torch.int64).item(), bits.flatten()[:4].tolist()])
    return parts
