"""Keys and values that a network has computed: of rows in a batch, and of single transcripts between batches.

Knows: the caches of transformers. Does not know: what the tokens are, who reads them.

A transcript's keys and values are kept as a plain tensor, so that any transcripts can share a batch later: their
lengths differ, and a mask leaves out the holes. Those that go on together turn by turn keep their places in a ``Room``,
where only what is new of them is added. Only caches in which every layer attends to all tokens, with heads of
one shape, can be kept so; with any other (sliding windows, recurrent states) transcripts are read anew.
"""

# B rows, T columns of a batch, L layers, H key-value heads, D width of a head

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from oreo_agents.networks import kept_attention, packing
from oreo_agents.networks.checkpoints import base_model, product_dtype
from oreo_agents.networks.miniature import tried

# Columns that a layer has to spare when it makes room, at least; beyond that a quarter of what it holds.
_SPARE = 64
# So many chunks of a transcript are left as they are.
_MANY_CHUNKS = 8


@dataclass(eq=False)
class Prefix:
    """What a network has read of a transcript: keys and values of its first tokens.

    One that continues another shares its memory.

    Attributes:
        chunks: in the order of the tokens, float [t, 2 L, H, D] each: the keys of all layers, then their values.
        room: where it is to keep its place between batches, and whatever continues it; None: nowhere.
        laid: what tells the row of the room that holds its first tokens, and how many of them.
    """

    chunks: tuple[Tensor, ...] = ()
    room: "Room | None" = None
    laid: tuple[object, int] = (None, 0)
    _length: int = field(init=False)

    def __post_init__(self) -> None:
        """Count once."""
        self._length = sum(map(len, self.chunks))

    def __len__(self) -> int:
        """Tokens that were read."""
        return self._length

    def then(self, chunk: Tensor) -> "Prefix":
        """Return what has been read once these tokens, [t, 2 L, H, D], have been read too.

        Few chunks are shared with whatever else continues them. Where there are many, those that are no longer than
        what follows them are joined: of n tokens there are about log n chunks, and none is copied more often.
        """
        kept, joined, length = list(self.chunks), [chunk], len(chunk)
        if not length:
            return self
        many = len(kept) >= _MANY_CHUNKS
        while many and kept and len(kept[-1]) <= length:
            length += len(kept[-1])
            joined.append(kept.pop())
        return replace(self, chunks=(*kept, torch.cat(joined[::-1]) if len(joined) > 1 else chunk))

    def before(self, length: int) -> "Prefix":
        """Return itself if it is shorter than ``length`` >= 1, else all of its first tokens that are."""
        if len(self) < length:
            return self
        return Prefix((torch.cat(self.chunks)[: length - 1],), self.room)


