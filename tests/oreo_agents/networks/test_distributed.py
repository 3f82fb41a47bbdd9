"""Gradients of policy and value on two processes against those of one that sees all episodes."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from forked import side_by_side
from tiny_models import draw_episodes, make_model
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForTokenClassification

from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_algos.batch import collate
from oreo_algos.models import TokenScores


def networks() -> tuple[CausalPolicy, CausalPolicy, TokenValue]:
    reference = CausalPolicy(make_model("llama", seed=1)).requires_grad_(False)
    config = make_model("llama").config
    config.num_labels, config.classifier_dropout = 1, 0.0
    with torch.random.fork_rng():
        torch.manual_seed(2)
        value = TokenValue(AutoModelForTokenClassification.from_config(config))
    torch.nn.init.normal_(value.model.score.weight, generator=torch.Generator().manual_seed(0))
    return CausalPolicy(make_model("llama")), reference, value


def loss(scores: TokenScores, values: Tensor, episodes: int) -> Tensor:
    assert scores.kl is not None
    return (scores.logprobs.sum() + 0.3 * scores.kl.square().sum() + values.square().sum()) / episodes


def gradients(policy: CausalPolicy, value: TokenValue) -> dict[str, Tensor]:
    found = [*policy.named_parameters(), *value.named_parameters(prefix="value")]
    return {name: parameter.grad for name, parameter in found if parameter.grad is not None}


def work(rank: int, wrapper: str, folder: str) -> None:
    """Be one of two processes; the first saves the gradients."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    policy, reference, value = networks()
    batch = collate(draw_episodes(6)[rank::2])
    if wrapper == "ddp":
        wrapped = [DistributedDataParallel(network) for network in (policy, value)]  # they must live until the backward
        scores, values = TokenScores(*wrapped[0](batch, reference, "exact")), wrapped[1](batch)
    else:
        for network in (policy, reference, value):
            for layer in network.model.model.layers:
                fully_shard(layer)
            fully_shard(network)
        scores, values = policy.score(batch, reference, kl="exact"), value.token_values(batch)
    loss(scores, values, 3).backward()
    found = gradients(policy, value)
    if wrapper == "fsdp":
        found = {name: gradient.full_tensor() for name, gradient in found.items()}
    if rank == 0:
        torch.save(found, f"{folder}/gradients.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", ["ddp", "fsdp"])
def test_two_processes_get_the_gradients_of_one(wrapper: str, tmp_path: Path):
    side_by_side(work, (wrapper, str(tmp_path)), 2)
    policy, reference, value = networks()
    batch = collate(draw_episodes(6))
    loss(policy.score(batch, reference, kl="exact"), value.token_values(batch), 6).backward()
    found, expected = torch.load(tmp_path / "gradients.pt"), gradients(policy, value)
    assert found.keys() == expected.keys() and any(name.startswith("value") for name in found)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() < 1e-5 * gradient.norm(), name
