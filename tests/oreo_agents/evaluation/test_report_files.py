"""What a report writes and prints of run folders, and what it says of those that it cannot read."""

import json
from pathlib import Path

import pytest
from written_runs import ONE_RUN, OREO, SFT, cells, write_run

from oreo_agents.evaluation.comparisons import comparison_tables
from oreo_agents.evaluation.report import main, report
from oreo_agents.evaluation.results import find_results, load_entries
from oreo_agents.evaluation.tables import accuracy_tables, kind_tables, refusal_tables


def test_report_and_plots_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = write_run(tmp_path / "run", ONE_RUN)
    report([run], run)
    text = (run / "report.md").read_text()
    assert "| oreo | greedy | 1 | 8 | 62.5 |" in text
    assert "| oreo - sft | 1 | 8 | +37.5 |" in text
    for name in ("accuracy", "training"):
        assert f"![{name}](plots/{name}.png)" in text
        assert (run / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "Accuracy (%)" in capsys.readouterr().out


def test_an_interval_and_a_p_value_that_disagree_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Five tasks that OREO alone solves: p = 2 / 2^5, and an interval above 0."""
    run = write_run(tmp_path / "near", {("sft", "greedy"): [0] * 20, ("oreo", "greedy"): [1] * 5 + [0] * 15})
    report([run], run)
    said = "the 95% interval and p disagree about whether this difference is significant"
    assert f"oreo - sft: {said}" in (run / "report.md").read_text()
    searched = {("dpo", "majority"): [0] * 20, ("oreo", "majority"): [1] * 5 + [0] * 15, ("oreo", "greedy"): [0] * 20}
    report([write_run(tmp_path / "searched", searched)], run, base="dpo")
    assert f"majority: oreo - dpo; oreo: majority - greedy: {said}" in (run / "report.md").read_text()
    clear = write_run(tmp_path / "clear", {("sft", "greedy"): [0] * 20, ("oreo", "greedy"): [1] * 15 + [0] * 5})
    report([clear], clear)
    assert said not in (clear / "report.md").read_text()


def test_what_cannot_be_read_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One folder without results made the whole report impossible."""
    run, empty = write_run(tmp_path / "run", ONE_RUN), tmp_path / "empty"
    cut, wrong = (write_run(tmp_path / name, ONE_RUN) for name in ("cut", "wrong"))
    items = next((cut / "sft").glob("items-*.jsonl"))
    items.write_text(items.read_text() + '{"task_id"')
    (wrong / "results.json").write_text('{"results": [1]}')
    empty.mkdir()
    with pytest.raises(SystemExit) as ended:
        main([*map(str, (run, empty, cut, wrong, tmp_path / "nowhere")), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1 and len(said) == 4
    assert all(any(f"left out: {place}" in line for line in said) for place in (empty, tmp_path / "nowhere", items))
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.count("left out: ") == 4 and "| oreo | greedy | 1 | 8 | 62.5 |" in text
    with pytest.raises(FileNotFoundError, match=r"no results\.json there"):
        main([str(empty), "--out", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()


def test_folders_of_folders_are_joined(tmp_path: Path):
    write_run(tmp_path / "sweep" / "algo=oreo,seed=0", {("oreo", "greedy"): OREO}, seed=0)
    write_run(tmp_path / "sweep" / "algo=oreo,seed=1", {("oreo", "greedy"): SFT}, seed=1)
    write_run(tmp_path / "sweep" / "algo=dpo,seed=0", {("dpo", "greedy"): SFT}, seed=0)
    main([str(tmp_path / "sweep"), "--out", str(tmp_path / "out")])
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| oreo | greedy | 2 | 16 | 43.8 |" in text
    assert "| oreo - dpo | 1 | 8 | +37.5 |" in text


def test_without_out_one_folder_keeps_its_report(tmp_path: Path):
    run = write_run(tmp_path / "run", ONE_RUN)
    main([str(run)])
    assert (run / "report.md").exists()


def test_a_run_without_metrics_or_items_still_has_a_table(tmp_path: Path):
    run = write_run(tmp_path / "run", {("oreo", "greedy"): OREO})
    for path in (run / "oreo").iterdir():
        path.unlink()
    report([run], run)
    assert "62.5" in (run / "report.md").read_text()
    assert not (run / "plots" / "training.png").exists()


def test_a_folder_without_results_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no results.json there or below; give folders that `oreo run`"):
        report([tmp_path], tmp_path)


def test_tasks_that_were_trained_on_are_a_column(tmp_path: Path):
    run = write_run(tmp_path / "run", {("oreo", "greedy"): OREO})
    path = run / "results.json"
    document = json.loads(path.read_text())
    document["results"][0]["seen_in_training"] = 3
    path.write_text(json.dumps(document))
    [table] = accuracy_tables(load_entries([path]))
    assert table.columns[-1].header == "trained on"
    assert cells(table)[0][-1] == "3"


def test_an_algorithm_that_was_skipped_is_named_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = write_run(tmp_path / "run", ONE_RUN)
    document = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps({**document, "skipped": {"dpo": "no pairs"}}))
    report([run], run)
    assert "dpo was skipped: no pairs" in (run / "report.md").read_text()
    assert "dpo was skipped: no pairs" in capsys.readouterr().out


def test_kinds_of_tasks_and_splits_have_tables_of_their_own(tmp_path: Path):
    kinds = {"heat": {"n": 2, "correct": 1, "accuracy": 0.5, "invalid_per_task": 2.5}}
    whole = {"n": 2, "correct": 1, "accuracy": 0.5, "invalid_per_task": 2.5, "kinds": kinds}
    common = {"search": "greedy", "env": "oreo/ALFWorld-v0", "seed": 0}
    rows = [{"algo": a, "split": s, **common, **whole} for s in ("valid_seen", "valid_unseen") for a in ("sft", "oreo")]
    for algo in ("sft", "oreo"):
        (tmp_path / algo).mkdir()
        for split in ("valid_seen", "valid_unseen"):
            items = [{"task_id": f"{split}/{i}", "correct": algo == "oreo"} for i in range(2)]
            text = "".join(json.dumps(item) + "\n" for item in items)
            (tmp_path / algo / f"items-{split}-greedy.jsonl").write_text(text)
    (tmp_path / "results.json").write_text(json.dumps({"results": rows}))
    entries = load_entries([tmp_path / "results.json"])
    tables = kind_tables(entries)
    assert [table.title for table in tables] == [
        f"Accuracy (%) by kind of task on oreo/ALFWorld-v0, split {split}" for split in ("valid_seen", "valid_unseen")
    ]
    columns = {str(column.header): list(column.cells) for column in tables[0].columns}
    assert columns["kind"] == ["heat", "heat"] and columns["algo"] == ["sft", "oreo"]
    assert columns["n"] == ["2", "2"] and columns["invalid/task"] == ["2.5", "2.5"]
    assert columns["95% interval"] == ["9.5 to 90.5"] * 2
    assert [list(table.columns[3].cells) for table in comparison_tables(entries)] == [["+100.0"], ["+100.0"]]


def test_refused_actions_have_a_table_of_reasons(tmp_path: Path):
    """Means over runs; a run in which nothing was refused counts with 0, and a search that says nothing has no row."""
    for seed, reasons in ((0, {"closed": 1.0, "not_here": 0.5}), (1, None)):
        run = write_run(tmp_path / str(seed), {("oreo", "greedy"): OREO, ("oreo", "majority"): SFT}, seed=seed)
        results = json.loads((run / "results.json").read_text())
        results["results"][0] |= {"invalid_per_task": 1.5 if reasons else 0.0}
        results["results"][0] |= {"invalid_reasons": reasons} if reasons else {}
        (run / "results.json").write_text(json.dumps(results))
    entries = load_entries([tmp_path / "0" / "results.json", tmp_path / "1" / "results.json"])
    [table] = refusal_tables(entries)
    assert [column.header for column in table.columns] == ["algo", "search", "all", "closed", "not here"]
    assert cells(table) == [["oreo", "greedy", "0.75", "0.50", "0.25"]]
    assert refusal_tables([entry for entry in entries if entry.search == "majority"]) == []


def test_the_last_round_of_oreo_is_compared_with_all_others(tmp_path: Path):
    rounds = {("sft", "greedy"): SFT, ("oreo", "greedy"): SFT, ("oreo-step", "greedy"): SFT}
    rounds |= {("oreo-round2", "greedy"): OREO, ("oreo-step-round2", "greedy"): SFT, ("oreo-round10", "greedy"): OREO}
    entries = load_entries([write_run(tmp_path / "a", rounds) / "results.json"])
    [table] = comparison_tables(entries)
    compared = [str(cell) for cell in table.columns[0].cells]
    assert len(compared) == 5 and all(label.startswith("oreo-round10 - ") for label in compared)


@pytest.mark.parametrize("text", ["{", "[]", '{"results": [3]}', '{"results": [{"search": "greedy"}]}'])
def test_results_that_are_damaged_are_named(text: str, tmp_path: Path):
    (tmp_path / "results.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"results.json: no results that can be read"):
        load_entries(find_results(tmp_path))


def test_the_tau_that_dev_tasks_chose_is_a_note(tmp_path: Path, capsys):
    runs = []
    for seed, chosen in enumerate((0.05, 0.0)):
        solved = {("sft", "greedy"): SFT, ("oreo", "best_of_n"): OREO, ("dqo", "best_of_n"): OREO}
        runs.append(write_run(tmp_path / f"{seed}", solved, seed=seed))
        document = json.loads((runs[-1] / "results.json").read_text())
        for row in document["results"][1:]:
            tau = chosen if row["algo"] == "oreo" else 0.1
            row |= {"tau": tau, "tau_of": [0.0, 0.05, 0.1], "tau_on": "64 tasks of dev"}
        (runs[-1] / "results.json").write_text(json.dumps(document))
    report(runs, tmp_path / "report")
    said = " ".join(capsys.readouterr().out.split())
    note = "best_of_n: tau, chosen of 0, 0.05, 0.1 by 64 tasks of dev: 0.05, 0 for oreo; 0.1 for dqo"
    assert note in said and said.count("chosen of") == 1
