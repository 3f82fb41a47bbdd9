"""Training in rounds: what each round learns from, starts from and writes down."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from oreo_agents.episodes.collect import CollectSettings, SftSettings, collect
from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.tasks import EnvSettings
from oreo_agents.evaluation.evaluate import EvaluateSettings
from oreo_agents.networks.policy import PolicySettings
from oreo_agents.networks.tiny import TinyConfig
from oreo_agents.runs import run_data
from oreo_agents.runs.pipeline import Run
from oreo_agents.runs.settings import IterationSettings, RunSettings
from oreo_agents.search import BestOfN, Greedy
from oreo_algos import EpisodeBuffer
from oreo_algos.algos import Oreo, RejectionSampling, Sft
from oreo_algos.training.warning_log import read_warnings

TINY = PolicySettings(tiny=TinyConfig(hidden_size=16, layers=1, heads=2, intermediate_size=16))
SHORT = Sampling(max_new_tokens=16)
ROUNDS = 3


def settings(**iteration) -> RunSettings:
    env = EnvSettings(
        id="oreo/Arithmetic-v0", options={"verbs_per_problem": [1, 1], "num_verbs": 2, "amount_range": [1, 1]}
    )
    return RunSettings(
        env=env,
        policy=TINY,
        sft=SftSettings(demonstrations=64, algorithm=Sft(batch_size=16, epochs=1, policy_lr=3e-3)),
        collect=CollectSettings(tasks=3, samples=2, sampling=SHORT),
        algorithms={"oreo": Oreo(batch_size=4, policy_lr=1e-3, value_lr=1e-2)},
        iteration=IterationSettings(rounds=ROUNDS, **iteration),
        searches={"greedy": Greedy(), "best_of_n": BestOfN(samples=2)},
        evaluate=EvaluateSettings(tasks=2, searches=["greedy", "best_of_n"], start_value="oreo", sampling=SHORT),
        workers=1,
    )


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def carried(tmp_path_factory) -> Run:
    run = Run(settings(), tmp_path_factory.mktemp("carried"))
    run.seeds = []  # type: ignore[attr-defined]

    def watched(*arguments, seed, selection_seed, **options):
        run.seeds.append((seed, selection_seed))  # type: ignore[attr-defined]
        return collect(*arguments, seed=seed, selection_seed=selection_seed, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_data, "collect", watched)
        run.train_and_evaluate(["sft", "oreo"])
    return run


@pytest.fixture
def copy(carried: Run, tmp_path: Path) -> Path:
    """A folder of the same finished run, to go on in."""
    return Path(shutil.copytree(carried.folder, tmp_path / "copy"))


def stamps(folder: Path) -> dict[str, int]:
    names = ("*.safetensors", "metrics.jsonl", "items-*.jsonl", "part-*.parquet", "summary.json")
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for name in names for path in folder.rglob(name)}


def test_every_round_has_a_folder_and_rows_with_its_number(carried: Run):
    rows = json.loads((carried.folder / "results.json").read_text(encoding="utf-8"))["results"]
    named = [(row["algo"], row.get("round")) for row in rows if row["search"] == "greedy"]
    assert named == [("sft", None), ("oreo", 1), ("oreo-round2", 2), ("oreo-round3", 3)]
    guided = [(row["algo"], row["round"], row["value"]) for row in rows if row["search"] == "best_of_n"]
    # The start is guided by the value of the first round alone, which was fitted to it.
    later = [(name, number, name) for name, number in (("oreo-round2", 2), ("oreo-round3", 3))]
    assert guided == [("oreo", 1, "oreo"), ("sft", 1, "oreo"), *later]
    assert all(row["settings"]["batch_size"] == 4 for row in rows if row["algo"] != "sft")
    for number in (2, 3):
        folder = carried.folder / f"oreo-round{number}"
        assert (folder / "policy" / "model.safetensors").exists() and (folder / "value" / "config.json").exists()


def test_a_round_collects_on_new_tasks_with_the_policy_before_and_says_so(carried: Run):
    buffers = [EpisodeBuffer.load(carried.folder / "data" / "episodes")]
    for number in (2, 3):
        buffers.append(EpisodeBuffer.load(carried.folder / f"oreo-round{number}" / "data" / "episodes"))
    collected = [(buffer.provenance["round"], buffer.provenance["policy"]) for buffer in buffers]
    assert collected == [(1, "sft/policy"), (2, "oreo/policy"), (3, "oreo-round2/policy")]
    tasks = [set(buffer.by_task()) for buffer in buffers]
    assert all(len(found) == 3 for found in tasks)
    assert tasks[0].isdisjoint(tasks[1]) and tasks[1].isdisjoint(tasks[2])
    assert all("/train/" in task for found in tasks for task in found)


def test_every_round_draws_and_selects_with_seeds_of_its_own(carried: Run):
    seeds = [seed for pair in carried.seeds for seed in pair]  # type: ignore[attr-defined]
    assert len(seeds) == len(set(seeds)) == 2 * ROUNDS


def test_the_episodes_of_every_round_are_examined(carried: Run):
    """Answers of this model are cut off at the limit."""
    for folder in (carried.folder, *(carried.folder / f"oreo-round{number}" for number in (2, 3))):
        assert "truncated" in [finding.name for finding in read_warnings(folder)]


def test_a_round_goes_on_from_the_one_before_with_all_data(carried: Run):
    expected = carried.episodes()
    for number, before in ((2, "oreo"), (3, "oreo-round2")):
        found = summary(carried.folder / f"oreo-round{number}")
        assert (found["policy"], found["reference"], found["value"]) == (f"{before}/policy",) * 2 + (f"{before}/value",)
        own = EpisodeBuffer.load(carried.folder / f"oreo-round{number}" / "data" / "episodes")
        expected = EpisodeBuffer.concatenate([expected, own])
        paths = ["data/episodes", *(f"oreo-round{k}/data/episodes" for k in range(2, number + 1))]
        assert [buffer["path"] for buffer in found["buffers"]] == paths
        newest = {"path": paths[-1], "content_hash": own.content_hash, "episodes": 6}
        assert found["buffers"][-1] == newest
        assert found["identity"] == expected.identity and found["episodes"] == 6 * number
    first = summary(carried.folder / "oreo")
    assert (first["policy"], first["reference"], first["value"]) == ("sft/policy", "sft/policy", None)


def test_data_reference_and_value_can_be_reset(carried: Run, tmp_path: Path):
    run = Run(settings(keep_data=False, reference="start", value="fresh"), tmp_path)
    run.train_and_evaluate(["oreo"])
    found = summary(run.folder / "oreo-round2")
    assert (found["policy"], found["reference"], found["value"]) == ("oreo/policy", "sft/policy", None)
    assert found["identity"] == EpisodeBuffer.load(run.folder / "oreo-round2" / "data" / "episodes").identity
    # The first round is the same in either case, so the same episodes are collected for the second.
    assert found["episodes"] == 6
    assert found["identity"] == EpisodeBuffer.load(carried.folder / "oreo-round2" / "data" / "episodes").identity
    start = run.load.models(
        run.settings.algorithms["oreo"], str(run.folder / "oreo" / "policy"), run.episodes(), reference_path=run.sft()
    )
    assert not start.policy_is_reference
    assert not any(parameter.requires_grad for parameter in start.reference.parameters())


def test_a_round_without_anything_to_learn_ends_the_rounds_and_keeps_what_was_done(tmp_path: Path):
    chosen = dataclasses.replace(
        settings(keep_data=False),
        algorithms={"rejection": RejectionSampling(policy_lr=1e-3, batch_size=4)},
        # Solvers' episodes, for the first round needs a success.
        collect=CollectSettings(source="demonstrations", tasks=12, samples=2, sampling=SHORT),
    )
    run = Run(chosen, tmp_path)
    run.prepare(episodes=True)
    failures = [episode for episode in run.episodes() if not episode.success]
    path = tmp_path / "rejection-round2" / "data" / "episodes"
    EpisodeBuffer(failures, tokenizer_fingerprint=run.episodes().tokenizer_fingerprint).save(path)
    rows = run.train_and_evaluate(["rejection"])
    assert [row["algo"] for row in rows] == ["rejection"]
    document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert "none of the" in document["skipped"]["rejection-round2"]
    assert not (tmp_path / "rejection-round2" / "policy").exists()


def test_an_error_while_a_round_collects_is_not_taken_for_nothing_to_learn(copy: Path, monkeypatch):
    def broken(*arguments, **options):
        raise ValueError("could not convert string to float: 'abc'")

    monkeypatch.setattr(run_data, "collect", broken)
    shutil.rmtree(copy / "oreo-round3")
    with pytest.raises(ValueError, match="could not convert string to float"):
        Run(settings(), copy).train_and_evaluate(["oreo"])


def test_a_finished_run_gets_another_round_and_nothing_else_is_done_again(copy: Path):
    before = stamps(copy)
    chosen = settings()
    more = dataclasses.replace(chosen, iteration=dataclasses.replace(chosen.iteration, rounds=ROUNDS + 1))
    rows = Run(more, copy).train_and_evaluate(["oreo"])
    assert [row["round"] for row in rows if row["search"] == "greedy"] == [1, 2, 3, 4]
    after = stamps(copy)
    assert before.items() < after.items()
    assert all(name.startswith("oreo-round4/") for name in after.keys() - before.keys())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"rounds": 2.5}, "rounds must be a whole number, got 2.5"),
        ({"rounds": True}, "rounds must be a whole number, got True"),
        ({"keep_data": "no"}, "keep_data must be true or false, got 'no'"),
        ({"reference": "old"}, "reference"),
        ({"value": "old"}, "value"),
    ],
)
def test_an_impossible_setting_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        IterationSettings(**options)
