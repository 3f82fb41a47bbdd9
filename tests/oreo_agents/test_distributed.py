"""Gradients of a policy on two processes against those of one that sees all episodes."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tiny_models import draw_episodes, make_model
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from oreo_agents.policy import CausalPolicy
from oreo_algos.batch import collate
from oreo_algos.models import TokenScores


def networks() -> tuple[CausalPolicy, CausalPolicy]:
    return CausalPolicy(make_model("llama")), CausalPolicy(make_model("llama", seed=1)).requires_grad_(False)


def loss(scores: TokenScores, episodes: int) -> Tensor:
    assert scores.kl is not None
    return (scores.logprobs.sum() + 0.3 * scores.kl.square().sum()) / episodes


def work(rank: int, wrapper: str, folder: str) -> None:
    """Be one of two processes; the first saves the gradients."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    policy, reference = networks()
    batch = collate(draw_episodes(6)[rank::2])
    if wrapper == "ddp":
        wrapped = DistributedDataParallel(policy)  # it must live until the backward
        scores = TokenScores(*wrapped(batch, reference, "exact"))
    else:
        for network in (policy, reference):
            for layer in network.causal_lm.model.layers:
                fully_shard(layer)
            fully_shard(network)
        scores = policy.score(batch, reference, kl="exact")
    loss(scores, 3).backward()
    found = {name: p.grad.full_tensor() if wrapper == "fsdp" else p.grad for name, p in policy.named_parameters()}
    if rank == 0:
        torch.save(found, f"{folder}/gradients.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", ["ddp", "fsdp"])
def test_two_processes_get_the_gradients_of_one(wrapper: str, tmp_path: Path):
    torch.multiprocessing.spawn(work, (wrapper, str(tmp_path)), nprocs=2)
    policy, reference = networks()
    loss(policy.score(collate(draw_episodes(6)), reference, kl="exact"), 6).backward()
    found = torch.load(tmp_path / "gradients.pt")
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-5)
