"""Episodes of text data sets of Minari, read within the limits that hold for other files.

Knows: how Minari's storages lie on disk. Does not know: what the texts mean (``minari_texts``), how they are written
(``minari``).
Source: minari 0.5.4, ``dataset/_storages``. Its own readers hold whatever a file says it holds, follow links to other
files, and make an environment that the metadata name where they name no spaces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from oreo_envs.data_rows import rows
from oreo_envs.limits import Allowance, raised, read_document, read_json

_STEPS = ("rewards", "terminations", "truncations")
_INFOS = ("task_id", "success", "answer", "more")
_SLICE, _SLICE_BYTES = 256, 64 << 20


def read(folder: Path, allowance: Allowance) -> Iterator[dict[str, Any]]:
    """Yield a data set's episodes, as lists by the names of ``minari.EpisodeData``, and the ``env_id``, if one of ours.

    Args:
        folder: that holds its metadata.json.
        allowance: counts what is read.

    Raises:
        ValueError: it is of other spaces than text, damaged, or holds too much.
    """
    metadata = read_json(read_document(folder / "metadata.json"))
    for name in ("observation_space", "action_space"):  # never made from env_spec, which runs what it names
        kind = _said(folder, metadata, name).get("type")
        if kind != "Text":
            raise ValueError(
                f"{folder}: its {name} is {kind or 'not said'}, and an episode here is text: only data sets whose "
                "observations and actions are both of gymnasium.spaces.Text can be imported"
            )
    env_id, total, kind = (
        _said(folder, metadata, "env_spec").get("id"),
        metadata["total_episodes"],
        metadata["data_format"],
    )
    if not isinstance(total, int) or isinstance(total, bool) or total < 0:
        raise ValueError(f"{folder}: total_episodes is {total!r:.80} and no count; get it again")
    if kind not in ("hdf5", "arrow", "parquet"):
        raise ValueError(f"{folder}: data_format is {kind!r:.80}; hdf5, arrow and parquet are read")
    number = 0
    try:
        read_some = _hdf5_episodes if kind == "hdf5" else _columnar_episodes
        for row in read_some(folder, kind, total, allowance):
            yield row | {"env_id": env_id if str(env_id).startswith("oreo/") else None}
            number += 1
    except (KeyError, OSError, RuntimeError, TypeError, UnicodeDecodeError) as error:  # not there, or of another kind
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"{folder}, episode {number}: not a whole data set of Minari ({reason}); get it again"
        ) from error


def _said(folder: Path, metadata: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    said = metadata.get(name)
    try:
        found = read_json(said) if isinstance(said, str) else None
    except ValueError as error:
        raise ValueError(f"{folder / 'metadata.json'}, {name}: not JSON ({error})") from None
    return found if isinstance(found, dict) else {}


def _columnar_episodes(folder: Path, kind: str, total: int, allowance: Allowance) -> Iterator[dict[str, Any]]:
    """One folder an episode, a row a state; the last one has no action."""
    for number in range(total):
        files = sorted((folder / str(number)).glob(f"[!._]*.{kind}"))
        if not files:
            raise FileNotFoundError(f"no {kind} file in {folder / str(number)}")
        found = [row for file in files for _, row in rows(file, hashlib.sha256(), allowance)]
        infos = [row.get("infos") or {} for row in found]
        yield {
            "observations": [row["observations"] for row in found],
            **{name: [row[name] for row in found[:-1]] for name in ("actions", *_STEPS)},
            "infos": {name: [info[name] for info in infos] for name in _INFOS if infos and name in infos[0]},
        }


def _hdf5_episodes(folder: Path, kind: str, total: int, allowance: Allowance) -> Iterator[dict[str, Any]]:
    """One file with a group an episode and an array a name."""
    try:
        import h5py
    except ImportError as error:
        raise ValueError(f'{folder}: needs the extra: pip install "oreo-suite[minari]" ({error})') from None
    file = folder / "main_data.hdf5"
    allowance.begin(str(file), file.stat().st_size)
    with h5py.File(file, "r") as opened:
        for number in range(total):
            begun = allowance.used

            def column(name: str, number: int = number, begun: int = begun) -> list[Any]:
                return _column(opened, f"episode_{number}/{name}", file, allowance, begun)

            group = opened[f"episode_{number}"]
            infos = [name for name in _INFOS if f"infos/{name}" in group]
            yield {
                **{name: column(name) for name in ("observations", "actions", *_STEPS)},
                "infos": {name: column(f"infos/{name}") for name in infos},
            }


def _column(opened: Any, name: str, file: Path, allowance: Allowance, begun: int) -> list[Any]:
    """Return the values of an array.

    Args:
        opened: the file.
        name: of the array.
        file: for messages.
        allowance: counts the values.
        begun: what was used of it before this episode.
    """
    import h5py

    where = f"{file}, {name}"
    for part in range(1, len(parts := name.split("/")) + 1):
        if not isinstance(opened.get("/".join(parts[:part]), getlink=True), h5py.HardLink):
            raise ValueError(f"{where}: a link to another place, which is not followed")
    found = opened[name]
    if not isinstance(found, h5py.Dataset) or found.ndim != 1:
        raise TypeError(f"{name} is no list of values")
    described = found.id.get_create_plist()
    if found.is_virtual or found.external:
        raise ValueError(f"{where}: keeps its values in other files, which are not read")
    if described.get_nfilters():
        raise ValueError(f"{where}: packed, which Minari does not do; write the data set with Minari")
    texts = h5py.check_string_dtype(found.dtype) is not None
    if not texts and found.dtype.kind not in "biuf":
        raise TypeError(f"{name} holds {found.dtype}, neither texts nor numbers")
    item = found.dtype.itemsize
    allowance.look_ahead(item * max(found.size, *(found.chunks or (0,))))
    # Many values may be one text of the file: none is longer than it.
    step = max(1, min(_SLICE, _SLICE_BYTES // max(1, file.stat().st_size, item)))
    values: list[Any] = []
    for start in range(0, found.size, step):
        some = found[start : start + step].tolist()
        allowance.take(sum(map(len, some)) + len(some) if texts else item * len(some))
        if allowance.used - begun > allowance.limits.part_bytes:
            raise ValueError(
                f"{file}, {name.partition('/')[0]}: longer than {allowance.limits.part_bytes:,} bytes, which is no "
                f"episode of text; {raised('part_bytes')}"
            )
        values += [value.decode("utf-8") for value in some] if texts else some
    return values
