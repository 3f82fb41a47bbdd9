"""Data sets of Minari that others made, or that pretend to be: read within the limits, refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oreo_envs.limits import Allowance
from oreo_envs.minari_files import read

TEXT = json.dumps({"type": "Text", "max_length": 9, "min_length": 0, "charset": "ab"})
STEPS = {"rewards": [0.0, 1.0, 0.0], "terminations": [False, True, False], "truncations": [False] * 3}
EPISODE = {"observations": ["a", "b", "c"], "actions": ["x", "y", None], **STEPS}


def metadata(folder: Path, kind: str, total: Any = 1, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    said = {"data_format": kind, "total_episodes": total, "observation_space": TEXT, "action_space": TEXT} | more
    (folder / "metadata.json").write_text(json.dumps(said))
    return folder


def columnar(folder: Path, kind: str = "arrow", episode: Any = None) -> Path:
    table = pa.table(EPISODE if episode is None else episode)
    metadata(folder, kind)
    (folder / "0").mkdir()
    if kind == "parquet":
        pq.write_table(table, folder / "0" / "part-0.parquet")
    else:
        with pa.ipc.new_file(folder / "0" / "part-0.arrow", table.schema) as file:
            file.write_table(table)
    return folder


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_columns_are_read_without_minari(kind: str, tmp_path: Path):
    infos = [{"success": step == 2, "depth": [1.0, 2.0]} for step in range(3)]
    [found] = read(columnar(tmp_path / "d", kind, EPISODE | {"infos": infos}), Allowance())
    assert found == {
        "observations": ["a", "b", "c"],
        "actions": ["x", "y"],
        "rewards": [0.0, 1.0],
        "terminations": [False, True],
        "truncations": [False] * 2,
        "infos": {"success": [False, False, True]},
        "env_id": None,
    }


def test_one_long_text_that_a_column_repeats_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("OREO_MAX_UNPACKED_BYTES", "100000")
    long = pa.array(["a" * 5_000]).take(pa.array([0] * 100)).dictionary_encode()
    steps = {name: values[:1] * 100 for name, values in STEPS.items()}
    folder = columnar(tmp_path / "d", "arrow", {"observations": long, "actions": ["x"] * 100, **steps})
    with pytest.raises(ValueError, match=r"part-0\.arrow: unpacks to more than 100,000 bytes.*OREO_MAX_UNPACKED_BYTES"):
        list(read(folder, Allowance()))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"total": "3"}, "total_episodes is '3' and no count"),
        ({"total": True}, "total_episodes is True and no count"),
        ({"total": 10**12}, "episode 1: not a whole data set of Minari"),
        ({"kind": "zip"}, "data_format is 'zip'; hdf5, arrow and parquet are read"),
        ({"action_space": "[" * 5000}, "metadata.json, action_space: not JSON.*OREO_MAX_DEPTH"),
        ({"env_spec": "{"}, "metadata.json, env_spec: not JSON"),
    ],
)
def test_metadata_of_another_form_are_named(said: dict[str, Any], told: str, tmp_path: Path):
    metadata(columnar(tmp_path / "d"), **{"kind": "arrow"} | said)
    with pytest.raises(ValueError, match=told):
        list(read(tmp_path / "d", Allowance()))


@pytest.fixture
def hdf5(tmp_path: Path) -> Any:
    """An open file of one whole episode, whose folder ``refused`` reads."""
    h5py = pytest.importorskip("h5py", reason='needs pip install "oreo-suite[minari]"')
    with h5py.File(metadata(tmp_path / "d", "hdf5") / "main_data.hdf5", "w") as file:
        for name, values in EPISODE.items():
            some = [value for value in values if value is not None]
            kind = h5py.string_dtype() if isinstance(some[0], str) else None
            file.create_dataset(f"episode_0/{name}", data=some[: 3 if name == "observations" else 2], dtype=kind)
        yield file


def refused(file: Any) -> str:
    folder = Path(file.filename).parent
    file.close()
    with pytest.raises(ValueError) as refusal:
        list(read(folder, Allowance()))
    return str(refusal.value)


def put(file: Any, name: str, **how: Any) -> None:
    del file[f"episode_0/{name}"]
    file.create_dataset(f"episode_0/{name}", **how)


def test_a_whole_file_is_read(hdf5: Any):
    folder = Path(hdf5.filename).parent
    hdf5.close()
    [found] = read(folder, Allowance())
    assert found["observations"] == ["a", "b", "c"] and found["actions"] == ["x", "y"] and found["rewards"] == [0, 1]


def test_arrays_that_say_more_than_their_file_holds_are_refused(hdf5: Any):
    put(hdf5, "rewards", shape=(1 << 40,), dtype="f8", chunks=(1024,))
    assert "main_data.hdf5: unpacks to more than" in refused(hdf5)


def test_a_part_that_is_larger_than_its_array_is_refused(hdf5: Any):
    put(hdf5, "rewards", shape=(2,), maxshape=(None,), dtype="S1000", chunks=(1 << 20,))
    assert "main_data.hdf5: unpacks to more than" in refused(hdf5)


def test_packed_arrays_are_refused(hdf5: Any):
    put(hdf5, "rewards", data=np.zeros(4096), compression="gzip")
    assert "episode_0/rewards: packed, which Minari does not do" in refused(hdf5)


@pytest.mark.parametrize("kind", ["soft", "external"])
def test_links_to_other_places_are_not_followed(hdf5: Any, kind: str):
    import h5py

    hdf5["elsewhere"] = [0.0, 1.0]
    del hdf5["episode_0/rewards"]
    target = h5py.SoftLink("/elsewhere") if kind == "soft" else h5py.ExternalLink("main_data.hdf5", "/elsewhere")
    hdf5["episode_0/rewards"] = target
    assert "episode_0/rewards: a link to another place, which is not followed" in refused(hdf5)


def test_values_in_other_files_are_not_read(hdf5: Any, tmp_path: Path):
    (tmp_path / "private").write_bytes(bytes(16))
    put(hdf5, "rewards", shape=(2,), dtype="f8", external=[(str(tmp_path / "private"), 0, 16)])
    assert "episode_0/rewards: keeps its values in other files" in refused(hdf5)


def test_episodes_longer_than_a_row_may_be_are_refused(hdf5: Any, monkeypatch):
    monkeypatch.setenv("OREO_MAX_PART_BYTES", "2000")
    put(hdf5, "observations", data=["a" * 900] * 3)
    assert "episode_0: longer than 2,000 bytes, which is no episode of text" in refused(hdf5)


def test_groups_and_numbers_in_place_of_texts_are_told(hdf5: Any):
    del hdf5["episode_0/rewards"]
    hdf5.create_group("episode_0/rewards")
    assert "episode 0: not a whole data set of Minari (TypeError: episode_0/rewards is no list" in refused(hdf5)
