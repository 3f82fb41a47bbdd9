"""Reading rows: every format, every packing, every way a file may be broken, and limits."""

import bz2
import csv
import datetime
import gzip
import hashlib
import io
import json
import lzma
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oreo_envs.data_rows import Allowance, data_stem, rows

ROWS = [{"question": f'Größe {n}, "∑"\nor so?', "answer": f"#### {n}"} for n in range(700)]
TABLE = pa.Table.from_pylist(ROWS)


def as_lines() -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def as_csv() -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["question", "answer"])
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def as_parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink, row_group_size=300)
    return sink.getvalue()


def as_arrow(new=pa.ipc.new_stream) -> bytes:
    sink = io.BytesIO()
    with new(sink, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=300)
    return sink.getvalue()


FORMATS = {
    "a.jsonl": as_lines(),
    "bom.jsonl": b"\xef\xbb\xbf" + as_lines(),
    "a.json": json.dumps(ROWS).encode(),
    "indented.json": json.dumps(ROWS, indent=1, ensure_ascii=False).encode(),
    "lines.json": as_lines(),
    "objects.JSON": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "a.csv": as_csv(),
    "bom.csv": b"\xef\xbb\xbf" + as_csv(),
    "a.parquet": as_parquet(),
    "stream.arrow": as_arrow(),
    "file.arrow": as_arrow(pa.ipc.new_file),
}
PACK = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
}


def read(file, limit=1 << 30):
    digest = hashlib.sha256()
    found = list(rows(file, digest, Allowance(limit)))
    assert digest.digest() == hashlib.sha256(file.read_bytes()).digest()
    return found


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("name", FORMATS)
def test_all_formats_and_packings_hold_the_same_rows(tmp_path, name, packing):
    file = tmp_path / (name + packing)
    file.write_bytes(PACK[packing](FORMATS[name]))
    found = read(file)
    assert [row for _, row in found] == ROWS
    assert found[9][0] == ("line 10" if name.endswith("jsonl") else "row 10")
    assert data_stem(file) == name.rpartition(".")[0]


@pytest.mark.parametrize("name", ["README.md", "a.txt", "a.jsonl.zip", ".jsonl", "a.gz", "jsonl", "a.parquet.md"])
def test_other_files_are_no_data(tmp_path, name):
    assert data_stem(tmp_path / name) is None


@pytest.mark.parametrize("packing", list(PACK)[1:])
def test_packed_files_in_several_pieces_are_read_whole(tmp_path, packing):
    lines = as_lines().splitlines(keepends=True)
    file = tmp_path / f"a.jsonl{packing}"
    file.write_bytes(b"".join(PACK[packing](b"".join(part)) for part in (lines[:300], lines[300:])))
    assert [row for _, row in read(file)] == ROWS


@pytest.mark.parametrize("packing", list(PACK)[1:])
@pytest.mark.parametrize("damage", ["cut", "plain"])
def test_a_damaged_packed_file_is_named(tmp_path, packing, damage):
    file = tmp_path / f"a.jsonl{packing}"
    file.write_bytes(as_lines() if damage == "plain" else PACK[packing](as_lines())[:-20])
    with pytest.raises(ValueError, match=rf"a\.jsonl\{packing}: not a whole {packing[1:]} file \("):
        read(file)


@pytest.mark.parametrize("name", [name for name in FORMATS if name.endswith((".parquet", ".arrow"))])
@pytest.mark.parametrize("keep", [9, -100])
def test_a_damaged_columnar_file_is_named(tmp_path, name, keep):
    (tmp_path / name).write_bytes(FORMATS[name][:keep])
    with pytest.raises(ValueError, match=rf"{name}: not a whole (parquet|arrow) file"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["stream.arrow", "file.arrow"])
def test_arrow_texts_are_not_believed_to_be_utf8(tmp_path, name):
    damaged = FORMATS[name].replace(b"#### 7", b"\xff### 7", 1)
    assert damaged != FORMATS[name]
    (tmp_path / name).write_bytes(damaged)
    with pytest.raises(ValueError, match=rf"{name}: not a whole arrow file \(.*UTF8"):
        read(tmp_path / name)


@pytest.mark.parametrize("packing", list(PACK)[1:])
def test_what_unpacks_to_more_than_the_limit_is_refused_before_it_is_in_memory(tmp_path, packing):
    file = tmp_path / f"a.jsonl{packing}"
    content = b'{"a": "' + b" " * (1 << 24) + b'"}'
    file.write_bytes(PACK[packing](content))
    assert len(read(file, limit=len(content))) == 1
    with pytest.raises(ValueError, match=r"unpacks to more than 3,000,000 bytes; .* raise max_unpacked_bytes"):
        read(file, limit=3_000_000)


@pytest.mark.parametrize("name", ["a.parquet", "stream.arrow", "file.arrow", "a.parquet.gz"])
def test_the_limit_holds_for_columns_too(tmp_path, name):
    content = FORMATS[name.removesuffix(".gz")]
    (tmp_path / name).write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    with pytest.raises(ValueError, match="unpacks to more than 10,000 bytes"):
        read(tmp_path / name, limit=10_000)


def test_what_columns_say_they_hold_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_, **__: pytest.fail("decoded"))
    (tmp_path / "a.parquet").write_bytes(FORMATS["a.parquet"])
    with pytest.raises(ValueError, match="unpacks to more than 10,000 bytes"):
        read(tmp_path / "a.parquet", limit=10_000)


