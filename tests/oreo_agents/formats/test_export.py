"""Ours go out and come back: what a format holds is the same, and what it does not hold is said."""

import errno
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layout_rows import ROWS

from oreo_agents.formats.exporting import FORMATS, Losses, export_rows
from oreo_agents.formats.importing import ImportSettings, import_episodes
from oreo_agents.runs.data import main
from oreo_agents.runs.data_export import write_rows
from oreo_algos import Episode, EpisodeBuffer

WHOLE = ("messages", "sharegpt", "trl-kto")

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
info = st.dictionaries(texts.filter(lambda t: t != "success"), st.none() | st.booleans() | st.integers(-9, 9) | texts)


@st.composite
def episodes(draw: st.DrawFn) -> Episode:
    """Conversations of turns, some cut into several actions, with any rewards."""
    messages = [{"role": "system", "content": draw(texts)}] if draw(st.booleans()) else []
    spans: list[tuple[int, int, int]] = []
    for _ in range(draw(st.integers(1, 3))):
        said = draw(texts)
        messages += [{"role": "user", "content": draw(texts)}, {"role": "assistant", "content": said}]
        cut = draw(st.integers(0, len(said)))
        ends = [0, len(said)] if cut in (0, len(said)) else [0, cut, len(said)]
        spans += [(len(messages) - 1, a, b) for a, b in itertools.pairwise(ends)]
    if draw(st.booleans()):
        messages.append({"role": "user", "content": draw(texts)})  # the last observation
    rewards = draw(st.lists(st.floats(-2, 2, width=32), min_size=len(spans), max_size=len(spans)))
    return Episode(
        tokens=np.zeros(0, np.int32),
        step_id=np.zeros(0, np.int32),
        rewards=np.asarray(rewards, np.float32),
        action_spans=np.asarray(spans, np.int32),
        terminated=draw(st.booleans()),
        truncated=draw(st.booleans()),
        task_id=draw(texts),
        env_id="oreo/GSM8K-v0",
        messages=messages,
        info=draw(info),
        success=draw(st.booleans()),
    )


def there_and_back(buffer: EpisodeBuffer, name: str, file: Path) -> tuple[EpisodeBuffer, Losses]:
    losses = Losses()
    file.unlink(missing_ok=True)
    write_rows(file, export_rows(buffer, name, losses))
    return import_episodes([file], ImportSettings())[0], losses


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@given(found=st.lists(episodes(), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_episodes_come_back_as_they_were(name: str, suffix: str, found: list[Episode], tmp_path: Path):
    back, losses = there_and_back(EpisodeBuffer(found), name, tmp_path / f"rows{suffix}")
    assert losses.sentences() == []
    assert back.content_hash == EpisodeBuffer(found).content_hash
    assert all(one.equals(other) for one, other in zip(found, back, strict=True))


def test_a_label_of_an_export_that_says_something_else_is_refused(tmp_path: Path):
    (tmp_path / "in.jsonl").write_text(json.dumps(ROWS["labelled"][0]))
    buffer, _ = import_episodes([tmp_path / "in.jsonl"], ImportSettings())
    rows = [*export_rows(buffer, "trl-kto", Losses())]
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows[0] | {"label": not rows[0]["label"]}))
    with pytest.raises(ValueError, match="line 1: label is False and success is True; give both alike"):
        import_episodes([tmp_path / "rows.jsonl"], ImportSettings())


@given(found=st.lists(episodes(), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_to_be_imitated_are_the_successes(found: list[Episode], tmp_path: Path):
    right = [episode for episode in found if episode.success]
    losses = Losses()
    rows = [*export_rows(EpisodeBuffer(found), "trl-sft", losses)]
    assert len(rows) == len(right) and sum(losses.episodes.values()) == len(found) - len(right)
    if right:
        back, _ = there_and_back(EpisodeBuffer(found), "trl-sft", tmp_path / "rows.jsonl")
        assert back.content_hash == EpisodeBuffer(right).content_hash


@pytest.mark.parametrize("layout", [name for name in ROWS if "preference" in name])
def test_pairs_come_back_as_pairs(layout: str, tmp_path: Path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[layout]))
    buffer, _ = import_episodes([tmp_path / "in.jsonl"], ImportSettings())
    back, losses = there_and_back(buffer, "trl-dpo", tmp_path / "rows.jsonl")
    assert losses.episodes == {} and len(back.pairs) == 5
    assert [episode.messages for episode in back] == [episode.messages for episode in buffer]
    assert back.content_hash == buffer.content_hash


@pytest.mark.parametrize("layout", ["labelled", "trl-unpaired"])
def test_labelled_rows_hold_single_answers(layout: str, tmp_path: Path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[layout]))
    buffer, _ = import_episodes([tmp_path / "in.jsonl"], ImportSettings())
    back, losses = there_and_back(buffer, "labelled", tmp_path / "rows.jsonl")
    assert back.content_hash == buffer.content_hash and losses.sentences() == []


def test_what_is_lost_is_said(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [*ROWS["messages"], *[{"messages": [{"role": "system", "content": "s"}, *ROWS["messages"][0]["messages"][:2]], "correct": True}]]  # fmt: skip  # noqa: E501
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["import", "in.jsonl", "--out", "buffer"])
    capsys.readouterr()
    main(["export", "buffer", "--format", "labelled"])
    told = capsys.readouterr().out
    assert "buffer-labelled.jsonl: 1 rows of 11 episodes as labelled" in told
    assert "left out: 10 episodes, which are no single answer to a question" in told
    assert "not kept: what the system says (1 episodes)" in told
    with pytest.raises(ValueError, match="is there already"):
        main(["export", "buffer", "--format", "labelled"])
    main(["export", "buffer", "--format", "messages", "--out", "all.parquet"])
    assert "nothing is lost" in capsys.readouterr().out
    main(["import", "all.parquet", "--out", "again"])
    assert EpisodeBuffer.load("again").content_hash == EpisodeBuffer.load("buffer").content_hash
    main(["export", "buffer", "--format", "trl-dpo"])
    assert "5 rows of 11 episodes" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in FORMATS if name.startswith("trl")])
def test_trl_reads_its_types(name: str, tmp_path: Path):
    data_utils = pytest.importorskip("trl.data_utils")
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS["messages"]))
    buffer, _ = import_episodes([tmp_path / "in.jsonl"], ImportSettings())
    for row in export_rows(buffer, name, Losses()):
        assert data_utils.is_conversational(row)
        assert row["prompt"][-1]["role"] == "user"


def test_a_full_disk_is_told_by_the_file_that_was_to_be(tmp_path: Path):
    def rows() -> Iterator[dict[str, str]]:
        yield {"a": "b"}
        raise OSError(errno.ENOSPC, "No space left on device")  # as a temporary file without a name has it

    with pytest.raises(OSError, match="No space left") as raised:
        write_rows(tmp_path / "out.jsonl", rows())
    assert raised.value.filename == str(tmp_path / "out.jsonl") and not [*tmp_path.iterdir()]
