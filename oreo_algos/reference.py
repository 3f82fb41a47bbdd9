"""Log-probabilities under the reference, taken once and kept beside the episodes.

Knows: the side files ``ref-<key>.parquet`` of a buffer's folder. Does not know: losses, optimisers.

A side file belongs to one reference, tokenizer and data, which are its key: another reference is another file, a wrong
key a miss. Rows are added as they are needed and never replaced, so that a run that continues reads what it began with;
the newest files stay and older ones are removed. Runs that share a folder each leave a whole file; what one of them
misses of another's rows it takes again.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from oreo_algos.atomic import replace_file
from oreo_algos.batch import collate
from oreo_algos.buffer import EpisodeBuffer
from oreo_algos.episode import Episode
from oreo_algos.fingerprint import summary
from oreo_algos.micro_batches import cut_by_tokens
from oreo_algos.models import Policy

_log = logging.getLogger(__name__)

_KEPT = 8
"""Side files that stay in a folder."""

_SCHEMA = pa.schema([("episode", pa.int64()), ("logprobs", pa.list_(pa.float32()))])

Rows: TypeAlias = dict[int, NDArray[np.float32]]
"""Log-probabilities by the position of the episode in the buffer."""


def reference_logprobs(
    reference: Policy, buffer: EpisodeBuffer, episodes: Iterable[Episode], *, max_tokens: int, bf16: bool
) -> dict[Episode, NDArray[np.float32]]:
    """Return the log-probabilities of episodes under a reference; take those that the buffer's folder does not have.

    What is taken is written there, if the buffer has a folder that can be written.

    Args:
        reference: frozen.
        buffer: where the episodes come from.
        episodes: some of its episodes, each of which fits into the context of ``reference``.
        max_tokens: micro-batches of the forward passes, see ``cut_by_tokens``.
        bf16: autocast to bfloat16.

    Returns:
        By episode float32 [T], nats, 0 where ``step_id`` < 0.
    """
    chosen = set(episodes)
    wanted = {position: episode for position, episode in enumerate(buffer) if episode in chosen}
    file = None if buffer.folder is None else buffer.folder / f"ref-{_key(reference, buffer, bf16=bf16)}.parquet"
    rows = {} if file is None else _read(file, buffer)
    missing = {position: episode for position, episode in wanted.items() if position not in rows}
    if missing:
        _log.info("scoring %d episodes with the reference, %d are known", len(missing), len(wanted) - len(missing))
        taken = _score(reference, list(missing.values()), max_tokens=max_tokens, bf16=bf16)
        rows |= dict(zip(missing, taken, strict=True))
        if file is not None:
            rows |= _read(file, buffer)  # of a run that was faster meanwhile
            _write(file, rows)
    return {episode: rows[position] for position, episode in wanted.items()}


def _key(reference: Policy, buffer: EpisodeBuffer, *, bf16: bool) -> str:
    facts = [summary(reference), buffer.tokenizer_fingerprint, buffer.content_hash, bf16]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _score(reference: Policy, episodes: list[Episode], *, max_tokens: int, bf16: bool) -> list[NDArray[np.float32]]:
    """Score episodes in micro-batches; rows are in the order of ``episodes``."""
    device = next(reference.parameters()).device
    rows: dict[Episode, NDArray[np.float32]] = {}
    for piece in cut_by_tokens(episodes, max_tokens):
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logprobs = reference.score(collate(piece).to(device)).logprobs
        for episode, row in zip(piece, logprobs.float().cpu().numpy(), strict=True):
            rows[episode] = row[: episode.num_tokens].copy()
    return [rows[episode] for episode in episodes]


def _read(file: Path, buffer: EpisodeBuffer) -> Rows:
    """Read a side file; there is none, or it is damaged: no rows."""
    try:
        table = pq.read_table(file, page_checksum_verification=True).cast(_SCHEMA)
        lists = table["logprobs"].combine_chunks()
        rows = np.split(lists.flatten().to_numpy(), np.cumsum(lists.value_lengths())[:-1])
        found = dict(zip(table["episode"].to_pylist(), rows, strict=True))
        if any(len(row) != buffer[position].num_tokens for position, row in found.items()):
            raise ValueError("its rows do not fit the episodes")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, IndexError, TypeError, pa.ArrowException) as error:
        _log.warning("%s: damaged (%s); the log-probabilities of the reference are taken again", file, error)
        with suppress(OSError):
            file.unlink(missing_ok=True)
        return {}
    return found


def _write(file: Path, rows: Rows) -> None:
    """Write a side file and remove the oldest ones; a folder that cannot be written stays as it is."""
    table = pa.table({"episode": list(rows), "logprobs": list(rows.values())}, schema=_SCHEMA)
    try:
        with replace_file(file) as temporary:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        others = sorted(file.parent.glob("ref-*.parquet"), key=os.path.getmtime, reverse=True)
        for old in others[_KEPT:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s: not written (%s); the log-probabilities of the reference are in memory only", file, error)
