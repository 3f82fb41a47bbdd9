"""Buffers that somebody else made, on purpose or not: refused with the file, and the row where there is one."""

import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oreo_algos.storage import parquet, writing
from oreo_algos.storage.buffer import EpisodeBuffer
from oreo_algos.storage.writing import write_buffer


@pytest.fixture
def folder(make_episode, tmp_path):
    messages = [{"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "5"}]
    EpisodeBuffer(
        make_episode([-1, 0], [float(i % 2)], task_id=f"t{i // 2}", messages=messages, info={"seed": i})
        for i in range(6)
    ).save(tmp_path / "buffer", episodes_per_shard=4)
    [file.unlink() for file in (tmp_path / "buffer").glob("mapped-*")]  # as it came from elsewhere
    return tmp_path / "buffer"


def change(folder, edit):
    """Put another table in the place of the first shard, with its checksum."""
    file = folder / "part-00000.parquet"
    table = edit(pq.read_table(file))
    pq.write_table(table, file, compression="zstd")
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["shards"][0] |= {"sha256": parquet.sha256(file), "rows": table.num_rows}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return file


def with_column(table, name, column):
    place = table.schema.get_field_index(name)
    return table.set_column(place, name, column)


def refused(folder, message, **options):
    with pytest.raises(ValueError, match=message):
        EpisodeBuffer.load(folder, **options)
    assert list(folder.glob("mapped-*")) == [] and list(folder.glob(".mapped-*")) == []


def a_text_repeated_by_number(table):
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 4, pa.int32()), pa.array(["x" * 4_000_000]))
    return with_column(table, "task_id", long)


def messages_repeated_by_number(table):
    content = pa.DictionaryArray.from_arrays(pa.array([0] * 8, pa.int32()), pa.array(["x" * 4_000_000]))
    role = pa.array(["user", "assistant"] * 4)
    rows = pa.StructArray.from_arrays([role, content.cast(pa.string())], names=["role", "content"])
    return with_column(table, "messages", pa.ListArray.from_arrays(pa.array([0, 2, 4, 6, 8], pa.int32()), rows))


def numbers_that_run_on(table):
    tokens = pa.array(np.zeros(4_000_000, np.int32))
    offsets = pa.array([0, 1_000_000, 2_000_000, 3_000_000, 4_000_000], pa.int32())
    return with_column(table, "tokens", pa.ListArray.from_arrays(offsets, tokens))


@pytest.mark.parametrize("edit", [a_text_repeated_by_number, messages_repeated_by_number, numbers_that_run_on])
def test_a_small_file_that_holds_too_much_is_refused_before_it_is_unpacked(folder, edit, monkeypatch):
    file = change(folder, edit)
    assert file.stat().st_size < 100_000
    limit = 10_000_000
    monkeypatch.setattr(parquet, "_to_episodes", lambda *_: pytest.fail("it was unpacked"))
    said = rf"{file}: it unpacks to more than 10,000,000 bytes, .* OREO_MAX_SHARD_BYTES"
    refused(folder, said, max_shard_bytes=limit)
    monkeypatch.setenv("OREO_MAX_SHARD_BYTES", str(limit))
    refused(folder, said)
    monkeypatch.setenv("OREO_MAX_SHARD_BYTES", "much")
    refused(folder, "OREO_MAX_SHARD_BYTES must be a number of bytes, got 'much'")


def test_a_limit_that_suffices_is_no_obstacle(folder):
    assert len(EpisodeBuffer.load(folder, max_shard_bytes=10_000)) == 6


@pytest.mark.parametrize("name", ["part-00000.parquet", "metadata.json"])
def test_a_link_out_of_the_folder_is_refused(folder, name):
    outside = folder.parent / "elsewhere"
    shutil.move(folder / name, outside)
    (folder / name).symlink_to(outside)
    refused(folder, rf"{folder / name}: a link to {outside}, which is not in this folder; .*cp -rL")
    os.remove(folder / name)
    shutil.move(outside, folder / "kept")
    (folder / name).symlink_to("kept")
    assert len(EpisodeBuffer.load(folder)) == 6


