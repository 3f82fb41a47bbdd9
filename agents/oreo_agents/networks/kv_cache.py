"""Keys and values that a network has computed: of rows in a batch, and of single transcripts between batches.

Knows: the caches of transformers. Does not know: what the tokens are, who reads them.

A transcript's keys and values are kept as a plain tensor, so that any transcripts can share a batch later: their
lengths differ, and a mask leaves out the holes. Only caches in which every layer attends to all tokens, with heads of
one shape, can be kept so; with any other (sliding windows, recurrent states) transcripts are read anew.
"""

# B rows, T columns of a batch, L layers, H key-value heads, D width of a head

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from oreo_agents.networks.checkpoints import base_model, product_dtype
from oreo_agents.networks.miniature import tried

# Columns that a layer has to spare when it makes room, at least; beyond that a quarter of what it holds.
_SPARE = 64
# So many chunks of a transcript are left as they are.
_MANY_CHUNKS = 8


@dataclass(frozen=True, eq=False)
class Prefix:
    """What a network has read of a transcript: keys and values of its first tokens.

    One that continues another shares its memory.

    Attributes:
        chunks: in the order of the tokens, float [t, 2 L, H, D] each: the keys of all layers, then their values.
    """

    chunks: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        """Tokens that were read."""
        return sum(len(chunk) for chunk in self.chunks)

    def then(self, chunk: Tensor) -> "Prefix":
        """Return what has been read once these tokens, [t, 2 L, H, D], have been read too.

        Few chunks are shared with whatever else continues them. Where there are many, those that are no longer than
        what follows them are joined: of n tokens there are about log n chunks, and none is copied more often.
        """
        kept, joined, length = list(self.chunks), [chunk], len(chunk)
        many = len(kept) >= _MANY_CHUNKS
        while many and length and kept and len(kept[-1]) <= length:
            length += len(kept[-1])
            joined.append(kept.pop())
        return Prefix((*kept, torch.cat(joined[::-1]) if len(joined) > 1 else chunk)) if length else self

    def before(self, length: int) -> "Prefix":
        """Return itself if it is shorter than ``length`` >= 1, else all of its first tokens that are."""
        if len(self) < length:
            return self
        return Prefix((torch.cat(self.chunks)[: length - 1],))


