"""``oreo data export``: a buffer becomes a file that others read.

Knows: files. Does not know: formats of rows.
"""

import argparse
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryFile
from typing import TextIO

from oreo_agents.formats.exporting import Losses, Row, export_rows
from oreo_agents.runs.data_card import FILE, dataset_card
from oreo_agents.terminal import say
from oreo_algos import EpisodeBuffer
from oreo_algos.storage.atomic import remove_leftovers, replace_file, replace_folder

_ROWS = 4096  # of a group in Parquet
_MINARI = "MINARI_DATASETS_PATH"


def export(options: argparse.Namespace) -> None:
    """Write the file, or a folder of it and a card, whole or not at all, and say what it cannot hold.

    Raises:
        ValueError: no episode can be written, the name is of no kind that is written, or a file is there already.
    """
    buffer = EpisodeBuffer.load(options.buffer)
    if options.format == "minari":
        _export_minari(buffer, options)
        return
    out = options.out or Path(f"{options.buffer.name}-{options.format}.jsonl")
    if out.suffix not in (".jsonl", ".parquet", ""):
        raise ValueError(f"--out {out}: write NAME.jsonl or NAME.parquet, or NAME, a folder with a card")
    if out.exists():
        raise ValueError(f"{out} is there already; delete it, or give another --out")
    losses = Losses()
    columns: dict[str, None] = {}
    rows = export_rows(buffer, options.format, losses, max_pairs=options.max_pairs, seed=options.seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out.parent)
    with nullcontext(out) if out.suffix else replace_folder(out) as place:
        count = write_rows(place if out.suffix else place / FILE, _noting(rows, columns))
        if not count:
            raise ValueError(f"{options.buffer}: no episode can be written as {options.format}: {_told(losses)}")
        if not out.suffix:
            card = dataset_card(out.name, buffer, options.format, count, [*columns], losses.sentences())
            (place / "README.md").write_text(card, encoding="utf-8")
    say(f"{out}: {count} rows of {len(buffer)} episodes as {options.format}")
    say(_told(losses) or "nothing is lost")


def _noting(rows: Iterable[Row], columns: dict[str, None]) -> Iterator[Row]:
    for row in rows:
        columns.update(dict.fromkeys(row))
        yield row


def _told(losses: Losses) -> str:
    return "\n".join(losses.sentences())


def write_rows(out: Path, rows: Iterable[Row]) -> int:
    """Write rows to a new file, as JSON lines or Parquet by its name; none: no file.

    Returns:
        How many.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _write_rows(out, rows)
    except OSError as error:
        error.filename = error.filename or str(out)  # the temporary file has no name
        raise


def _write_rows(out: Path, rows: Iterable[Row]) -> int:
    with TemporaryFile("w+", encoding="utf-8", newline="\n", dir=out.parent) as lines:
        count = 0
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
        if count:
            with replace_file(out) as temporary:
                _to_parquet(lines, temporary) if out.suffix == ".parquet" else _to_text(lines, temporary)
    return count


def _to_text(lines: TextIO, file: Path) -> None:
    lines.seek(0)
    with file.open("w", encoding="utf-8", newline="\n") as written:
        shutil.copyfileobj(lines, written)


def _to_parquet(lines: TextIO, file: Path) -> None:
    """Write lines as Parquet, in two passes: what is null in some rows has the type that others give it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([])
    for rows in _some_rows(lines):
        schema = pa.unify_schemas([schema, pa.Table.from_pylist(rows).schema], promote_options="permissive")
    with pq.ParquetWriter(file, schema) as writer:
        for rows in _some_rows(lines):
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _some_rows(lines: TextIO) -> Iterator[list[Row]]:
    lines.seek(0)
    while some := list(itertools.islice(lines, _ROWS)):
        yield [json.loads(line) for line in some]


def _export_minari(buffer: EpisodeBuffer, options: argparse.Namespace) -> None:
    """Write a data set where Minari keeps its own, whole or not at all: it would leave half of one."""
    try:
        from oreo_envs.minari import export as export_minari
    except ImportError as error:
        raise ValueError(str(error)) from None
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.storage import get_dataset_path

    name = str(options.out or f"{options.buffer.name}-v0")
    if not re.search(r"-v\d+$", name):
        raise ValueError(f"--out {name}: data sets of Minari are called NAME-v0")
    parse_dataset_id(name)
    place = get_dataset_path(name)
    if place.exists():
        raise ValueError(f"{place} is there already; delete it, or give another --out")
    with replace_folder(place) as temporary, _kept_in(temporary):
        export_minari(buffer, name)
        for each in [*(temporary / name).iterdir()]:
            each.rename(temporary / each.name)
        shutil.rmtree(temporary / Path(name).parts[0])
    say(f"{name}: {len(buffer)} episodes as a data set of Minari, in {place}")
    say("not kept: tokens, log-probabilities, loss_mask")


@contextmanager
def _kept_in(folder: Path) -> Iterator[None]:
    """Let Minari keep its data sets in another folder."""
    before = os.environ.get(_MINARI)
    os.environ[_MINARI] = str(folder)
    try:
        yield
    finally:
        del os.environ[_MINARI]
        os.environ |= {} if before is None else {_MINARI: before}
