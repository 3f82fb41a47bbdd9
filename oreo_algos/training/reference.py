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
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from oreo_algos.batch import collate
from oreo_algos.episode import Episode
from oreo_algos.models import Policy
from oreo_algos.ranks import Ranks
from oreo_algos.storage.atomic import replace_file
from oreo_algos.storage.buffer import EpisodeBuffer
from oreo_algos.storage.fingerprint import policy_summary
from oreo_algos.training.micro_batches import cut

_log = logging.getLogger(__name__)

_KEPT = 8
"""Side files that stay in a folder."""

_FORMAT = 2
"""Of the side files and of how their rows are taken: part of the key."""

_WINDOW, _PIECE_TOKENS = 64, 4096
"""Neighbours in the buffer, as those of one task are, of which pieces of similar length are made; tokens of a piece."""

_AT_ONCE = 16
"""Pieces of each process between two exchanges of what was found."""

_SCHEMA = pa.schema([("episode", pa.int64()), ("logprobs", pa.large_list(pa.float32()))])


class Rows(Sequence[NDArray[np.float32]]):
    """Log-probabilities of the tokens of N episodes, nats, in one array for all of them."""

    def __init__(self, lengths: NDArray[np.int64]) -> None:
        """Make room for rows of these lengths, int64 [N]; none is known."""
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        self._values = np.zeros(self._starts[-1], np.float32)
        self._row = np.arange(len(lengths))
        self.known = np.zeros(len(lengths), np.bool_)

    def __len__(self) -> int:
        """N."""
        return len(self._row)

    @overload
    def __getitem__(self, number: int) -> NDArray[np.float32]: ...
    @overload
    def __getitem__(self, number: slice) -> "Rows": ...
    def __getitem__(self, number: int | slice) -> "NDArray[np.float32] | Rows":
        """The row of an episode, float32 [T], or the rows of a slice."""
        if isinstance(number, slice):
            return self.take(np.arange(len(self))[number])
        row = self._row[number]
        return self._values[self._starts[row] : self._starts[row + 1]]

    def take(self, numbers: NDArray[np.int64]) -> "Rows":
        """Return the rows of some numbers, which may occur more than once; nothing is copied."""
        taken = copy(self)
        taken._row, taken.known = self._row[numbers], self.known[numbers]
        return taken

    def fill(self, numbers: NDArray[np.int64], lists: pa.LargeListArray) -> None:
        """Keep the rows of ascending numbers.

        Raises:
            ValueError: they are not ascending, or of other lengths.
        """
        lengths = np.diff(self._starts)
        if (np.diff(numbers) <= 0).any() or not np.array_equal(lists.value_lengths(), lengths[numbers]):
            raise ValueError("its rows do not fit the episodes")
        if len(numbers):
            first, last = int(numbers[0]), int(numbers[-1]) + 1
            given = np.zeros(last - first, np.bool_)
            given[numbers - first] = True
            values = self._values[self._starts[first] : self._starts[last]]
            values[np.repeat(given, lengths[first:last])] = lists.flatten().to_numpy()
            self.known[numbers] = True

    def to_arrow(self) -> pa.Table:
        """Return the known rows with their numbers."""
        lengths = np.diff(self._starts)
        values = self._values if self.known.all() else self._values[np.repeat(self.known, lengths)]
        offsets = np.concatenate([[0], np.cumsum(lengths[self.known])])
        lists = pa.LargeListArray.from_arrays(offsets, values)
        return pa.table({"episode": np.flatnonzero(self.known), "logprobs": lists}, schema=_SCHEMA)


@dataclass(frozen=True)
class _Scorer:
    """How episodes are scored, perhaps by several processes, each some of the pieces."""

    reference: Policy
    bf16: bool
    ranks: Ranks
    together: bool
    device: torch.device | None

    def fill(self, rows: Rows, pieces: Sequence[NDArray[np.int64]], episodes: Sequence[Episode]) -> None:
        """Score pieces, whose numbers are those of ``episodes``, into rows; what is known of these stays."""
        at_once = _AT_ONCE * self.ranks.size
        for start in range(0, len(pieces), at_once):
            some = pieces[start : start + at_once]
            found = self.ranks.map(
                lambda piece: _score(self, [episodes[i] for i in piece.tolist()]), some, together=self.together
            )
            for piece, logprobs in zip(some, found, strict=True):
                for number, row in zip(piece.tolist(), logprobs, strict=True):
                    if not rows.known[number]:
                        rows[number][:] = row[: len(rows[number])]
                        rows.known[number] = True


def _score(how: _Scorer, episodes: Sequence[Episode]) -> NDArray[np.float32]:
    """Score episodes at once, float32 [B, T]."""
    device = how.device or next(how.reference.parameters()).device
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=how.bf16):
        return how.reference.score(collate(episodes).to(device)).logprobs.float().cpu().numpy()


