"""What one does with buffers on the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from oreo_agents.runs.data import main
from oreo_agents.runs.data_tools import histogram
from oreo_algos import EpisodeBuffer
from oreo_algos.algos.selection import outcomes_by_task


@pytest.fixture
def buffer(tmp_path: Path, monkeypatch, capsys) -> Path:
    """Six tasks of three answers each, of which two are right and one of these is there twice."""
    monkeypatch.chdir(tmp_path)
    answers = [("a", True), ("b", True), ("c", False), ("a", True)]
    rows = [{"question": f"q{n}", "response": text, "correct": good} for n in range(6) for text, good in answers]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["import", "rows.jsonl", "--out", "b"])
    capsys.readouterr()
    return tmp_path / "b"


def test_a_buffer_is_divided_by_tasks_and_joined_again(buffer: Path, capsys):
    main(["split", "b", "--share", "0.34"])
    parts = [EpisodeBuffer.load(f"b-{name}") for name in ("train", "held")]
    assert [len(part) for part in parts] == [16, 8]
    assert not {*parts[0].by_task()} & {*parts[1].by_task()}
    assert "b-held: 8 episodes of 2 tasks, 0.750 successful" in capsys.readouterr().out
    main(["merge", "b-train", "b-held", "--out", "again"])
    assert sorted(map(repr, EpisodeBuffer.load("again"))) == sorted(map(repr, EpisodeBuffer.load("b")))
    with pytest.raises(ValueError, match=r"--share 0\.01 of the 6 tasks of b leaves a part empty"):
        main(["split", "b", "--share", "0.01"])


@pytest.mark.parametrize(
    ("other", "said"),
    [("b", "b is named twice"), ("../{}/b", "b and .*/b are one buffer"), ("link", "b and link are one buffer")],
)
def test_one_buffer_is_not_joined_to_itself(other: str, said: str, buffer: Path):
    Path("link").symlink_to(buffer)
    with pytest.raises(ValueError, match=said):
        main(["merge", "b", other.format(buffer.parent.name), "--out", "again"])
    assert not Path("again").exists()


@pytest.mark.parametrize("arguments", ["merge no/*/b-?-of-2 --out again", "stats no-*", "balance no-* --out again"])
def test_a_pattern_that_matches_nothing_is_no_name(arguments: str, buffer: Path):
    with pytest.raises(
        FileNotFoundError, match=r"^no.*: no folder matches; `oreo collect` writes outputs/collect/\*/data"
    ):
        main(arguments.split())
    buffer.rename("odd*")
    main(["validate", "odd*"])


def test_copies_are_left_out_and_outcomes_are_balanced(buffer: Path, capsys):
    main(["dedup", "b", "--out", "d"])
    assert len(EpisodeBuffer.load("d")) == 18 and "6 of 24 episodes were copies" in capsys.readouterr().out
    main(["balance", "b", "--per-outcome", "1", "--out", "one"])
    assert len(EpisodeBuffer.load("one")) == 12 and EpisodeBuffer.load("one").stats()["success_rate"] == 0.5
    for name, chosen, counts in (("even", [], (2, 1)), ("paper-7b", ["--protocol", "paper-7b"], (1, 1))):
        main(["balance", "d", *chosen, "--out", name])
        assert {(len(r), len(w)) for r, w in outcomes_by_task(EpisodeBuffer.load(name))} == {counts}
    assert "algo.max_pairs=10" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--protocol paper-7b says itself how many are kept"):
        main(["balance", "d", "--protocol", "paper-7b", "--per-outcome", "2", "--out", "no"])


@pytest.mark.parametrize(
    ("protocol", "right", "wrong", "kept"),
    [
        ("paper-1.5b", 9, 9, 10),
        ("paper-1.5b", 2, 1, (2, 1)),
        ("paper-7b", 9, 7, (4, 4)),
        ("paper-7b", 9, 2, (2, 2)),
        ("paper-7b", 9, 0, (1, 0)),
        ("paper-7b", 0, 9, (0, 4)),
        ("paper-7b", 3, 9, (3, 4)),
    ],
)
def test_what_the_paper_kept_of_a_task(protocol: str, right: int, wrong: int, kept, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcomes = [True] * right + [False] * wrong
    rows = [{"question": "q", "response": str(n), "correct": good} for n, good in enumerate(outcomes)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["import", "rows.jsonl", "--out", "b"])
    main(["balance", "b", "--protocol", protocol, "--out", "p"])
    found = tuple(map(len, outcomes_by_task(EpisodeBuffer.load("p"))[0]))
    assert found == kept if isinstance(kept, tuple) else sum(found) == kept


def test_pairs_that_share_a_half_are_no_copies_and_balance_tells_of_those_that_it_breaks(buffer: Path, capsys):
    rows = [{"prompt": "q", "chosen": "best", "rejected": text} for text in ("a", "b", "c", "a")]
    Path("prefs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["import", "prefs.jsonl", "--out", "p"])
    main(["dedup", "p", "--out", "d"])
    assert "2 of 8 episodes were copies" in capsys.readouterr().out and len(EpisodeBuffer.load("d").pairs) == 3
    main(["balance", "d", "--per-outcome", "1", "--out", "one"])
    assert "of 3 preference pairs are whole no more" in capsys.readouterr().out


def test_copies_with_another_outcome_are_told(buffer: Path, capsys):
    rows = [{"question": "q", "response": "a", "correct": good} for good in (True, False)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["import", "rows.jsonl", "--out", "b"])
    main(["dedup", "b", "--out", "d"])
    assert "1 of these had another outcome than the one that is kept, which was the first" in capsys.readouterr().out


def test_statistics_are_by_outcome_and_task(buffer: Path, capsys):
    main(["stats", "b", "--tasks", "2"])
    text = capsys.readouterr().out
    assert "successful" in text and "b: the hardest of 6 tasks" in text
    assert sum("chat/imported/" in line for line in text.splitlines()) == 2


def test_a_histogram_is_a_line_of_bars():
    assert histogram(np.array([0, 1, 1, 3]), 3) == "▄█ ▄"
    assert len(histogram(np.arange(1000), 999)) == 12 and histogram(np.array([0]), 0) == "█"


def test_a_whole_buffer_is_told_from_a_changed_one(buffer: Path, capsys):
    main(["validate", "b"])
    assert "b: whole, 24 episodes" in capsys.readouterr().out
    metadata = json.loads((buffer / "metadata.json").read_text())
    shutil.copytree("b", "changed")
    metadata["content_hash"] = "0" * 64
    Path("changed/metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="changed"):
        main(["validate", "changed"])
