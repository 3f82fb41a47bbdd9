"""What is read of files of others has limits, settings all of them; what is refused is named with its limit.

The inputs are small files with lowered limits.
"""

import gzip
import hashlib
import io
import json
import lzma
import sys
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oreo_envs import data_rows, limits
from oreo_envs.alfworld.sexp import read_sexp
from oreo_envs.archives import is_archive, read_members
from oreo_envs.data_rows import rows
from oreo_envs.limits import Allowance, Limits, files_below, read_json, read_yaml

PACK = {".gz": gzip.compress, ".xz": lzma.compress}


@pytest.fixture
def lowered(monkeypatch):
    """Set limits, and what any file may unpack to."""

    def lower(*, free=None, **values):
        for name, value in values.items():
            monkeypatch.setenv(f"OREO_MAX_{name.upper()}", str(value))
        if free is not None:
            monkeypatch.setattr(limits, "_FREE", free)

    return lower


def read(file):
    return list(rows(file, hashlib.sha256(), Allowance()))


def archive_of(members, *, mode="w:xz", kind=tarfile.GNU_FORMAT):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode, format=kind) as archive:
        for name, text in members:
            header = tarfile.TarInfo(name)
            header.size = len(text)
            archive.addfile(header, io.BytesIO(text))
    return content.getvalue()


def names_in(path, wanted=lambda name: True):
    return [name for name, _ in read_members(path, wanted)]


def test_every_limit_is_an_environment_variable(monkeypatch):
    assert Limits.now() == Limits()
    for number, name in enumerate(vars(Limits()), start=5):
        monkeypatch.setenv(f"OREO_MAX_{name.upper()}", str(number))
    assert list(vars(Limits.now()).values()) == [5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1e6", "9" * 30])
def test_a_limit_that_is_no_number_is_named(monkeypatch, wrong):
    monkeypatch.setenv("OREO_MAX_DEPTH", wrong)
    with pytest.raises(ValueError, match="OREO_MAX_DEPTH must be a whole number above 0, got '"):
        Limits.now()


@pytest.mark.parametrize("packing", PACK)
def test_what_unpacks_to_many_times_its_size_is_refused(tmp_path, lowered, packing):
    file = tmp_path / f"a.jsonl{packing}"
    file.write_bytes(PACK[packing](b'{"a": "' + b" " * 1_000_000 + b'"}'))
    assert len(read(file)) == 1
    lowered(free=1000, expansion=20)
    with pytest.raises(ValueError, match=r"a\.jsonl\.\w+: unpacks to more than [\d,]+ bytes, 20 times .*EXPANSION"):
        read(file)


def test_the_files_of_an_import_have_one_limit(tmp_path, lowered):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": "' + b"x" * 3000 + b'"}'))
    lowered(unpacked_bytes=2000)
    with pytest.raises(ValueError, match=r"more than 2,000 bytes; if it is what .* raise OREO_MAX_UNPACKED_BYTES"):
        read(tmp_path / "a.jsonl.gz")


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": "' + b"x" * 3000 + b'"}\n', "line 2: longer than 2,000 bytes"),
        ("a.json", b'[{"a": 1}, {"a": "' + b"x" * 3000, "row 2: longer than 2,000 bytes"),
        ("a.json", b'[{"a": 1}, {"a": "' + b"x" * 3000 + b'"}]', "row 2: longer than 2,000 bytes"),
        ("a.csv", b"a,b\n1," + b"x" * 3000 + b"\n", "line 2: longer than 2,000 bytes"),
    ],
)
def test_a_row_has_a_limit_that_is_named_with_it(tmp_path, lowered, name, content, where):
    (tmp_path / name).write_bytes(content)
    lowered(part_bytes=2000)
    with pytest.raises(ValueError, match=rf"{name}, {where}"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_depth_has_a_limit_that_is_named_with_the_row(tmp_path, lowered, name):
    nested = json.dumps({"a": json.loads("[" * 30 + "]" * 30)}).encode()
    flat = json.dumps({"a": [[n] for n in range(300)]}).encode()
    (tmp_path / name).write_bytes(flat + b"\n" + nested + b"\n")
    assert len(read(tmp_path / name)) == 2, "as many brackets side by side are no depth"
    lowered(depth=20)
    with pytest.raises(ValueError, match=rf"{name}, (line|row) 2: lists and objects more than 20 deep .* OREO_MAX"):
        read(tmp_path / name)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_depth_is_counted_exactly(depth):
    text = '{"a": ' * (depth - 1) + "[1]" + "}" * (depth - 1)
    assert read_json(text, depth)
    with pytest.raises(limits.TooDeepError, match=f"more than {depth} deep"):
        read_json(f"[{text}]", depth)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 5000 + "]" * 5000])
def test_what_python_itself_cannot_nest_is_too_deep_and_no_more(text):
    with pytest.raises(ValueError, match="more than 100 deep"):
        read_json(text)


