"""Two steps of training of each algorithm on rows of each layout, and a sentence where there is nothing to learn."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import make_model, make_tokenizer

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.formats.exporting import Losses, export_rows
from oreo_agents.formats.importing import ImportCounts, ImportSettings, import_episodes
from oreo_agents.formats.registry import LAYOUTS
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_agents.runs.encoding import encode_buffer
from oreo_algos import EpisodeBuffer, Models, train
from oreo_algos.algos import Dpo, Kto, Oreo, RejectionSampling, Sft
from oreo_algos.algos.selection import NothingToLearnError
from oreo_algos.training.settings import TrainerConfig

sys.path.append(str(Path(__file__).parents[1] / "formats"))
from layout_rows import ROWS

ALGORITHMS = {"dpo": Dpo, "kto": Kto, "rejection": RejectionSampling, "sft": Sft, "oreo": Oreo}
CANNOT = {
    ("dpo", "one outcome"): r"none of the \d+ tasks of this buffer has both a successful and a failed episode, so "
    "there are no preference pairs; collect more samples",
}
"""What an algorithm cannot do with which rows, and how it says so."""


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> tuple[CausalPolicy, TokenValue]:
    """A policy and a value network, which one training after the other goes on with."""
    folder = tmp_path_factory.mktemp("llama")
    make_model("llama", context=1024, init_std=0.1).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    device = torch.device("cpu")
    return CausalPolicy.from_pretrained(str(folder), device=device), TokenValue.from_policy(str(folder), device=device)


def rows_of(name: str, folder: Path) -> list[dict[str, Any]]:
    """Rows of a layout; our own is what an export writes."""
    if name in ROWS:
        return ROWS[name]
    buffer, _ = imported(ROWS["messages"], folder)
    return list(export_rows(buffer, "messages", Losses()))


def imported(rows: list[dict[str, Any]], folder: Path) -> tuple[EpisodeBuffer, ImportCounts]:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return import_episodes([file], ImportSettings())


def finite(numbers) -> bool:
    return all(np.isfinite(value) for value in numbers if isinstance(value, float))


@pytest.mark.parametrize("name", [*ROWS, "oreo"])
def test_two_steps_of_each_algorithm(name: str, networks, tmp_path: Path):
    policy, value = networks
    rows = rows_of(name, tmp_path)
    assert len(rows) <= 20
    buffer, counts = imported(rows, tmp_path)
    assert counts.layout == name.partition(",")[0] and counts.episodes >= 5
    buffer = encode_buffer(buffer, PromptFormat(make_tokenizer()))
    outcomes = "one outcome" if len({episode.success for episode in buffer}) == 1 else "both outcomes"
    for short, algorithm in ALGORITHMS.items():
        told = CANNOT.get((short, outcomes))
        if told is not None:
            with pytest.raises(NothingToLearnError, match=told):
                algorithm().select(buffer, np.random.default_rng(0))
            continue
        _two_steps(algorithm, buffer, policy, value, tmp_path / short)


def _two_steps(algorithm, buffer: EpisodeBuffer, policy: CausalPolicy, value: TokenValue, folder: Path) -> None:
    count = len(algorithm().select(buffer, np.random.default_rng(0)))
    how = algorithm(batch_size=-(-count // 2), policy_lr=1e-3, epochs=1, warmup_ratio=0.0)
    models = Models(policy, value=value if "value" in how.needs else None)
    if "reference" in how.needs:
        models.reference, models.policy_is_reference = policy.frozen_copy(), True
    before = policy.plain.lm_head.weight.detach().clone()
    found = train(how, models, buffer, TrainerConfig(tracker="none"), folder)
    assert (found.steps, found.examples, found.skipped_too_long) == (2, count, 0)
    assert finite(found.metrics.values()) and not torch.equal(before, policy.plain.lm_head.weight)


def test_every_layout_is_trained_on_but_tasks_without_an_answer(tmp_path: Path):
    trained = {name.partition(",")[0] for name in ROWS} | {"oreo"}
    assert {layout.name for layout in LAYOUTS} - trained == {"trl-prompt"}
    with pytest.raises(ValueError, match="a prompt without an answer, which is a task and no episode"):
        imported([{"prompt": "Why?"}], tmp_path)
