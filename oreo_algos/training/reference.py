"""Log-probabilities under the reference, taken once and kept beside the episodes.

Knows: the side files ``ref-<key>.parquet`` of a buffer's folder. Does not know: losses, optimisers.

A side file belongs to one reference, tokenizer and data, which are its key: another reference is another file, a wrong
key a miss. The buffer is always cut in the same pieces, and a piece is scored whole or not at all, so that a row has
the same bits whichever run takes it, whatever was there before, on the same machine; a run that continues reads what it
began with. The files used last stay and older ones are removed. Runs that share a folder each leave a whole file; what
one of them misses of another's rows it takes again.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from oreo_algos.batch import collate
from oreo_algos.episode import Episode
from oreo_algos.models import Policy
from oreo_algos.storage.atomic import replace_file
from oreo_algos.storage.buffer import EpisodeBuffer
from oreo_algos.storage.fingerprint import policy_summary
from oreo_algos.training.micro_batches import cut_by_tokens

_log = logging.getLogger(__name__)

_KEPT = 8
"""Side files that stay in a folder."""

_FORMAT = 2
"""Of the side files and of how their rows are taken: part of the key."""

_WINDOW, _PIECE_TOKENS = 64, 4096
"""Neighbours in the buffer, as those of one task are, of which pieces of similar length are made; tokens of a piece."""

_SCHEMA = pa.schema([("episode", pa.int64()), ("logprobs", pa.list_(pa.float32()))])

Rows: TypeAlias = dict[Episode, NDArray[np.float32]]
"""Log-probabilities of the tokens of episodes, nats."""


def reference_logprobs(reference: Policy, buffer: EpisodeBuffer, episodes: Iterable[Episode], *, bf16: bool) -> Rows:
    """Return the log-probabilities of episodes under a reference; take those that the buffer's folder does not have.

    What is taken of the buffer's episodes is written there, if the buffer has a folder that can be written. Episodes
    that were made of those, and have the same tokens and actions, share their rows; others are scored anew.

    Args:
        reference: frozen.
        buffer: where the episodes come from.
        episodes: at least one, each of which fits into the context of ``reference``.
        bf16: autocast to bfloat16.

    Returns:
        By episode float32 [T], nats, 0 where ``step_id`` < 0.
    """
    asked = list(episodes)
    origins = _origins(asked, buffer)
    made = [episode for episode in asked if episode not in origins]
    rows = _rows_of_buffer(reference, buffer, set(origins.values()), bf16=bf16) if origins else {}
    found = {episode: rows[origin] for episode, origin in origins.items()}
    for piece in cut_by_tokens(made, _PIECE_TOKENS):
        found |= _score(reference, piece, bf16=bf16)
    return found


def _origins(episodes: Iterable[Episode], buffer: EpisodeBuffer) -> dict[Episode, Episode]:
    """Return for episodes the one of the buffer that says and does the same; those that have none are left out."""
    own = set(buffer)
    if own.issuperset(episodes):
        return {episode: episode for episode in episodes}
    by_content = {_content(episode): episode for episode in buffer}
    found = {e: e if e in own else by_content.get(_content(e)) for e in episodes}
    return {episode: origin for episode, origin in found.items() if origin is not None}


def _content(episode: Episode) -> bytes:
    return hashlib.blake2b(episode.tokens.tobytes() + episode.step_id.tobytes(), digest_size=16).digest()


def _rows_of_buffer(reference: Policy, buffer: EpisodeBuffer, chosen: set[Episode], *, bf16: bool) -> Rows:
    """Read or take the rows of episodes of the buffer."""
    file = None if buffer.folder is None else buffer.folder / f"ref-{_key(reference, buffer, bf16=bf16)}.parquet"
    rows = {} if file is None else _read(file, buffer)
    missing = chosen - rows.keys()
    if missing:
        pieces = [piece for piece in _pieces(reference, buffer) if not missing.isdisjoint(piece)]
        _log.info("scoring %d episodes with the reference, %d are known", sum(map(len, pieces)), len(rows))
        taken: Rows = {}
        for piece in pieces:
            taken |= _score(reference, piece, bf16=bf16)
        rows = taken | rows
        if file is not None:
            rows |= _read(file, buffer)  # of a run that was faster meanwhile
            _write(file, rows, buffer)
    return {episode: rows[episode] for episode in chosen}


def _key(reference: Policy, buffer: EpisodeBuffer, *, bf16: bool) -> str:
    example = max(_fitting(reference, buffer), key=lambda episode: episode.num_tokens)
    facts = [_FORMAT, policy_summary(reference, example), buffer.tokenizer_fingerprint, buffer.content_hash, bf16]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _fitting(reference: Policy, buffer: EpisodeBuffer) -> list[Episode]:
    """Return the episodes that a reference can read."""
    return [episode for episode in buffer if 0 < episode.num_tokens <= reference.max_length]


def _pieces(reference: Policy, buffer: EpisodeBuffer) -> Iterator[list[Episode]]:
    """Cut what a reference can read of a buffer into what it reads at once, always in the same way."""
    fitting = _fitting(reference, buffer)
    for start in range(0, len(fitting), _WINDOW):
        yield from cut_by_tokens(fitting[start : start + _WINDOW], _PIECE_TOKENS)


def _score(reference: Policy, piece: list[Episode], *, bf16: bool) -> Rows:
    """Score episodes at once."""
    device = next(reference.parameters()).device
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        logprobs = reference.score(collate(piece).to(device)).logprobs
    rows = zip(piece, logprobs.float().cpu().numpy(), strict=True)
    return {episode: row[: episode.num_tokens].copy() for episode, row in rows}


def _read(file: Path, buffer: EpisodeBuffer) -> Rows:
    """Read a side file; there is none, or it is damaged: no rows."""
    try:
        table = pq.read_table(file, page_checksum_verification=True).cast(_SCHEMA)
        lists = table["logprobs"].combine_chunks()
        rows = np.split(lists.flatten().to_numpy(), np.cumsum(lists.value_lengths())[:-1])
        found = {buffer[i]: row for i, row in zip(table["episode"].to_pylist(), rows, strict=True)}
        if any(len(row) != episode.num_tokens for episode, row in found.items()):
            raise ValueError("its rows do not fit the episodes")
        with suppress(OSError):
            os.utime(file)  # used last
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, IndexError, TypeError, pa.ArrowException) as error:
        _log.warning("%s: damaged (%s); the log-probabilities of the reference are taken again", file, error)
        with suppress(OSError):
            file.unlink(missing_ok=True)
        return {}
    return found


def _write(file: Path, rows: Rows, buffer: EpisodeBuffer) -> None:
    """Write a side file and remove those not used for longest; a folder that cannot be written stays as it is."""
    positions = [i for i, episode in enumerate(buffer) if episode in rows]
    table = pa.table({"episode": positions, "logprobs": [rows[buffer[i]] for i in positions]}, schema=_SCHEMA)
    try:
        with replace_file(file) as temporary:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        used = sorted(file.parent.glob("ref-*.parquet"), key=os.path.getmtime, reverse=True)
        for old in used[_KEPT:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s: not written (%s); the log-probabilities of the reference are in memory only", file, error)
