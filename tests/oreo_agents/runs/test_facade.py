"""The suite from Python: the page runs, mistakes get sentences, everything prints as a line, notebooks are quiet."""

import asyncio
import dataclasses
import inspect
import re
import typing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_models import make_episode, make_model

import oreo_agents as oreo
import oreo_envs
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_agents.runs.facade import format_of
from oreo_algos import EpisodeBuffer, collate
from oreo_algos.algos import Dpo, Oreo

PAGE = Path(__file__).parents[3] / "docs" / "python.md"
BLOCKS = re.findall(r"(<!-- not run -->\n)?```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def env() -> gym.Env[str, str]:
    return oreo.make("arithmetic")


@pytest.fixture(scope="module")
def policy(env: gym.Env[str, str]) -> CausalPolicy:
    return oreo.new_policy(env, hidden_size=16, layers=1, heads=2, intermediate_size=16)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for left_out, block in BLOCKS:
        code = compile(block, str(PAGE), "exec")
        if not left_out:
            exec(code, names)
    said = capsys.readouterr().out
    assert "TrainResult(" in said and "Score(oreo/Arithmetic-v0 test, greedy: " in said and "\nReply(" in said
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["policy", "value"]
    first = next(block for _, block in BLOCKS)
    assert len([line for line in first.splitlines() if line and not line.startswith("import")]) <= 10


def test_the_page_names_all_there_is():
    table = PAGE.read_text(encoding="utf-8").partition("## All names")[2]
    assert {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    } == {*oreo.__all__}
    assert 20 <= len(oreo.__all__) <= 30


def test_every_function_says_what_it_takes_and_returns():
    for name in oreo.__all__:
        found = getattr(oreo, name)
        if inspect.isfunction(found):
            hints = typing.get_type_hints(found)
            assert {*inspect.signature(found).parameters, "return"} <= {*hints}, name


def test_a_policy_is_saved_alone_and_over_itself(policy: CausalPolicy, tmp_path: Path):
    policy.save(tmp_path / "a")
    (tmp_path / "a" / "notes.txt").write_text("mine", encoding="utf-8")
    loaded = oreo.load_policy(tmp_path / "a")
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.add_(0.5)
    loaded.save(str(tmp_path / "a"))
    again = oreo.load_policy(tmp_path / "a")
    for one, other in zip(loaded.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    assert (tmp_path / "a" / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert not [path for path in (tmp_path / "a").iterdir() if path.name.startswith(".")]
    assert format_of(again).fingerprint == format_of(policy).fingerprint


def test_weights_that_are_not_what_was_saved_leave_the_folder(policy: CausalPolicy, tmp_path: Path):
    for name in (
        "adapter_config.json",
        "pytorch_model.bin",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
    ):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    policy.save(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*model*")) == ["model.safetensors"]
    assert oreo.load_policy(tmp_path)


def test_a_policy_without_a_tokenizer_is_saved_without_one(tmp_path: Path):
    bare = CausalPolicy(make_model("llama"))
    bare.save(tmp_path / "bare")
    assert CausalPolicy.from_pretrained(str(tmp_path / "bare")).vocabulary == bare.vocabulary
    assert not list((tmp_path / "bare").glob("tokenizer*"))
    with pytest.raises(ValueError, match="this policy has no tokenizer: set"):
        oreo.answer(bare, "x")


def test_a_new_value_starts_from_the_policy_as_it_is(policy: CausalPolicy):
    value = oreo.new_value(policy)
    assert torch.equal(value.plain.get_input_embeddings().weight, policy.plain.get_input_embeddings().weight)
    assert value.tokenizer_fingerprint == policy.tokenizer_fingerprint != ""
    assert oreo.answer(policy, "x", value=value, samples=2, max_tokens=4).start_value == 0.0
    assert oreo.new_value(policy, bias=0.25).plain.score.bias.item() == 0.25


def test_adapters_are_part_of_a_value_that_starts_from_them(policy: CausalPolicy, tmp_path: Path):
    policy.save(tmp_path)
    adapted = oreo.load_policy(tmp_path, lora=Lora(rank=2, save="adapter"))
    before = oreo.new_value(adapted)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.add_(1.0)
    changed = [
        not torch.equal(one, other)
        for one, other in zip(before.parameters(), oreo.new_value(adapted).parameters(), strict=True)
    ]
    assert any(changed) and adapted.lora.save == "adapter"
    assert "adapters of rank 2" in repr(adapted)


def test_training_is_in_place_and_by_name(policy: CausalPolicy, env: gym.Env[str, str], tmp_path: Path):
    trained = oreo.new_policy(env, hidden_size=16, layers=1, heads=2, intermediate_size=16)
    before = [parameter.clone() for parameter in trained.parameters()]
    shown = oreo.demonstrations(env, trained, tasks=8)
    assert shown.tokenizer_fingerprint == trained.tokenizer_fingerprint and len(shown) == 8
    shown.save(tmp_path / "shown")
    result = oreo.train("sft", trained, tmp_path / "shown", epochs=1, batch_size=4, folder=tmp_path / "run")
    assert result.steps == 2 and (tmp_path / "run" / "metrics.jsonl").exists()
    assert not all(torch.equal(one, other) for one, other in zip(before, trained.parameters(), strict=True))
    bare = EpisodeBuffer([make_unencoded(episode) for episode in shown])
    assert oreo.train("sft", policy, bare, epochs=1).examples == 8, "what nobody has encoded is encoded first"


def make_unencoded(episode: Any) -> Any:
    empty = np.zeros(0, np.int32)
    return dataclasses.replace(episode, tokens=empty, step_id=empty, loss_mask=None, behavior_logprobs=None)


def test_episodes_that_tell_nothing_apart_are_said_to(env, caplog):
    policy = oreo.new_policy(env, hidden_size=16, layers=1, heads=2, intermediate_size=16)
    episodes = oreo.demonstrations(env, policy, tasks=4)
    told = [dataclasses.replace(each, rewards=0 * each.rewards, success=False, info={}) for each in episodes]
    failures = EpisodeBuffer(told, tokenizer_fingerprint=episodes.tokenizer_fingerprint)
    value = oreo.new_value(policy)
    oreo.train("oreo", policy, failures, value=value, value_warmup_steps=1, epochs=1)
    assert "equal_rewards: all 4 episodes have the return 0; there is nothing to tell good actions" in caplog.text
    caplog.clear()
    oreo.train("sft", policy, episodes)
    assert "equal_rewards" not in caplog.text


def test_an_algorithm_by_name_is_that_of_the_command_line():
    assert oreo.algorithm("oreo") == Oreo() and oreo.algorithm("oreo-step", beta=0.2) == Oreo(
        granularity="step", alpha=0.1, beta=0.2
    )
    assert oreo.algorithm("dpo", tiny=True).policy_lr > Dpo().policy_lr


def test_collection_and_evaluation_are_the_same_each_time(policy: CausalPolicy, env: gym.Env[str, str]):
    how = {"tasks": 3, "samples": 2, "max_new_tokens": 8}
    first, second = oreo.collect(policy, env, **how), oreo.collect(policy, env, **how)
    assert len(first) == 6 and first.content_hash == second.content_hash
    score = oreo.evaluate(
        policy, oreo.make("arithmetic", split="test"), tasks=4, max_new_tokens=8, search="majority", samples=2
    )
    assert (len(score), score.search, score.accuracy, score.interval[0]) == (4, "majority", 0.0, 0.0)
    assert score.summary()["n"] == 4 and "| oreo/Arithmetic-v0, test | majority | 0 of 4 |" in score._repr_markdown_()


MISTAKES = [
    (lambda p, e: oreo.make("gsmk"), "unknown environment.*did you mean 'gsm8k'"),
    (lambda p, e: oreo.make("arithmetic", splitt="test"), "has no argument 'splitt'"),
    (lambda p, e: oreo.make("arithmetic", split="tset"), "did you mean 'test'"),
    (lambda p, e: oreo.load_policy("/no/where"), "there is no such folder"),
    (lambda p, e: oreo.new_policy(e, hidden=3), "TinyConfig has no setting 'hidden'"),
    (lambda p, e: oreo.algorithm("orio"), r"unknown algorithm 'orio'; did you mean 'oreo'\? \(known: "),
    (lambda p, e: oreo.algorithm("oreo", betta=1), "Oreo has no setting 'betta'; did you mean 'beta'"),
    (lambda p, e: oreo.algorithm("oreo", beta=-1), "beta"),
    (lambda p, e: oreo.train("oreo", p, EpisodeBuffer([])), "give value=new_value"),
    (lambda p, e: oreo.answer(p, "x", search="best_of_n"), "best_of_n chooses by V: give value="),
    (lambda p, e: oreo.answer(p, "x", search="best"), "unknown search 'best'"),
    (lambda p, e: oreo.answer(p, "x", search="majority", sample=3), "Majority has no setting 'sample'; did you mean"),
    (lambda p, e: oreo.answer(p, "x", max_new_tokens=4), "max_new_tokens is called max_tokens here"),
    (lambda p, e: oreo.answer(p, "x " * 600), "this question has .* tokens, and the context is 512"),
    (lambda p, e: oreo.collect(p, oreo.make("arithmetic", split="test")), "split 'test' is held out"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_mistake_gets_a_sentence(mistake: Any, message: str, policy: CausalPolicy, env: gym.Env[str, str]):
    with pytest.raises(ValueError, match=message):
        mistake(policy, env)


def test_a_value_that_reads_other_tokens_is_refused(policy: CausalPolicy, tmp_path: Path):
    other = oreo.new_policy(oreo.make("countdown"), hidden_size=16, layers=1, heads=2, intermediate_size=16)
    oreo.save(tmp_path, other, oreo.new_value(other))
    with pytest.raises(ValueError, match="has another tokenizer than the policy"):
        oreo.load_value(tmp_path, policy)


def test_everything_prints_as_one_short_line(policy: CausalPolicy):
    episode = make_episode([1, 2], [3, 4], task_id="a/1")
    batch = collate([episode])
    value = TokenValue(make_value())
    scores = CausalPolicy(make_model("llama")).score(batch)
    things = [episode, EpisodeBuffer([episode]), batch, policy, value, scores, format_of(policy)]
    things.append(oreo.TrainResult(3, 4, 1, {"loss": 0.5, "train/grad_norm": 1.0}, 2.0))
    for thing in things:
        said = repr(thing)
        assert "\n" not in said and "tensor(" not in said and "array(" not in said and len(said) < 200, said
        assert said.startswith(type(thing).__name__)
    assert repr(things[-1]) == "TrainResult(3 steps, 4 examples, 1 too long, loss=0.5, 2.0 CPU s)" == str(things[-1])
    assert "Episode('a/1', 1 steps, 4 tokens, " in repr(episode)


def make_value() -> Any:
    from transformers import LlamaForTokenClassification

    config = make_model("llama").config
    config.num_labels, config.classifier_dropout = 1, 0.0
    return LlamaForTokenClassification(config).eval()


def test_prompts_of_copies_are_those_of_the_policy(policy: CausalPolicy):
    written = format_of(policy)
    assert isinstance(written, PromptFormat) and format_of(policy.frozen_copy()) is written


def test_a_running_loop_is_no_obstacle():
    async def notebook() -> list[str]:
        async def agent(messages: Any) -> str:
            return "The answer is 3."

        how: dict[str, Any] = {"split": "test", "episodes": 3, "num_envs": 2}
        found = [oreo_envs.evaluate(one, "oreo/Arithmetic-v0", **how) for one in (agent, lambda messages: "3")]
        return [str(one) for one in found]

    assert all("of 3 tasks solved" in said for said in asyncio.run(notebook()))


def test_another_application_of_hydra_goes_on():
    from hydra import compose, initialize_config_dir

    from oreo_agents.runs.overrides import config_folder

    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        assert oreo.algorithm("dpo", beta=0.5).beta == 0.5
        assert compose("eval").label is None


@pytest.mark.slow
def test_a_notebook_is_quiet(tmp_path: Path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    cells = [nbformat.v4.new_code_cell(block) for left_out, block in BLOCKS if not left_out]
    cells.append(nbformat.v4.new_code_cell("oreo.evaluate(policy, test, tasks=2, max_new_tokens=8)"))
    book = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(
        book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in book.cells for output in cell.outputs]
    errors = "".join(output["text"] for output in outputs if output.get("name") == "stderr")
    assert "arning" not in errors.replace("warnings.jsonl", "") and "install" not in errors and "fork" not in errors
    assert "text/markdown" in outputs[-1]["data"]


@pytest.fixture(scope="module")
def other() -> CausalPolicy:
    return oreo.new_policy("countdown", hidden_size=16, layers=1, heads=2, intermediate_size=16)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p, o, e: oreo.evaluate(p, e, value=oreo.new_value(o), search="best_of_n"), "another tokenizer"),
        (lambda p, o, e: oreo.answer(p, "?", value=oreo.new_value(o)), "another tokenizer"),
        (lambda p, o, e: oreo.train("dpo", p, [], reference=o), "reference has another tokenizer"),
        (lambda p, o, e: oreo.train("dpo", p, [], reference=p), "reference is the policy itself"),
        (lambda p, o, e: oreo.answer(p, "?", value=p), "value is a TokenValue"),
        (lambda p, o, e: oreo.evaluate(oreo.new_value(p), e), "policy is one of load_policy"),
        (lambda p, o, e: oreo.evaluate("mine", e), "policy is one of load_policy"),
        (lambda p, o, e: oreo.collect(e, p), "env is an environment"),
        (lambda p, o, e: oreo.save("unwritten", p, oreo.new_value(o)), "another tokenizer"),
        (lambda p, o, e: oreo.evaluate(p, e, search=3), "expected a name"),
        (
            lambda p, o, e: oreo.evaluate(p, e, search="sampled", temperature="x"),
            "Sampled.temperature must be a number",
        ),
        (lambda p, o, e: oreo.make(None), "make takes the id"),
        *(
            (lambda p, o, e, asked=asked: oreo.answer(p, asked), "asked is a question or messages")
            for asked in (
                None,
                3,
                b"x",
                [],
                ["a"],
                "\ud800",
                [{"role": "user"}],
                [{"role": "bot", "content": "x"}],
                [{"role": "assistant", "content": "x"}],
            )
        ),
        (lambda p, o, e: oreo.answer(p, "?", stops="ab"), "stops is a list"),
        (lambda p, o, e: oreo.answer(p, "?", stops=[""]), "stops is a list"),
        (lambda p, o, e: oreo.answer(p, "?", seed="s"), "seed must be an integer"),
        (lambda p, o, e: oreo.answer(p, "?", max_tokens=1.5), "max_tokens must be an integer"),
        (lambda p, o, e: oreo.new_value(None), "policy is one of"),
        (lambda p, o, e: oreo.new_value(p, bias=float("nan")), "bias is a finite number"),
        (lambda p, o, e: oreo.train("sft", p, []), "episodes are an EpisodeBuffer"),
        (lambda p, o, e: oreo.train("sft", p, EpisodeBuffer([]), trainer=3), "trainer is a TrainerConfig"),
        (lambda p, o, e: oreo.train("sft", p, EpisodeBuffer([]), folder=__file__), "this is a file"),
        (lambda p, o, e: oreo.save(__file__, p), "this is a file"),
        (lambda p, o, e: oreo.new_policy(e, layers=0), "layers"),
        (lambda p, o, e: oreo.new_policy(e, hidden_size=0), "hidden_size"),
        *(
            (lambda p, o, e, call=call, bad=bad: call(p, e, **bad), f"{next(iter(bad))} must be an integer")
            for call in (oreo.collect, lambda p, e, **bad: oreo.demonstrations(e, p, **bad))
            for bad in ({"tasks": 0}, {"tasks": -1}, {"tasks": 1.5}, {"samples": 0}, {"seed": -1}, {"seed": "x"})
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(policy, other, env, call, said, tmp_path, monkeypatch):
    """A value of other tokens once ranked answers by noise, and a policy was held to itself."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said):
        call(policy, other, env)
    assert list(tmp_path.iterdir()) == []