def test_a_column_that_repeats_a_long_text_is_decoded_in_small_batches(tmp_path):
    text = "x" * (1 << 16)
    pq.write_table(pa.table({"question": [text] * 600, "answer": ["1"] * 600}), tmp_path / "a.parquet")
    allowance, count = Allowance(20 << 16), 0
    before = pa.total_allocated_bytes()
    most = 0
    with pytest.raises(ValueError, match="unpacks to more than"):
        for _ in rows(tmp_path / "a.parquet", hashlib.sha256(), allowance):
            count, most = count + 1, max(most, pa.total_allocated_bytes() - before)
    assert 10 <= count <= 20 and most < 60 << 16


def test_the_limit_is_one_for_all_files_and_none_for_plain_ones(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(as_lines())
    assert len(read(tmp_path / "a.jsonl", limit=1)) == len(ROWS)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(as_lines()))
    allowance = Allowance(len(as_lines()) + 10)
    assert len(list(rows(tmp_path / "a.jsonl.gz", hashlib.sha256(), allowance))) == len(ROWS)
    with pytest.raises(ValueError, match="unpacks to more than"):
        list(rows(tmp_path / "a.jsonl.gz", hashlib.sha256(), allowance))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'[{"a": 1}]', "line 1: not a JSON object but list; an array of rows belongs into .*json"),
        ("a.jsonl", b'{"a": 1}\n{"a": ', "line 2: not JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1: lists and objects more than 100 deep inside one another"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "line 1: not UTF-8 text .*; save the file as UTF-8"),
        (
            "a.jsonl",
            gzip.compress(b"{}", mtime=0),
            r"line 1: not UTF-8 text .*; this looks like a \.gz file: name it so",
        ),
        ("a.json", b'[{"a": 1}, {"a": 2}', "after row 2: the array is not closed; the file is cut off"),
        ("a.json", b'[{"a": 1}, {"a": ', "row 2: not JSON"),
        ("a.json", b'[{"a": 1}, 7]', "row 2: not a JSON object but int"),
        ("a.json", b'[{"a": 1}] {"a"', "row 2: not JSON"),
        ("a.json", b'[{"a": "\xff"}]', "after row 0: not UTF-8 text"),
        ("a.json", b'[{"a": "\xc3', "after row 0: not UTF-8 text"),
        ("a.json", b'{"a":' * 100_000, "row 1: lists and objects more than 100 deep .* OREO_MAX_DEPTH"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", r"row 2 \(line 3\): 3 cells, but line 1 names 2 columns \(a, b\)"),
        ("a.csv", b'a,b\n1,"2\n', "after row 0: not CSV .*unexpected end"),
        ("a.csv", b"a,a\n1,2\n", r"line 1: a column is named twice \(a, a\)"),
        ("a.csv", b"a,b\n1,\xe9\n", "after row 0: not UTF-8 text .*; save the file as UTF-8"),
        (
            "a.parquet",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:35\nsize 44\n",
            "a Git LFS pointer and not the data; run `git lfs pull`",
        ),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name)


def test_long_rows_and_odd_cuts_of_a_json_array_are_read(tmp_path):
    """Rows longer than a chunk, characters that a chunk cuts, blank rows: the text is never searched twice."""
    long = [{"a": "∑" * 700_000, "n": n} for n in range(4)]
    (tmp_path / "a.json").write_text(json.dumps(long, ensure_ascii=False), encoding="utf-8")
    assert [row for _, row in read(tmp_path / "a.json")] == long
    for content in (b"", b" \n", b"[]", b"[ ]\n"):
        (tmp_path / "a.json").write_bytes(content)
        assert read(tmp_path / "a.json") == []


def test_csv_has_no_blank_rows_and_long_cells(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n\n" + "x" * 200_000 + ",2\n\n", encoding="utf-8")
    before = csv.field_size_limit()
    assert read(tmp_path / "a.csv") == [("row 1", {"a": "x" * 200_000, "b": "2"})]
    assert csv.field_size_limit() == before


def test_columns_keep_their_types(tmp_path):
    row = {
        "text": "a",
        "n": 3,
        "x": 1.5,
        "none": None,
        "list": ["1"],
        "inner": {"a": 1},
        "day": datetime.date(2026, 1, 1),
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [("row 1", row)]


THREADS = """
import hashlib, os, pathlib, sys
import pyarrow.parquet
from oreo_envs.data_rows import Allowance, rows

before = len(os.listdir("/proc/self/task"))
for name in sys.argv[1:]:
    assert len(list(rows(pathlib.Path(name), hashlib.sha256(), Allowance(1 << 30)))) == 700
print(len(os.listdir("/proc/self/task")) - before, flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_no_thread_is_left_behind(tmp_path):
    """One of pyarrow's that lets go of Python's memory while Python ends aborts the process."""
    names = ["a.parquet", "stream.arrow", "file.arrow", "a.parquet.zst", "a.jsonl.zst"]
    for name in names:
        content = FORMATS[name.removesuffix(".zst")]
        (tmp_path / name).write_bytes(PACK[".zst"](content) if name.endswith(".zst") else content)
    command = [sys.executable, "-c", THREADS, *(str(tmp_path / name) for name in names)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0\n"