def test_pddl_may_not_lie_deeper(lowered):
    assert read_sexp("(" * 20 + ")" * 20)
    with pytest.raises(ValueError, match=r"PDDL: brackets more than 100 deep .* OREO_MAX_DEPTH"):
        read_sexp("(" * 5000 + ")" * 5000)


def columns_file(path, table, **how):
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema, **how) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize(
    "column",
    [
        pa.array(["x" * 1000] * 500).dictionary_encode(),
        pa.array([["x" * 1000] * 500], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        pa.array([[None] * 100_000] * 5, pa.list_(pa.null())),
        pa.array([None] * 50_000, pa.null()),
    ],
    ids=["dictionary", "list of a dictionary", "lists of nothing", "nothing"],
)
def test_what_a_column_repeats_counts_each_time_before_it_is_written_out(tmp_path, lowered, name, column):
    """Each weighs next to nothing in the file, and 50,000 bytes or values and more in memory."""
    file = columns_file(tmp_path / name, pa.table({"a": column}))
    assert read(file)
    lowered(free=10_000, expansion=2)
    with pytest.raises(ValueError, match=rf"{name}: unpacks to more than [\d,]+ bytes, 2 times .* OREO_MAX_EXPANSION"):
        read(file)


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_packed_columns_of_arrow_are_refused_before_they_are_unpacked(tmp_path, lowered, codec, monkeypatch):
    table = pa.table({"a": ["x" * 1000] * 500, "n": range(500)})
    file = columns_file(tmp_path / "a.arrow", table, options=pa.ipc.IpcWriteOptions(compression=codec))
    assert [row for _, row in read(file)] == table.to_pylist()
    lowered(free=100_000, expansion=2)
    monkeypatch.setattr(pa.ipc, "open_stream", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(ValueError, match=r"a\.arrow: unpacks to more than"):
        read(file)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_types_that_are_not_counted_or_lie_too_deep_are_not_read(tmp_path, lowered, name):
    lowered(depth=20)
    kind = pa.list_(pa.string()) if name == "a.parquet" else pa.list_view(pa.string())
    for _ in range(0 if name == "a.arrow" else 30):
        kind = pa.list_(kind)
    file = columns_file(tmp_path / name, pa.table({"q": pa.array([None], kind)}))
    with pytest.raises(
        ValueError, match=r"column 'q'(, lists and objects more than 20 deep| is of list_view.* not read)"
    ):
        read(file)


def test_an_archive_has_limits_on_members_their_size_and_what_it_unpacks_to(tmp_path, lowered):
    path = tmp_path / "games.tar.xz"
    path.write_bytes(archive_of([(f"m{n}", b"x" * 5000) for n in range(9)]))
    assert len(names_in(path)) == 9
    lowered(members=8)
    with pytest.raises(ValueError, match=r"games\.tar\.xz: more than 8 members; .* raise OREO_MAX_MEMBERS"):
        names_in(path)
    lowered(members=9, part_bytes=4999)
    with pytest.raises(ValueError, match=r"xz, member m0: 5,000 bytes, more than the 4,999 .* OREO_MAX_PART_BYTES"):
        names_in(path)
    assert names_in(path, lambda name: False) == [], "what is not wanted is not held"
    lowered(part_bytes=5000, unpacked_bytes=20_000)
    with pytest.raises(ValueError, match=r"games\.tar\.xz: unpacks to more than 20,000 bytes; .*UNPACKED_BYTES"):
        names_in(path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_archives_of_all_kinds_are_read(tmp_path, mode, kind):
    name = "/".join(["folder" * 8] * (2 if kind == tarfile.USTAR_FORMAT else 4)) + "/game"
    (tmp_path / "a").write_bytes(archive_of([(name, b"one"), ("b", b"")], mode=mode, kind=kind))
    assert list(read_members(tmp_path / "a", lambda name: True)) == [(name, b"one"), ("b", b"")]
    assert is_archive(tmp_path / "a")


NO_ARCHIVES = {
    "empty": b"",
    "text": b"x" * 2000,
    "packed text": gzip.compress(b"x" * 2000),
    "cut": gzip.compress(b"x")[:-9],
}


@pytest.mark.parametrize("content", NO_ARCHIVES.values(), ids=NO_ARCHIVES)
def test_what_is_no_archive_is_told_from_one_by_its_begin(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert not is_archive(tmp_path / "a")


def test_whether_it_is_an_archive_costs_no_more_than_its_first_header(tmp_path, monkeypatch):
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.XHDTYPE, 1 << 24
    (tmp_path / "a").write_bytes(gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(header.size)))
    took = []
    monkeypatch.setattr(Allowance, "take", lambda self, count: took.append(count))
    assert is_archive(tmp_path / "a") and sum(took) <= 1 << 20


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_name_of_any_size_is_refused_before_it_is_read(tmp_path, kind):
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, (8 << 30) - 1
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + b"\0" * 2048)
    with pytest.raises(ValueError, match=r"a\.tar, member 1: a name or comment of 8,589,934,591 bytes"):
        names_in(tmp_path / "a.tar")


def test_a_sparse_member_is_as_large_as_it_says(tmp_path, lowered):
    header = tarfile.TarInfo("sparse")
    header.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(header.tobuf())
    block[483:495] = b"77777777777\0"
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    (tmp_path / "a.tar").write_bytes(bytes(block) + b"\0" * 2048)
    with pytest.raises(ValueError, match=r"a\.tar, member sparse: 8,589,934,591 bytes, more than"):
        names_in(tmp_path / "a.tar")


def work(function):
    """Return how many calls of Python's and of C's functions something takes."""
    count = 0

    def counted(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def one_large_member(tmp_path, size):
    path = tmp_path / f"{size}.tar.xz"
    path.write_bytes(archive_of([("other", b"\0" * size), ("game", b"x")]))
    return lambda: names_in(path, lambda name: name == "game")


def many_members(tmp_path, size):
    path = tmp_path / f"{size}.tar.gz"
    path.write_bytes(archive_of([(f"m{n}", b"x") for n in range(size >> 14)], mode="w:gz"))
    return lambda: names_in(path)


def rows_of(name, content):
    def made(tmp_path, size):
        path = tmp_path / f"{size}{name}"
        path.write_bytes(content(size))
        return lambda: read(path)

    return made


@pytest.mark.parametrize(
    "make",
    [
        one_large_member,
        many_members,
        rows_of(".jsonl.xz", lambda size: lzma.compress(b'{"a": 1}\n' * (size >> 11))),
        rows_of(".json", lambda size: b"[" + b'{"a": 1},' * (size >> 11) + b'{"a": 2}]'),
        rows_of(".json", lambda size: b'[{"a": "' + b"x" * size + b'"}]'),
        rows_of(".csv", lambda size: b"a,b\n" + b"1,2\n" * (size >> 11)),
    ],
    ids=["one large member", "many members", "lines", "array", "one long row", "csv"],
)
def test_twice_as_much_is_twice_the_work(tmp_path, make):
    once, twice = (work(make(tmp_path, size)) for size in (1 << 22, 1 << 23))
    assert twice < 2.2 * once + 200


def test_what_an_archive_unpacks_to_is_unpacked_once_and_never_copied_whole(tmp_path, monkeypatch):
    """tarfile by itself keeps all that a block of a packed file unpacks to, and copies the rest of it at each read."""
    largest, asked = 0, data_rows._Unpacked.readinto

    def counted(stream, buffer):
        nonlocal largest
        largest = max(largest, len(buffer))
        return asked(stream, buffer)

    monkeypatch.setattr(data_rows._Unpacked, "readinto", counted)
    taken, take = [], Allowance.take
    monkeypatch.setattr(Allowance, "take", lambda self, count: (taken.append(count), take(self, count))[1])
    content = archive_of([("other", b"\0" * (1 << 23))], mode="w")
    (tmp_path / "a.tar.xz").write_bytes(lzma.compress(content))
    assert names_in(tmp_path / "a.tar.xz", lambda name: False) == []
    assert sum(taken) <= len(content) and largest <= 1 << 20


def test_aliases_of_yaml_are_counted_for_what_they_stand_for(lowered):
    text = "a: &a {x: 1, y: 2}\nb: &b [*a, *a]\nc: {<<: *a, z: [*b, *b]}\n"
    assert read_yaml(text)["c"]["z"][1][0] == {"x": 1, "y": 2}
    lowered(aliased=37)  # a: 5 values, three times; b: 11, twice
    assert read_yaml(text)["c"]["x"] == 1
    lowered(aliased=36)
    with pytest.raises(ValueError, match=r"its aliases \(\*NAME\) stand for more than 36 values; .* OREO_MAX_ALIASED"):
        read_yaml(text)
    with pytest.raises(ValueError, match="aliases"):
        read_yaml(text, aliases=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", r"\*a stands inside what it stands for"),
        ("- " * 100_000, "more than 100 deep"),  # PyYAML's reader in C ends the process
        ("[" * 2000, "more than 100 deep"),
        ("a: [", "expected"),
        ("? [1]\n: 2", "unhashable"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: *b", "undefined alias"),
    ],
)
def test_yaml_that_cannot_be_read_is_a_sentence(text, message):
    with pytest.raises(ValueError, match=message):
        read_yaml(text)


def test_files_of_a_folder_are_counted_and_sorted(tmp_path, lowered):
    for name in ("b/c/x.json", "a/x.json", "x.json", "y.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert files_below(tmp_path, "*.json") == [tmp_path / name for name in ("a/x.json", "b/c/x.json", "x.json")]
    assert files_below(tmp_path, depth=2) == [tmp_path / name for name in ("a/x.json", "x.json", "y.txt")]
    lowered(members=6)
    with pytest.raises(ValueError, match="more than 6 files and folders"):
        files_below(tmp_path)
    assert len(files_below(tmp_path, depth=2)) == 3
