#!/usr/bin/env bash
# What: FSDPModule.set_gradient_divide_factor(1.0) on the root of a model changes the root's own parameters only; the
#   gradients of every layer that has its own fully_shard are still averaged.
# Versions: torch 2.15.0, two gloo ranks on the CPU.
# Expected by most: gradients are summed in the whole model; set_requires_gradient_sync and others recurse by default.
# Observed:
#   torch 2.15.0+cu132 - gradient / sum of both ranks
#   neither: {'inner': 0.5, 'root': 0.5}
#   divide factor, root: Cannot use ReduceOp.PREMUL_SUM with Gloo
#   both, root: {'inner': 0.5, 'root': 1.0}
#   both, all: {'inner': 1.0, 'root': 1.0}
# Why: torch/distributed/fsdp/_fully_shard/_fully_shard.py: set_gradient_divide_factor and its companion
#   set_force_sum_reduction_for_comms set one module's state, without `recurse`. A factor other than the number
#   of ranks becomes ReduceOp.PREMUL_SUM (_get_gradient_divide_factors, _fsdp_collectives.py), which gloo lacks.
# Instead: call both on every FSDPModule of model.modules(), and compare one gradient with that of one process.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check torch==2.15.0 numpy==2.4.6
cat > two.py <<'PY'
import torch
from torch import distributed as dist, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

EXPECTED = {
    "neither": {"inner": 0.5, "root": 0.5},
    "divide factor, root": "Cannot use ReduceOp.PREMUL_SUM with Gloo",
    "both, root": {"inner": 0.5, "root": 1.0},
    "both, all": {"inner": 1.0, "root": 1.0},
}


def backward(x, mesh=None, mode=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    for part in (model[0], model[1], model) if mode else []:
        fully_shard(part, mesh=mesh)
    parts = [m for m in model.modules() if isinstance(m, FSDPModule) and (mode == "both, all" or m is model)]
    for module in parts if mode != "neither" else []:
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(mode.startswith("both"))
    model(x).square().sum().backward()
    return {"inner": model[0].weight.grad, "root": model[2].weight.grad}


def main(rank):
    dist.init_process_group("gloo", init_method="file://" + __file__ + ".store", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    whole = backward(x)  # one process, both rows: the sum that is asked for
    for mode, expected in EXPECTED.items():
        try:
            grads = backward(x[rank : rank + 1], mesh, mode)
            seen = {name: round((g.full_tensor() / whole[name]).mean().item(), 2) for name, g in grads.items()}
        except RuntimeError as error:
            seen = str(error)
        if rank == 0:
            print(f"{mode}: {seen}")
        assert seen == expected, (mode, seen)
    dist.destroy_process_group()


if __name__ == "__main__":
    print("torch", torch.__version__, "- gradient / sum of both ranks")
    torch.multiprocessing.spawn(main, nprocs=2)
PY
venv/bin/python two.py
