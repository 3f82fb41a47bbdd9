"""A run whose tokens come from a server: the command, new weights for each policy, and what is refused."""

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_model, make_tokenizer

from oreo_agents.engines.line import ServerError
from oreo_agents.engines.settings import SamplerSettings
from oreo_agents.episodes.generate import Sampling
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.policy import CausalPolicy, PolicySettings
from oreo_agents.networks.value import TokenValue, ValueSettings
from oreo_agents.runs import cli
from oreo_agents.runs.engines import Engines, close_engines
from oreo_agents.runs.loading import Loader
from oreo_algos import EpisodeBuffer

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from fake_vllm import FakeVllm

SCRIPT = Path(__file__).parents[1] / "engines" / "fake_vllm.py"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two checkpoints of one shape."""
    found = []
    for seed in range(2):
        folder = tmp_path_factory.mktemp(f"policy{seed}")
        make_model("llama", seed=seed, context=512).save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
        found.append(str(folder))
    return found


@pytest.fixture
def server(folders: list[str]) -> Iterator[FakeVllm]:
    with FakeVllm(CausalPolicy.from_pretrained(folders[0]), load=CausalPolicy.from_pretrained) as fake:
        yield fake
    close_engines()


def loader(folder: Path, settings: SamplerSettings, **value: Any) -> Loader:
    policy = PolicySettings(device="cpu")
    return Loader(policy, ValueSettings(**value), Engines(settings, policy, value.get("url"), folder))


def test_each_policy_is_sampled_with_its_own_weights(server, folders, tmp_path):
    load = loader(tmp_path, SamplerSettings(engine="vllm", url=server.url, reload=True))
    for folder in (*folders, folders[0]):
        sampler = load.sampler(load.policy(folder), folder)
        sampler.generate([[5, 6]], (), Sampling(temperature=0, max_new_tokens=3))
    assert server.orders.count("/collective_rpc") == 2  # it began with the first
    assert len({asked["cache_salt"] for asked in server.asked if "-" not in asked["cache_salt"]}) == 2


def test_weights_are_loaded_only_where_that_is_wanted(server, folders, tmp_path):
    load = loader(tmp_path, SamplerSettings(engine="vllm", url=server.url))
    with pytest.raises(ServerError, match=r"other weights .*sampler.reload=true"):
        load.sampler(load.policy(folders[1]), folders[1])
    assert server.orders == []


def test_a_server_that_says_it_loaded_and_did_not_is_found(server, folders, tmp_path):
    load = loader(tmp_path, SamplerSettings(engine="vllm", url=server.url, reload=True))
    server.lie = "deaf"
    with pytest.raises(ServerError, match="other weights"):
        load.sampler(load.policy(folders[1]), folders[1])
    assert server.orders


def test_adapters_alone_are_not_given_to_a_server(server, folders, tmp_path):
    adapted = CausalPolicy.from_pretrained(folders[0], lora=Lora(rank=2, save="adapter"))
    adapted.save(tmp_path / "policy", make_tokenizer())
    load = loader(tmp_path, SamplerSettings(engine="vllm", command="no-such-command serve"))
    with pytest.raises(ServerError, match=r"holds adapters without the weights .*policy.lora.save=merged"):
        load.sampler(load.policy(str(tmp_path / "policy")), str(tmp_path / "policy"))


def test_a_value_is_read_where_its_url_says(server, folders, tmp_path):
    value = TokenValue.from_policy(folders[0])
    value.model.score.weight.data.normal_()  # type: ignore[union-attr, operator]
    value.save(tmp_path / "value", make_tokenizer())
    server.value = value
    load = loader(tmp_path, SamplerSettings(), path=str(tmp_path / "value"), url=server.url)
    judge = load.judge(str(tmp_path / "value"), folders[0])
    assert not judge.resumes and judge.values_after([[5, 6]], [])[0].shape == (1,)
    server.lie = "sigmoid"
    with pytest.raises(ServerError, match="a sigmoid is applied"):
        load.judge(str(tmp_path / "value"), folders[0])


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["oreo", *arguments, "hydra/job_logging=disabled"])
    cli.main()


COLLECT = ("collect", "collect.tasks=3", "collect.samples=2", "collect.sampling.max_new_tokens=8", "env=arithmetic")


def test_the_command_collects_by_a_server(server, folders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = (*COLLECT, f"policy.path={folders[0]}", "sampler=vllm", f"sampler.url={server.url}", "hydra.run.dir=out")
    command(monkeypatch, *given)
    buffer = EpisodeBuffer.load(tmp_path / "out" / "data" / "episodes")
    assert len(buffer) == 6 and buffer.provenance["sampler"] == "vllm"
    assert len(server.asked) >= 6
    # Another server goes on in the same folder; what is there is not asked for again.
    server.die()
    command(monkeypatch, *given[:-2], "sampler.url=http://127.0.0.1:9", "hydra.run.dir=out")
    assert "6 episodes of " in capsys.readouterr().out


def test_a_lie_ends_the_command_with_its_sentence(server, folders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    server.lie = "raw"
    given = (*COLLECT, f"policy.path={folders[0]}", "sampler=vllm", f"sampler.url={server.url}", "hydra.run.dir=out")
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, *given)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith(f"oreo: {server.url}") and "processed_logprobs" in said
    assert not (tmp_path / "out" / "data" / "episodes").exists()


def test_processes_side_by_side_do_not_share_a_server(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        command(monkeypatch, "run", "sampler=vllm", "sampler.url=http://127.0.0.1:9", "workers=2", "hydra.run.dir=out")
    assert "workers=2: with sampler=vllm one server has one policy at a time" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_starts_its_own_server_and_gives_it_the_weights_of_each_round(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":".join(map(str, [SCRIPT.parent, SCRIPT.parents[1], *sys.path])))
    serve = f"{shlex.quote(sys.executable)} {shlex.quote(str(SCRIPT))} serve"
    command(
        monkeypatch,
        *("run", "experiment=smoke", "rounds=2", "algos=[rejection]", "collect.tasks=8", "evaluate.tasks=8"),
        *("sampler=vllm", f"sampler.command='{serve}'", "collect.samples=4", "hydra.run.dir=out"),
    )
    out = tmp_path / "out"
    rows = json.loads((out / "results.json").read_text())["results"]
    assert {row["algo"] for row in rows} == {"sft", "rejection", "rejection-round2"} and (
        out / "rejection-round2" / "policy"
    ).is_dir()
    assert (out / "sampler.log").exists()
