"""Weights of linear layers as a CPU multiplies few rows by them fastest: laid out once, and not at every product.

Knows: oneDNN's layout, which torch's compiler uses too. Does not know: models, tokens.

A product of some tens of rows takes 1.2 to 3 times as long with the weights as they stand; one of a single row, or with
a small matrix, gains nothing. Products are added up in another order, so that outputs are others by rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SMALL = 1 << 16
"""Numbers of a matrix below which the call costs more than the layout gains."""
_MOST_BYTES = 2 << 30
"""Weights of more than this are left as they are: they would lie in memory twice."""
_ROWS = 16
"""Rows that the layout is chosen for."""


class _Layouts:
    """What is laid out of a network, for as long as somebody holds it."""

    def __init__(self) -> None:
        self.holders = 0
        self.found: dict[nn.Linear, tuple[int, int, Tensor]] = {}

    def of(self, layer: nn.Linear) -> Tensor:
        """Return the weights of a layer, laid out again where they have changed."""
        weight = layer.weight
        state = (weight.data_ptr(), weight._version)
        kept = self.found.get(layer)
        if kept is None or kept[:2] != state:
            kept = (*state, _laid_out(weight.detach()))
            self.found[layer] = kept
        return kept[2]


_layouts: WeakKeyDictionary[nn.Module, _Layouts] = WeakKeyDictionary()


@contextmanager
def hold_packed(network: nn.Module) -> Iterator[None]:
    """Keep what ``packed`` lays out within, from one use to the next; it is let go of at the end of the outermost."""
    layouts = _layouts.setdefault(network, _Layouts())
    layouts.holders += 1
    try:
        yield
    finally:
        layouts.holders -= 1
        if not layouts.holders:
            layouts.found.clear()


@contextmanager
def packed(network: nn.Module) -> Iterator[None]:
    """Multiply by weights that are laid out for it, without gradients, where that is faster; none may change within."""
    layers = _layers(network)
    with hold_packed(network):
        layouts = _layouts[network]
        try:
            for layer in layers:
                layer.forward = partial(_product, layer, layouts.of(layer))  # type: ignore[method-assign]
            yield
        finally:
            for layer in layers:
                vars(layer).pop("forward", None)


def _layers(network: nn.Module) -> list[nn.Linear]:
    """Return the layers that gain; none where they are too large together, or nobody can lay them out."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return []
    found = [
        module
        for module in network.modules()
        if type(module) is nn.Linear
        and type(module.weight) is nn.Parameter
        and (module.weight.device.type, module.weight.dtype) == ("cpu", torch.float32)
        and module.weight.numel() >= _SMALL
        and "forward" not in vars(module)
    ]
    return found if sum(layer.weight.nbytes for layer in found) <= _MOST_BYTES else []


def _laid_out(weight: Tensor) -> Tensor:
    found: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
    return found


def _product(layer: nn.Linear, weights: Tensor, rows: Tensor) -> Tensor:
    if rows.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return F.linear(rows, layer.weight, layer.bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weights, layer.bias, "none", [], "")
    return product
