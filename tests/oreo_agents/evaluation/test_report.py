"""Run folders, written by hand, to tables."""

import json
from pathlib import Path

import pytest
from written_runs import ENV, ONE_RUN, OREO, SFT, cells, load, write_run

from oreo_agents.evaluation.comparisons import comparison_tables
from oreo_agents.evaluation.report import report
from oreo_agents.evaluation.results import compare_entries, load_entries
from oreo_agents.evaluation.statistics import RunKey, accuracy, compare, wilson_interval
from oreo_agents.evaluation.tables import accuracy_tables


def test_one_run_has_a_wilson_interval_over_tasks(tmp_path: Path):
    one = load(write_run(tmp_path / "run", ONE_RUN))["oreo", "greedy"]
    assert one.accuracy == 5 / 8 and one.interval == pytest.approx(wilson_interval(5, 8))


def test_several_runs_have_the_interval_of_their_answers(tmp_path: Path):
    runs = [write_run(tmp_path / str(k), {("oreo", "greedy"): x}, seed=k) for k, x in enumerate((OREO, SFT, OREO))]
    several = load(*runs)["oreo", "greedy"]
    expected = accuracy(
        {RunKey("{}", k): {f"t{i}": float(x) for i, x in enumerate(own)} for k, own in enumerate((OREO, SFT, OREO))}
    )
    assert several.accuracy == pytest.approx(expected.mean) and several.interval == (expected.low, expected.high)


def test_several_runs_without_their_items_have_no_interval(tmp_path: Path):
    runs = [write_run(tmp_path / str(seed), {("oreo", "greedy"): OREO}, seed=seed) for seed in (0, 1)]
    (runs[1] / "oreo" / "items-test-greedy.jsonl").unlink()
    [table] = accuracy_tables(list(load(*runs).values()))
    assert cells(table)[0][5] == "no items"


def stamp(run: Path, **weights: str) -> Path:
    """Tell the weights of the rows of a run."""
    document = json.loads((run / "results.json").read_text())
    document["results"] = [row | weights for row in document["results"]]
    (run / "results.json").write_text(json.dumps(document))
    return run