class Room:
    """Memory in which the rows of batches keep their places from one batch to the next.

    Every prefix that it holds can be laid out anew from its chunks: what stands here only saves the copy. One batch at
    a time goes on in it.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.states: tuple[Tensor, ...] = (torch.empty(0, 0, 0, 0, 0),) * 2
        """Keys and values, float [L, >= B, H, >= T, D] each."""
        self._kind: tuple[object, ...] = ()
        self._rows: list[object] = []
        self.copied = 0
        """Tokens of rows that were copied here."""

    def order(self, prefixes: Sequence[Prefix]) -> list[int]:
        """Return an order of these in which those that stand here already are where they stand."""
        places = {id(row): place for place, row in enumerate(self._rows[: len(prefixes)])}
        found = {places.get(id(prefix.laid[0]), -1): i for i, prefix in reversed(list(enumerate(prefixes)))}
        found.pop(-1, None)
        others = iter(sorted(set(range(len(prefixes))) - set(found.values())))
        return [found[place] if place in found else next(others) for place in range(len(prefixes))]

    def hold(self, prefixes: Sequence[Prefix], *, along_tokens: bool = False) -> tuple[Tensor, ...]:
        """Lay out a batch, one prefix a row, from the first column on; returns the memory of its rows.

        ``along_tokens``: values as ``kept_attention`` reads them.
        """
        like = next(chunk for prefix in prefixes for chunk in prefix.chunks)
        self._make(like, len(prefixes), max(map(len, prefixes)), along_tokens)
        for place, prefix in enumerate(prefixes):
            mark, start = prefix.laid
            start, end = start if mark is self._rows[place] else 0, len(prefix)
            self.copied += end - start
            for chunk in reversed(prefix.chunks):
                first = max(end - len(chunk), start)
                new = chunk[len(chunk) - (end - first) :].permute(1, 2, 0, 3)
                for states, read in zip(self.states, new.chunk(2), strict=True):
                    states[:, place, :, first:end] = read
                end = first
                if end == start:
                    break
            self._rows[place] = object()
            if prefix.room is self:
                prefix.laid = self._rows[place], len(prefix)
        return tuple(states[:, : len(prefixes)] for states in self.states)

    def _make(self, like: Tensor, rows: int, columns: int, along_tokens: bool) -> None:
        """Have so many rows of so many columns and more, of chunks like this one; what is held of them stays."""
        held, (states, heads, width) = self.states, like.shape[1:]
        kind = (like.dtype, like.device, states, heads, width, along_tokens)
        fits = self._kind == kind
        if fits and len(self._rows) >= rows and held[0].shape[3] >= columns + _SPARE:
            return
        shape = (states // 2, rows, heads, columns + _SPARE + _spare(columns), width)
        lies = (False, along_tokens)
        self._kind, self.states = kind, tuple(kept_attention.zeros(like, *shape, along_tokens=each) for each in lies)
        self._rows = [self._rows[k] if fits and k < len(self._rows) else object() for k in range(rows)]
        if fits:
            for new, old in zip(self.states, held, strict=True):
                kept, filled = min(rows, old.shape[1]), min(old.shape[3], new.shape[3])
                new[:, :kept, :, :filled] = old[:, :kept, :, :filled]

    def exchanged(self, to: list[int], rows: list[int], count: int) -> tuple[list[int], list[int]]:
        """Note that rows move to other places; returns what has to move where so that nothing held here is lost."""
        if any(row < count for row in rows) or len({*rows}) < len(rows):
            self.forget()
            return to, rows
        to, rows = to + rows, rows + to
        moved = [self._rows[row] for row in rows]
        for place, mark in zip(to, moved, strict=True):
            self._rows[place] = mark
        return to, rows

    def forget(self) -> None:
        """Hold nothing any more, since others write here."""
        self._rows = [object() for _ in self._rows]


class BatchCache:
    """The cache of a batch whose rows have read transcripts of different lengths.

    Each row's newest tokens stand in its last columns, without a hole between them.
    """

    def __init__(
        self, model: PreTrainedModel, prefixes: Sequence[Prefix], device: torch.device, room: Room | None = None
    ) -> None:
        """Begin with what each row has read already, in a room that no other batch goes on in; None: one of its own."""
        self._room = room
        self._argument = _cache_argument(model)
        self._cache = DynamicCache(config=model.config)
        self._plain = _is_plain(self._cache)
        # Where it is known that a mask is taken as it is, and what attends.
        self._makes_mask = (
            self._plain and device.type == "cpu" and model.config.get_text_config()._attn_implementation == packing.NAME
        )
        self._along_tokens = self._makes_mask and next(model.parameters()).dtype == torch.float32
        if self._plain:
            self._cache.layers = [_RoomyLayer(self._along_tokens) for _ in self._cache.layers]
        self._lengths = torch.tensor([len(prefix) for prefix in prefixes], device=device)
        columns = torch.arange(int(self._lengths.max()), device=device)
        self._mask = (columns < self._lengths[:, None]).long()
        if len(columns):
            self._fill(prefixes, len(columns))

    def _fill(self, prefixes: Sequence[Prefix], columns: int) -> None:
        """Have what each row has read in the memory of all layers."""
        room = Room() if self._room is None else self._room
        layers: list[_RoomyLayer] = self._cache.layers  # type: ignore[assignment]
        for layer, keys, values in zip(layers, *room.hold(prefixes, along_tokens=self._along_tokens), strict=True):
            layer.hold(keys, values, columns)

    def _in_room(self) -> bool:
        """Whether the layers write where rows are to keep their places, and not in memory that grew since."""
        first: Any = self._cache.layers[0]
        return (
            self._room is not None
            and first.keys is not None
            and first.keys.data_ptr() == self._room.states[0].data_ptr()
        )

    def reads(self, present: Tensor) -> dict[str, Any]:
        """Return the arguments of a forward pass over the next tokens of each row.

        Args:
            present: 1 where there is a token, 0 on the padding at the left, int64 [B, t].
        """
        positions = self._lengths[:, None] + present.cumsum(dim=1) - 1
        self._lengths = positions[:, -1] + 1
        self._mask = torch.cat([self._mask, present], dim=1)
        return {
            "attention_mask": self._attended(present.shape[1]),
            "position_ids": positions.clamp(min=0),
            self._argument: self._cache,
            "use_cache": True,
        }

    def _attended(self, count: int) -> Tensor:
        """Return which columns the newest ``count`` tokens attend to, bool [B, 1, count, T], or what that is made of.

        To make it takes transformers a fifth of the forward of a small model, for each token anew.
        """
        if not self._makes_mask or self._mask.all():  # where there is no hole it makes none, and others have no need
            return self._mask
        there = self._mask.bool()[:, None, None]
        columns = self._mask.shape[1]
        return there & torch.ones(count, columns, dtype=torch.bool).tril(columns - count) if count > 1 else there

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order; one may occur several times, and those left out are forgotten."""
        device = self._mask.device
        index = torch.tensor(rows, device=device)
        if self._plain and len(rows) <= len(self._mask):
            # Most rows stay where they are: only the others are copied.
            places = [place for place, row in enumerate(rows) if place != row]
            moved = [rows[place] for place in places]
            if self._room is not None and self._in_room():
                places, moved = self._room.exchanged(places, moved, len(rows))
            to, moving = (torch.tensor(each, dtype=torch.long, device=device) for each in (places, moved))
            for layer in self._cache.layers:
                assert isinstance(layer, _RoomyLayer)
                layer.keep(len(rows), to, moving)
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
        if self._room is not None and self._in_room():
            self._room.forget()
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

    def __init__(self, along_tokens: bool) -> None:
        super().__init__()
        self._room: tuple[Tensor, ...] | None = None
        self._along_tokens = along_tokens

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        # Attention computes in this type whatever is kept: what is kept in it is not cast whole at each token.
        dtype, rows, first = product_dtype(key_states), len(key_states), self._room is None and not start
        if self._room is None or end > self._room[0].shape[-2] or dtype != self._room[0].dtype:
            self._room = self._memory(rows, end + _spare(end), key_states.to(dtype), value_states.to(dtype))
            if start:
                for room, held in zip(self._room, (self.keys, self.values), strict=True):
                    room[:, :, :start] = held
        keys, values = (room[:rows, :, :end] for room in self._room)
        keys[:, :, start:] = key_states
        values[:, :, start:] = value_states
        self.keys, self.values = keys, values
        # What is read of a whole prompt is attended to as it comes.
        return (key_states, value_states) if first and self._along_tokens else (keys, values)

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
            most = max(rows + more, 0 if room is None else len(room[0]))
            room = self._memory(most, width + _spare(width), *held)
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

    def _memory(self, rows: int, columns: int, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        """Return room for so many rows and columns of keys and of values like these."""
        lies = (False, self._along_tokens)
        return tuple(
            kept_attention.zeros(like, rows, like.shape[1], columns, like.shape[3], along_tokens=each)
            for like, each in zip((keys, values), lies, strict=True)
        )


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


def _cache_argument(model: PreTrainedModel) -> str:
    """Return what a model calls its cache: transformers 5.24 renamed it, a model with its own code may not have."""
    return "cache" if "cache" in inspect.signature(base_model(model).forward).parameters else "past_key_values"


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
    first = BatchCache(model, [Prefix()], device)
    trunk(tokens[:, :3], **first.reads(torch.ones_like(tokens[:, :3])))
    prefix = Prefix((first.newest([0], 3)[0],))
    # The other row is longer, so that the first has a hole.
    both = BatchCache(model, [prefix.before(2), prefix], device)
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
