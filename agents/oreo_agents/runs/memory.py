"""What the updates of a run hold in memory, said before it begins.

Knows: settings, what an algorithm reads. Does not know: how memory is counted, stages.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PretrainedConfig

from oreo_agents.networks.checkpoints import load_config
from oreo_agents.networks.memory import Memory, Reference, Trained, predict
from oreo_agents.runs.settings import RunSettings
from oreo_algos import ranks
from oreo_algos.algos import Algorithm

_log = logging.getLogger(__name__)


def predict_update(settings: RunSettings, algorithm: Algorithm[Any], config: PretrainedConfig | None = None) -> Memory:
    """Return what an update of an algorithm holds at its peak; no GPU and no weights are needed for it.

    Args:
        settings: with a checkpoint as the policy.
        algorithm: one of theirs, or the supervised start's.
        config: of the checkpoint, where that is not at hand.

    Raises:
        ValueError: no configuration can be read there, or its model cannot be counted.
    """
    policy, value = settings.policy, settings.value
    assert policy.path is not None
    dtype = getattr(torch, policy.dtype)
    reference: Reference = "none"
    if algorithm.reference_use == "distribution":
        rounds = settings.iteration
        reference = "apart" if rounds.rounds > 1 and rounds.reference == "start" else "copy"
    critic = Trained(
        dtype=dtype if value.lora.rank else torch.float32,
        lora=value.lora,
        gradient_checkpointing=value.gradient_checkpointing,
    )
    return predict(
        load_config(policy.path) if config is None else config,
        tokens=settings.trainer.micro_batch_tokens,
        policy=Trained(dtype=dtype, lora=policy.lora, gradient_checkpointing=policy.gradient_checkpointing),
        value=critic if "value" in algorithm.needs else None,
        reference=reference,
        moving_average=getattr(algorithm, "target_decay", None) is not None,
        optimizer=algorithm.optimizer,
        parts=ranks.current().size if settings.trainer.sharding == "full" else 1,
        cpu_offload=settings.trainer.cpu_offload,
    )


def report_memory(settings: RunSettings, names: Sequence[str], available: int, workers: int) -> None:
    """Print what the update takes that takes most, and warn where the device has less.

    Args:
        settings: with a checkpoint as the policy.
        names: of algorithms; the supervised start counts where there is one.
        available: bytes of the device.
        workers: processes that share it.
    """
    algorithms = {name: settings.algorithms[name] for name in names if name in settings.algorithms}
    if settings.sft.demonstrations != 0:
        algorithms["sft"] = settings.sft.algorithm
    if not algorithms:
        return
    try:
        found = {name: predict_update(settings, algorithm) for name, algorithm in algorithms.items()}
    except ValueError as error:
        print(f"memory of an update: {error}")
        return
    name, memory = max(found.items(), key=lambda pair: pair[1].total)
    print(f"{name}: {memory}")
    side_by_side = min(workers, len(algorithms))
    if memory.total * side_by_side > available:
        times = f" in each of {side_by_side} processes" if side_by_side > 1 else ""
        _log.warning(
            "%s: an update takes %.1f GB%s and the device has %.1f GB: lower trainer.micro_batch_tokens (%d), set "
            "policy.gradient_checkpointing=auto, or train adapters with policy.lora.rank=64 value.lora.rank=64",
            name,
            memory.total / 1e9,
            times,
            available / 1e9,
            memory.tokens,
        )
