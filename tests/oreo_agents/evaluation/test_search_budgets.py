"""Sizes by budget, from the settings to the rows, the table and the curve."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from oreo_agents.episodes.collect import SftSettings
from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.tasks import EnvSettings
from oreo_agents.evaluation import plots
from oreo_agents.evaluation.budget import Contender, at_budgets, report_excess
from oreo_agents.evaluation.evaluate import EvaluateSettings, Item
from oreo_agents.evaluation.report import report
from oreo_agents.evaluation.results import load_entries
from oreo_agents.evaluation.tables import accuracy_tables
from oreo_agents.networks.policy import PolicySettings
from oreo_agents.networks.tiny import TinyConfig
from oreo_agents.runs import scorebook
from oreo_agents.runs.pipeline import Run
from oreo_agents.runs.settings import RunSettings
from oreo_agents.search import BestOfKActions, BestOfN, Greedy, Majority, Sampled, Search, StepBeam

SEARCHES: dict[str, Search] = {
    "greedy": Greedy(),
    "majority": Majority(),
    "best_of_n": BestOfN(),
    "step_beam": StepBeam(),
}


def test_every_search_has_the_size_that_a_budget_holds():
    found = {contender.label: contender for contender in at_budgets(SEARCHES, [100, 400], 42.5, "here")}
    sizes = {label: contender.search.size for label, contender in found.items()}
    # 100 / 42.5 = 2.4 and 400 / 42.5 = 9.4 answers.
    assert sizes == {
        "greedy": None,
        "majority@100": "2",
        "majority@400": "9",
        "best_of_n@100": "2",
        "best_of_n@400": "9",
        "step_beam@100": "1 x 2",
        "step_beam@400": "2 x 4",
    }
    assert found["majority@400"].search == Majority(samples=9)
    assert BestOfKActions().sized(3).size == "3"


@pytest.mark.parametrize(("budget", "size"), [(84, "1"), (127, "2"), (160, "3"), (170, "4")])
def test_a_part_of_an_answer_does_not_count(budget: int, size: str):
    [contender] = at_budgets({"majority": Majority()}, [budget], 42.5, "here")
    assert contender.search.size == size


def test_an_answer_that_fits_a_budget_exactly_is_in_it(caplog: pytest.LogCaptureFixture):
    [contender] = at_budgets({"majority": Majority()}, [84], 42.0, "here")
    assert contender.search.size == "2" and not caplog.records


def test_a_budget_below_one_answer_is_a_warning_and_the_smallest_size(caplog: pytest.LogCaptureFixture):
    found = at_budgets(SEARCHES, [30], 42.5, "oreo on test")
    assert [contender.search.size for contender in found] == [None, "1", "1", "1 x 1"]
    assert "oreo on test: a budget of 30 tokens is too small, a greedy answer has 42 on average" in caplog.text


@pytest.mark.parametrize("tokens", [209.0, 212.0])
def test_a_search_that_generated_more_than_its_budget_is_a_warning(tokens: float, caplog: pytest.LogCaptureFixture):
    report_excess(Contender("majority", Majority(), 200), tokens, "oreo on test")
    expected = "oreo on test: majority generated 212 tokens a task, 6% more than its budget of 200"
    assert (expected in caplog.text) == bool(caplog.records) == (tokens > 210)
    report_excess(Contender("greedy", Greedy()), 1e9, "oreo on test")
    assert len(caplog.records) < 2


@pytest.mark.parametrize("budget", [200, [0], ["many"], "200"])
def test_a_budget_is_a_list_of_numbers(budget):
    with pytest.raises(
        ValueError,
        match=r"\.budget must be a list.*, got",
    ):
        EvaluateSettings(budget=budget)


def test_one_search_without_brackets_is_explained():
    with pytest.raises(
        ValueError, match=r"searches must be a list, each a text, got 'greedy'; a list of one is \[greedy\]"
    ):
        EvaluateSettings(searches="greedy")


def make_settings(searches: dict[str, Search], *, budget: Sequence[int], asked: Sequence[str] = ()) -> RunSettings:
    return RunSettings(
        env=EnvSettings(id="oreo/Arithmetic-v0"),
        policy=PolicySettings(tiny=TinyConfig(hidden_size=16, layers=1, heads=2, intermediate_size=16)),
        sft=SftSettings(demonstrations=0),
        searches=searches,
        evaluate=EvaluateSettings(
            tasks=3, searches=asked or list(searches), budget=budget, sampling=Sampling(max_new_tokens=12)
        ),
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(make_settings(SEARCHES, budget=[8, 20], asked=["greedy", "majority"]), tmp_path / "run")


def test_rows_say_budget_and_size_and_items_have_files_of_their_own(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    asked: list[list[str]] = []

    def answer(make_env, policy, prompt_format, searches, indices, *rest, **options) -> Iterator[Any]:
        asked.append(list(searches))
        for label in searches:
            yield label, [Item(f"t{i}", i > 0, None, 4 if label == "greedy" else 9, "1") for i in indices]

    monkeypatch.setattr(scorebook, "evaluate", answer)
    rows = run.evaluate("sft", run.start(), None)
    assert [(row["search"], row.get("budget"), row.get("size")) for row in rows] == [
        ("greedy", None, None),
        ("majority", 8, "2"),
        ("majority", 20, "5"),
    ]
    assert asked == [["greedy"], ["majority@8", "majority@20"]]
    assert [record.getMessage() for record in caplog.records] == [
        "sft on test: majority generated 9 tokens a task, 12% more than its budget of 8; compare it by its tokens"
    ]
    assert {path.name for path in (run.folder / "sft").glob("items-*")} == {
        "items-test-greedy.jsonl",
        "items-test-majority@8.jsonl",
        "items-test-majority@20.jsonl",
    }
    # What is there is not answered again, and decides the same sizes.
    assert run.evaluate("sft", run.start(), None) == rows and len(asked) == 2


class Killed(Exception):
    """Stands for a kill signal."""


def items_in(run: Run) -> set[str]:
    return {path.name for path in (run.folder / "sft").glob("items-*")}


def test_a_kill_costs_the_search_that_was_going_on_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    searches = {"greedy": Greedy(), "sampled": Sampled(), "majority": Majority(samples=2)}
    run = Run(make_settings(searches, budget=()), tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Majority, "choose", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            run.evaluate("sft", run.start(), None)
    assert items_in(run) == {"items-test-greedy.jsonl", "items-test-sampled.jsonl"}
    with monkeypatch.context() as patch:
        patch.setattr(Sampled, "choose", lambda *_: (_ for _ in ()).throw(AssertionError("answered again")))
        rows = run.evaluate("sft", run.start(), None)
    assert [row["search"] for row in rows] == list(searches)
    whole = Run(make_settings(searches, budget=()), tmp_path / "whole")
    assert whole.evaluate("sft", run.start(), None) == rows


def test_the_length_of_an_answer_is_measured_greedily_whatever_is_called_greedy(tmp_path: Path):
    run = Run(make_settings({"greedy": Sampled(temperature=5.0)}, budget=[20]), tmp_path / "run")
    run.evaluate("sft", run.start(), None)
    assert items_in(run) == {"items-test-greedy.jsonl", "items-test-answer-length.jsonl"}
    run = Run(make_settings({"plain": Greedy()}, budget=[20]), tmp_path / "other")
    run.evaluate("sft", run.start(), None)
    assert items_in(run) == {"items-test-plain.jsonl"}


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        (
            Majority(samples=1, temperature=0),
            "search mine cannot have a size that a budget decides: temp",
        ),
        (BestOfKActions(), "search mine plays turn by turn"),
    ],
)
def test_what_no_budget_fits_is_refused_before_anything_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: Search, sentence: str
):
    run = Run(make_settings({"mine": search}, budget=[20]), tmp_path / "run")
    monkeypatch.setattr(scorebook, "evaluate", lambda *_, **__: pytest.fail("something was generated"))
    with pytest.raises(ValueError, match=sentence):
        run.evaluate("sft", run.start(), "value")


def test_a_search_that_was_asked_for_and_has_no_value_is_an_error(run: Run):
    with pytest.raises(
        ValueError, match="step_beam: these searches read a value network, and sft has none; give value"
    ):
        run.evaluate("sft", run.start(), None, searches=["greedy", "step_beam"])


def write_rows(folder: Path) -> Path:
    (folder / "sft").mkdir(parents=True)
    rows = []
    for search, budget, solved in [
        ("greedy", None, [1, 0, 0, 0]),
        ("majority", 100, [1, 0, 0, 0]),
        ("majority", 200, [1, 1, 0, 0]),
        ("step_beam", 100, [1, 1, 0, 0]),
        ("step_beam", 200, [1, 1, 1, 0]),
    ]:
        label = search if budget is None else f"{search}@{budget}"
        items = [{"task_id": f"t{i}", "correct": bool(x)} for i, x in enumerate(solved)]
        (folder / "sft" / f"items-test-{label}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        rows.append(
            {"algo": "sft", "search": search, "env": "oreo/Arithmetic-v0", "split": "test", "seed": 0, "n": 4}
            | {"correct": sum(solved), "accuracy": sum(solved) / 4, "tokens_per_task": 0.9 * (budget or 50)}
            | ({} if budget is None else {"budget": budget, "size": f"{budget // 50}"})
            | ({"value_tokens_per_task": 300.0} if search == "step_beam" else {})
        )
    (folder / "results.json").write_text(json.dumps({"results": rows}))
    return folder


def test_a_report_has_a_line_and_a_comparison_for_each_budget_and_a_curve(tmp_path: Path):
    run = write_rows(tmp_path / "run")
    [table] = accuracy_tables(load_entries([run / "results.json"]))
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["search"] == ["greedy", "majority", "majority", "step_beam", "step_beam"]
    assert columns["budget"] == ["", "100", "200", "100", "200"]
    assert columns["size"] == ["", "2", "4", "2", "4"]
    assert columns["tokens/task"] == ["45", "90", "180", "90", "180"]
    assert columns["V tokens/task"] == ["", "", "", "300", "300"]
    report([run], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| sft: step_beam, 100 tokens - majority | 1 | 4 | +25.0 |" in text
    assert "| sft: step_beam, 200 tokens - majority | 1 | 4 | +25.0 |" in text
    assert "| sft: step_beam, 200 tokens - greedy | 1 | 4 | +50.0 |" in text
    names = {path.name for path in (tmp_path / "out" / "plots").iterdir()}
    assert names == {"accuracy.png", "budgets.png"}


def test_the_curve_is_drawn_at_the_tokens_that_were_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    plots.plot_budgets(load_entries([write_rows(tmp_path / "run") / "results.json"]), tmp_path / "budgets.png")
    [axes] = figures[0].axes
    curves = [container[0].get_xydata().tolist() for container in axes.containers]
    # At 0.9 of each budget, see `write_rows`.
    assert curves == [[[90.0, 25.0], [180.0, 50.0]], [[90.0, 50.0], [180.0, 75.0]]]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--" and len(line.get_ydata())]
    assert [list(line.get_ydata()) for line in dashed] == [[25.0, 25.0]], "greedy decoding, across the panel"
    assert axes.get_xlim()[1] > 200 and list(axes.get_xticks()) == [100, 200]
    labels = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert labels == ["greedy", "majority", "step_beam"]
