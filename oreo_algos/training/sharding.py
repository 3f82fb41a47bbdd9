"""Networks of which every process holds a part: weights, gradients and what optimisers keep (FSDP2).

Knows: ``fully_shard``, and which modules it gathers at once. Does not know: losses, optimisers, files.

The network that was given stays as it is but for its weights, which leave it; a twin of it holds the shards and
is trained. ``Sharded.restore`` puts whole weights back.

What is imported within functions takes as long as torch itself, and one process does without.
"""

import copy
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from oreo_algos.models import Network
from oreo_algos.ranks import Ranks


class Sharded:
    """One network over all processes.

    Attributes:
        given: the network, without weights until they are put back.
        twin: the same one with shards, for all that reads or trains it.
    """

    def __init__(self, given: Network, twin: nn.Module, device: torch.device) -> None:
        """Remember where its weights lay."""
        self.given, self.twin, self._device = given, twin, device

    def rest(self) -> None:
        """Let go of what a forward gathered; parameters are shards afterwards."""
        for module in _groups(self.twin):
            module.reshard()

    @torch.no_grad()
    def restore(self, ranks: Ranks, device: torch.device | None = None) -> None:
        """Put the weights back into the network that was given, on rank 0; all ranks call it.

        Args:
            ranks: these processes.
            device: where to; None: where they were before.
        """
        self.rest()
        for parameter, shard in zip(self.given.parameters(), self.twin.parameters(), strict=True):
            whole = whole_tensor(shard)
            if ranks.leads:
                parameter.data = whole.to(device or self._device)

    def empty(self) -> None:
        """Take the weights out of the network that was given."""
        for parameter in self.given.parameters():
            _empty(parameter)


def shard(
    networks: Sequence[Network], device: torch.device, *, bf16: bool = False, cpu_offload: bool = False
) -> list[Sharded]:
    """Spread networks over the processes of the default group; their weights leave them.

    Each entry of a ``ModuleList`` is gathered by itself when it is read, and all that is in none of them (embeddings,
    heads) for as long as the network is. Gradients are sums over the processes.

    Args:
        networks: modules whose scores go through a call of the module itself; some may share parameters.
        device: that computes.
        bf16: gather layers in bfloat16; what is outside of them stays exact, and gradients are summed in float32.
        cpu_offload: keep shards, and what optimisers hold, in the memory of the host.

    Raises:
        ValueError: a network is no module.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    layers = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None,
        reduce_dtype=torch.float32 if bf16 else None,
        cast_forward_inputs=False,  # between layers numbers stay as exact as autocast leaves them
    )
    how: dict[str, Any] = {"mesh": mesh, "offload_policy": CPUOffloadPolicy() if cpu_offload else OffloadPolicy()}
    found: list[Sharded] = []
    for place, network in enumerate(networks):
        if not isinstance(network, nn.Module):
            raise ValueError(f"sharding=full is for modules of torch, and {type(network).__name__} is none")
        needed = {id(parameter) for later in networks[place + 1 :] for parameter in later.parameters()}
        was = next(network.parameters()).device
        twin = copy.deepcopy(network, {id(parameter): parameter for parameter in network.parameters()})
        for layer in gathered_layers(twin):
            whole = list(layer.parameters())
            fully_shard(layer, mp_policy=layers, **how)
            _let_go(whole, needed)
        whole = list(twin.parameters())
        fully_shard(twin, **how)
        _let_go([parameter for parameter in whole if not is_part(parameter)], needed)
        for module in _groups(twin):  # neither reaches the modules below
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
        found.append(Sharded(network, twin, was))
    return found


def _groups(network: nn.Module) -> list[Any]:
    """Return the modules whose parameters are gathered together."""
    from torch.distributed.fsdp import FSDPModule

    return [module for module in network.modules() if isinstance(module, FSDPModule)]


def gathered_layers(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the entries of the outermost lists of modules that hold parameters."""
    for child in network.children():
        if isinstance(child, nn.ModuleList):
            yield from (entry for entry in child if next(entry.parameters(), None) is not None)
        else:
            yield from gathered_layers(child)


def _let_go(parameters: Iterable[nn.Parameter], needed: Collection[int]) -> None:
    for parameter in parameters:
        if id(parameter) not in needed:
            _empty(parameter)


def _empty(parameter: nn.Parameter) -> None:
    parameter.data = parameter.data.new_empty(0)


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor of which each process has a part, whole, on all of them; any other as it is."""
    return cast(Any, tensor).full_tensor() if is_part(tensor) else tensor


def is_part(tensor: Tensor) -> bool:
    """Say whether other processes have other parts of a tensor."""
    return hasattr(tensor, "full_tensor")


def spread_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return the part of a whole tensor, the same on all processes, that ``like`` has of its own."""
    if not is_part(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    parts: Any = like
    return distribute_tensor(tensor.to(like.device), parts.device_mesh, parts.placements, src_data_rank=None)
