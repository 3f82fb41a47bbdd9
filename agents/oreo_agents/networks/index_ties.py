"""Attention that reads the keys of the best scores only: which of them where scores are equal.

Knows: ``topk`` of torch, and that transformers calls such modules indexers. Does not know: attention, caches.

``topk`` says nothing about equal values, and picks others of them when a row is longer by a token. A token whose
embedding is 0, as that of a padding token is before training, has equal scores everywhere: what is said there would
depend on how many tokens follow. Here the first of equal ones are taken, however long the row is.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def settle(model: nn.Module) -> None:
    """Have the indexers of a model take the first of equal scores; models without are as they were."""
    for module in indexers(model):
        module.register_forward_pre_hook(_begin)
        module.register_forward_hook(_end, always_call=True)


def indexers(model: nn.Module) -> list[nn.Module]:
    """Return the modules that choose which keys are read."""
    return [module for module in model.modules() if type(module).__name__.endswith("Indexer")]


class _FirstOfEqual(TorchFunctionMode):
    """Meanwhile ``topk`` takes the first of equal values."""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        return _settled(found, *args, **(kwargs or {})) if function in (torch.topk, Tensor.topk) else found


_mode = _FirstOfEqual()


def _begin(module: nn.Module, inputs: Any) -> None:
    _mode.__enter__()


def _end(module: nn.Module, inputs: Any, output: Any) -> None:
    _mode.__exit__(None, None, None)


def _settled(found: Any, scores: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """Return what ``topk`` found, with the first of the values that equal the last one taken."""
    if k == 0 or not largest:
        return found
    last = found.values.amin(dim=dim, keepdim=True)
    equal = scores == last
    taken = (found.values == last).sum(dim=dim, keepdim=True)
    # Masked scores are equal too, and nobody reads them.
    undecided = (equal.sum(dim=dim, keepdim=True) > taken) & (last > torch.finfo(scores.dtype).min)
    if not undecided.any():
        return found
    ranking = scores.argsort(dim=dim, descending=True, stable=True)
    first = torch.where(undecided, ranking.narrow(dim, 0, k), found.indices)
    return torch.return_types.topk((scores.gather(dim, first), first))