@pytest.mark.parametrize(
    "change_of, said",
    [
        ({"counts": {"episodes": 7}}, "it says episodes 7, and the shards have 6"),
        ({"counts": {"success_rate": 1.0}}, "it says success_rate 1.0, and the shards have 0.5"),
        ({"counts": {"mixed_tasks": "3"}}, "it says mixed_tasks '3', and the shards have 3"),
        ({"counts": [7]}, r"counts is \[7\], expected an object"),
        ({"counts": None}, "counts is None, expected an object"),
        ({"env_ids": ["oreo/Other-v0"]}, r"it says env_ids \['oreo/Other-v0'\], and the shards have"),
        ({"env_ids": "x"}, "env_ids is 'x', expected a list"),
    ],
)
@pytest.mark.parametrize("opened_before", [False, True])
def test_counts_are_held_against_the_shards(folder, change_of, said, opened_before):
    if opened_before:  # and mapped, so that no shard would have to be read again
        assert len(EpisodeBuffer.load(folder)) == 6
    file = folder / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change_of))
    with pytest.raises(ValueError, match=said):
        EpisodeBuffer.load(folder)


def test_a_column_that_is_there_twice_is_refused(folder):
    change(folder, lambda table: table.append_column("rewards", table["rewards"]))
    refused(folder, "part-00000.parquet: it has the column rewards twice")


@pytest.mark.parametrize("rows", [True, 0, -4])
def test_a_shard_has_rows(folder, rows):
    file = folder / "metadata.json"
    metadata = json.loads(file.read_text())
    metadata["shards"][1]["rows"] = rows
    file.write_text(json.dumps(metadata))
    refused(folder, "metadata.json: shard 1 is .* expected a file")


def test_metadata_that_is_deep_or_long_is_refused(folder, monkeypatch):
    file = folder / "metadata.json"
    text = file.read_text()
    file.write_text("[" * 100_000 + "]" * 100_000)
    refused(folder, "metadata.json: not valid JSON")
    monkeypatch.setattr(parquet, "_MAX_METADATA_BYTES", len(text) - 1)
    file.write_text(text)
    refused(folder, f"metadata.json: {len(text)} bytes, more than the metadata of any buffer")


@pytest.mark.parametrize(
    "column, values, said",
    [
        ("tokens", [[1, 2], [3, 4], [-5, 6], [7, 8]], "row 2: tokens: a token id is >= 0, got -5"),
        ("info", ['{"seed": 1}', '{"success": "false"}', "{}", "{}"], 'row 1: info."success".: expected true or false'),
        ("info", ["{}", "{}", "{}", None], "row 3: info is no JSON object"),
        ("info", ["{}", "[" * 100_000, "{}", "{}"], "row 1: info is no JSON object"),
        ("terminated", [True, True, None, True], "row 2: terminated: expected a bool, got None"),
        ("rewards", [[1.0], [0.0], [float("nan")], [0.0]], r"row 2: rewards\[0\] is nan, which is no finite number"),
    ],
)
def test_a_row_that_is_no_episode_is_named(folder, column, values, said):
    kind = parquet.SCHEMA.field(column).type
    file = change(folder, lambda table: with_column(table, column, pa.array(values, kind)))
    refused(folder, rf"{file}, {said}")


def test_rows_are_counted_through_what_is_read_at_once(folder, monkeypatch):
    monkeypatch.setattr(parquet, "MAP_ROWS", 1)
    assert len(EpisodeBuffer.load(folder)) == 6
    shutil.rmtree(folder.parent / "other", ignore_errors=True)
    kind = parquet.SCHEMA.field("rewards").type
    [file.unlink() for file in folder.glob("mapped-*")]
    file = change(folder, lambda table: with_column(table, "rewards", pa.array([[1.0], [0.0], [0.0], []], kind)))
    refused(folder, rf"{file}, row 3: rewards: an episode has at least one action")


# --- what is written as it comes


