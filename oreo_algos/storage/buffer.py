"""A data set of episodes: selection, grouping, statistics, and one fingerprint of its content.

Knows: episodes as a sequence, and which tokenizer encoded them.
Does not know: the files (`parquet`), padding, how an algorithm selects.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from oreo_algos.episode import Episode, JSONScalar
from oreo_algos.storage import parquet
from oreo_algos.storage.content import Canonical, ContentHash
from oreo_algos.storage.stored import Columns, StoredEpisodes
from oreo_algos.storage.writing import write_buffer

JSON: TypeAlias = "JSONScalar | Sequence[JSON] | Mapping[str, JSON]"


class EpisodeBuffer(Sequence[Episode]):
    """An immutable sequence of episodes that one tokenizer encoded.

    Attributes:
        tokenizer_fingerprint: identifies that tokenizer; "" when none has encoded the episodes.
        provenance: where the episodes come from, as JSON: environment, policy, seed, commit.
        folder: where exactly these episodes were loaded from; None: they are in memory only.
    """

    def __init__(
        self,
        episodes: Iterable[Episode],
        *,
        tokenizer_fingerprint: str = "",
        provenance: Mapping[str, JSON] | None = None,
        folder: Path | None = None,
    ) -> None:
        """Collect episodes, in the order that indices refer to; there may be none.

        Raises:
            ValueError: `provenance` is not JSON.
        """
        self._episodes = episodes if isinstance(episodes, StoredEpisodes) else tuple(episodes)
        self.tokenizer_fingerprint, self.folder = tokenizer_fingerprint, folder
        try:
            text = json.dumps(dict(provenance or {}), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"provenance: expected JSON ({error}), got {provenance!r}") from error
        self.provenance: dict[str, JSON] = json.loads(text)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._episodes)

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice | list[int] | NDArray[np.generic]) -> "EpisodeBuffer": ...
    def __getitem__(self, index: int | slice | list[int] | NDArray[np.generic]) -> "Episode | EpisodeBuffer":
        """One episode, or the buffer of a slice, of indices, or of a bool array."""
        if isinstance(index, int | np.integer):
            return self._episodes[index]
        chosen = np.arange(len(self))[index]
        if isinstance(self._episodes, StoredEpisodes):
            return self._select(self._episodes.take(chosen))
        return self._select(self._episodes[i] for i in chosen)

    def __iter__(self) -> Iterator[Episode]:
        """Every episode in order."""
        return iter(self._episodes)

    def __repr__(self) -> str:
        """Size, environments and content."""
        return f"EpisodeBuffer({len(self)} episodes of {self.env_ids}, {self.content_hash[:12]})"

    @property
    def env_ids(self) -> list[str]:
        """Ids of the environments that occur, sorted."""
        return self.columns.env_ids

    @cached_property
    def columns(self) -> Columns:
        """What selections and statistics read of every episode, as arrays."""
        return Columns.of(self._episodes)

    def by_task(self) -> dict[str, list[int]]:
        """Indices of each task's episodes; tasks in the order in which they first appear."""
        task, task_ids = self.columns.task, self.columns.task_ids
        groups = np.split(np.argsort(task, kind="stable"), np.cumsum(np.bincount(task, minlength=len(task_ids)))[:-1])
        return {name: group.tolist() for name, group in zip(task_ids, groups, strict=bool(task_ids))}

    def named(self, key: str, text: str | None = None) -> tuple[NDArray[np.int64], list[str]]:
        """Return which episodes have a text, or this one, under a name in their ``info``, int64 [M], and M texts."""
        own = self._episodes
        if isinstance(own, StoredEpisodes):
            return own.named(key, text)
        found = ((i, e.info.get(key)) for i, e in enumerate(own))
        texts = {i: value for i, value in found if isinstance(value, str) and text in (None, value)}
        return np.array(list(texts), np.int64), list(texts.values())

    def holding(self, key: str) -> NDArray[np.int64]:
        """Return the indices of the episodes whose ``info`` has a name, int64 [M]."""
        own = self._episodes
        if isinstance(own, StoredEpisodes):
            return own.holding(key)
        return np.array([i for i, e in enumerate(own) if key in e.info], np.int64)

    @cached_property
    def first_of_copies(self) -> NDArray[np.int64]:
        """For each episode the index of the first one that says the same in the same task and pair, int64 [N]."""
        high, low = np.frombuffer(self._digests("said"), np.uint64).reshape(-1, 2).T
        order = np.lexsort((low, high))  # stable: the first of each comes first
        new = np.ones(len(order), np.bool_)
        new[1:] = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
        first = np.empty_like(order)
        first[order] = order[new][np.cumsum(new) - 1]
        return first

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Preferences that the data names: indices of a preferred episode and of the other one.

        Episodes whose ``info["pair"]`` is the same text are such a pair, the successful one first; if there are more of
        them, such as copies, the first successful one goes with the first other one, and so on.
        """
        index, names = self.named("pair")
        success = self.columns.success[index]
        halves: dict[str, tuple[list[int], list[int]]] = {}
        for i, name, right in zip(index.tolist(), names, success.tolist(), strict=True):
            halves.setdefault(name, ([], []))[not right].append(i)
        return [pair for right, wrong in halves.values() for pair in zip(right, wrong, strict=False)]

    def filter(self, predicate: Callable[[Episode], bool]) -> "EpisodeBuffer":
        """Keep the episodes for which `predicate` is true, in order."""
        return self[np.array([bool(predicate(episode)) for episode in self], np.bool_)]

    def locate(self, episodes: Sequence[Episode]) -> NDArray[np.int64]:
        """Return the index here of each of some episodes, -1 of those that are not this buffer's, int64 [M].

        An equal episode that was made anew is another one.
        """
        own = self._episodes
        others = episodes._episodes if isinstance(episodes, EpisodeBuffer) else episodes
        if isinstance(own, StoredEpisodes):
            return own.locate(others)
        index = {episode: i for i, episode in enumerate(own)}
        return np.array([index.get(episode, -1) for episode in others], np.int64)

    def described(self, *, tokenizer_fingerprint: str, provenance: Mapping[str, JSON]) -> "EpisodeBuffer":
        """Return the same episodes with other facts about them."""
        return EpisodeBuffer(self._episodes, tokenizer_fingerprint=tokenizer_fingerprint, provenance=provenance)

    @classmethod
    def concatenate(cls, buffers: Sequence["EpisodeBuffer"]) -> "EpisodeBuffer":
        """Join buffers of one tokenizer, in order; a single one is returned as it is.

        The provenance is that of the buffers when they agree, else `{"parts": [...]}`.

        Raises:
            ValueError: there is no buffer, or two were encoded with different tokenizers.
        """
        if not buffers:
            raise ValueError("concatenate: got no buffer")
        fingerprints = sorted({buffer.tokenizer_fingerprint for buffer in buffers})
        if len(fingerprints) > 1:
            told = " or ".join(map(_encoded, fingerprints))
            raise ValueError(
                f"concatenate: the buffers are not of one tokenizer, their episodes {told}; encode them with one "
                "(`oreo data encode`)"
            )
        if len(buffers) == 1:
            return buffers[0]
        parts = [buffer.provenance for buffer in buffers]
        stored = [buffer._episodes for buffer in buffers if isinstance(buffer._episodes, StoredEpisodes)]
        return cls(
            StoredEpisodes.join(stored)
            if len(stored) == len(buffers)
            else (episode for buffer in buffers for episode in buffer),
            tokenizer_fingerprint=fingerprints[0],
            provenance=parts[0] if all(part == parts[0] for part in parts) else {"parts": parts},
        )

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over every field of every episode in order, hexadecimal.

        Tokenizer fingerprint and provenance are no part of it.
        """
        content = ContentHash()
        for episode in self:
            content.add(Canonical.of(episode))
        return content.hexdigest()

    @cached_property
    def identity(self) -> str:
        """What tells these episodes, in this order, from others, hexadecimal.

        Other than for ``content_hash``, no episode is read for it where they are stored, however the buffer was chosen
        or joined.
        """
        return hashlib.sha256(self._digests("digest")).hexdigest()

    def _digests(self, name: str) -> bytes:
        """Return a digest of each episode, ``digest`` or ``said`` of `content`, one behind another."""
        own = self._episodes
        if isinstance(own, StoredEpisodes):
            return own.digests(name)
        return b"".join(getattr(Canonical.of(episode).marks(), name) for episode in own)

    def stats(self) -> dict[str, int | float]:
        """Count what is inside.

        Returns:
            `episodes`, `tasks`, `mixed_tasks` (tasks with a success and a failure), `success_rate`,
            `tokens`, `action_tokens`, `steps_mean` (actions an episode) and `truncated`
            (episodes). The rate and the mean of an empty buffer are NaN.
        """
        columns, n = self.columns, len(self)
        right = np.bincount(columns.task, columns.success, minlength=len(columns.task_ids))
        samples = np.bincount(columns.task, minlength=len(columns.task_ids))
        return {
            "episodes": n,
            "tasks": len(columns.task_ids),
            "mixed_tasks": int(((right > 0) & (right < samples)).sum()),
            "success_rate": int(columns.success.sum()) / n if n else math.nan,
            "tokens": int(columns.num_tokens.sum()),
            "action_tokens": int(columns.num_action_tokens.sum()),
            "steps_mean": int(columns.num_steps.sum()) / n if n else math.nan,
            "truncated": int(columns.truncated.sum()),
        }

    def save(self, path: str | os.PathLike[str], *, episodes_per_shard: int = 4096) -> None:
        """Write the buffer to a folder, whole or not at all, in place of an earlier one.

        Any Parquet reader opens the shards: `datasets.load_dataset("parquet", data_files=
        ".../part-*.parquet")`, pandas, DuckDB. Reference side files `ref-*.parquet` of the earlier
        buffer stay when the content is the same.

        Args:
            path: a new or empty folder, or one that holds a buffer.
            episodes_per_shard: rows of each Parquet file but the last, >= 1.

        Raises:
            ValueError: the buffer is empty, or `path` holds something that is no buffer.
        """
        path = Path(path).expanduser()
        if not len(self):
            raise ValueError(f"{path}: nothing to save, the buffer has no episode")
        with write_buffer(
            path,
            tokenizer_fingerprint=self.tokenizer_fingerprint,
            provenance=self.provenance,
            episodes_per_shard=episodes_per_shard,
        ) as writer:
            for episode in self:
                writer.add(episode)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        tokenizer_fingerprint: str | None = None,
        max_shard_bytes: int | None = None,
    ) -> "EpisodeBuffer":
        """Read a folder that `save` wrote, every shard checked against its checksum.

        Args:
            path: the folder; when a kill fell between the two renames of `save`, the earlier
                buffer is put back.
            tokenizer_fingerprint: of the tokenizer that the policy reads; None: any.
            max_shard_bytes: what a shard may unpack to; None: `OREO_MAX_SHARD_BYTES`, else 4 GiB.

        Raises:
            FileNotFoundError: nothing is at `path`, or a shard is missing.
            ValueError: it is no buffer, a file is damaged or foreign, or another tokenizer encoded
                the episodes.
        """
        path = Path(path).expanduser()
        metadata = parquet.read_metadata(path)
        found = metadata["tokenizer_fingerprint"]
        if tokenizer_fingerprint is not None and found != tokenizer_fingerprint:
            raise ValueError(
                f"{path}: these episodes {_encoded(found)}, the policy reads "
                f"{tokenizer_fingerprint!r}; encode them with the policy's tokenizer "
                f"(`oreo data encode {path} --tokenizer PATH`)"
            )
        buffer = cls(
            parquet.read_episodes(path, metadata, max_shard_bytes=max_shard_bytes),
            tokenizer_fingerprint=found,
            provenance=metadata["provenance"],
            folder=path,
        )
        buffer.content_hash = metadata["content_hash"]
        return buffer

    def verify(self) -> None:
        """Read every episode of the folder that this buffer was loaded from, in its shards and in what is mapped.

        Raises:
            ValueError: a shard, a row, a count or the hash of the content is not what it should be; says where.
        """
        if self.folder is None:
            raise ValueError("verify: this buffer was not loaded from a folder")
        parquet.verify_episodes(self.folder, parquet.read_metadata(self.folder), self._episodes)

    def _select(self, episodes: Iterable[Episode]) -> "EpisodeBuffer":
        return EpisodeBuffer(
            episodes,
            tokenizer_fingerprint=self.tokenizer_fingerprint,
            provenance=self.provenance,
        )


def _encoded(fingerprint: str) -> str:
    return f"were encoded with tokenizer {fingerprint!r}" if fingerprint else "are text that no tokenizer has encoded"
