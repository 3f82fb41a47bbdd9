"""Configurations that are composed once in a command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from oreo_agents.runs import cli, jobs, overrides
from oreo_agents.runs.choices import compose
from oreo_agents.runs.composing import composed_once


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the commands whose configurations are composed."""
    seen: list[str] = []
    real = ConfigLoaderImpl._load_configuration_impl

    def load(self: ConfigLoaderImpl, config_name: str, *how: Any, **named: Any) -> DictConfig:
        seen.append(config_name)
        return real(self, config_name, *how, **named)

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", load)
    return seen


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[DictConfig, DictConfig]]:
    """Collects what a job is given: its configuration, and that of Hydra."""
    seen: list[tuple[DictConfig, DictConfig]] = []
    monkeypatch.setitem(jobs.JOBS, "sft", lambda config, folder: seen.append((config, HydraConfig.get())))
    return seen


@pytest.mark.parametrize("mode", [[], ["hydra.mode=RUN"]])
def test_a_command_composes_its_configuration_once_and_is_given_what_hydra_would_give(
    mode: list[str], oreo: Callable[..., None], given, counted: list[str], tmp_path: Path, monkeypatch
):
    arguments = ["sft", "seed=3", f"hydra.run.dir={tmp_path / 'out'}", *mode, "experiment=smoke"]
    oreo(*arguments)
    assert counted == ["sft"]
    monkeypatch.setattr(cli, "composed_once", overrides.beside_others)  # which composes nothing
    oreo(*arguments)
    assert len(counted) == 4 and given[0] == given[1]
    assert given[0][0].seed == 3 and given[0][1].mode == RunMode.RUN


def test_each_job_of_a_sweep_is_composed_once(oreo, given, counted: list[str], tmp_path: Path):
    oreo("sft", "-m", "env=countdown", "seed=1,2,3", f"hydra.sweep.dir={tmp_path}", "collect.tasks=7")
    assert [(config.seed, config.collect.tasks) for config, _ in given] == [(1, 7), (2, 7), (3, 7)]
    assert all(of_hydra.mode == RunMode.MULTIRUN for _, of_hydra in given)
    assert [of_hydra.job.num for _, of_hydra in given] == [0, 1, 2]
    assert len(counted) == 5, "and that of the sweep twice"


def test_each_has_its_own_and_what_differs_is_composed(counted: list[str], tmp_path: Path, monkeypatch):
    with composed_once(), overrides.initialised():
        first = compose("sft", ["seed=1"])
        first.seed = 5
        assert compose("sft", ["seed=1"]).seed == 1 and len(counted) == 1
        assert compose("sft", ["seed=2"]).seed == 2 and len(counted) == 2
        assert "label" in compose("eval", ["seed=1"]) and len(counted) == 3
        monkeypatch.chdir(tmp_path)
        assert compose("sft", ["seed=1"], return_hydra_config=True).hydra.runtime.cwd == str(tmp_path)
    with overrides.initialised():
        assert compose("sft", ["seed=1"]).seed == 1 and len(counted) == 5


@pytest.mark.parametrize("command", ["run", "sft", "collect", "train", "eval", "serve"])
def test_the_settings_of_a_command_are_those_that_hydra_composes(command: str):
    with overrides.initialised():
        assert {*overrides.keys_of(command)} == {*OmegaConf.to_container(compose(command))}


@pytest.mark.parametrize("chosen", [["experiment=smoke"], ["policy=checkpoint", "policy.path=a/b"], ["policy=expert"]])
def test_what_is_spared_decides_nothing(chosen: list[str]):
    with overrides.initialised():
        assert OmegaConf.to_yaml(hydra.compose("run", chosen)) == OmegaConf.to_yaml(compose("run", chosen))