def test_a_checkpoint_that_was_evaluated_twice_is_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Sampled twice, with other seeds: the answers to a task are means, and no evidence of another training."""
    twice = [
        stamp(write_run(tmp_path / str(seed), {("oreo", "greedy"): own}, seed=seed), checkpoint="same")
        for seed, own in enumerate((OREO, SFT))
    ]
    found = load(*twice)["oreo", "greedy"]
    assert len(found.rows) == 1 and found.repeated == 1
    assert found.accuracy == pytest.approx(7 / 16)
    assert found.answers == {
        RunKey("{}", 0): {f"t{i}": (a + b) / 2 for i, (a, b) in enumerate(zip(OREO, SFT, strict=True))}
    }
    report(twice, tmp_path / "out")
    assert "1 of the evaluations are of checkpoints that were evaluated before" in capsys.readouterr().out
    copied = [stamp(write_run(tmp_path / f"copy-{k}", {("oreo", "greedy"): OREO}), checkpoint="same") for k in range(3)]
    again = load(*copied)["oreo", "greedy"]
    assert again.interval == pytest.approx(wilson_interval(5, 8)) and cells(accuracy_tables([again])[0])[0][2:4] == [
        "1",
        "8",
    ]


def test_runs_of_one_seed_are_paired_by_their_folder(tmp_path: Path):
    """Three checkpoints evaluated at the default seed: which stands first in a list of folders means nothing."""
    a = write_run(tmp_path / "a", {("oreo", "greedy"): [0] * 7 + [1]})
    b = write_run(tmp_path / "b", {("oreo", "greedy"): [1] * 8, ("dpo", "greedy"): SFT})
    for order in ((a, b), (b, a)):
        entries = load(*order)
        result = compare_entries(entries["oreo", "greedy"], entries["dpo", "greedy"])
        # There is one run of dpo: each of oreo is compared with it.
        assert result is not None and result.mean == pytest.approx(((1 - 2) + (8 - 2)) / 16)
    c = write_run(tmp_path / "c", {("oreo", "greedy"): OREO, ("dpo", "greedy"): OREO})
    entries = load(a, b, c)
    result = compare_entries(entries["oreo", "greedy"], entries["dpo", "greedy"])
    assert result is not None and result.runs == 2 and result.mean == pytest.approx(((8 - 2) + 0) / 16)


def test_evaluations_of_other_tasks_count_with_their_tasks(tmp_path: Path):
    one = stamp(write_run(tmp_path / "one", {("oreo", "greedy"): [1] * 4}), checkpoint="same")
    two = stamp(write_run(tmp_path / "two", {("oreo", "greedy"): [0] * 12}, seed=1), checkpoint="same")
    found = load(one, two)["oreo", "greedy"]
    low, high = found.interval
    assert low < found.accuracy < high and found.accuracy == pytest.approx(4 * 0.5 / 12) and found.rows[0]["n"] == 12
    (two / "oreo" / "items-test-greedy.jsonl").unlink()
    assert load(one, two)["oreo", "greedy"].interval is None


def test_a_start_that_runs_share_is_compared_with_each_of_them(tmp_path: Path):
    runs = []
    for seed, own in enumerate((OREO, SFT, OREO)):
        run = write_run(tmp_path / str(seed), {("sft", "greedy"): SFT, ("oreo", "greedy"): own}, seed=seed)
        document = json.loads((run / "results.json").read_text())
        for row in document["results"]:
            row["checkpoint"] = "start" if row["algo"] == "sft" else f"trained with seed {seed}"
        (run / "results.json").write_text(json.dumps(document))
        runs.append(run)
    entries = load(*runs)
    assert len(entries["sft", "greedy"].rows) == 1 and len(entries["oreo", "greedy"].rows) == 3
    result = compare_entries(entries["oreo", "greedy"], entries["sft", "greedy"])
    assert result is not None and result.runs == 3 and result.mean == pytest.approx((3 + 0 + 3) / 24)
    same = compare_entries(entries["sft", "greedy"], entries["sft", "greedy"])
    assert same is not None and same.runs == 1


def test_the_table_shows_the_numbers_of_the_run(tmp_path: Path):
    run = write_run(tmp_path / "run", ONE_RUN)
    [table] = accuracy_tables(load_entries([run / "results.json"]))
    assert table.title == f"Accuracy (%) on {ENV}, split test"
    rows = {(row[0], row[1]): row[2:] for row in cells(table)}
    low, high = wilson_interval(5, 8)
    interval = f"{100 * low:.1f} to {100 * high:.1f}"
    assert rows["oreo", "greedy"] == ["1", "8", "62.5", interval, "10", "25.0"]
    assert rows["sft", "greedy"][2] == "25.0"
    assert rows["oreo", "best_of_n"][2] == "75.0"


def test_runs_that_differ_by_seed_or_by_a_world_that_is_averaged_over_are_one_row(tmp_path: Path):
    paths = [
        write_run(tmp_path / "a", {("oreo", "greedy"): OREO}, seed=0),
        write_run(tmp_path / "b", {("oreo", "greedy"): SFT}, seed=1),
        write_run(tmp_path / "c", {("oreo", "greedy"): SFT}, seed=0, options={"world": 1}),
    ]
    files = [path / "results.json" for path in paths]
    assert [entry.algo for entry in load_entries(files)] == ["oreo", "oreo env.options.world=1"]
    [found] = load_entries(files, over=["env.options.world"])
    assert load_entries(files, group_by=[])[0].answers == found.answers
    assert len(found.rows) == 3 and len(found.answers) == 3
    # Over worlds, of their seeds.
    assert found.accuracy == pytest.approx(((5 + 2) / 16 + 2 / 8) / 2)


def test_a_comparison_pairs_the_tasks_of_one_run(tmp_path: Path):
    entries = load(write_run(tmp_path / "run", ONE_RUN))
    result = compare_entries(entries["oreo", "greedy"], entries["sft", "greedy"])
    assert result is not None
    # Tasks 1, 2 and 6 are solved by OREO alone, none by the start alone: p = 2 / 2^3.
    assert result.mean == pytest.approx(3 / 8) and result.p_value == pytest.approx(0.25)
    assert (result.runs, result.tasks) == (1, 8)


def test_comparisons_are_of_the_runs_that_both_have(tmp_path: Path):
    """Seeds 0 and 1 of the one, 1 and 2 of the other."""
    runs = [write_run(tmp_path / f"a{k}", {("oreo", "greedy"): x}, seed=k) for k, x in enumerate((SFT, OREO))]
    runs += [write_run(tmp_path / f"b{k}", {("dpo", "greedy"): SFT}, seed=k) for k in (1, 2)]
    runs += [write_run(tmp_path / "c", {("kto", "greedy"): SFT}, seed=7)]
    entries = load(*runs)
    result = compare_entries(entries["oreo", "greedy"], entries["dpo", "greedy"])
    key = RunKey("{}", 1)
    tasks = [{f"t{i}": float(x) for i, x in enumerate(own)} for own in (OREO, SFT)]
    assert result == compare({key: tasks[0]}, {key: tasks[1]}) and result is not None and result.runs == 1
    assert compare_entries(entries["oreo", "greedy"], entries["kto", "greedy"]) is None


def test_tasks_are_paired_by_their_names_and_only_shared_ones_count(tmp_path: Path):
    entries = load(write_run(tmp_path / "run", {("oreo", "greedy"): [1, 0, 1], ("sft", "greedy"): [0, 1]}))
    result = compare_entries(entries["oreo", "greedy"], entries["sft", "greedy"])
    assert result is not None and result.tasks == 2 and result.mean == 0.0


def test_an_algorithm_with_two_settings_is_two_named_after_what_differs(tmp_path: Path):
    paths = [
        write_run(
            tmp_path / f"{beta}-{seed}", {("oreo", "greedy"): OREO}, seed=seed, settings={"beta": beta, "epochs": 2}
        )
        for beta in (0.03, 0.1)
        for seed in (0, 1)
    ]
    found = load_entries([path / "results.json" for path in paths])
    assert [(entry.algo, len(entry.rows)) for entry in found] == [("oreo beta=0.03", 2), ("oreo beta=0.1", 2)]


def test_oreo_is_compared_with_the_others_and_searches_with_greedy_decoding_and_the_vote(tmp_path: Path):
    run = write_run(tmp_path / "run", ONE_RUN)
    greedy, search = comparison_tables(load_entries([run / "results.json"]))
    assert [row[:3] + row[3:4] for row in cells(greedy)] == [["oreo - sft", "1", "8", "+37.5"]]
    assert search.title == "Searches, same tasks (points)"
    assert [(row[0], row[3]) for row in cells(search)] == [
        ("oreo: majority - greedy", "-12.5"),
        ("oreo: best_of_n - greedy", "+12.5"),
        ("oreo: best_of_n - majority", "+25.0"),
    ]


@pytest.mark.parametrize("order", [("sft", "topr", "rejection"), ("topr", "rejection", "sft")])
def test_without_oreo_plus_is_better_than_the_start(order: tuple[str, ...], tmp_path: Path):
    solved = {"sft": SFT, "topr": OREO, "rejection": [0] * 8}
    run = write_run(tmp_path / "run", {(name, "greedy"): solved[name] for name in order})
    [table] = comparison_tables(list(load(run).values()))
    assert [[row[0], row[3]] for row in cells(table)] == [["topr - sft", "+37.5"], ["rejection - sft", "-25.0"]]
    others = write_run(tmp_path / "others", {("topr", "greedy"): OREO, ("rejection", "greedy"): SFT})
    [table] = comparison_tables(list(load(others).values()))
    assert [[row[0], row[3]] for row in cells(table)] == [["topr - rejection", "+37.5"]]


def test_a_search_without_a_value_is_compared_with_greedy_decoding_alone(tmp_path: Path):
    solved = {
        ("oreo", "greedy"): SFT,
        ("oreo", "admissible"): OREO,
        ("oreo", "majority"): SFT,
        ("oreo", "sampled"): SFT,
    }
    [table] = comparison_tables(load_entries([write_run(tmp_path / "run", solved) / "results.json"]))
    assert [row[0] for row in cells(table)] == [f"oreo: {s} - greedy" for s in ("admissible", "majority", "sampled")]


def test_without_greedy_decoding_and_vote_searches_are_compared_with_the_first(tmp_path: Path):
    solved = {("oreo", "best_of_n"): SFT, ("oreo", "token_guide"): OREO, ("oreo", "step_beam"): SFT}
    [table] = comparison_tables(load_entries([write_run(tmp_path / "run", solved) / "results.json"]))
    assert [(row[0], row[3]) for row in cells(table)] == [
        ("oreo: token_guide - best_of_n", "+37.5"),
        ("oreo: step_beam - best_of_n", "+0.0"),
    ]


def test_searches_of_several_splits_have_tables_of_their_own(tmp_path: Path):
    run = write_run(tmp_path / "run", {("oreo", "greedy"): SFT, ("oreo", "admissible"): OREO})
    document = json.loads((run / "results.json").read_text())
    document["results"] += [row | {"split": "dev"} for row in document["results"]]
    (run / "results.json").write_text(json.dumps(document))
    for search, outcomes in (("greedy", SFT), ("admissible", SFT)):
        items = "".join(json.dumps({"task_id": f"t{i}", "correct": bool(x)}) + "\n" for i, x in enumerate(outcomes))
        (run / "oreo" / f"items-dev-{search}.jsonl").write_text(items)
    tables = comparison_tables(load_entries([run / "results.json"]))
    assert [(table.title, cells(table)[0][3]) for table in tables] == [
        (f"Searches, same tasks on {ENV}, split test (points)", "+37.5"),
        (f"Searches, same tasks on {ENV}, split dev (points)", "+0.0"),
    ]


def test_a_single_algorithm_has_no_table_of_comparisons(tmp_path: Path):
    run = write_run(tmp_path / "run", {("sft", "greedy"): SFT})
    assert comparison_tables(load_entries([run / "results.json"])) == []
