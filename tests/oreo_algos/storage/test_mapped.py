"""A buffer that is mapped: what an episode of it is, how the file is made, and what is refused."""

import copy
import dataclasses
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from oreo_algos.batch import collate
from oreo_algos.episode import Episode
from oreo_algos.storage import mapped, parquet, rows, stored
from oreo_algos.storage.buffer import EpisodeBuffer

MESSAGES = [{"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "→ 5"}]


@pytest.fixture
def buffer(make_episode):
    """Five episodes of three tasks, each optional field there and missing."""
    return EpisodeBuffer(
        [
            make_episode([-1, 0, 0], [1.0], task_id="b", messages=MESSAGES, action_spans=[(1, 0, 3)]),
            make_episode(
                [-1, 0, -1, 1], [0.0, 0.25], task_id="a", truncated=True, loss_mask=[False, True, False, False]
            ),
            make_episode([-1, 0], [0.0], task_id="b", behavior_logprobs=[0, -0.5], info={"seed": 3, "note": None}),
            make_episode([], [1.0], tokens=[], task_id="c", env_id="oreo/Other-v0"),
            make_episode([-1, 0], [0.5], task_id="a", success=True),
        ],
        tokenizer_fingerprint="bytes",
    )


@pytest.fixture
def saved(buffer, tmp_path):
    """As it is written here."""
    buffer.save(tmp_path / "buffer", episodes_per_shard=2)
    return tmp_path / "buffer"


@pytest.fixture
def folder(saved):
    """As it comes from elsewhere, without its mapped file."""
    map_file(saved).unlink()
    return saved


def map_file(folder):
    (file,) = folder.glob("mapped-*.arrow")
    return file


def test_who_writes_a_buffer_maps_it_so_that_no_shard_is_unpacked_to_open_it(saved, buffer, monkeypatch):
    written = map_file(saved).read_bytes()
    monkeypatch.setattr(parquet, "read_shard", lambda *_: pytest.fail("a shard was unpacked"))
    assert all(kept.equals(made) for kept, made in zip(EpisodeBuffer.load(saved), buffer, strict=True))
    monkeypatch.undo()
    name = map_file(saved).name
    map_file(saved).unlink()
    loaded = EpisodeBuffer.load(saved)
    assert map_file(saved).name == name and map_file(saved).read_bytes() == written, "as the first that opens it"
    loaded[1:].save(saved)
    assert len(EpisodeBuffer.load(saved)) == 4 and map_file(saved).name != name


@pytest.mark.parametrize("at", [0, 1, 2, "close"])
def test_a_buffer_is_written_where_there_is_no_room_to_map_it(buffer, tmp_path, monkeypatch, caplog, at):
    writer, added = mapped.MapWriter, []

    class Full(writer):
        def add(self, batch):
            added.append(batch)
            if len(added) == at:
                raise OSError(28, "No space left on device")
            super().add(batch)

        def close(self):
            if at == "close":
                raise OSError(28, "No space left on device")
            super().close()

    def refuse(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mapped, "MapWriter", Full if at else refuse)
    buffer.save(tmp_path / "b", episodes_per_shard=2)
    assert sorted(file.name[:5] for file in (tmp_path / "b").iterdir()) == ["metad", *["part-"] * 3]
    assert caplog.text.count("No space left on device") == 1
    monkeypatch.undo()
    assert all(kept.equals(made) for kept, made in zip(EpisodeBuffer.load(tmp_path / "b"), buffer, strict=True))


def test_an_episode_is_read_when_it_is_asked_for_and_says_the_same(buffer, folder):
    loaded = EpisodeBuffer.load(folder)
    for kept, made in zip(loaded, buffer, strict=True):
        assert isinstance(kept, stored.StoredEpisode)
        for name in ("num_tokens", "num_steps", "num_action_tokens", "total_reward", "encoded", "pays_one"):
            assert getattr(kept, name) == getattr(made, name), name
        assert kept.equals(made) and made.equals(kept)
        assert not kept.tokens.flags.writeable and not kept.tokens.flags.owndata
    assert loaded.stats() == buffer.stats() and loaded.by_task() == buffer.by_task()


def test_what_is_made_of_a_stored_episode_lies_in_memory(buffer, folder):
    kept = EpisodeBuffer.load(folder)[1]
    for made in (pickle.loads(pickle.dumps(kept)), copy.deepcopy(kept), copy.copy(kept)):
        assert type(made) is Episode and made.equals(buffer[1])
    changed = dataclasses.replace(kept, rewards=[0.0, 1.0])
    assert type(changed) is Episode and changed.rewards.tolist() == [0.0, 1.0] and changed.truncated
    with pytest.raises(dataclasses.FrozenInstanceError):
        kept.rewards = np.zeros(2)


def test_a_row_is_the_same_episode_each_time(folder):
    loaded = EpisodeBuffer.load(folder)
    assert loaded[0] == loaded[0] and len({loaded[0], loaded[0], loaded[2]}) == 2
    assert loaded[[2, 0]][1] == loaded[0] and loaded[0] != EpisodeBuffer.load(folder)[0]


def test_a_choice_and_a_join_read_nothing(buffer, folder, monkeypatch):
    loaded = EpisodeBuffer.load(folder)
    monkeypatch.setattr(stored.StoredEpisode, "at", lambda *_: pytest.fail("an episode was made"))
    joined = EpisodeBuffer.concatenate([loaded[[4, 0, 1]], loaded, loaded[:0]])
    assert joined.stats()["episodes"] == 8 and joined.by_task() == {"a": [0, 2, 4, 7], "b": [1, 3, 5], "c": [6]}
    monkeypatch.undo()
    expected = [*(buffer[i] for i in (4, 0, 1)), *buffer]
    assert all(left.equals(right) for left, right in zip(joined, expected, strict=True))
    assert joined.content_hash == EpisodeBuffer(expected).content_hash
    mixed = EpisodeBuffer.concatenate([loaded, buffer])
    assert mixed.stats()["episodes"] == 10 and mixed.content_hash == EpisodeBuffer([*buffer, *buffer]).content_hash


def test_a_batch_of_views_is_that_of_the_episodes(buffer, folder):
    index = [0, 1, 2, 4]
    left, right = (collate([source[i] for i in index]) for source in (EpisodeBuffer.load(folder), buffer))
    for field in dataclasses.fields(left):
        value = getattr(left, field.name)
        assert value is None or np.array_equal(value, getattr(right, field.name)), field.name


def test_the_file_is_made_once_and_may_be_removed(buffer, folder):
    EpisodeBuffer.load(folder)
    file = map_file(folder)
    written = file.stat().st_mtime_ns
    alive = EpisodeBuffer.load(folder)
    assert file.stat().st_mtime_ns == written
    file.unlink()
    assert alive[0].equals(buffer[0])
    assert EpisodeBuffer.load(folder).content_hash == buffer.content_hash and file.exists()
    assert [entry for entry in folder.iterdir() if entry.name.endswith(".lock")] == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"x" * 64,
        *(lambda data, at=at: data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :] for at in range(700, 4000, 300)),
    ],
)
def test_a_damaged_file_is_made_again(buffer, folder, damage):
    EpisodeBuffer.load(folder)
    file = map_file(folder)
    file.write_bytes(damage(file.read_bytes()))
    assert all(left.equals(right) for left, right in zip(EpisodeBuffer.load(folder), buffer, strict=True))


