import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from forked import run
from hypothesis import given, settings
from hypothesis import strategies as st

from oreo_algos.episode import Episode
from oreo_algos.storage import mapped, parquet
from oreo_algos.storage.buffer import EpisodeBuffer

MESSAGES = [{"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "→ 5"}]


@pytest.fixture(scope="module")
def buffer(make_episode):
    """Five episodes: every optional field once there and once not, one without tokens."""
    full = {
        "messages": MESSAGES,
        "action_spans": [(1, 0, 1), (1, 2, 3)],
        "behavior_logprobs": [0, -0.5, 0, -0.25],
        "loss_mask": [False, True, False, False],
        "info": {"seed": 7, "success": True, "answer": None, "policy": "sft", "temperature": 0.7},
    }
    return EpisodeBuffer(
        [
            make_episode([-1, 0, -1, 1], [0.0, 1.0], **full),
            make_episode([-1, 0], [0.0], truncated=True, task_id="task-1"),
            make_episode([], [1.0], tokens=[], messages=MESSAGES, action_spans=[(1, 0, 3)]),
            make_episode([-1, 0, 0], [0.1], loss_mask=[True, True, False]),
            make_episode([-1, 0, 0], [1.0], env_id="oreo/Other-v0"),
        ],
        tokenizer_fingerprint="bytes",
        provenance={"commit": "abc", "seeds": [1, 2]},
    )


def assert_same(left, right):
    assert len(left) == len(right)
    assert all(a.equals(b) for a, b in zip(left, right, strict=True))
    assert left.tokenizer_fingerprint == right.tokenizer_fingerprint
    assert left.provenance == right.provenance
    assert left.content_hash == right.content_hash


# --- round trip


@pytest.mark.parametrize("episodes_per_shard", [1, 2, 5, 4096])
def test_a_buffer_comes_back_as_it_was(buffer, tmp_path, episodes_per_shard):
    buffer.save(tmp_path / "runs" / "buffer", episodes_per_shard=episodes_per_shard)
    assert_same(EpisodeBuffer.load(tmp_path / "runs" / "buffer"), buffer)


@st.composite
def episodes(draw):
    """Any valid episode."""
    steps = draw(st.integers(1, 4))
    encoded = draw(st.booleans())
    step_id = [-1] * draw(st.integers(1, 3)) if encoded else []
    for step in range(steps if encoded else 0):
        step_id += [step] * draw(st.integers(1, 3)) + [-1] * draw(st.integers(0, 2))
    length, float32 = len(step_id), st.floats(width=32, allow_nan=False, allow_infinity=False)

    def column(elements):
        return draw(st.lists(elements, min_size=length, max_size=length))

    content = draw(st.text())
    cuts = sorted(draw(st.lists(st.integers(0, len(content)), min_size=2 * steps, max_size=2 * steps)))
    spans = [(1, *cuts[2 * k : 2 * k + 2]) for k in range(steps)]
    logprobs = np.where(np.array(step_id) >= 0, column(float32), 0)
    scalars = st.none() | st.booleans() | st.integers() | st.text()
    scalars |= st.floats(allow_nan=False, allow_infinity=False)
    return Episode(
        tokens=column(st.integers(0, 2**31 - 1)),
        step_id=step_id,
        rewards=draw(st.lists(float32, min_size=steps, max_size=steps)),
        loss_mask=draw(st.none() | st.just(column(st.booleans()))),
        behavior_logprobs=draw(st.none() | st.just(logprobs)),
        action_spans=draw(st.none() | st.just(spans)),
        terminated=draw(st.booleans()),
        truncated=draw(st.booleans()),
        task_id=draw(st.text()),
        env_id=draw(st.text()),
        messages=[
            {"role": "user", "content": draw(st.text())},
            {"role": "assistant", "content": content},
        ],
        info=draw(st.dictionaries(st.text(), scalars, max_size=3)),
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(episodes(), min_size=1, max_size=4), st.text(), st.integers(1, 4))
def test_any_buffer_comes_back_as_it_was(items, fingerprint, episodes_per_shard):
    buffer = EpisodeBuffer(items, tokenizer_fingerprint=fingerprint)
    with tempfile.TemporaryDirectory() as folder:
        buffer.save(folder, episodes_per_shard=episodes_per_shard)
        assert_same(EpisodeBuffer.load(folder), buffer)


def test_metadata_tells_what_is_inside(buffer, tmp_path):
    buffer.save(tmp_path, episodes_per_shard=3)
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    assert metadata["format"] == "oreo-episodes"
    assert metadata["version"] == 1
    assert metadata["env_ids"] == ["oreo/Other-v0", "oreo/Test-v0"]
    assert metadata["tokenizer_fingerprint"] == "bytes"
    assert metadata["counts"] == buffer.stats()
    assert metadata["content_hash"] == buffer.content_hash
    assert [(shard["file"], shard["rows"]) for shard in metadata["shards"]] == [
        ("part-00000.parquet", 3),
        ("part-00001.parquet", 2),
    ]


def test_other_readers_open_the_shards(buffer, tmp_path):
    buffer.save(tmp_path, episodes_per_shard=2)
    table = pa.dataset.dataset(sorted(tmp_path.glob("part-*.parquet"))).to_table()
    assert table["tokens"].to_pylist() == [episode.tokens.tolist() for episode in buffer]
    assert table["messages"].to_pylist()[0] == MESSAGES
    assert table["action_spans"].to_pylist()[0][1] == {"message": 1, "start": 2, "end": 3}
    assert json.loads(table["info"][0].as_py()) == buffer[0].info


def test_pandas_opens_the_shards(buffer, tmp_path):
    pandas = pytest.importorskip("pandas")
    buffer.save(tmp_path)
    frame = pandas.read_parquet(tmp_path / "part-00000.parquet")
    assert frame.groupby("task_id")["rewards"].count().to_dict() == {"task-0": 4, "task-1": 1}
    assert frame["tokens"][0].tolist() == [1, 2, 3, 4]


@pytest.mark.slow
def test_datasets_opens_the_shards(buffer, tmp_path):
    datasets = pytest.importorskip("datasets")
    buffer.save(tmp_path / "buffer", episodes_per_shard=2)
    files = str(tmp_path / "buffer" / "part-*.parquet")
    rows = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert rows["train"]["tokens"][0] == [1, 2, 3, 4]
    assert rows["train"]["loss_mask"][1] is None


# --- replacing


def names(folder: Path) -> set[str]:
    """What lies in a folder, apart from what is made anew when it is missing."""
    return {entry.name for entry in folder.iterdir() if not entry.match(mapped.PATTERN)}


def test_a_second_save_replaces_the_first(buffer, tmp_path):
    buffer.save(tmp_path / "buffer", episodes_per_shard=1)
    buffer[:2].save(tmp_path / "buffer")
    assert_same(EpisodeBuffer.load(tmp_path / "buffer"), buffer[:2])
    assert names(tmp_path) == {"buffer"}
    assert names(tmp_path / "buffer") == {"metadata.json", "part-00000.parquet"}


def test_reference_files_stay_with_their_content_and_notes_always(buffer, tmp_path):
    buffer.save(tmp_path)
    (tmp_path / "ref-abc.parquet").write_bytes(b"log-probabilities")
    (tmp_path / ".ref-abc.parquet.tmp-12").write_bytes(b"half")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "plots").mkdir()
    EpisodeBuffer(buffer, provenance={"new": True}).save(tmp_path)
    kept = {"metadata.json", "part-00000.parquet", "README.md", "plots"}
    assert names(tmp_path) == kept | {"ref-abc.parquet"}
    buffer[:1].save(tmp_path)
    assert names(tmp_path) == kept


def test_a_link_to_a_folder_stays_a_link(buffer, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "buffer").symlink_to(tmp_path / "disk")
    buffer.save(tmp_path / "buffer")
    assert (tmp_path / "buffer").is_symlink()
    assert_same(EpisodeBuffer.load(tmp_path / "disk"), buffer)


def test_a_save_that_fails_leaves_the_earlier_buffer(buffer, tmp_path, monkeypatch):
    buffer.save(tmp_path / "buffer")

    def full_disk(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(OSError, match="No space left"):
        buffer[:1].save(tmp_path / "buffer")
    assert_same(EpisodeBuffer.load(tmp_path / "buffer"), buffer)
    assert names(tmp_path) == {"buffer"}


@pytest.mark.parametrize("content", [{"thesis.tex": "years of work"}, {"metadata.json": "{}"}])
def test_a_folder_that_is_no_buffer_is_not_replaced(buffer, tmp_path, content):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"not replaced, .* choose another folder"):
        buffer.save(tmp_path)
    assert {name: (tmp_path / name).read_text() for name in names(tmp_path)} == content


def test_a_file_is_not_replaced(buffer, tmp_path):
    (tmp_path / "buffer").write_text("years of work")
    with pytest.raises(ValueError, match=r"not replaced, .* choose another folder"):
        buffer.save(tmp_path / "buffer")


def test_an_empty_buffer_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="buffer: nothing to save, the buffer has no episode"):
        EpisodeBuffer([]).save(tmp_path / "buffer")


