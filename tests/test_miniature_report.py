"""The report of `benchmarks/miniature.py`, on run folders written by hand."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from miniature_report import redraw, write_report

SOLVED = {
    10: {"sft": [1, 0, 0, 0], "rejection": [1, 1, 0, 0], "oreo": [1, 1, 1, 0]},
    11: {"sft": [0, 0, 0, 0], "rejection": [1, 0, 0, 0], "oreo": [1, 1, 1, 0]},
}


def write_run(folder: Path, world: int, answers: dict[tuple[str, str, int | None], list[int]]) -> None:
    """A finished run whose tasks are solved as stated, by (algorithm, search, budget)."""
    rows = []
    for (algo, search, budget), solved in answers.items():
        label = search if budget is None else f"{search}@{budget}"
        (folder / algo).mkdir(parents=True, exist_ok=True)
        items = [{"task_id": f"t{k}", "correct": bool(x), "sound": bool(x)} for k, x in enumerate(solved)]
        text = "".join(json.dumps(item) + "\n" for item in items)
        (folder / algo / f"items-test-{label}.jsonl").write_text(text)
        share = sum(solved) / len(solved)
        rows.append({"algo": algo, "search": search, "env": "oreo/Arithmetic-v0", "env_options": {"world": world}})
        rows[-1] |= {"split": "test", "seed": 0, "n": len(solved), "correct": sum(solved), "accuracy": share}
        rows[-1] |= {"sound": share, "tokens_per_task": 40.0} | ({} if budget is None else {"budget": budget})
    training = {algo: {"cpu_seconds": 60.0 * world} for algo, _, _ in answers if algo != "sft"}
    (folder / "results.json").write_text(json.dumps({"results": rows, "training": training}))
    (folder / ".done").write_text("")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    for world, solved in SOLVED.items():
        greedy = {(algo, "greedy", None): answers for algo, answers in solved.items()}
        write_run(tmp_path / f"boxes-{world}", world, greedy)
        searched = {("sft", "greedy", None): solved["sft"], ("sft", "majority", 100): solved["sft"]}
        searched[("sft", "step_beam", 100)] = solved["oreo"]
        write_run(tmp_path / f"boxes-{world}-search-sft", world, searched)
        (tmp_path / f"boxes-{world}-value-sft").mkdir()
        figures = {"auc/final": {"value": 0.8 + world / 100}, "ordering/final": {"value": None}}
        (tmp_path / f"boxes-{world}-value-sft" / "value.json").write_text(json.dumps({"figures": figures}))
        (tmp_path / f"boxes-{world}-value-sft" / ".done").write_text("")
    return tmp_path


def test_means_differences_and_targets_are_over_worlds(out: Path, tmp_path: Path):
    text = write_report(out, ["boxes", "exact"], [10, 11, 12], ["sft", "oreo"], tmp_path / "results")
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    # Rejection: .50 and .25; OREO - rejection: +25 and +50 points, so 37.5 +- 12.7 * 12.5.
    assert "| 37.5 [1.2, 96.6] | 50.0 25.0 | 37.5 [-121.3, 196.3] |" in lines["rejection"]
    assert "| +37.5 [-100.0, +100.0] | 10.5 |" in lines["rejection"]
    assert lines["OREO - rejection, greedy: at least +5 points"].endswith("| +37.5 [-100.0, +100.0] |")
    assert "| 0.905 [" in lines["V, sft: final AUC at least .9"]
    assert lines["V, sft: final ordering within questions at least .85"].endswith("| undefined |")
    assert "+62.5 [-96.3, +100.0] and +62.5" in lines["sft, step_beam, 100 tokens: +10 on majority, not below greedy"]
    assert "exact" not in text and "rounds" not in text


def test_the_records_are_kept_beside_the_report(out: Path, tmp_path: Path):
    write_report(out, ["boxes"], [10, 11], ["sft"], tmp_path / "results")
    document = json.loads((tmp_path / "results" / "results.json").read_text())
    oreo = next(entry for entry in document["boxes"]["algorithms"] if entry["algo"] == "oreo")
    assert [(row["world"], row["correct"], row["n"]) for row in oreo["rows"]] == [(10, 3, 4), (11, 3, 4)]
    assert {"commit", "date", "torch", "cores"} <= set(document["about"])
    assert {path.name for path in (tmp_path / "results").glob("*.png")} == {"accuracy-boxes.png", "search-boxes.png"}


def test_plots_are_drawn_anew_from_the_records_alone(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results = tmp_path / "results"
    write_report(out, ["boxes"], [10, 11], ["sft"], results)
    drawn = []
    for name in ("plot_accuracy", "plot_budgets"):
        monkeypatch.setattr(f"miniature_report.{name}", lambda entries, path: drawn.append((path.name, entries)))
    redraw(results)
    assert [name for name, _ in drawn] == ["accuracy-boxes.png", "search-boxes.png"]
    entries = {entry.algo: entry for entry in drawn[0][1]}
    assert (entries["rejection"].accuracy, entries["oreo"].accuracy) == (0.375, 0.75)
    # As the run folders have it, which the table says too.
    text = (results / "report.md").read_text(encoding="utf-8")
    low, high = (100 * end for end in entries["rejection"].interval)
    assert f"37.5 [{low:.1f}, {high:.1f}]" in text
