"""Each setting of each command refuses values of wrong type, sign and size in a sentence that names it.

The settings are read from the dataclasses that the configurations name, so that a new one is covered without a line.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from omegaconf import DictConfig, OmegaConf

from oreo_agents.networks.adapters import Lora
from oreo_agents.runs import cli, jobs, names_elsewhere, serve
from oreo_agents.runs.building import TARGET, build, class_of, is_target
from oreo_agents.runs.facade_parts import replaced
from oreo_agents.runs.overrides import composed
from oreo_algos.algos import Dpo
from oreo_algos.typed import hint_of

ANY_SIGN = {"importance_cap", "baseline", "delta_v"}
"""Numbers that may be negative."""

WRONG: dict[type, list[Any]] = {
    int: ["a text", True, 0.5, float("nan"), [1], {"a": 1}, -1, -(10**9), 10**30],
    float: ["a text", "0.1", True, float("nan"), [1], {"a": 1}, -1, -0.5, 10**30],
    bool: ["a text", "yes", 1, 0.5, [True]],
    str: [True, 3, 0.5, ["a"], {"a": 1}],
}
OTHERS = [3, True, 0.5, [3, {"a": 1}]]
"""For what is a list or a mapping."""


def leaves(node: Any, place: str) -> Iterator[tuple[str, str, Any]]:
    """Yield the place of each dataclass in a configuration, its settings, and their types."""
    if not isinstance(node, DictConfig):
        return
    if is_target(node):
        owner = class_of(node[TARGET], place)
        for field in fields(owner):
            if field.init and not is_target(node.get(field.name)):
                yield place, field.name, hint_of(owner, field)
    for key in node:
        yield from leaves(node[key], f"{place}.{key}" if place else str(key))


def wrong(name: str, hint: Any) -> list[Any]:
    """Values that no setting of this type takes."""
    union = get_origin(hint) in (Union, UnionType)
    kinds = [kind for kind in (get_args(hint) if union else (hint,)) if kind is not type(None)]
    if not set(kinds) <= set(WRONG):
        kinds += [int] * (float in kinds)
        return [value for value in OTHERS if not any(type(value) in (kind, type(kind)) for kind in kinds)]
    [values] = [WRONG[kind] for kind in kinds]
    return [value for value in values if not (name in ANY_SIGN and isinstance(value, float | int) and value < 0)]


CHECKPOINT = ["policy=checkpoint", "policy.path=x"]


@pytest.fixture(scope="module")
def settings() -> dict[str, DictConfig]:
    """The configuration of each command, without references."""
    found = {command: composed(command, CHECKPOINT if command == "serve" else []) for command in [*jobs.JOBS, "serve"]}
    return {name: OmegaConf.create(OmegaConf.to_container(each, resolve=True)) for name, each in found.items()}


def test_no_dataclass_takes_what_is_wrong(settings: dict[str, DictConfig]):
    found = {}
    for plain in settings.values():
        for place, name, hint in leaves(plain, ""):
            owner = OmegaConf.select(plain, place)[TARGET]
            found.setdefault((owner, name), (plain, place, name, hint))  # of several commands once
    assert len(found) > 150
    taken, unnamed = [], []
    for plain, place, name, hint in found.values():
        node = OmegaConf.to_container(OmegaConf.select(plain, place))
        for value in wrong(name, hint):
            holder = OmegaConf.create({place: node | {name: value}})  # type: ignore[operator]
            try:
                build(holder[place])
                taken.append((place, name, value))
            except ValueError as error:
                if name not in str(error) or f".{TARGET}" in str(error):
                    unnamed.append((place, name, value, str(error)))
    assert (taken, unnamed) == ([], [])


@pytest.mark.parametrize("command", ["serve", "chat"])
def test_what_answers_refuses_settings_before_it_loads_networks(
    command: str, settings: dict[str, DictConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    if command == "serve":
        pytest.importorskip("uvicorn", reason='needs pip install "oreo-suite[serve]"')
        pytest.importorskip("fastapi", reason='needs pip install "oreo-suite[serve]"')
    monkeypatch.setattr(sys, "argv", ["oreo", command, "policy.path=x"])
    monkeypatch.setattr(serve, "_engine", lambda *_: pytest.fail(f"networks are loaded with {place}.{name}={value}"))
    # The rest of a run's settings is not read to answer.
    own = ("policy", "value", "sampler", "serve", "searches")
    read = [leaf for leaf in leaves(settings["serve"], "") if leaf[0].partition(".")[0] in own]
    found = [(place, name, wrong(name, hint)[0]) for place, name, hint in read]
    for place, name, value in [*found, ("serve", "search", "best_of_m"), ("serve", "port", 10**6)]:
        config = settings["serve"].copy()
        OmegaConf.select(config, place)[name] = value
        monkeypatch.setattr(serve, "composed", lambda *_, config=config: config)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.startswith("oreo: ") and name in said and said.count("\n") == 1, said


@pytest.mark.parametrize(
    "override",
    [
        "trainer.checkpoint_every=nan",
        "trainer.micro_batch_tokens=1e4",
        "algo.beta='0.1'",
        "seed=-1",
        "workers=0",
        "data=true",
    ],
)
def test_from_the_command_line_it_ends_with_2_and_a_sentence(
    override: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path
):
    def job(config: DictConfig, folder: Any) -> None:
        jobs.settings_from_config(config, {"algo": config.algo})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(jobs.JOBS, "train", job)
    monkeypatch.setattr(sys, "argv", ["oreo", "train", override, "hydra.run.dir=out"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "Traceback" not in said
    assert said.startswith("oreo: ") and override.partition("=")[0].rpartition(".")[2] in said


@pytest.mark.parametrize(
    ("arguments", "ours"),
    [
        (["learning_rate=1"], "algo.policy_lr"),
        (["algo.learning_rate=1"], "algo.policy_lr"),
        (["+bf16=true"], "trainer.bf16=true"),
        (["--output_dir", "x"], "hydra.run.dir=FOLDER"),
        (["--per-device-train-batch-size=4"], "algo.batch_size"),
        (["++trainer.max_steps=5"], "algo.epochs"),
    ],
)
def test_a_name_of_trl_is_answered_with_ours(
    arguments: list[str], ours: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(jobs.JOBS, "train", lambda config, folder: build(config.trainer))
    monkeypatch.setattr(sys, "argv", ["oreo", "train", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and ours in said and "_target_" not in said


def test_in_python_too():
    with pytest.raises(ValueError, match="no setting 'learning_rate'; here it is policy_lr"):
        replaced(Dpo(), {"learning_rate": 1e-6})


def test_what_is_said_of_other_names_is_here():
    """Every setting that a hint names exists."""
    config = composed("train", [])
    for hint in names_elsewhere._ELSEWHERE.values():
        for key in re.findall(r"\b((?:algo|trainer|policy|collect|evaluate|sft)\.[\w.]+\w)=", hint):
            place, _, name = key.rpartition(".")
            node = OmegaConf.select(config, place)
            owner = class_of(node[TARGET], place) if node is not None else Lora
            assert name in {field.name for field in fields(owner)}, key