def damaged_in(folder, part, by=1):
    """Change a byte of what a column holds, where it lies in the file."""
    file = map_file(folder)
    data = bytearray(file.read_bytes())
    at = data.index(part)
    data[at] ^= by
    file.write_bytes(data)
    return file


def test_damage_is_found_where_it_is_read_and_the_shards_have_what_it_was(buffer, folder, caplog):
    loaded = EpisodeBuffer.load(folder)
    file = damaged_in(folder, "→ 5".encode())
    with caplog.at_level(logging.WARNING, logger="oreo_algos"):
        loaded = EpisodeBuffer.load(folder)
        assert loaded[4].tokens.tolist() == buffer[4].tokens.tolist() and loaded.stats() == buffer.stats()
        assert not caplog.messages and file.exists()
        assert loaded[0].equals(buffer[0])
        assert all(kept.equals(made) for kept, made in zip(loaded, buffer, strict=True))
    [said] = caplog.messages
    assert said.startswith(f"{file}: damaged, messages of the episodes 0 to 1 is not as it was written")
    assert not file.exists()
    assert EpisodeBuffer.load(folder)[0].equals(buffer[0]) and file.exists()


def test_damage_that_the_shards_cannot_repair_is_an_error_with_file_and_rows(folder, buffer):
    EpisodeBuffer.load(folder)
    file = damaged_in(folder, np.array([0.0, 0.25], np.float32).tobytes())
    loaded = EpisodeBuffer.load(folder)
    EpisodeBuffer([*buffer][::-1]).save(folder)
    with pytest.raises(ValueError, match=rf"{file}: damaged, rewards of the episodes 0 to 1 .* sha256"):
        loaded[0].rewards  # noqa: B018
    assert loaded[4].rewards.tolist() == [0.5]


