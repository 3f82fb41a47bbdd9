"""Tensors of a checkpoint that several processes write and read together (``torch.distributed.checkpoint``).

Knows: where tensors stand in a nested state, and what they are called there. Does not know: what they mean.

Which process held which part does not matter to who reads: the same processes, more, fewer, or one.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

Place = tuple[str, ...]
"""Keys that lead to a tensor: of a list its numbers."""

_TENSOR = "tensor:"
"""What stands in a state in place of a tensor begins so."""


def have_tensors(folder: Path) -> bool:
    """Say whether there are tensors in a folder that ``write_tensors`` wrote."""
    return (folder / ".metadata").exists()


def without_tensors(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """Take the tensors out of nested dictionaries and lists; names stand in their place, under which they come too."""
    found: dict[str, Tensor] = {}

    def name(tensor: Tensor, place: Place) -> str:
        found["/".join(place)] = tensor
        return _TENSOR + "/".join(place)

    return each_tensor(state, name), found


def each_tensor(state: Any, change: Callable[[Tensor, Place], Any], place: Place = ()) -> Any:
    """Return a nested state with something else in place of every tensor."""
    if isinstance(state, Tensor):
        return change(state, place)
    if isinstance(state, Mapping):
        return {key: each_tensor(child, change, (*place, str(key))) for key, child in state.items()}
    if isinstance(state, list):
        return [each_tensor(child, change, (*place, str(number))) for number, child in enumerate(state)]
    return state


def with_tensors(state: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo ``without_tensors``."""
    if isinstance(state, str) and state.startswith(_TENSOR):
        return tensors[state.removeprefix(_TENSOR)]
    if isinstance(state, dict):
        return {key: with_tensors(child, tensors) for key, child in state.items()}
    return [with_tensors(child, tensors) for child in state] if isinstance(state, list) else state


def write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, all processes of the default group together; of what all have whole, one writes it."""
    from torch.distributed import checkpoint as dcp  # takes as long as torch itself, and one process does without

    dcp.save(dict(tensors), checkpoint_id=folder)


def read_tensors(folder: Path, like: Callable[[Place], Tensor | None]) -> dict[str, Tensor]:
    """Read what ``write_tensors`` wrote, all processes together, each the parts that it is to have.

    Args:
        folder: where they lie.
        like: returns what a tensor of that shape is to be like, in shards or whole; None: whole, on the CPU.
    """
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    reader = dcp.FileSystemReader(folder)
    tensors: dict[str, Tensor] = {}
    for name, known in reader.read_metadata().state_dict_metadata.items():
        assert isinstance(known, TensorStorageMetadata)
        model = like(tuple(name.split("/")))
        if model is not None and model.shape == known.size:
            tensors[name] = torch.zeros_like(model, dtype=known.properties.dtype, requires_grad=False)
        else:
            tensors[name] = torch.zeros(known.size, dtype=known.properties.dtype)
    dcp.load(tensors, storage_reader=reader, no_dist=not dist.is_initialized())
    return tensors