def test_a_buffer_is_written_shard_by_shard(make_episode, tmp_path, monkeypatch):
    waiting = []
    original = writing._to_table
    monkeypatch.setattr(writing, "_to_table", lambda rows: waiting.append(sum(map(len, rows))) or original(rows))
    with write_buffer(tmp_path / "b", provenance={"a": 1}, episodes_per_shard=4) as writer:
        for i in range(10):
            writer.add(make_episode([-1, 0], [float(i % 3 == 0)], task_id=f"t{i // 2}"))
            assert not (tmp_path / "b").exists()
            assert sum(waiting) == 4 * ((i + 1) // 4)
        writer.provenance = {"b": 2}
    loaded = EpisodeBuffer.load(tmp_path / "b")
    assert waiting == [4, 4, 2] and loaded.provenance == {"b": 2} and writer.counts.stats() == loaded.stats()
    assert loaded.content_hash == EpisodeBuffer(list(loaded)).content_hash
    monkeypatch.setattr(writing, "_SHARD_BYTES", 1)
    loaded.save(tmp_path / "c")
    assert waiting[3:] == [1] * 10, "of long episodes a shard holds fewer"


def test_what_fails_on_the_way_leaves_what_was_there(folder, make_episode):
    before = EpisodeBuffer.load(folder)
    with pytest.raises(RuntimeError, match="on the way"), write_buffer(folder) as writer:
        writer.add(make_episode([-1, 0], [1.0]))
        raise RuntimeError("on the way")
    with pytest.raises(ValueError, match="nothing to save"), write_buffer(folder):
        pass
    assert EpisodeBuffer.load(folder).content_hash == before.content_hash
    assert [entry.name for entry in folder.parent.iterdir()] == ["buffer"]
    (folder.parent / "notes").mkdir()
    (folder.parent / "notes" / "a.txt").write_text("mine")
    with pytest.raises(ValueError, match="not replaced"), write_buffer(folder.parent / "notes") as writer:
        pytest.fail("nothing is begun")


# --- what is read of columns


def test_texts_of_info_and_copies_are_found_in_either_kind_of_buffer(make_episode, tmp_path):
    told = [{"pair": "p"}, {}, {"pair": 'q"'}, {"note": '"pair": "p"'}, {"pair": 3}, {"pair": "p"}]
    made = EpisodeBuffer(make_episode([-1, 0], [1.0], info=info, task_id=f"t{i % 4}") for i, info in enumerate(told))
    made.save(tmp_path / "b", episodes_per_shard=4)
    stored = EpisodeBuffer.load(tmp_path / "b")
    for buffer in (made, stored):
        for some, expected in ((buffer, [0, 2, 5]), (buffer[[5, 4, 0, 0]], [0, 2, 3])):
            index, texts = some.named("pair")
            assert index.tolist() == expected
            assert texts == [some[i].info["pair"] for i in expected]
        assert buffer.holding("pair").tolist() == [0, 2, 4, 5] and buffer[[3, 4]].holding("note").tolist() == [0]
        assert buffer.named("pair", "p")[0].tolist() == [0, 5] and buffer.named("pair", "3")[0].tolist() == []
        assert buffer[[0, 5, 1, 1, 0]].first_of_copies.tolist() == [0, 1, 2, 2, 0]
        assert buffer.first_of_copies.tolist() == [0, 1, 2, 3, 4, 5] and buffer[:0].first_of_copies.tolist() == []


def test_verifying_reads_the_shards_and_what_is_mapped(folder):
    loaded = EpisodeBuffer.load(folder)
    loaded.verify()
    with pytest.raises(ValueError, match="not loaded from a folder"):
        loaded[:1].verify()
    other = EpisodeBuffer([*loaded][::-1])
    other.save(folder.parent / "other", episodes_per_shard=4)
    changed = EpisodeBuffer(EpisodeBuffer.load(folder.parent / "other")._episodes, folder=folder)
    with pytest.raises(ValueError, match="what is mapped of episode 0 is not what stands in its shard"):
        changed.verify()
    shard = folder / "part-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=str(shard)):
        loaded.verify()