class BatchCache:
    """The cache of a batch whose rows have read transcripts of different lengths.

    Each row's newest tokens stand in its last columns, without a hole between them.
    """

    def __init__(self, config: PretrainedConfig, prefixes: Sequence[Prefix], device: torch.device) -> None:
        """Begin with what each row has read already."""
        self._cache = DynamicCache(config=config)
        self._plain = _is_plain(self._cache)
        if self._plain:
            self._cache.layers = [_RoomyLayer() for _ in self._cache.layers]
        self._lengths = torch.tensor([len(prefix) for prefix in prefixes], device=device)
        columns = torch.arange(int(self._lengths.max()), device=device)
        self._mask = (columns < self._lengths[:, None]).long()
        if len(columns):
            self._fill(prefixes, len(columns))

    def _fill(self, prefixes: Sequence[Prefix], columns: int) -> None:
        """Copy what each row has read into the room of all layers, once."""
        like = next(chunk for prefix in prefixes for chunk in prefix.chunks)
        _, states, heads, width = like.shape
        room = like.new_zeros(states, len(prefixes), heads, columns + _spare(columns), width)
        for row, prefix in enumerate(prefixes):
            start = 0
            for chunk in prefix.chunks:
                room[:, row, :, start : start + len(chunk)] = chunk.permute(1, 2, 0, 3)
                start += len(chunk)
        layers: list[_RoomyLayer] = self._cache.layers  # type: ignore[assignment]
        for layer, keys, values in zip(layers, *room.chunk(2), strict=True):
            layer.hold(keys, values, columns)

    def reads(self, present: Tensor) -> dict[str, Any]:
        """Return the arguments of a forward pass over the next tokens of each row.

        Args:
            present: 1 where there is a token, 0 on the padding at the left, int64 [B, t].
        """
        positions = self._lengths[:, None] + present.cumsum(dim=1) - 1
        self._lengths = positions[:, -1] + 1
        self._mask = torch.cat([self._mask, present], dim=1)
        return {
            "attention_mask": self._mask,
            "position_ids": positions.clamp(min=0),
            "past_key_values": self._cache,
            "use_cache": True,
        }

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order; one may occur several times, and those left out are forgotten."""
        device = self._mask.device
        index = torch.tensor(rows, device=device)
        if self._plain and len(rows) <= len(self._mask):
            # Most rows stay where they are: only the others are copied.
            moved = [place for place, row in enumerate(rows) if place != row]
            to = torch.tensor(moved, dtype=torch.long, device=device)
            for layer in self._cache.layers:
                assert isinstance(layer, _RoomyLayer)
                layer.keep(len(rows), to, index[to])
        else:
            self._cache.batch_select_indices(index)
        self._mask, self._lengths = self._mask[index], self._lengths[index]

    def join(self, other: "BatchCache") -> None:
        """Go on with the rows of another batch too, behind these; columns that no row needs any more are left out."""
        if not self._plain:
            raise RuntimeError("batches whose caches hold more than keys and values cannot be joined")
        ours, theirs = self._mask.shape[1], other._mask.shape[1]
        needed = max(ours - int(self._mask.any(dim=0).int().argmax()), theirs)
        # What is left out is a copy of the rest, so it is done when there is much of it.
        dropped = ours - needed if needed <= 0.75 * ours else min(ours - theirs, 0)
        width = ours - dropped
        for layer, more in zip(self._cache.layers, other._cache.layers, strict=True):
            assert isinstance(layer, _RoomyLayer)
            layer.join(more, width)
        self._mask = torch.cat([_aligned(self._mask, width, 1), _aligned(other._mask, width, 1)])
        self._lengths = torch.cat([self._lengths, other._lengths])

    def newest(self, rows: Sequence[int], count: int) -> Tensor:
        """Copy keys and values of the last ``count`` columns of these rows, [B, count, 2 L, H, D]."""
        index = torch.tensor(rows, device=self._mask.device)
        layers: list[Any] = self._cache.layers
        start = self._mask.shape[1] - count
        states = [layer.keys for layer in layers] + [layer.values for layer in layers]
        return torch.stack([state[:, :, start:].index_select(0, index) for state in states]).permute(1, 3, 0, 2, 4)


class _RoomyLayer(DynamicLayer):
    """A layer that writes new tokens into room it has to spare, where its base copies all it holds each time."""

    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._room: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        # Attention computes in this type whatever is kept: what is kept in it is not cast whole at each token.
        dtype = product_dtype(key_states)
        if self._room is None or end > self._room[0].shape[-2] or dtype != self._room[0].dtype:
            self._room = self._grown(self.keys, key_states, end), self._grown(self.values, value_states, end)
        rows = len(key_states)
        keys, values = (room[:rows, :, :end] for room in self._room)
        keys[:, :, start:] = key_states
        values[:, :, start:] = value_states
        self.keys, self.values = keys, values
        return keys, values

    def hold(self, keys: Tensor, values: Tensor, columns: int) -> None:
        """Begin with room for keys and for values, [B, H, >= columns, D] each, of which so many columns are filled."""
        self._room = keys, values
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys[:, :, :columns], values[:, :, :columns]

    def join(self, other: Any, width: int) -> None:
        """Add the rows of another layer, and keep the last ``width`` columns; newest tokens stay in the last ones."""
        rows, more = len(self.keys), len(other.keys)
        held, added = (self.keys, self.values), (other.keys, other.values)
        room = self._room
        if room is None or len(room[0]) < rows + more or width != held[0].shape[2]:
            like = self.keys
            shape = (max(rows + more, 0 if room is None else len(room[0])), like.shape[1], width + _spare(width))
            room = like.new_zeros(*shape, like.shape[3]), self.values.new_zeros(*shape, self.values.shape[3])
            for new, old in zip(room, held, strict=True):
                new[:rows, :, :width] = _aligned(old, width, 2)
        for new, old in zip(room, added, strict=True):
            new[rows : rows + more, :, :width] = _aligned(old, width, 2)
        self._room = room
        self.keys, self.values = (each[: rows + more, :, :width] for each in room)

    def keep(self, count: int, to: Tensor, rows: Tensor) -> None:
        """Move ``rows`` to other places, and forget all but the first ``count``."""
        for held in (self.keys, self.values):
            held[to] = held.index_select(0, rows)
        self.keys, self.values = self.keys[:count], self.values[:count]

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._room = None

    @staticmethod
    def _grown(held: Tensor, new: Tensor, end: int) -> Tensor:
        """Return room for ``end`` columns and more, with what is held in it, in the type that products have."""
        room = new.new_empty(*new.shape[:2], end + _spare(end), new.shape[3], dtype=product_dtype(new))
        if held.numel():
            room[:, :, : held.shape[2]] = held
        return room


def _spare(columns: int) -> int:
    """Return how many columns to have room for beyond so many."""
    return max(_SPARE, columns // 4)


def _aligned(states: Tensor, width: int, dim: int) -> Tensor:
    """Return the last ``width`` columns of states; where there are fewer, zeros stand before them."""
    columns = states.shape[dim]
    if columns >= width:
        return states.narrow(dim, columns - width, width)
    shape = [*states.shape]
    shape[dim] = width - columns
    return torch.cat([states.new_zeros(shape), states], dim=dim)


def _is_plain(cache: DynamicCache) -> bool:
    """Say whether every layer keeps all tokens and nothing else."""
    return bool(cache.layers) and all(type(layer) is DynamicLayer for layer in cache.layers)


def can_resume(model: PreTrainedModel) -> bool:
    """Say whether a model that goes on from kept keys and values says the same as one that reads everything."""
    return _is_plain(DynamicCache(config=model.config)) and tried(model, lambda: _resumes(model)) is None


def _resumes(model: PreTrainedModel) -> str | None:
    trunk, device = base_model(model), next(model.parameters()).device
    tokens = torch.tensor([[1, 2, 3, 4, 5]], device=device)
    whole = trunk(tokens, use_cache=False)[0][0, -1].float()
    first = BatchCache(model.config, [Prefix()], device)
    trunk(tokens[:, :3], **first.reads(torch.ones_like(tokens[:, :3])))
    prefix = Prefix((first.newest([0], 3)[0],))
    # The other row is longer, so that the first has a hole.
    both = BatchCache(model.config, [prefix.before(2), prefix], device)
    present = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]], device=device)
    resumed = trunk(tokens[:, 1:].expand(2, -1), **both.reads(present))[0][:, -1].float()
    tolerance = 1e-4 if next(model.parameters()).dtype == torch.float32 else 0.05
    same = torch.allclose(resumed, whole.expand_as(resumed), atol=tolerance, rtol=tolerance)
    return None if same else "its outputs from a cache that was kept are others"


def pad_left(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return tokens with 0 as padding and where they are, int64 [B, t] each."""
    tokens = pad_sequence([torch.tensor(row) for row in sequences], batch_first=True, padding_side="left")
    present = pad_sequence(
        [torch.ones(len(row), dtype=torch.long) for row in sequences], batch_first=True, padding_side="left"
    )
    return tokens.to(device), present.to(device)
