"""vLLM itself, where it is installed: `OREO_VLLM="/path/to/bin/vllm serve --enforce-eager"` names its command."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_models import make_tokenizer

from oreo_agents.engines.settings import SamplerSettings
from oreo_agents.episodes.generate import Sampling, make_choices
from oreo_agents.networks.policy import CausalPolicy, PolicySettings
from oreo_agents.networks.tiny import TinyConfig, create_checkpoint
from oreo_agents.networks.value import ValueSettings
from oreo_agents.runs.engines import Engines, close_engines
from oreo_agents.runs.loading import Loader

COMMAND = os.environ.get("OREO_VLLM") or (shutil.which("vllm") and "vllm serve --enforce-eager")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not COMMAND, reason="no vLLM: give its command as OREO_VLLM, or put `vllm` on the PATH"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    found = []
    for seed in range(2):
        folder = tmp_path_factory.mktemp(f"policy{seed}")
        shape = TinyConfig(hidden_size=128, intermediate_size=256, layers=2, heads=2, context=256, init_std=0.2)
        create_checkpoint(shape, make_tokenizer(), folder, seed)
        found.append(str(folder))
    return found


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    folder: Path = tmp_path_factory.mktemp("run")
    policy = PolicySettings(device="cpu")
    settings = SamplerSettings(engine="vllm", command=COMMAND)
    yield Loader(policy, ValueSettings(), Engines(settings, policy, None, folder))
    close_engines()


def test_it_draws_what_each_policy_would(load: Loader, folders: list[str]):
    prompts = [[20 + i, 30, 40] for i in range(70)]
    sources: list[np.random.Generator | None] = [np.random.default_rng([0, i]) for i in range(70)]
    tree = make_choices([[50, 51, 2], [50, 52, 2], [60, 2]])
    for folder in (*folders, folders[0]):  # new weights, and the old ones once more
        policy: CausalPolicy = load.policy(folder)
        sampler = load.sampler(policy, folder)
        for temperature in (0.0, 0.7, 1.0):  # 70 rows: one is scored again
            how = Sampling(temperature=temperature, max_new_tokens=8)
            samples = sampler.generate(prompts, {2}, how, sources=sources if temperature else None)
            assert all(sample.ended or len(sample.tokens) == 8 for sample in samples)
        said = sampler.generate(prompts, {2}, Sampling(), sources=sources, choices=[tree] * 70)
        assert {tuple(sample.tokens) for sample in said} <= {(50, 51, 2), (50, 52, 2), (60, 2)}
        assert sampler.largest_difference < 1e-4  # type: ignore[attr-defined]