def test_opening_reads_the_form_alone_and_statistics_what_they_are_about(folder, monkeypatch):
    EpisodeBuffer.load(folder)
    read, original = set(), rows._is_as_written

    def look(column, part, checksum):
        read.add((str(column.type), part))
        return original(column, part, checksum)

    monkeypatch.setattr(rows, "_is_as_written", look)
    loaded = EpisodeBuffer.load(folder)
    assert read == set()
    loaded.stats()
    assert {part for kind, part in read if "list" in kind} == {rows.SHAPE}
    loaded[0].tokens  # noqa: B018
    assert ("large_list<item: int32>", rows.CONTENT) in read and not any("struct" in kind for kind, _ in read)


def test_a_file_whose_offsets_lead_out_of_it_is_not_believed(buffer, folder, monkeypatch):
    """One that came with the folder has right checksums of wrong columns."""

    class Wrong(mapped.MapWriter):
        def add(self, batch):
            column = batch.column("info")
            valid, offsets, data = column.buffers()
            moved = np.frombuffer(offsets, np.int64).copy()
            moved[1:-1] = 1 << 40
            bad = pa.Array.from_buffers(column.type, len(column), [valid, pa.py_buffer(moved.tobytes()), data])
            super().add(batch.set_column(batch.schema.get_field_index("info"), batch.schema.field("info"), bad))

    monkeypatch.setattr(mapped, "MapWriter", Wrong)
    EpisodeBuffer.load(folder)
    monkeypatch.undo()
    assert all(kept.equals(made) for kept, made in zip(EpisodeBuffer.load(folder), buffer, strict=True))


def test_one_of_other_shards_is_not_taken(buffer, folder):
    EpisodeBuffer.load(folder)
    before = map_file(folder).name
    buffer[:2].save(folder)
    assert len(EpisodeBuffer.load(folder)) == 2 and map_file(folder).name != before


def test_where_the_file_cannot_be_written_the_episodes_are_in_memory(buffer, folder, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mapped, "replace_file", refuse)
    loaded = EpisodeBuffer.load(folder)
    assert all(left.equals(right) for left, right in zip(loaded, buffer, strict=True))
    assert "No space left on device" in caplog.text and list(folder.glob("mapped-*.arrow")) == []


def test_a_file_system_without_locks_is_read_too(buffer, folder, monkeypatch, caplog):
    def refuse(*_):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(mapped.FileLock, "acquire", refuse)
    assert EpisodeBuffer.load(folder).content_hash == EpisodeBuffer(list(EpisodeBuffer.load(folder))).content_hash
    assert "support flock" in caplog.text


