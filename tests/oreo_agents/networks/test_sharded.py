"""Training of transformers networks on two processes, whole or in parts, against one: what is saved is equal."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from forked import side_by_side
from safetensors.torch import load_file
from tiny_models import draw_episodes, make_model
from transformers import AutoModelForTokenClassification

from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_algos import EpisodeBuffer, Models, TrainerConfig, train
from oreo_algos.algos import AdvantageWeighted, Algorithm, Dpo, Kto, Oreo, Sft, Topr
from oreo_algos.training.metrics_writer import read_metrics

FAST: dict[str, Any] = {"policy_lr": 1e-3, "batch_size": 5, "epochs": 2}
OREO = Oreo(**FAST, value_lr=1e-3)
# Name: algorithm, family, how networks are trained.
CASES: dict[str, tuple[Algorithm[Any], str, dict[str, Any]]] = {
    "plain": (OREO, "llama", {}),
    "checkpointed": (OREO, "qwen2", {"gradient_checkpointing": True}),
    "capped head": (OREO, "gemma2", {}),
    "scaled head": (Sft(**FAST), "cohere", {}),
    "adapters": (OREO, "qwen2", {"lora": Lora(rank=2)}),
    "adapters saved alone": (Dpo(**FAST), "llama", {"lora": Lora(rank=2, save="adapter")}),
    "adapters of coarse weights": (OREO, "qwen2", {"lora": Lora(rank=2), "dtype": torch.bfloat16}),
    "moving average": (dataclasses.replace(OREO, target_decay=0.5), "llama", {"lora": Lora(rank=2)}),
    "muon": (dataclasses.replace(OREO, optimizer="muon"), "llama", {}),
    "kto": (Kto(**FAST), "llama", {}),
    "tapered, adapters": (Topr(**FAST), "llama", {"lora": Lora(rank=2)}),
    "weighted, adapters": (AdvantageWeighted(**FAST, value_lr=1e-3), "llama", {"lora": Lora(rank=2)}),
}


def episodes() -> EpisodeBuffer:
    rows = draw_episodes(13)
    tasks = [f"task-{number // 2 % 4}" for number in range(len(rows))]
    return EpisodeBuffer(
        dataclasses.replace(e, task_id=task, rewards=[0.0, float(n % 2)], success=bool(n % 2))
        for n, (e, task) in enumerate(zip(rows, tasks, strict=True))
    )


def networks(name: str) -> Models:
    _, family, how = CASES[name]
    how = dict(how)
    dtype = how.pop("dtype", torch.float32)
    model = make_model(family)
    settings = copy.deepcopy(model.config)
    settings.num_labels, settings.classifier_dropout = 1, 0.0
    with torch.random.fork_rng():
        torch.manual_seed(2)
        classifier = AutoModelForTokenClassification.from_config(settings) if family != "cohere" else None
    policy = CausalPolicy(model.to(dtype), **how)
    value = None if classifier is None else TokenValue(classifier.to(dtype), **how)
    return Models(policy, policy.frozen_copy(), value)


def train_and_save(name: str, folder: Path, sharding: str = "replicated") -> None:
    models = networks(name)
    config = TrainerConfig(sharding=sharding, tracker="none", micro_batch_tokens=60)  # type: ignore[arg-type]
    train(CASES[name][0], models, episodes(), config, folder)
    if not dist.is_initialized() or dist.get_rank() == 0:
        for part in ("policy", "value"):
            network = getattr(models, part)
            if network is not None and (part == "policy" or "value" in CASES[name][0].needs):
                network.save(folder / part)


def work(rank: int, folder: str) -> None:
    """Be one of two processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for name in CASES:
        for sharding in ("replicated", "full"):
            train_and_save(name, Path(folder, f"{name}-{sharding}"), sharding)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(once: Callable[..., Path]) -> Path:
    return once("sharded", lambda folder: side_by_side(work, (str(folder),), 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_two_processes_save_is_what_one_saves(name: str, folder: Path, tmp_path: Path):
    train_and_save(name, tmp_path)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*/*.safetensors"))
    assert files
    for sharding in ("replicated", "full"):
        for file in files:
            found, expected = load_file(folder / f"{name}-{sharding}" / file), load_file(tmp_path / file)
            assert found.keys() == expected.keys()
            for key, tensor in expected.items():
                torch.testing.assert_close(found[key], tensor, rtol=0, atol=1e-5, msg=f"{sharding}: {key}")
            own = folder / f"{name}-{sharding}" / file.parent
            assert {path.name for path in own.iterdir()} == {path.name for path in (tmp_path / file.parent).iterdir()}


def work_on_gpus(rank: int, size: int, folder: str, offload: bool) -> None:
    """Be one of some processes, each with a GPU."""
    torch.cuda.set_device(rank)
    how = {"init_method": f"file://{folder}/meet", "rank": rank, "world_size": size}
    dist.init_process_group("cpu:gloo,cuda:nccl", **how)  # type: ignore[arg-type]
    config = TrainerConfig(sharding="full", cpu_offload=offload, tracker="none", micro_batch_tokens=60)
    train(OREO, networks("plain"), episodes(), config, Path(folder), device=torch.device("cuda", rank))
    dist.destroy_process_group()


@pytest.mark.gpu
@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("size", [1, 2])
def test_gpus_train_in_parts_what_one_trains_whole(size: int, offload: bool, tmp_path: Path):
    if torch.cuda.device_count() < size:
        pytest.skip(f"{size} GPUs are needed")
    models = networks("plain")
    for network in (models.policy, models.reference, models.value):
        network.to("cuda")  # type: ignore[union-attr]
    train(OREO, models, episodes(), TrainerConfig(tracker="none", micro_batch_tokens=60), tmp_path / "alone")
    (tmp_path / "parts").mkdir()
    torch.multiprocessing.spawn(work_on_gpus, (size, str(tmp_path / "parts"), offload), nprocs=size)
    rows, others = read_metrics(tmp_path / "parts"), read_metrics(tmp_path / "alone")
    assert len(rows) == len(others) >= 4
    for row, other in zip(rows, others, strict=True):  # in bfloat16
        assert row["train/loss"] == pytest.approx(other["train/loss"], rel=0.02)
        assert row["train/grad_norm"] == pytest.approx(other["train/grad_norm"], rel=0.05)