def test_a_shard_holds_at_least_one_episode(buffer, tmp_path):
    with pytest.raises(ValueError, match="episodes_per_shard must be >= 1, got 0"):
        buffer.save(tmp_path / "buffer", episodes_per_shard=0)


# --- kill -9


@pytest.fixture(scope="module")
def killed_saves(buffer, tmp_path_factory):
    """Folder of saves killed at each file operation in turn, over an earlier buffer and over none."""
    base = tmp_path_factory.mktemp("killed")
    buffer[:2].save(base / "old")
    buffer.save(base / "new")
    script = str(Path(__file__).with_name("killed_saves.py"))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    run([script, str(base)], base, environment).check_returncode()
    return base


@pytest.mark.parametrize("case", ["earlier", "nothing"])
def test_a_killed_save_leaves_the_earlier_buffer_or_the_new_one(killed_saves, buffer, case):
    attempts = sorted((killed_saves / case).iterdir(), key=lambda path: int(path.name))
    assert len(attempts) > 10
    renamed_away = [not (path / "buffer").exists() and any(path.glob(".buffer.old-*")) for path in attempts]
    assert any(renamed_away) == (case == "earlier")
    found = []
    for path in attempts:
        try:
            loaded = EpisodeBuffer.load(path / "buffer")
        except FileNotFoundError:
            found.append("nothing")
        else:
            is_new = len(loaded) == len(buffer)
            assert_same(loaded, buffer if is_new else buffer[:2])
            found.append("the new one" if is_new else "earlier")
        buffer[3:].save(path / "buffer")
        assert names(path) == {"buffer"}  # the next save cleans up
        assert_same(EpisodeBuffer.load(path / "buffer"), buffer[3:])
    # What was there until the last rename, the new one from there on.
    assert found == sorted(found)
    assert set(found) == {case, "the new one"}


