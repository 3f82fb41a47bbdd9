"""The glossary of metrics: everything that trainings log is in it, nothing else is, and the page is made from it."""

from pathlib import Path

import pytest
from tabular import sampled, tiny_models, with_twins
from training_runs import run

from oreo_algos import EpisodeBuffer, algos
from oreo_algos.training.curve import Evaluation
from oreo_algos.training.glossary import PAGE, described, markdown, metrics

ROOT = Path(__file__).parents[3]

# Every algorithm, and the options that log numbers of their own.
TRAININGS = [
    algos.Sft(observation_weight=0.1),
    algos.MoreSft(),
    algos.RejectionSampling(observation_weight=0.1),
    algos.Dpo(),
    algos.Dpo(loss_type="ipo"),
    algos.Dpo(compared="step", nll_weight=1.0),
    algos.DirectAdvantage(value_warmup_steps=1),
    algos.ImplicitPrm(),
    algos.Grpo(alpha=0.1),
    algos.Kto(),
    algos.ConstantBaseline(),
    algos.AsymRe(),
    algos.Topr(),
    algos.OptimalAdvantage(),
    algos.AdvantageWeighted(),
    algos.Dqo(value_warmup_steps=1),
    algos.Oreo(value_warmup_steps=1, kl_target=0.1, positive_hinge=0.1, nll_weight=0.1, target_decay=0.5),
    algos.Oreo(granularity="step", kl="k3", consistency="one_step", importance_cap=1.0),
    algos.Oreo(granularity="response", value_only=True),
]


def judge(step):
    return Evaluation({}, 0.5)


@pytest.fixture(scope="module")
def logged(tmp_path_factory, random_episodes):
    """Names by algorithm, of short trainings."""
    buffer = EpisodeBuffer(sampled(with_twins(random_episodes(14), 4)))
    found = {}
    for number, algorithm in enumerate(TRAININGS):
        folder = tmp_path_factory.mktemp(f"run{number}")
        _, rows, _ = run(algorithm, buffer, folder, tiny_models(), judge, evaluate_every=2, eval_on_start=True)
        found[number] = {name for row in rows for name in row} - {"step"}
    return found


def test_every_algorithm_of_the_package_is_trained_here():
    abstract = {algos.Algorithm, algos.EpisodeAlgorithm, algos.Losses}
    concrete = {getattr(algos, name) for name in algos.__all__} - abstract
    assert concrete == {type(algorithm) for algorithm in TRAININGS}


def test_nothing_is_logged_that_is_not_in_the_table(logged):
    names = set().union(*logged.values())
    assert {name for name in names if not any(metric.matches(name) for metric in metrics())} == set()


def test_nothing_is_in_the_table_that_no_training_logs(logged):
    """What is measured on environments, and written at the end of a run, is held against the table in its own room."""
    names = set().union(*logged.values())
    own = [metric for metric in metrics() if metric.name.startswith("train/") or metric.name == "eval/cpu_seconds"]
    assert [metric.name for metric in own if not any(metric.matches(name) for name in names)] == []


def test_the_kl_has_one_name(logged):
    with_kl = {type(TRAININGS[number]).__name__ for number, names in logged.items() if "train/kl" in names}
    assert with_kl == {"Kto", "ConstantBaseline", "Oreo", "Grpo"}
    assert {name for names in logged.values() for name in names if "kl" in name.split("/")} == {"train/kl"}


def test_entries_are_whole_sentences_and_name_modules():
    names = [metric.name for metric in metrics()]
    assert len(names) == len(set(names))
    for metric in metrics():
        assert metric.meaning.endswith(".") and (not metric.watch or metric.watch.endswith(".")), metric.name
        assert (ROOT / metric.source).is_file(), metric.name


def test_the_page_is_what_the_table_says():
    assert (ROOT / PAGE).read_text(encoding="utf-8") == markdown(), "run `make metrics`"


def test_one_entry_is_found_by_a_part_of_its_name_or_as_it_was_logged():
    assert described(["explained"]).startswith("train/bellman/explained_variance (share)")
    assert described(["eval/Arithmetic-v0/dev/accuracy"]).startswith("eval/<env>/<split>/accuracy (share)")
    assert described(["nothing-like-it"]) == ""
