"""AdamW, and Muon for the matrices inside a network.

Knows: which parameters of a network are its hidden matrices. Does not know: what is learned, schedules.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from oreo_algos.algos.base import OptimizerName
from oreo_algos.models import Network
from oreo_algos.training.sharding import spread_like, whole_tensor

_BETAS = (0.9, 0.95)


def make_optimizers(network: Network, name: OptimizerName, *, lr: float, weight_decay: float) -> list[Optimizer]:
    """Return what trains the parameters of a network that require a gradient, each in one of the optimisers.

    Args:
        network: where the name is ``muon``, a module; its layers are those in a ``ModuleList``.
        name: of the optimiser.
        lr: learning rate of all of them.
        weight_decay: decoupled, for all parameters.

    Raises:
        ValueError: Muon, and no matrix of a layer is trained.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    matrices = {id(parameter) for parameter in _hidden_matrices(network)} if name == "muon" else set()
    hidden = [parameter for parameter in trained if id(parameter) in matrices]
    others = [parameter for parameter in trained if id(parameter) not in matrices]
    if name == "muon" and not hidden:
        raise ValueError(
            f"optimizer=muon is for the matrices of layers, and {type(network).__name__} trains none; use adamw"
        )
    made: list[Optimizer] = []
    if others:
        made.append(AdamW(others, lr=lr, betas=_BETAS, weight_decay=weight_decay, fused=True))
    if hidden:
        made.append(Muon(hidden, lr=lr, weight_decay=weight_decay))
    return made


def _hidden_matrices(network: Any) -> Iterable[nn.Parameter]:
    """Yield the matrices of the layers of a network."""
    for module in network.modules():
        if isinstance(module, nn.ModuleList):
            yield from (parameter for parameter in module.parameters() if parameter.ndim == 2)


class Muon(Optimizer):
    """Momentum of which the singular values are set near 1, for matrices only.

    The size of a step is that of an AdamW step with the same learning rate. Source: Jordan et al. 2024 (Muon), Liu et
    al. 2025 (arXiv:2502.16982), Eq. 4 for the size. ``torch.optim.Muon`` computes in bfloat16 always, which is slow
    on a processor without such instructions; this one computes in float32, all matrices of a shape at once.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, *, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        """Hold matrices and their learning rate."""
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            by_shape: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                # Singular values are those of whole matrices, also where each process has some of their rows.
                averages = [whole_tensor(self._momentum(p, group["momentum"])) for p in parameters]
                for parameter, direction in zip(parameters, orthogonalise(torch.stack(averages)), strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(spread_like(direction, parameter), alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)

    def _momentum(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """Add the gradient to the moving average, and return Nesterov's look ahead."""
        assert parameter.grad is not None
        gradient = parameter.grad.float()
        average = self.state[parameter].setdefault("average", torch.zeros_like(gradient))
        average.lerp_(gradient, 1 - momentum)
        return gradient.lerp(average, momentum)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return matrices with the singular vectors of those given and singular values between 0.7 and 1.2.

    Five steps of Newton and Schulz with the coefficients of Jordan et al.; singular values that are tiny beside the
    largest stay smaller.

    Args:
        matrices: float [..., m, n].
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x
