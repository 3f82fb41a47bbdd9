"""The command ``oreo eval what=value`` on networks of random weights that say what a test wants them to."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_models import make_model, make_tokenizer

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_agents.episodes import sampler as sampler_module
from oreo_agents.episodes.generate import Sample, Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.tasks import EnvSettings
from oreo_agents.evaluation.evaluate import EvaluateSettings
from oreo_agents.networks.policy import CausalPolicy, PolicySettings
from oreo_agents.networks.tiny import TinyConfig, byte_tokenizer, create_checkpoint
from oreo_agents.networks.value import TokenValue, ValueSettings
from oreo_agents.runs import cli
from oreo_agents.runs.pipeline import Run
from oreo_agents.runs.settings import RunSettings
from oreo_agents.runs.value_eval import ValueEvalSettings, evaluate_value
from oreo_agents.value_quality import figures as value_figures
from oreo_agents.value_quality.figures import Reading, measure
from oreo_agents.value_quality.path import read_paths
from oreo_algos import EpisodeBuffer
from oreo_envs.wordproblems import solve

FORMAT = PromptFormat(make_tokenizer())


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `policy`, `value` and `reference`."""
    folder = tmp_path_factory.mktemp("networks")
    for name, seed in (("policy", 0), ("reference", 1)):
        make_model("llama", seed=seed, context=2048).save_pretrained(folder / name)
        make_tokenizer().save_pretrained(folder / name)
    value = TokenValue.from_policy(str(folder / "policy"))
    with torch.no_grad():
        value.model.score.weight.normal_(generator=torch.Generator().manual_seed(0))
    value.save(folder / "value", make_tokenizer(), "card")
    return folder