def test_a_choice_that_goes_to_another_process_takes_its_own_rows_along(buffer, folder):
    loaded = EpisodeBuffer.load(folder)
    chosen = pickle.loads(pickle.dumps(loaded[[3, 1]]))
    assert [kept.equals(buffer[i]) for kept, i in zip(chosen, (3, 1), strict=True)] == [True, True]
    assert chosen.stats() == loaded[[3, 1]].stats() and len(pickle.loads(pickle.dumps(loaded[[]]))) == 0
    assert len(pickle.dumps(loaded[:1])) < len(pickle.dumps(loaded)) - 300


def test_processes_that_open_a_buffer_at_once_all_read_it(folder, buffer):
    code = "import sys, oreo_algos as o; print(o.EpisodeBuffer.load(sys.argv[1])[1].rewards)"
    command = [sys.executable, "-c", code, str(folder)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    assert {process.communicate()[0] for process in running} == {"[0.   0.25]\n"}
    assert len(list(folder.glob("mapped-*"))) == 1


def test_shards_are_unpacked_once_and_hashed_once_a_process_until_somebody_writes_to_them(folder, monkeypatch):
    done = []

    def counted(name):
        whole = getattr(parquet, name)

        def count(file, *rest):
            done.append((name, file.name))
            return whole(file, *rest)

        return count

    for name in ("read_shard", "sha256"):
        monkeypatch.setattr(parquet, name, counted(name))
    shards = [f"part-0000{i}.parquet" for i in range(3)]
    for _ in range(4):
        EpisodeBuffer.load(folder)
    assert sorted(done) == sorted((name, shard) for name in ("read_shard", "sha256") for shard in shards)
    again, damaged = folder / shards[0], folder / shards[2]
    again.write_bytes(again.read_bytes())
    EpisodeBuffer.load(folder)
    assert done[6:] == [("sha256", shards[0])]
    whole = damaged.read_bytes()
    at = whole.index(b"PAR1", 1) - 20
    damaged.write_bytes(whole[: at // 2] + bytes([whole[at // 2] ^ 1]) + whole[at // 2 + 1 :])
    with pytest.raises(ValueError, match="changed since it was written"):
        EpisodeBuffer.load(folder)


def test_an_empty_choice_is_a_buffer(folder):
    empty = EpisodeBuffer.load(folder)[[]]
    assert len(empty) == 0 and empty.by_task() == {} and empty.env_ids == [] and list(empty) == []


def metadata_with(folder, change):
    file = folder / "metadata.json"
    metadata = json.loads(file.read_text())
    change(metadata)
    file.write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda m: m.update(content_hash="0" * 64), "content_hash is not that of the episodes"),
        (lambda m: m["shards"][0].update(rows=3), "part-00000.parquet: 2 episodes, and metadata.json says 3"),
        (lambda m: m["shards"].append(m["shards"][0]), "shard 3, part-00000.parquet, is listed twice"),
        (lambda m: m["shards"][0].update(file="../buffer/part-00000.parquet"), "shard 0 is .* of this folder"),
        (lambda m: m["shards"][0].pop("sha256"), "shard 0 is .* sha256"),
        (lambda m: m["shards"].insert(0, None), "shard 0 is None"),
        (lambda m: m.update(shards=None), "shards is None, expected a list"),
        (lambda m: m.update(provenance=[]), r"provenance is \[\], expected an object"),
        (lambda m: m.update(tokenizer_fingerprint=7), "tokenizer_fingerprint is 7, expected text"),
    ],
)
def test_metadata_that_says_something_else_is_refused(folder, change, said):
    metadata_with(folder, change)
    with pytest.raises(ValueError, match=said):
        EpisodeBuffer.load(folder)
    assert list(folder.glob("mapped-*.arrow*")) == [] and list(folder.glob(".mapped-*")) == []


def test_a_copy_of_a_folder_brings_its_map(folder, tmp_path, buffer):
    EpisodeBuffer.load(folder)
    shutil.copytree(folder, tmp_path / "copy")
    written = map_file(tmp_path / "copy").stat().st_mtime_ns
    assert EpisodeBuffer.load(tmp_path / "copy")[4].equals(buffer[4])
    assert map_file(tmp_path / "copy").stat().st_mtime_ns == written
