"""The tab HPARAMS of TensorBoard: the settings of each trained network beside what came of it.

Knows: settings, rows of results. Does not know: how they came about.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from oreo_agents.evaluation.budget import contender_label
from oreo_agents.evaluation.round_names import split_round
from oreo_agents.evaluation.run_settings import flatten
from oreo_agents.runs.settings import RunSettings

_SUFFIX = ".hparams"

# Of the training's summary: what it is called in the tab.
_OF_TRAINING = {"steps": "steps", "cpu_seconds": "cpu_seconds", "best_step": "dev_best_step", "best_score": "dev_best"}


def write_hparams(
    folder: Path, settings: RunSettings, rows: Sequence[Mapping[str, Any]], training: Mapping[str, Any]
) -> None:
    """Write, in place of what was there before, the settings of a network and its final metrics.

    Args:
        folder: of the network.
        settings: of the run.
        rows: of its results.
        training: its ``summary.json``.
    """
    for old in folder.glob(f"events.out.tfevents.*{_SUFFIX}"):
        old.unlink()
    metrics = {
        f"final/{row['split']}/{contender_label(row['search'], row.get('budget'))}/accuracy": float(row["accuracy"])
        for row in rows
    }
    metrics |= {
        f"final/{new}": float(training[old]) for old, new in _OF_TRAINING.items() if training.get(old) is not None
    }
    with SummaryWriter(str(folder), filename_suffix=_SUFFIX) as board:
        for summary in hparams(_plain(settings, split_round(folder.name)[0]), metrics):
            board._get_file_writer().add_summary(summary)
        for name, value in metrics.items():
            board.add_scalar(name, value, int(training.get("steps", 0)))


def _plain(settings: RunSettings, name: str) -> dict[str, Any]:
    """Return the settings that a network depends on, by dotted name, as TensorBoard takes them."""
    algorithm = settings.algorithms.get(name, settings.sft.algorithm)
    found = {
        "algo": {"name": name, **dataclasses.asdict(algorithm)},
        "env": {"id": settings.env.id, "options": dict(settings.env.options)},
        "policy": {"path": settings.policy.path, "lora": dataclasses.asdict(settings.policy.lora)},
        "collect": {"tasks": settings.collect.tasks, "samples": settings.collect.samples},
        "sft": {"demonstrations": settings.sft.demonstrations},
        "trainer": {
            key: getattr(settings.trainer, key)
            for key in ("evaluate_every", "load_best_model_at_end", "early_stopping_patience")
        },
        "seed": settings.seed,
    }
    return {
        key: value if isinstance(value, bool | int | float) else str(value) for key, value in flatten(found).items()
    }