def reference_logprobs(
    reference: Policy,
    buffer: EpisodeBuffer,
    episodes: Sequence[Episode],
    *,
    bf16: bool,
    key: str | None = None,
    ranks: Ranks | None = None,
    together: bool = False,
    device: torch.device | None = None,
) -> Rows:
    """Return the log-probabilities of episodes under a reference; take those that the buffer's folder does not have.

    What is taken of the buffer's episodes is written there, if the buffer has a folder that can be written. Episodes
    that were made of those, and have the same tokens and actions, share their rows; others are scored anew.

    Args:
        reference: frozen.
        buffer: where the episodes come from.
        episodes: at least one, each of which fits into the context of ``reference``.
        bf16: autocast to bfloat16.
        key: what ``reference_key`` said of a reference that is in parts by now; None: it is whole.
        ranks: of several processes, all of which call this, each scores some pieces, and the first one writes; None:
            there is one.
        together: a forward of the reference takes all of them.
        device: that computes; None: where the reference is.

    Returns:
        Of each episode float32 [T], nats, 0 where ``step_id`` < 0.
    """
    origins = _origins(episodes, buffer)
    scorer = _Scorer(reference, bf16, ranks or Ranks(), together, device)
    kept = _rows_of_buffer(scorer, buffer, np.unique(origins[origins >= 0]), key)
    made = np.flatnonzero(origins < 0)
    if not len(made):
        return kept.take(origins)
    lengths = np.array([episode.num_tokens for episode in episodes], np.int64)
    rows = Rows(lengths)
    for i in np.flatnonzero(origins >= 0).tolist():
        rows[i][:] = kept[origins[i]]
    scorer.fill(rows, [made[piece] for piece in cut(lengths[made], lengths[made], _PIECE_TOKENS)], episodes)
    return rows


def _origins(episodes: Sequence[Episode], buffer: EpisodeBuffer) -> NDArray[np.int64]:
    """Return for episodes the index of the one of the buffer that says and does the same, -1 where there is none."""
    origins = buffer.locate(episodes)
    made: dict[bytes, list[int]] = {}
    for i in np.flatnonzero(origins < 0).tolist():
        made.setdefault(_content(episodes[i]), []).append(i)
    if made:
        lengths = [episodes[of[0]].num_tokens for of in made.values()]
        for i in np.flatnonzero(np.isin(buffer.columns.num_tokens, lengths)).tolist():
            origins[made.get(_content(buffer[i]), [])] = i
    return origins


def _content(episode: Episode) -> bytes:
    return hashlib.blake2b(episode.tokens.tobytes() + episode.step_id.tobytes(), digest_size=16).digest()


def _rows_of_buffer(scorer: _Scorer, buffer: EpisodeBuffer, chosen: NDArray[np.int64], key: str | None) -> Rows:
    """Read or take the rows of episodes of the buffer, at least those chosen."""
    rows = Rows(buffer.columns.num_tokens)
    if not len(chosen):
        return rows
    file, ranks = None, scorer.ranks
    if buffer.folder is not None:
        file = buffer.folder / f"ref-{key or reference_key(scorer.reference, buffer, bf16=scorer.bf16)}.parquet"
        _read(file, rows)
    missing = np.zeros(len(buffer), np.bool_)
    missing[chosen[~rows.known[chosen]]] = True
    missing = np.any(ranks.gather(missing), axis=0)
    if missing.any():
        pieces = [piece for piece in _pieces(scorer.reference, buffer) if missing[piece].any()]
        _log.info("scoring %d episodes with the reference, %d are known", sum(map(len, pieces)), int(rows.known.sum()))
        scorer.fill(rows, pieces, buffer)
        if file is not None:
            _read(file, rows)  # of a run that was faster meanwhile
            ranks.barrier()
            if ranks.leads:
                _write(file, rows)
    return rows


def reference_key(reference: Policy, buffer: EpisodeBuffer, *, bf16: bool) -> str:
    """Identify the log-probabilities of a buffer under a reference: the name of the side file that keeps them."""
    fitting = _fitting(reference, buffer)
    example = buffer[int(fitting[np.argmax(buffer.columns.num_tokens[fitting])])]
    facts = [_FORMAT, policy_summary(reference, example), buffer.tokenizer_fingerprint, buffer.content_hash, bf16]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _fitting(reference: Policy, buffer: EpisodeBuffer) -> NDArray[np.int64]:
    """Return the indices of the episodes that a reference can read."""
    lengths = buffer.columns.num_tokens
    return np.flatnonzero((lengths > 0) & (lengths <= reference.max_length))


def _pieces(reference: Policy, buffer: EpisodeBuffer) -> Iterator[NDArray[np.int64]]:
    """Cut what a reference can read of a buffer into what it reads at once, always in the same way; yield indices."""
    fitting, lengths = _fitting(reference, buffer), buffer.columns.num_tokens
    for start in range(0, len(fitting), _WINDOW):
        window = fitting[start : start + _WINDOW]
        for piece in cut(lengths[window], lengths[window], _PIECE_TOKENS):
            yield window[piece]


def _read(file: Path, rows: Rows) -> None:
    """Read a side file; there is none, or it is damaged: no rows."""
    known = rows.known.copy()
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as stored:
            for batch in stored.iter_batches(columns=_SCHEMA.names):
                part = pa.Table.from_batches([batch]).cast(_SCHEMA).combine_chunks()
                rows.fill(part["episode"].to_numpy(), part["logprobs"].chunk(0))
        with suppress(OSError):
            os.utime(file)  # used last
    except FileNotFoundError:
        return
    except (OSError, ValueError, IndexError, TypeError, pa.ArrowException) as error:
        _log.warning("%s: damaged (%s); the log-probabilities of the reference are taken again", file, error)
        rows.known[:] = known
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _write(file: Path, rows: Rows) -> None:
    """Write a side file and remove those not used for longest; a folder that cannot be written stays as it is."""
    try:
        with replace_file(file) as temporary:
            pq.write_table(rows.to_arrow(), temporary, compression="zstd", write_page_checksum=True)
        used = sorted(file.parent.glob("ref-*.parquet"), key=os.path.getmtime, reverse=True)
        for old in used[_KEPT:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s: not written (%s); the log-probabilities of the reference are in memory only", file, error)