@pytest.fixture(autouse=True)
def no_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time, and have tests of their own."""
    monkeypatch.setattr(value_figures, "cluster_interval", lambda *_, **__: (0.25, 0.75))


@pytest.fixture
def run(networks: Path, tmp_path: Path) -> Callable[..., Path]:
    """Measure these networks in a folder, which is returned."""

    def call(env: str = "oreo/Arithmetic-v0", *, path: str | None = None, new_tokens: int = 200, **chosen: Any) -> Path:
        options = {"verbs_per_problem": (3, 5)} if path is None else {"prompt": "question", "max_steps": 2}
        settings = RunSettings(
            env=EnvSettings(id=env, options=options, path=path),
            policy=PolicySettings(path=chosen.pop("policy_path", str(networks / "policy"))),
            value=ValueSettings(path=chosen.pop("value_path", str(networks / "value"))),
            evaluate=EvaluateSettings(sampling=Sampling(max_new_tokens=new_tokens, batch_size=16)),
        )
        evaluate_value(Run(settings, tmp_path / "run"), ValueEvalSettings(**{"tasks": 2, "samples": 2} | chosen))
        return tmp_path / "run"

    return call


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, networks: Path, tmp_path: Path) -> Callable[..., Path]:
    """Do the same by the command; returns its folder."""

    def call(*arguments: str) -> Path:
        given = ["eval", f"policy.path={networks / 'policy'}", f"hydra.run.dir={tmp_path / 'run'}", *arguments]
        monkeypatch.setattr(sys, "argv", ["oreo", *given])
        cli.main()
        return tmp_path / "run"

    return call


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """Let the policy say given texts."""

    def install(texts: list[str]) -> None:
        def say(policy: Any, prompts: Any, *_: Any, **__: Any) -> list[Sample]:
            spoken = [FORMAT.encode(texts.pop(0)) for _ in prompts]
            return [Sample([*tokens, FORMAT.end_of_turn], [0.0] * (len(tokens) + 1), True) for tokens in spoken]

        monkeypatch.setattr(sampler_module, "generate", say)

    return install


def answers() -> list[str]:
    """A right and a wrong solution of each of the first two tasks."""
    env: Any = gym.make("oreo/Arithmetic-v0", split="test", verbs_per_problem=(3, 5)).unwrapped
    right = [solve(env.problem(index)) for index in range(2)]
    return [text for one in right for text in (one, one.rpartition("\n")[0] + "\n#### 999")]


def test_figures_plots_and_page_are_written(run, said, networks, capsys):
    said(answers())
    folder = run(reference_path=str(networks / "reference"))
    found = json.loads((folder / "value.json").read_text(encoding="utf-8"))
    assert (found["episodes"], found["tasks"], found["mixed_tasks"], found["success_rate"]) == (4, 2, 2, 0.5)
    assert found["figures"]["ordering/final"]["value"] in (0, 0.5, 1) and found["notes"] == []
    assert found["figures"]["localisation/chance"]["value"] == pytest.approx(0.2, abs=0.05), (
        "only the answers are wrong"
    )
    assert "steps/implicit_auc" in found["figures"]
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert "| final |" in report and "2 questions with both outcomes" in report
    assert {path.name for path in (folder / "plots").iterdir()} == {"places.png", "calibration.png", "final.png"}
    page = (folder / "value.html").read_text(encoding="utf-8")
    assert page.count("<table>") == 4 and page.count("✗ wrong") == 2
    assert "within-question ordering" in capsys.readouterr().out


def test_the_same_command_again_reads_the_samples_that_are_there(run, said):
    said(answers())
    folder = run()
    first = json.loads((folder / "value.json").read_text(encoding="utf-8"))
    content = EpisodeBuffer.load(folder / "samples").content_hash
    (folder / "value.json").unlink()
    said([])  # nothing more can be said
    run()
    assert json.loads((folder / "value.json").read_text(encoding="utf-8")) == first
    assert EpisodeBuffer.load(folder / "samples").content_hash == content
    assert first["reference"] is None and "no reference.path" in first["notes"][0]
    assert not any("implicit" in name for name in first["figures"])


def test_figures_are_those_of_the_policy_the_reference_and_the_beta_that_were_given(run, said, networks):
    said(answers())
    folder = run(reference_path=str(networks / "reference"), beta=0.5, temperature=0.4)
    found = json.loads((folder / "value.json").read_text(encoding="utf-8"))
    samples = EpisodeBuffer.load(folder / "samples")
    assert [episode.info["temperature"] for episode in samples] == [0.4] * 4
    policy, reference = (CausalPolicy.from_pretrained(str(networks / name)) for name in ("policy", "reference"))
    value = TokenValue.from_pretrained(str(networks / "value"))
    paths = read_paths(value, samples, 16, policy=policy, reference=reference)
    env: Any = gym.make("oreo/Arithmetic-v0", split="test", verbs_per_problem=(3, 5)).unwrapped
    readings = []
    for episode, path in zip(samples, paths, strict=True):
        texts = [episode.messages[m]["content"][start:end] for m, start, end in episode.action_spans]
        readings.append(Reading(episode, path, np.array(env.step_rightness(episode.task_id, texts))))
    expected = measure(readings, beta=0.5, implicit=True)
    assert found["figures"].keys() == expected.keys()
    for name, figure in expected.items():
        assert found["figures"][name]["value"] == pytest.approx(figure.value, rel=1e-4), name


def test_samples_of_other_weights_or_settings_are_not_used(run, said, networks, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(networks / "policy", copied)
    said(answers())
    run(policy_path=str(copied))
    said([])  # nothing more can be said
    run()  # the same weights elsewhere
    with pytest.raises(ValueError, match=r"samples: these .* drawn with temperature 1\.0 and not 0\.5; choose"):
        run(temperature=0.5)
    with pytest.raises(ValueError, match=r"drawn with split test and not dev; tasks 2 and not 3; .* delete this one"):
        run(tasks=3, split="dev")
    make_model("llama", seed=5, context=2048).save_pretrained(copied)
    with pytest.raises(ValueError, match=r"drawn with weights \w{16} and not \w{16}; choose another run folder"):
        run(policy_path=str(copied))


def test_every_environment_is_closed_again(run, said, monkeypatch):
    made: list[Any] = []
    original = gym.make

    def make(*arguments: Any, **options: Any) -> Any:
        made.append(original(*arguments, **options))
        monkeypatch.setattr(made[-1].unwrapped, "close", lambda env=made[-1]: made.remove(env))
        return made[-1]

    monkeypatch.setattr(gym, "make", make)
    said(["#### 1"] * 4)
    run()
    assert made == []


def test_samples_of_one_outcome_are_reported_with_reasons(run, said, capsys):
    said(["#### 999"] * 4)
    found = json.loads((run() / "value.json").read_text(encoding="utf-8"))
    assert found["figures"]["auc/final"] == {"value": None, "reason": "all 4 are wrong, so there is no pair to order"}
    assert found["figures"]["brier/final"]["value"] is not None
    assert "all 4 samples are wrong, so V has nothing to tell apart" in found["notes"][0]
    assert found["notes"][1].startswith(
        "undefined, for all 4 are wrong, so there is no pair to order: auc/start, ordering"
    )
    assert "all 4 samples are wrong" in capsys.readouterr().out.replace("\n", " ")


def test_games_have_steps_but_nobody_knows_which_are_right(run):
    folder = run("oreo/ALFWorld-v0", path="generated", split="valid_unseen", new_tokens=3)
    found = json.loads((folder / "value.json").read_text(encoding="utf-8"))
    assert found["env"] == "oreo/ALFWorld-v0" and found["split"] == "valid_unseen" and found["episodes"] == 4
    assert any("cannot tell which steps are right" in note for note in found["notes"])
    assert not any(name.startswith("steps") for name in found["figures"])


def other_tokenizer(folder: Path) -> str:
    create_checkpoint(
        TinyConfig(hidden_size=16, layers=1, heads=2, intermediate_size=16), byte_tokenizer(["other"], 258), folder, 0
    )
    return str(folder)


@pytest.mark.parametrize("setting", ["value_path", "reference_path"])
def test_a_network_of_another_tokenizer_is_refused_before_anything_is_sampled(run, said, tmp_path, setting):
    said([])
    with pytest.raises(ValueError, match=rf"{setting.replace('_', '.')}=.*other has another tokenizer than the policy"):
        run(**{setting: other_tokenizer(tmp_path / "other")})


def test_without_a_value_it_says_what_to_give(run, said):
    said([])
    with pytest.raises(ValueError, match=r"samples of a policy: give value\.path=FOLDER"):
        run(value_path=None)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"samples": 1}, "two samples a task and one task are the least that can be ordered, got samples=1"),
        ({"tasks": 0}, "got samples=8 and tasks=0"),
        ({"temperature": 0}, "temperature and beta must be > 0, got 0 and 0.03"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        ValueEvalSettings(**setting)


def test_the_command_measures_the_value_when_asked_for_it(command, said, networks):
    said(answers())
    paths = [f"value.path={networks / 'value'}", f"reference.path={networks / 'reference'}"]
    folder = command("what=value", *paths, "value_eval.tasks=2", "value_eval.samples=2")
    found = json.loads((folder / "value.json").read_text(encoding="utf-8"))
    assert found["reference"] == str(networks / "reference") and found["split"] == "test"
    assert (found["episodes"], found["temperature"], found["beta"]) == (4, 1.0, 0.03)
    assert (folder / "config.yaml").exists() and not (folder / "results.json").exists()


def test_the_command_knows_what_can_be_measured(command, capsys):
    with pytest.raises(SystemExit):
        command("what=valeu")
    assert "what=valeu: oreo eval measures accuracy or value" in capsys.readouterr().err