# --- damage


@pytest.fixture
def saved(buffer, tmp_path):
    """A buffer of two shards on disk."""
    folder = tmp_path / "buffer"
    buffer.save(folder, episodes_per_shard=3)
    return folder


def test_nothing_there_is_an_error_with_the_mend(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent: there is no buffer here; collect or import"):
        EpisodeBuffer.load(tmp_path / "absent")


def test_another_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"not a buffer, it has no metadata\.json"):
        EpisodeBuffer.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": "oreo-epi', r"metadata\.json: not valid JSON"),
        ("[]", r"metadata\.json: not the metadata of a buffer, expected format 'oreo-episodes'"),
        ('{"format": "dataset"}', "not the metadata of a buffer"),
        ('{"format": "oreo-episodes", "version": 9}', "format version 9, this release reads 1; "),
        ('{"format": "oreo-episodes", "version": 1, "shards": []}', "provenance, .* missing; save"),
    ],
)
def test_damaged_or_foreign_metadata_is_an_error(saved, text, message):
    (saved / "metadata.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        EpisodeBuffer.load(saved)


def test_another_tokenizer_is_an_error_with_the_mend(saved, buffer):
    assert_same(EpisodeBuffer.load(saved, tokenizer_fingerprint="bytes"), buffer)
    message = r"buffer: .* tokenizer 'bytes', the policy reads 'words'; .*oreo data encode"
    with pytest.raises(ValueError, match=message):
        EpisodeBuffer.load(saved, tokenizer_fingerprint="words")


def test_a_missing_shard_is_an_error(saved):
    (saved / "part-00001.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"part-00001\.parquet: this shard .* is missing"):
        EpisodeBuffer.load(saved)


@pytest.mark.parametrize("kept", [0, 3, 400])
def test_a_truncated_shard_is_an_error(saved, kept):
    file = saved / "part-00001.parquet"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"part-00001\.parquet: truncated, or not a Parquet file"):
        EpisodeBuffer.load(saved)


def test_a_foreign_shard_is_an_error(saved):
    pq.write_table(pa.table({"question": ["1+1?"], "tokens": [[1]]}), saved / "part-00000.parquet")
    with pytest.raises(ValueError, match=r"part-00000\.parquet: .* without the columns task_id, "):
        EpisodeBuffer.load(saved)


def test_a_shard_that_changed_is_an_error(saved):
    file = saved / "part-00000.parquet"
    pq.write_table(pq.read_table(file).slice(0, 2), file)
    with pytest.raises(ValueError, match=r"part-00000\.parquet: changed since it was written"):
        EpisodeBuffer.load(saved)


def test_a_flipped_byte_is_an_error(saved):
    file = saved / "part-00000.parquet"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"part-00000\.parquet: changed since it was written"):
        EpisodeBuffer.load(saved)


def test_a_shard_that_nobody_listed_is_an_error(saved):
    (saved / "part-00002.parquet").write_bytes((saved / "part-00001.parquet").read_bytes())
    with pytest.raises(ValueError, match=r"part-00002\.parquet: .*EpisodeBuffer\.concatenate"):
        EpisodeBuffer.load(saved)


def test_every_field_of_an_episode_has_a_column():
    assert set(parquet.SCHEMA.names) == set(Episode.__dataclass_fields__)
