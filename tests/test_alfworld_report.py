"""The report of `benchmarks/alfworld.py`, on run folders written by hand."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from alfworld_report import write_report

SOLVED = {
    "sft": {"valid_seen": [1, 0, 0, 0], "valid_unseen": [0, 0]},
    "oreo": {"valid_seen": [1, 1, 0, 0], "valid_unseen": [1, 0]},
    "sft-more": {"valid_seen": [1, 0, 0, 0], "valid_unseen": [1, 0]},
}
SEARCHED = {"best_of_2": [1, 1], "majority_of_3": [0, 0], "sampled": [0, 1]}


def summary(solved: list[int], invalid: float) -> dict:
    return {
        "n": len(solved),
        "correct": sum(solved),
        "accuracy": sum(solved) / len(solved),
        "invalid_per_task": invalid,
    }


def write_run(folder: Path, seed: int) -> None:
    """A finished run; games of valid_seen are of two types, those of valid_unseen of one of them."""
    rows = []
    answers = [(algo, "greedy", split, games) for algo, splits in SOLVED.items() for split, games in splits.items()]
    answers += [("oreo", search, "valid_unseen", games) for search, games in SEARCHED.items()]
    for algo, search, split, solved in answers:
        (folder / algo).mkdir(parents=True, exist_ok=True)
        items = [{"task_id": f"{split}/{k}", "correct": bool(game)} for k, game in enumerate(solved)]
        text = "".join(json.dumps(item) + "\n" for item in items)
        (folder / algo / f"items-{split}-{search}.jsonl").write_text(text)
        kinds = {"heat": summary(solved[:2], 1.0)} | ({"cool": summary(solved[2:], 3.0)} if solved[2:] else {})
        row = {
            "algo": algo,
            "search": search,
            "env": "oreo/ALFWorld-v0",
            "env_options": {},
            "split": split,
            "seed": seed,
        }
        invalid = 2.0 if solved[2:] else 1.0
        rows.append(row | summary(solved, invalid) | {"tokens_per_task": 30.0, "kinds": kinds})
    training = {algo: {"cpu_seconds": 90.0} for algo in SOLVED}
    (folder / "results.json").write_text(json.dumps({"results": rows, "training": training}))
    (folder / ".done").write_text("")


@pytest.fixture(name="runs")
def write_runs(tmp_path: Path) -> Path:
    """A folder of runs: two seeds that are finished, one that is not, and a value that was measured of the first."""
    for seed in (0, 1):
        write_run(tmp_path / f"seed-{seed}", seed)
    (tmp_path / "seed-2").mkdir()  # not finished
    figures = {"auc/final": {"value": 0.875}, "auc/start": {"value": None}}
    (tmp_path / "seed-0-value-valid_seen").mkdir()
    (tmp_path / "seed-0-value-valid_seen" / "value.json").write_text(json.dumps({"figures": figures}))
    (tmp_path / "seed-0-value-valid_seen" / ".done").write_text("")
    return tmp_path


@pytest.fixture
def lines(runs: Path) -> dict[str, list[str]]:
    """Lines of the report by heading."""
    text = write_report(runs, [0, 1, 2], "oreo", runs / "results", title="games")
    return sections(text)


def sections(report: str) -> dict[str, list[str]]:
    """Lines of a report by heading."""
    parts = [part.strip().splitlines() for part in report.split("\n## ")]
    return {part[0]: [line for line in part[1:] if line] for part in parts}


def row(lines: list[str], name: str) -> list[str]:
    """Cells of the line that begins with a name."""
    return next(cells for line in lines if (cells := line.strip("| ").split(" | "))[0] == name)


def test_success_is_given_by_split_and_over_all_games_beside_the_paper(lines: dict[str, list[str]]):
    cells = row(lines["Success, greedy decoding"], "oreo")
    # All games: 3 of 6; against the control: +1 of 6 in both seeds, which repeat each other.
    assert cells[1] == "6 + 6"
    assert [cell.partition(" ")[0] for cell in cells[2:5]] == ["50.0"] * 3 and cells[4] == "50.0 [12.3, 87.7]"
    assert cells[5:7] == ["80.7", "79.1"], "the paper's"
    assert cells[7] == "+16.7 [-26.2, +59.5]"
    assert cells[8] == "1.7", "invalid commands: 2 in four games, 1 in two"
    assert cells[9] == "1.5", "minutes"


def test_types_of_tasks_are_counted_over_all_splits(lines: dict[str, list[str]]):
    table = lines["Success by type of task, all games, greedy decoding"]
    assert "cool (4) | heat (8)" in table[0]
    assert row(table, "oreo")[1:] == ["0.0", "75.0"]


def test_actions_are_compared_with_a_vote_of_as_many(lines: dict[str, list[str]]):
    table = lines["oreo, valid_unseen: K actions a turn"]
    # Of two actions the greedy one wins the vote, so that best of 2 is compared with greedy play.
    assert [cell.partition(" ")[0] for cell in row(table, "2")[1:5]] == ["100.0", "50.0", "+50.0", "+50.0"]
    assert not any(line.startswith("| 3 |") for line in table), "best of 3 was not measured"
    assert row(table, "1")[-1] == "79.1"
    assert any("One sample at T = 0.7: 50.0" in line for line in table)


def test_values_and_targets_are_over_seeds(lines: dict[str, list[str]], tmp_path: Path):
    assert row(lines["V on fresh samples at T = 1, valid_seen, 1 seed"], "AUC")[1:] == [
        *["undefined"] * 4,
        "0.875",
    ]
    targets = lines["Targets"]
    assert row(targets, "SFT, valid_seen: at least 80")[1] == "25.0 [1.6, 86.9]"
    assert row(targets, "oreo - sft-more, all games: above 0")[1] == "+16.7 [-26.2, +59.5]"
    document = json.loads((tmp_path / "results" / "results.json").read_text())
    assert {entry["split"] for entry in document["entries"]} == {"valid_seen", "valid_unseen", "all"}
    assert (tmp_path / "results" / "actions.png").stat().st_size > 10_000


def test_numbers_of_the_downloaded_games_are_not_shown_beside_others(runs: Path):
    text = write_report(runs, [0, 1], "oreo", runs / "results", title="houses", downloaded_games=False)
    found = sections(text)
    assert "Targets" not in found and "paper" not in text
    cells = row(found["Success, greedy decoding"], "oreo")
    assert cells[5] == "+16.7 [-26.2, +59.5]", "after the success by split comes what is gained over the control"
    assert row(found["oreo, valid_unseen: K actions a turn"], "2")[-1] == "30, 30", "tokens are the last cell"
