"""Sizes by budget, from the settings to the rows, the table and the curve."""

import json
from pathlib import Path

import pytest

from oreo_agents.budget import at_budgets
from oreo_agents.evaluate import Item
from oreo_agents.pipeline import Run
from oreo_agents.report import accuracy_tables, report
from oreo_agents.results import load_entries
from oreo_agents.search import BestOfKActions, BestOfN, Greedy, Majority, Search, StepBeam
from oreo_agents.settings import EnvSettings, EvaluateSettings, PolicySettings, RunSettings, SftSettings
from oreo_agents.tiny import TinyConfig

SEARCHES: dict[str, Search] = {
    "greedy": Greedy(),
    "majority": Majority(temperature=0.7),
    "best_of_n": BestOfN(temperature=0.7),
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
    assert found["majority@400"].search == Majority(samples=9, temperature=0.7)
    assert BestOfKActions().sized(3).size == "3"


def test_an_answer_that_fits_a_budget_exactly_is_in_it(caplog: pytest.LogCaptureFixture):
    [contender] = at_budgets({"majority": Majority()}, [84], 42.0, "here")
    assert contender.search.size == "2" and not caplog.records


def test_a_budget_below_one_answer_is_a_warning_and_the_smallest_size(caplog: pytest.LogCaptureFixture):
    found = at_budgets(SEARCHES, [30], 42.5, "oreo on test")
    assert [contender.search.size for contender in found] == [None, "1", "1", "1 x 1"]
    assert "oreo on test: a budget of 30 tokens is too small, a greedy answer has 42 on average" in caplog.text


@pytest.mark.parametrize("budget", [200, [0], ["many"], "200"])
def test_a_budget_is_a_list_of_numbers(budget):
    with pytest.raises(ValueError, match=r"evaluate.budget must be a list of tokens a task, such as \[100,200\], got"):
        EvaluateSettings(budget=budget)


def test_one_search_without_brackets_is_explained():
    with pytest.raises(ValueError, match=r"evaluate.searches must be a list of at least one search, got 'greedy'"):
        EvaluateSettings(searches="greedy")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    settings = RunSettings(
        env=EnvSettings(id="oreo/Arithmetic-v0"),
        policy=PolicySettings(tiny=TinyConfig(hidden_size=16, layers=1, heads=2, intermediate_size=16)),
        sft=SftSettings(demonstrations=0),
        searches=SEARCHES,
        evaluate=EvaluateSettings(tasks=3, searches=["greedy", "majority"], budget=[8, 20]),
    )
    return Run(settings, tmp_path / "run")


def test_rows_say_budget_and_size_and_items_have_files_of_their_own(run: Run, monkeypatch: pytest.MonkeyPatch):
    asked: list[list[str]] = []

    def answer(make_env, policy, prompt_format, searches, indices, *rest, **options) -> dict[str, list[Item]]:
        asked.append(list(searches))
        return {
            label: [Item(f"t{i}", i > 0, None, 4 if label == "greedy" else 9, "1") for i in indices]
            for label in searches
        }

    monkeypatch.setattr("oreo_agents.pipeline.evaluate", answer)
    rows = run.evaluate("sft", run.start(), None)
    assert [(row["search"], row.get("budget"), row.get("size")) for row in rows] == [
        ("greedy", None, None),
        ("majority", 8, "2"),
        ("majority", 20, "5"),
    ]
    assert asked == [["greedy"], ["majority@8", "majority@20"]]
    assert {path.name for path in (run.folder / "sft").glob("items-*")} == {
        "items-test-greedy.jsonl",
        "items-test-majority@8.jsonl",
        "items-test-majority@20.jsonl",
    }
    # What is there is not answered again, and decides the same sizes.
    assert run.evaluate("sft", run.start(), None) == rows and len(asked) == 2


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
    names = {path.name for path in (tmp_path / "out" / "plots").iterdir()}
    assert names == {"accuracy.png", "budgets.png"}
