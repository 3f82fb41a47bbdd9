"""Imports and exports hold some rows at once, whatever there are."""

import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from oreo_agents.episodes.ungraded import only_graded
from oreo_agents.formats import importing
from oreo_agents.formats.importing import ImportCounts, ImportSettings, import_each, import_episodes
from oreo_agents.runs import data_export
from oreo_agents.runs.data import main
from oreo_algos import EpisodeBuffer
from oreo_envs.grading import Reason


def write_rows(name, rows):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path(name)


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [{"question": f"q{i}", "response": f"a{i}", "correct": i % 2 == 0} for i in range(10)]
    return write_rows("rows.jsonl", found)


def test_episodes_come_before_the_last_row_is_read(rows, monkeypatch):
    monkeypatch.setattr(importing, "_AT_ONCE", 3)
    read, original = [], importing.rows_of

    def counted(files, limit):
        for row in original(files, limit):
            read.append(row)
            yield row

    monkeypatch.setattr(importing, "rows_of", counted)
    counts = ImportCounts()
    ahead = [len(read) - number for number, _ in enumerate(import_each([rows], ImportSettings(), counts), start=1)]
    assert max(ahead) <= 2 and (counts.episodes, counts.layout) == (10, "labelled")
    whole, _ = import_episodes([rows], ImportSettings())
    main(["import", "rows.jsonl", "--out", "b"])
    assert EpisodeBuffer.load("b").content_hash == whole.content_hash
    assert EpisodeBuffer.load("b").provenance == {"source": "import", "file": "rows.jsonl", "format": "labelled"}


def test_pairs_are_counted_over_all_that_is_read_at_once(rows, monkeypatch):
    monkeypatch.setattr(importing, "_AT_ONCE", 2)
    write_rows("pairs.jsonl", [{"prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(5)])
    buffer, counts = import_episodes([Path("pairs.jsonl")], ImportSettings())
    assert counts.pairs == 5 == len(buffer.pairs) and counts.episodes == 10


def test_a_row_that_fails_late_leaves_nothing(rows, monkeypatch):
    monkeypatch.setattr(importing, "_AT_ONCE", 2)
    with rows.open("a") as file:
        file.write('{"question": "q", "correct": true}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl.*11"):
        main(["import", "rows.jsonl", "--out", "b"])
    assert [entry.name for entry in Path().iterdir()] == ["rows.jsonl"]


def test_a_column_that_is_null_at_first_has_its_type_in_parquet(rows, monkeypatch):
    monkeypatch.setattr(data_export, "_ROWS", 2)
    rows = [{"a": None, "b": [{"c": None}], "d": 1} for _ in range(3)] + [{"a": "x", "b": [{"c": 2}], "d": 1.5}]
    assert data_export.write_rows(Path("t.parquet"), rows) == 4
    assert pq.read_table("t.parquet").to_pylist() == rows
    assert sorted(entry.name for entry in Path().iterdir()) == ["rows.jsonl", "t.parquet"]


def test_episodes_without_a_verdict_are_left_out_of_either_kind_of_buffer(rows, caplog):
    main(["import", "rows.jsonl", "--out", "b"])
    stored = EpisodeBuffer.load("b")
    assert only_graded(stored, "here") is stored
    lost = [dataclasses.replace(e, info=e.info | {"grade_reason": Reason.NOT_GRADED.value}) for e in stored[:3]]
    some = EpisodeBuffer([*stored, *lost])
    some.save("some")
    for buffer in (some, EpisodeBuffer.load("some")):
        assert only_graded(buffer, "here").identity == stored.identity
        assert "here: 3 of 13 answers were not graded and are left out" in caplog.text
        with pytest.raises(ValueError, match="not one of 3 answers could be graded"):
            only_graded(buffer[-3:], "here")
