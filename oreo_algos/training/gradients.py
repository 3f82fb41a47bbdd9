"""Gradients of several processes that hold the same network, added up.

Knows: parameters, torch.distributed. Does not know: losses, optimisers, sharded networks, which add up by themselves.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch import distributed as dist

_PIECE = 2**22
"""Numbers that are sent at once; what is larger goes by itself, without a copy."""


@torch.no_grad()
def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up in place the gradients that the processes of the default group have.

    A parameter that nobody has a gradient of keeps none, so that optimisers pass it by as they do in one process.

    Args:
        parameters: the same on all, those that are trained; others are left out.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return
    present = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.uint8)
    present = present.to(trained[0].device)
    dist.all_reduce(present, dist.ReduceOp.MAX)
    gradients = []
    for parameter, there in zip(trained, present.tolist(), strict=True):
        if there:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    for piece in _pieces(gradients):
        if len(piece) == 1 and piece[0].is_contiguous():
            dist.all_reduce(piece[0])
            continue
        flat = torch.cat([gradient.flatten() for gradient in piece])
        dist.all_reduce(flat)
        for gradient, summed in zip(piece, flat.split([gradient.numel() for gradient in piece]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def _pieces(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield neighbours of one type that are sent at once."""
    piece: list[Tensor] = []
    for gradient in gradients:
        room = _PIECE - sum(each.numel() for each in piece)
        if piece and (gradient.dtype != piece[0].dtype or gradient.numel() > room):
            yield piece
            piece = []
        piece.append(gradient)
    if piece:
        yield piece
