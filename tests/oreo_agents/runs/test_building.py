"""Settings make classes of the suite and of what the user named, and nothing else: others are refused unmade."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from oreo_agents import plugins
from oreo_agents.evaluation.run_settings import MOST_CONFIG_BYTES, read_config
from oreo_agents.runs.building import build, require_safe_hydra
from oreo_agents.runs.overrides import UserError, check_overrides, composed
from oreo_agents.runs.run_folders import evaluation_overrides, hydra_text
from oreo_algos.algos import Dpo

MARKER = "pathlib.Path"  # harmless, should anything make it after all


@pytest.mark.parametrize(
    "override",
    [
        f"algo._target_={MARKER}",
        f"++trainer.doctor._target_={MARKER}",
        f"+env.options.deep={{a:[{{_target_:{MARKER}}}]}}",
        f"++hydra.callbacks.x._target_={MARKER}",
        f"hydra.callbacks={{x:{{_target_:{MARKER}}}}}",
        f"hydra.job_logging={{handlers:{{x:{{class:{MARKER}}}}}}}",
        "++hydra.job_logging.handlers.console.stream=ext://pathlib.Path",
        "++hydra.sweeper.custom_search_space=pathlib.Path",
        "++hydra.sweeper.sampler._target_=optuna.samplers.os.system",
    ],
)
def test_a_class_of_nobody_is_refused_before_anything_is_made(override: str):
    with pytest.raises(plugins.PluginError, match="is refused"):
        check_overrides("train", [override])


def test_a_sampler_of_a_sweeper_is_none_of_them():
    require_safe_hydra(
        {"sweeper": {"sampler": {"_target_": "optuna.samplers.TPESampler"}, "custom_search_space": None}}
    )


def test_in_a_file_of_settings_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = {
        "algo/strange": f"_target_: {MARKER}\n",
        "experiment/made": "# @package _global_\nsft: {made: \"${oc.create:'{_target_: pathlib.Path}'}\"}\n",
        "experiment/callback": f"# @package _global_\nhydra: {{callbacks: {{x: {{_target_: {MARKER}}}}}}}\n",
        "experiment/hidden": "# @package _global_\nhydra: {callbacks: {x: \"${oc.create:'{a: b}'}\"}}\n",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    plugins.forget()
    monkeypatch.setattr(plugins, "_folders", [])
    plugins.add_folder(str(tmp_path))
    for choice in ("algo=strange", "experiment=made", "experiment=callback", "experiment=hidden"):
        with pytest.raises(plugins.PluginError, match="is refused"):
            check_overrides("train", [choice])


@pytest.mark.parametrize(
    "target", ["oreo_agents.plugins.add_folder", "oreo_agents.plugins.Path", "oreo_algos.nothing", MARKER, 3, None]
)
def test_what_is_no_class_of_settings_is_refused(target: Any):
    with pytest.raises(plugins.PluginError, match=r"_target_: .*(refused|there is no)"):
        build(OmegaConf.create({"_target_": target}))


def test_a_node_becomes_its_dataclass():
    node = composed("train", ["algo=dpo", "algo.beta=0.25"])
    algorithm = build(node.algo)
    assert isinstance(algorithm, Dpo) and algorithm.beta == 0.25 and algorithm.policy_lr == node.algo.policy_lr
    node.algo.beta = -1
    with pytest.raises(ValueError, match=r"^algo\.beta must be > 0, got -1$"):
        build(node.algo)
    node.algo.beta = "0.1"
    with pytest.raises(ValueError, match=r"^algo\.beta must be a number, got '0.1'$"):
        build(node.algo)


def test_texts_of_a_run_stay_texts():
    """No reference in them is looked up, whatever they look like."""
    texts = ["a\\b", "\\n", 'q"\\"', "end\\", "${oc.env:HOME}", "\\${x}", "\\\\${x}", "${", "a\nb", "{a: 1}", "~/x", ""]
    assert [*composed("eval", [f"++imports={hydra_text(texts)}"]).imports] == texts


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "oreo" / "policy").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("searches: {greedy: {_target_: pathlib.Path}}", r"config\.yaml\.searches\.greedy\._target_: .* is refused"),
        ("imports: [other.py]", "--import other.py"),
        ("env: {id: 'other:X-v0'}", "--import other"),
        ("policy: {trust_remote_code: true}", r"policy\.trust_remote_code=true"),
        ("a: &a [x]\nb: [*a, *a]", "aliases"),
        ("a: [", "no configuration of a run that can be read"),
        ("[" * 5000, "100 deep"),
        ("- " * 100_000, "100 deep"),
        ("- 1", "it holds no settings but a list"),
        ("a: !!python/object/apply:pathlib.Path [x]", "no configuration of a run that can be read"),
        ("a: '" + "x" * MOST_CONFIG_BYTES + "'", "bytes are no configuration"),
    ],
)
def test_the_configuration_beside_a_checkpoint_is_data(config: str, message: str, run: Path):
    (run / "config.yaml").write_text(config, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        evaluation_overrides(run, [])


def test_code_of_a_run_is_used_when_it_is_asked_for(run: Path):
    (run / "config.yaml").write_text("env: {}\npolicy: {path: x, trust_remote_code: true}", encoding="utf-8")
    assert "++policy.trust_remote_code=true" in evaluation_overrides(run, ["policy.trust_remote_code=true"])
    (run / "config.yaml").write_text("imports: [oreo_envs.countdown]\nenv: {}\npolicy: {path: x}", encoding="utf-8")
    assert evaluation_overrides(run, [])


def test_references_of_others_are_text(run: Path):
    (run / "config.yaml").write_text("env: {}\npolicy: {path: '${oc.env:HOME}'}", encoding="utf-8")
    assert read_config(run / "config.yaml")["policy"]["path"] == "${oc.env:HOME}"
    overrides = [text for text in evaluation_overrides(run, []) if text.startswith("++policy")]
    assert composed("eval", overrides).policy.path == "${oc.env:HOME}"


def test_the_closest_name_is_never_the_mark_of_a_class():
    with pytest.raises(UserError) as refused:
        check_overrides("train", ["algo.target=1"])
    assert "_target_" not in str(refused.value)
