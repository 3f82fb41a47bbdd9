"""What a run refuses, leaves out and reports; whole runs are in `tests/test_whole.py`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import numpy as np
import pytest
from filelock import FileLock
from tiny_models import make_model, make_tokenizer

from oreo_agents.episodes.collect import CollectSettings, SftSettings
from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.tasks import ENDLESS, EnvSettings, choose_indices, make_env
from oreo_agents.episodes.texts import text_episode
from oreo_agents.evaluation.evaluate import EvaluateSettings, Item
from oreo_agents.networks.policy import PolicySettings
from oreo_agents.networks.tiny import TinyConfig, byte_tokenizer, create_checkpoint
from oreo_agents.networks.value import ValueSettings
from oreo_agents.runs import cli
from oreo_agents.runs.doctor import examine_results
from oreo_agents.runs.loading import Loader
from oreo_agents.runs.pipeline import Run
from oreo_agents.runs.settings import IterationSettings, RunSettings
from oreo_agents.runs.starts import start_key
from oreo_agents.search import BestOfN, Greedy, Majority
from oreo_algos import EpisodeBuffer
from oreo_algos.algos import Dpo, MoreSft, Oreo, RejectionSampling, Sft
from oreo_algos.training.doctor import Thresholds

TINY = PolicySettings(tiny=TinyConfig(hidden_size=16, layers=1, heads=2, intermediate_size=16))


def gsm8k(folder: Path, *, train: Sequence[str], test: Sequence[str]) -> Path:
    folder.mkdir()
    for split, questions in (("train", train), ("test", test)):
        rows = [{"question": question, "answer": f"{i}\n#### {i}"} for i, question in enumerate(questions)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def settings(path: Path | None, **changes: Any) -> RunSettings:
    env = EnvSettings(id="oreo/GSM8K-v0", path=None if path is None else str(path))
    return RunSettings(
        env=env, policy=TINY, sft=SftSettings(demonstrations=0), collect=CollectSettings(samples=2), **changes
    )


def test_part_of_a_data_set_is_drawn_and_not_its_beginning(tmp_path: Path):
    env = make_env(
        EnvSettings(id="oreo/GSM8K-v0", path=str(gsm8k(tmp_path / "d", train=["q"], test=list("abcdefghij")))), "test"
    )
    part = choose_indices(env, 5, None)
    assert part == choose_indices(env, 5, None) and len(set(part)) == 5 and part != list(range(5))
    assert (
        choose_indices(env, 10, None)
        == choose_indices(env, 99, None)
        == choose_indices(env, None, 7)
        == list(range(10))
    )
    assert choose_indices(env, 5, 1) != choose_indices(env, 5, 2)


def test_all_tasks_of_an_environment_without_end_are_a_thousand():
    env = make_env(EnvSettings(id="oreo/Arithmetic-v0"), "test")
    assert choose_indices(env, 3, None) == [0, 1, 2]
    assert len(set(choose_indices(env, None, None))) == len(set(choose_indices(env, None, 3))) == ENDLESS


@pytest.mark.parametrize("seed", [None, 0])
def test_more_tasks_than_can_be_kept_are_refused(seed: int | None):
    env = make_env(EnvSettings(id="oreo/Arithmetic-v0"), "test")
    with pytest.raises(ValueError, match=r"1000000000 tasks are asked for: .* give at most 10000000"):
        choose_indices(env, 10**9, seed)


def test_an_unknown_environment_or_option_is_a_sentence():
    with pytest.raises(ValueError, match=r"no such environment; did you mean 'oreo/GSM8K-v0'"):
        EnvSettings(id="oreo/GSM8k-v0")
    with pytest.raises(
        ValueError, match=r"Arithmetic-v0 takes no wrold; did you mean 'world'\?; .*options of this one"
    ):
        make_env(EnvSettings(id="oreo/Arithmetic-v0", options={"wrold": 1}), "test")
    with pytest.raises(ValueError, match=r"single_turn is for agents .* leave it out"):
        make_env(EnvSettings(id="oreo/Arithmetic-v0", options={"single_turn": True}), "test")


@pytest.mark.parametrize("path", [None, "somewhere"])
def test_options_of_another_environment_are_named_and_so_is_a_missing_path(path, monkeypatch):
    monkeypatch.delenv("OREO_DATA", raising=False)
    with pytest.raises(ValueError) as error:
        make_env(EnvSettings(id="oreo/QA-v0", path=path, options={"prompt": "boxed", "num_verbs": 6}), "test")
    assert "oreo/QA-v0 takes no num_verbs; an experiment that is made for another" in str(error.value)
    assert ("set env.path=... or OREO_DATA" in str(error.value)) == (path is None)


def test_one_file_does_not_serve_as_train_and_test_split(tmp_path: Path):
    file = gsm8k(tmp_path / "d", train=["a"], test=["b"]) / "test.jsonl"
    run = Run(settings(file), tmp_path / "run")
    run.make_env("test")
    with pytest.raises(ValueError, match="training and evaluation would see the same tasks"):
        run.make_env("train")


def test_a_checkpoint_is_known_by_its_own_files_not_by_all_that_lies_below(tmp_path: Path):
    """A home folder in its place was read whole."""
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    given = RunSettings(env=EnvSettings(id="oreo/GSM8K-v0"), policy=PolicySettings(path=str(tmp_path)))
    before = start_key(given)
    (tmp_path / "a" / "b" / "c" / "file").write_text("")
    assert start_key(given) == before
    (tmp_path / "config.json").write_text("{}")
    assert start_key(given) != before


def test_neither_do_a_list_with_a_file_and_a_saved_data_set(tmp_path: Path):
    folder = gsm8k(tmp_path / "d", train=["a"], test=["b"])
    more = gsm8k(tmp_path / "e", train=["c"], test=["d"])
    env = EnvSettings(id="oreo/GSM8K-v0", path=[str(folder), str(more)])
    run = Run(RunSettings(env=env, policy=TINY), tmp_path / "run")
    assert [run.settings.env_maker(split)().unwrapped.num_tasks for split in ("train", "test")] == [2, 2]
    before = start_key(run.settings)
    (more / "train.jsonl").write_text("")
    assert start_key(run.settings) != before, "the files of all places are what the start is made from"
    for path in ([str(folder), str(more / "test.jsonl")], str(saved_data_set(tmp_path / "saved"))):
        run = Run(RunSettings(env=EnvSettings(id="oreo/GSM8K-v0", path=path), policy=TINY), tmp_path / "run")
        with pytest.raises(ValueError, match="training and evaluation would see the same tasks"):
            run.make_env("train")


def saved_data_set(folder: Path) -> Path:
    folder.mkdir()
    (folder / "state.json").write_text("{}")
    return folder


def test_evaluated_tasks_that_were_trained_on_are_counted_by_their_text(tmp_path: Path):
    data = gsm8k(tmp_path / "d", train=["x"], test=["seen", "new"])
    chosen = {"evaluate": EvaluateSettings(searches=("greedy",)), "searches": {"greedy": Greedy()}}
    run = Run(settings(data, algorithms={"dpo": Dpo()}, **chosen), tmp_path / "run")
    episode = text_episode(
        [{"role": "user", "content": "seen"}], ["#### 0"], [1.0], task_id="elsewhere", env_id="oreo/GSM8K-v0", info={}
    )
    EpisodeBuffer([episode]).save(run.start_folder / "data" / "episodes")
    items = [Item(f"gsm8k/test/{i}", True, None, 1, "0") for i in range(2)]
    lines = "".join(json.dumps(item.__dict__) + "\n" for item in items)
    for name in ("sft", "dpo"):
        (run.folder / name).mkdir()
        (run.folder / name / "items-test-greedy.jsonl").write_text(lines, encoding="utf-8")
    [row] = run.evaluate("dpo", "unused", None)
    assert row["seen_in_training"] == 1 and row["n"] == 2
    [row] = run.evaluate("sft", "unused", None)
    assert "seen_in_training" not in row
    [row] = run.evaluate("sft", "unused", str(run.folder / "dpo" / "value"))
    assert row["seen_in_training"] == 1


def test_held_out_tasks_that_ask_the_same_are_counted_and_warned_of_once(tmp_path: Path):
    data = gsm8k(tmp_path / "d", train=["x"], test=["a", "b", "a", "a"])
    chosen = {"evaluate": EvaluateSettings(searches=("greedy", "majority")), "searches": SEARCHES}
    run = Run(settings(data, **chosen), tmp_path / "run")
    items = [Item(f"gsm8k/test/{i}", True, None, 1, "0") for i in range(4)]
    for search in ("greedy", "majority"):
        path = run.folder / "sft" / f"items-test-{search}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(item.__dict__) + "\n" for item in items), encoding="utf-8")
    rows = run.evaluate("sft", "unused", None)
    assert [row["repeated"] for row in rows] == [2, 2] and all("seen_in_training" not in row for row in rows)
    found = [pair for pair in examine_results(rows, run.folder, Thresholds()) if pair[1].name == "repeated_tasks"]
    assert len(found) == 1 and found[0][0] == "sft" and "split test: 2 of 4 tasks ask" in found[0][1].text
    assert not any(
        finding.name == "repeated_tasks"
        for _, finding in examine_results(rows, run.folder, Thresholds(repeated_tasks=0.5))
    )


# --- searches for policies with a value

SEARCHES = {"greedy": Greedy(), "best_of_n": BestOfN(samples=2), "majority": Majority(samples=2)}


def test_value_searches_serve_policies_with_a_value_and_no_others(tmp_path: Path):
    data = gsm8k(tmp_path / "d", train=["x"], test=["a"])
    chosen = EvaluateSettings(searches=("greedy",), value_searches=("majority", "best_of_n", "greedy", "majority"))
    run = Run(settings(data, algorithms={"oreo": Oreo()}, evaluate=chosen, searches=SEARCHES), tmp_path / "run")
    (run.folder / "oreo").mkdir()
    line = json.dumps(Item("gsm8k/test/0", True, None, 1, "0").__dict__) + "\n"
    for search in SEARCHES:
        (run.folder / "oreo" / f"items-test-{search}.jsonl").write_text(line, encoding="utf-8")
    without, with_value = (
        run.evaluate("oreo", "unused", value) for value in (None, str(run.folder / "oreo" / "value"))
    )
    assert [row["search"] for row in without] == ["greedy"]
    assert [row["search"] for row in with_value] == ["greedy", "majority", "best_of_n"]


def test_a_value_that_serves_the_start_serves_those_of_the_value_searches_that_read_one(tmp_path: Path, monkeypatch):
    chosen = EvaluateSettings(searches=("greedy",), value_searches=("majority", "best_of_n"), start_value="oreo")
    algorithms = {"oreo": Oreo(), "oreo-step": Oreo(granularity="step"), "dpo": Dpo()}
    run = Run(settings(None, algorithms=algorithms, evaluate=chosen, searches=SEARCHES), tmp_path)
    monkeypatch.setattr(run, "sft", lambda: "the start")
    for name in ("oreo", "oreo-step"):
        (run.folder / name / "value").mkdir(parents=True)
    evaluate = Mock(return_value=[])
    monkeypatch.setattr(run, "evaluate", evaluate)
    for name in algorithms:
        run._evaluate_round(name, 1)
    policies = {name: str(run.folder / name / "policy") for name in algorithms}
    values = {name: str(run.folder / name / "value") for name in algorithms}
    assert evaluate.call_args_list == [
        call("oreo", policies["oreo"], values["oreo"]),
        call("sft", "the start", values["oreo"], searches=["best_of_n"]),
        call("oreo-step", policies["oreo-step"], values["oreo-step"]),
        call("dpo", policies["dpo"], None),
    ]


def test_value_searches_are_named_among_the_searches():
    with pytest.raises(
        ValueError, match=r"evaluate.value_searches: unknown search 'best_of_m'; did you mean 'best_of_n'"
    ):
        settings(None, evaluate=EvaluateSettings(value_searches=("best_of_m",)), searches=SEARCHES)
    with pytest.raises(ValueError, match=r"value_searches must be a list"):
        EvaluateSettings(value_searches="majority")


# --- supervised fine-tuning that goes on


def test_a_run_goes_on_with_supervised_fine_tuning_on_new_demonstrations(tmp_path: Path):
    chosen = RunSettings(
        env=EnvSettings(id="oreo/Arithmetic-v0", options={"verbs_per_problem": [1, 1]}),
        policy=TINY,
        sft=SftSettings(demonstrations=8, samples=2, algorithm=Sft(batch_size=8, epochs=1, policy_lr=1e-3)),
        collect=CollectSettings(tasks=2, samples=1, sampling=Sampling(max_new_tokens=4)),
        algorithms={"sft-more": MoreSft(batch_size=8, policy_lr=1e-3, samples=3, observation_weight=0.5)},
        iteration=IterationSettings(rounds=2),
        searches={"greedy": Greedy()},
        evaluate=EvaluateSettings(tasks=2, value_searches=("greedy",), sampling=Sampling(max_new_tokens=4)),
        workers=1,
    )
    run = Run(chosen, tmp_path)
    rows = run.train_and_evaluate(["sft", "sft-more"])
    assert [(row["algo"], row["search"], row["n"]) for row in rows] == [
        (name, "greedy", 2) for name in ("sft", "sft-more", "sft-more-round2")
    ]
    found = {
        name: json.loads((tmp_path / name / "summary.json").read_text(encoding="utf-8"))
        for name in ("sft", "sft-more", "sft-more-round2")
    }
    assert [summary["episodes"] for summary in found.values()] == [16, 24, 48]
    buffers = [[part["path"] for part in summary["buffers"]] for summary in found.values()]
    more = ["sft-more/data/episodes", "sft-more-round2/data/episodes"]
    assert buffers == [["data/demonstrations"], more[:1], more]
    assert [summary["policy"] for summary in found.values()] == ["start", "sft/policy", "sft-more/policy"]
    shown, *later = (EpisodeBuffer.load(tmp_path / part) for part in ["data/demonstrations", *more])
    assert all(set(buffer.by_task()) == set(shown.by_task()) for buffer in later)
    seeds = [episode.info["seed"] for buffer in (shown, *later) for episode in buffer]
    assert len(set(seeds)) == 2 + 3 + 3
    for name, steps in (("sft", 2), ("sft-more", 3), ("sft-more-round2", 6)):
        metrics = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        assert len(metrics) == steps
        assert all(("train/nll/observations" in row) == (name != "sft") for row in metrics), name


def test_an_algorithm_with_nothing_to_learn_is_named_with_its_reason(tmp_path: Path, checkpoint, monkeypatch):
    failed = text_episode(
        [{"role": "user", "content": "q"}], ["no"], [0.0], task_id="t", env_id="oreo/GSM8K-v0", info={"success": False}
    )
    fingerprint = PromptFormat.from_pretrained(checkpoint("llama")).fingerprint
    EpisodeBuffer([failed], tokenizer_fingerprint=fingerprint).save(tmp_path / "b")
    algorithms = {"rejection": RejectionSampling(), "dpo": Dpo()}
    data = gsm8k(tmp_path / "d", train=["q"], test=["t"])
    run = Run(settings(data, algorithms=algorithms, data=str(tmp_path / "b")), tmp_path / "run")
    run.sft = lambda: checkpoint("llama")  # type: ignore[method-assign]
    assert "none of the 1 episodes" in (run._nothing_to_learn("rejection", 1) or "")
    assert "no preference pairs" in (run._nothing_to_learn("dpo", 1) or "")
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="a mistake of ours"):
        patch.setattr(Dpo, "select", Mock(side_effect=ValueError("a mistake of ours")))
        run._nothing_to_learn("dpo", 1)
    with pytest.raises(ValueError, match=r"rejection: none of the 1 episodes.*dpo: none of the 1 tasks"):
        run.train_and_evaluate(["rejection", "dpo"])


def test_a_buffer_of_another_environment_is_refused(tmp_path: Path, checkpoint):
    episode = text_episode(
        [{"role": "user", "content": "q"}], ["#### 1"], [1.0], task_id="t", env_id="oreo/MATH-v0", info={}
    )
    EpisodeBuffer([episode]).save(tmp_path / "b")
    chosen = settings(None, data=str(tmp_path / "b"))
    run = Run(chosen, tmp_path / "run")
    run.sft = lambda: checkpoint("llama")  # type: ignore[method-assign]
    fingerprint = EpisodeBuffer.load(tmp_path / "b").tokenizer_fingerprint
    assert fingerprint == ""
    with pytest.raises(ValueError, match="data encode"):
        run.episodes()
    prompt_format = PromptFormat.from_pretrained(checkpoint("llama"))
    EpisodeBuffer([episode], tokenizer_fingerprint=prompt_format.fingerprint).save(tmp_path / "b")
    with pytest.raises(ValueError, match=r"holds episodes of oreo/MATH-v0, and this run is about oreo/GSM8K-v0"):
        run.episodes()


def test_several_buffers_are_joined_in_their_order(tmp_path: Path, checkpoint):
    fingerprint = PromptFormat.from_pretrained(checkpoint("llama")).fingerprint
    for name in ("first", "second"):
        question = [{"role": "user", "content": name}]
        episode = text_episode(question, ["#### 1"], [1.0], task_id=name, env_id="oreo/GSM8K-v0", info={})
        EpisodeBuffer([episode], tokenizer_fingerprint=fingerprint).save(tmp_path / name)
    run = Run(settings(None, data=[str(tmp_path / "second"), str(tmp_path / "first")]), tmp_path / "run")
    run.sft = lambda: checkpoint("llama")  # type: ignore[method-assign]
    assert [episode.task_id for episode in run.episodes()] == ["second", "first"]


def test_bfloat16_weights_are_refused_for_full_fine_tuning(tmp_path: Path, checkpoint):
    policy = PolicySettings(path=checkpoint("llama"), dtype="bfloat16")
    run = Run(RunSettings(env=EnvSettings(id="oreo/GSM8K-v0"), policy=policy), tmp_path)
    with pytest.raises(ValueError, match=r"policy.dtype=bfloat16 would lose most updates"):
        run.load.models(Dpo(), checkpoint("llama"), EpisodeBuffer([]))


def test_a_changed_checkpoint_is_another_start(tmp_path: Path):
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "model.safetensors").write_bytes(b"one")
    chosen = RunSettings(env=EnvSettings(id="oreo/Arithmetic-v0"), policy=PolicySettings(path=str(tmp_path / "policy")))
    first = Run(chosen, tmp_path / "run", shared=tmp_path / "starts").start_folder
    assert Run(chosen, tmp_path / "run", shared=tmp_path / "starts").start_folder == first
    (tmp_path / "policy" / "model.safetensors").write_bytes(b"other")
    assert Run(chosen, tmp_path / "run", shared=tmp_path / "starts").start_folder != first


def test_a_run_folder_in_use_is_refused(tmp_path: Path, monkeypatch, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr("sys.argv", ["oreo", "run", f"hydra.run.dir={folder}"])
    with FileLock(folder / ".run.lock"), pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "another process works in this folder" in capsys.readouterr().err


def test_missing_held_out_data_is_missed_before_any_training(tmp_path: Path):
    run = Run(settings(tmp_path / "nowhere"), tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        run.train_and_evaluate(["sft"])
    assert not (run.folder / "start").exists()


def test_a_value_of_another_tokenizer_is_refused(tmp_path: Path, checkpoint):
    run = Run(settings(None), tmp_path / "run")
    start = tmp_path / "other"
    create_checkpoint(TINY.tiny, byte_tokenizer(["other text"], 258), start, seed=0)
    with pytest.raises(ValueError, match="has another tokenizer than the policy"):
        run.load.value(str(start), checkpoint("llama"))


def test_no_task_to_evaluate_is_refused():
    with pytest.raises(ValueError, match=r"evaluate.tasks must be at least 1, or null for all, got 0"):
        EvaluateSettings(tasks=0)


@pytest.mark.gpu
def test_a_small_run_works_on_a_gpu(tmp_path: Path):
    chosen = RunSettings(
        env=EnvSettings(id="oreo/Arithmetic-v0", options={"verbs_per_problem": [1, 1]}),
        policy=PolicySettings(tiny=TINY.tiny, device="cuda"),
        sft=SftSettings(demonstrations=32, algorithm=Sft(batch_size=8, epochs=1, policy_lr=1e-3)),
        collect=CollectSettings(tasks=4, samples=2),
        algorithms={"oreo": Oreo(batch_size=4, value_warmup_steps=2)},
        searches={"greedy": Greedy()},
        evaluate=EvaluateSettings(tasks=4),
    )
    rows = Run(chosen, tmp_path).train_and_evaluate(["sft", "oreo"])
    assert [row["algo"] for row in rows] == ["sft", "oreo"]
    assert all(np.isfinite(row["accuracy"]) for row in rows)


def test_a_tokenizer_that_is_larger_than_the_embedding_is_refused(tmp_path: Path):
    make_model("llama", vocabulary=200).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    load = Loader(PolicySettings(path=str(tmp_path), device="cpu"), ValueSettings())
    with pytest.raises(ValueError, match=r"tokenizer writes \d+ tokens and the model reads 200; give the tokenizer"):
        load.policy(str(tmp_path))
