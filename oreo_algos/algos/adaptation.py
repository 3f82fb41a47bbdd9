"""What moves beside the gradients: a slowly moving copy of the policy, and a weight that steers a divergence.

Knows: parameters and numbers. Does not know: losses, optimisers.
"""

import copy
from typing import Any, TypeVar

import torch

from oreo_algos.models import Network

AnyNetwork = TypeVar("AnyNetwork", bound=Network)


def frozen_copy(network: AnyNetwork) -> AnyNetwork:
    """Return a copy with the same weights that no optimiser trains; those that are not trained anyway are shared."""
    shared: dict[int, torch.Tensor] = {id(each): each for each in network.parameters() if not each.requires_grad}
    whole: Any = network
    for module in whole.modules():  # some keep the state in which their last reading left them, with its graph
        kept = [each for each in vars(module).values() if isinstance(each, torch.Tensor) and not each.is_leaf]
        shared |= {id(each): each.detach().clone() for each in kept}
    twin = copy.deepcopy(network, shared)
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    return twin


@torch.no_grad()
def move_towards(average: Network, network: Network, *, decay: float) -> None:
    """Update an exponential moving average in place: ``average = decay * average + (1 - decay) * network``.

    Parameters that are not trained are the same in both and are left alone.

    Args:
        average: what `frozen_copy` of ``network`` returned.
        network: the one that is trained.
        decay: in [0, 1); 0 copies.
    """
    for mean, parameter in zip(average.parameters(), network.parameters(), strict=True):
        if parameter.requires_grad:
            mean.lerp_(parameter.detach(), 1 - decay)


def dual_ascent(log_alpha: float, divergence: float, *, target: float, rate: float) -> float:
    """Return the log-weight of a divergence after one step towards its target.

    ``log alpha + rate * (divergence - target)``: gradient ascent on the multiplier of the constraint
    ``divergence <= target``, in the logarithm, so that it stays positive.

    Args:
        log_alpha: now.
        divergence: as measured with it, nats.
        target: nats.
        rate: step, per nat, > 0.

    Source: the controller of the released code of Wang et al. 2024 (arXiv:2412.16145); the form is that of the
    temperature of Haarnoja et al. 2018 (arXiv:1812.05905).
    """
    return log_alpha + rate * (divergence - target)
