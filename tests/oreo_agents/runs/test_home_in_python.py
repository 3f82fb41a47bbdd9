"""``~`` is the user's folder wherever a public function takes a path, as on the command line."""

import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import oreo_agents
import oreo_algos
import oreo_envs
from oreo_agents.episodes.policy_agent import PolicyAgent
from oreo_agents.evaluation.report import report
from oreo_algos.algos.sft import Sft
from oreo_envs.recording import is_record, read_rows, read_settings

TRIED = {
    *("EpisodeBuffer.load", "EpisodeBuffer.save", "CausalPolicy.from_pretrained", "CausalPolicy.save"),
    *("PolicyAgent.from_pretrained", "PromptFormat.from_pretrained", "TokenValue.from_policy"),
    *("TokenValue.from_pretrained", "TokenValue.save", "load_policy", "load_results", "load_value", "save"),
    *("train", "Recorder", "evaluate"),
}
NONE = {"EpisodeBuffer"}
"""Have a parameter that is called like a path, and is none that users give."""


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Everything that the three packages export, and the methods of classes among it."""
    for package in (oreo_envs, oreo_algos, oreo_agents):
        for name in package.__all__:
            thing = getattr(package, name)
            if callable(thing):
                yield name, thing
            for inner, method in inspect.getmembers(thing) if inspect.isclass(thing) else ():
                if not inner.startswith("_") and callable(method):
                    yield f"{name}.{inner}", method


def takes_a_path(thing: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(thing).parameters.values()
    except ValueError:
        return False
    return any(
        re.search(r"\bPath\b|PathLike", str(parameter.annotation))
        or parameter.name in ("path", "folder", "file", "out")
        for parameter in parameters
    )


def test_every_public_function_that_takes_a_path_is_tried_here():
    assert {name for name, thing in public() if takes_a_path(thing)} == TRIED | NONE


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home, and another folder to work in, where nothing may appear."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "home"
    assert not list(Path().iterdir())


def test_of_networks_and_trainings(home: Path):
    policy = oreo_agents.new_policy("arithmetic", hidden_size=16, layers=1)
    value = oreo_agents.new_value(policy)
    oreo_agents.save("~/both", policy, value)
    policy.save("~/policy")
    value.save("~/value", policy.prompt_format.tokenizer)
    assert oreo_agents.load_policy("~/both").path == str(home / "both" / "policy")
    assert oreo_agents.load_value("~/both", policy) and oreo_agents.load_value("~/value", policy)
    for kind in (oreo_agents.CausalPolicy, oreo_agents.PromptFormat, PolicyAgent):
        assert kind.from_pretrained("~/policy")
    assert oreo_agents.TokenValue.from_policy("~/policy") and oreo_agents.TokenValue.from_pretrained("~/value")
    episodes = oreo_agents.demonstrations("arithmetic", policy, tasks=4)
    episodes.save("~/episodes")
    assert oreo_agents.EpisodeBuffer.load("~/episodes").folder == home / "episodes"
    oreo_agents.train("sft", policy, "~/episodes", folder="~/trained", epochs=1)
    config = oreo_agents.TrainerConfig(tracker="none")
    models = oreo_algos.Models(policy)
    encoded = oreo_agents.collect(policy, "arithmetic", tasks=2, samples=1, max_new_tokens=2)
    oreo_algos.train(Sft(epochs=1), models, encoded, config, "~/again")
    assert {path.name for path in home.iterdir()} >= {"both", "policy", "value", "episodes", "trained", "again"}


def test_of_records_and_results(home: Path):
    def agent(messages: Any) -> str:
        return "1"

    oreo_envs.evaluate(agent, "oreo/Arithmetic-v0", split="test", episodes=2, record="~/record")
    assert is_record("~/record") and read_settings("~/record") and len([*read_rows("~/record")]) == 2
    env = oreo_envs.Recorder(gym.make("oreo/Arithmetic-v0"), "~/recorder")
    env.close()
    (home / "run").mkdir()
    row = {"algo": "oreo", "search": "greedy", "env": "e", "split": "test", "seed": 0, "n": 4, "correct": 2}
    row |= {"accuracy": 0.5, "tokens_per_task": 3.0, "env_options": {}}
    (home / "run" / "results.json").write_text(json.dumps({"results": [row]}))
    assert len(oreo_agents.load_results("~/run")) == 1
    report(["~/run"], "~/out", quiet=True)
    assert (home / "out" / "report.md").is_file() and (home / "recorder").is_dir()
