"""Batches without padding: the documents of a batch one after another in a single row.

Knows: where a token of a batch lies in the row, attention within documents, which transformers models can read such a
row. Does not know: heads, losses.

The ends of the documents reach the attention function as an argument of the model's forward. Nothing depends on the
masks that transformers builds: it would notice packed documents in their positions, but only without a cache and
without an attention mask, and attends across documents in silence otherwise.
"""

# B documents, T tokens of the longest, N positions of the packed row, H heads, D width of a head

import inspect
import itertools
import logging
import math
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import varlen
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

from oreo_agents.networks import kept_attention
from oreo_agents.networks.checkpoints import autocast, base_model, max_length, product_dtype
from oreo_agents.networks.miniature import tried
from oreo_agents.networks.shared_prefixes import Piece, cut
from oreo_algos.batch import Batch

NAME = "oreo_packed"
"""Of the attention of models that read packed rows; a mask that is made they take as it is."""

# On a CPU documents of similar length share a call of the attention: it costs as much as computing so many tokens.
_PADDING_PER_CALL = 16

# Tokens that a beginning of several documents saves at least where it is read once.
_LEAST_SHARED = 16

# What goes on from a beginning is attended to through a mask, which costs time and memory for every pair of its tokens:
# so many cost about what computing a token does in a model of width 64; of wider ones a part of the gain is left.
_PAIRS_PER_SHARED = 4096

# Layers that attend: other kinds carry a state from one document to the next.
_ATTENDING = {"full_attention", "sliding_attention"}

# A mask of four dimensions is taken as it is, so that none of [N, N] is made; nobody reads it.
_MASK = (1, 1, 1, 1)

# What a layer may ask of the attention beyond scaled products.
_UNKNOWN = ("softcap", "s_aux", "position_bias")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the documents of a batch lie in one row.

    Documents are sorted by length. Those of one group are padded on the right to a common length, so that a group is
    a view of the row; attention is causal, so the few padding tokens change nothing. On a CPU the beginning that
    documents share stands once, as a piece, and the pieces that go on from others stand behind all that do not.

    Attributes:
        groups: number of documents, or pieces, and their common length, for one group after another.
        source: index into the flattened [B, T] batch for each position of the row, int64 [N].
        place: position in the row for each token of the batch, int64 [B, T]; meaningless on the batch's padding.
        position_ids: position within its document, int64 [1, N].
        ends: cumulative lengths of the documents, or pieces, int32 [B + 1].
        masks: of the last groups, those of pieces that go on from others: what is added to their scores, 0 or minus
            infinity, float32 [count, 1, L, K]; K is what the longest of them reads, itself included.
        keys: positions in the row of what these read, group by group, int64 [sum of count * K].
    """

    groups: tuple[tuple[int, int], ...]
    source: Tensor
    place: Tensor
    position_ids: Tensor
    ends: Tensor
    masks: tuple[Tensor, ...]
    keys: Tensor

    @property
    def longest(self) -> int:
        """Length of the longest document or piece."""
        return max(length for _, length in self.groups)

    def inputs(self, tokens: Tensor) -> dict[str, Any]:
        """Return what the forward of a model needs to read these tokens, [B, T]."""
        return {
            "input_ids": tokens.flatten()[self.source][None],
            "position_ids": self.position_ids,
            "attention_mask": torch.zeros(_MASK, dtype=torch.bool, device=tokens.device),
            "packing": self,
        }

    def rows(self, packed: Tensor, wanted: Tensor) -> Tensor:
        """Return the outputs at some tokens.

        Args:
            packed: outputs of the model, [1, N, ...].
            wanted: the tokens, none of them padding, bool [B, T].

        Returns:
            [wanted.sum(), ...], in the order of ``wanted``.
        """
        return packed[0].index_select(0, self.place[wanted])


def pack(batch: Batch) -> Packing:
    """Lay out a batch with at least one row; networks that read the same batch share one layout."""
    if batch not in _layouts:
        _layouts[batch] = _lay_out(batch.tokens, batch.attention, _LEAST_SHARED)
    return _layouts[batch]


_layouts: WeakKeyDictionary[Batch, Packing] = WeakKeyDictionary()


def _lay_out(tokens: Tensor, attention: Tensor, least_shared: int) -> Packing:
    """Lay out documents, int64 [B, T], of which the real tokens are given, bool [B, T]."""
    device, width = attention.device, attention.shape[1]
    lengths = attention.sum(dim=1).tolist()
    documents: list[tuple[Piece, ...]]
    if device.type == "cuda":  # where no kernel for what is before a piece was tried
        documents = [(Piece(row, 0, length),) for row, length in enumerate(lengths)]
    else:
        documents = cut(tokens.cpu().numpy(), lengths, least_shared, _PAIRS_PER_SHARED)
    pieces = sorted({*itertools.chain(*documents)}, key=lambda p: (bool(p.before), len(p), p.start, p.document))
    padding = 0 if device.type == "cuda" else _PADDING_PER_CALL
    whole = sum(not piece.before for piece in pieces)
    parts = [_group([len(piece) for piece in part], padding) for part in (pieces[:whole], pieces[whole:])]
    groups = (*parts[0], *parts[1])
    padded = np.array([length for count, length in groups for _ in range(count)])
    ends = np.concatenate([[0], padded.cumsum()])
    # Padding may reach beyond the batch; nobody reads it.
    columns = np.arange(ends[-1]) + np.repeat([piece.start for piece in pieces] - ends[:-1], padded)
    columns = columns.clip(max=width - 1)
    rows = np.repeat([piece.document for piece in pieces], padded)
    starts = dict(zip(pieces, ends.tolist(), strict=False))
    place = np.zeros(attention.shape, np.int64)
    for row, own in enumerate(documents):
        for piece in own:
            place[row, piece.start : piece.end] = np.arange(starts[piece], starts[piece] + len(piece))
    masks, keys = _continue(pieces[whole:], parts[1], place, ends[whole:])
    tensors = (rows * width + columns, place, columns[None], ends.astype(np.int32), *masks, keys)
    source, places, position_ids, all_ends, *rest = (torch.from_numpy(array).to(device) for array in tensors)
    return Packing(groups, source, places, position_ids, all_ends, tuple(rest[:-1]), rest[-1])


def _continue(
    pieces: list[Piece], groups: tuple[tuple[int, int], ...], place: NDArray[np.int64], starts: NDArray[np.int64]
) -> tuple[list[NDArray[np.float32]], NDArray[np.int64]]:
    """Return ``Packing.masks`` and ``Packing.keys``, of pieces that begin at some positions of the row."""
    masks, keys, first = [], [np.zeros(0, np.int64)], 0
    for count, length in groups:
        width = max(piece.start for piece in pieces[first : first + count])
        read = np.zeros((count, width + length), np.int64)
        hidden = np.tile(~np.tri(length, width + length, width, dtype=np.bool_), (count, 1, 1, 1))
        for row, piece in enumerate(pieces[first : first + count]):
            read[row, width - piece.start : width] = place[piece.document, : piece.start]
            read[row, width:] = np.arange(starts[first + row], starts[first + row] + length)
            hidden[row, :, :, : width - piece.start] = True
        masks.append(np.where(hidden, -np.inf, 0).astype(np.float32))
        keys.append(read.ravel())
        first += count
    return masks, np.concatenate(keys)


def _group(lengths: list[int], padding: int) -> tuple[tuple[int, int], ...]:
    """Join documents, sorted by length, while a group holds at most so many tokens of padding."""
    groups: list[tuple[int, int]] = []
    total = 0
    for length in lengths:
        count = groups[-1][0] + 1 if groups else 1
        if groups and count * length - (total + length) <= padding:
            groups[-1] = (count, length)
            total += length
        else:
            groups.append((1, length))
            total = length
    return tuple(groups)


def enable(model: PreTrainedModel) -> int:
    """Let a model read packed rows; its other calls give what they gave.

    Returns:
        The longest document that may be packed, tokens; 0: this model reads padded batches only.
    """
    config = model.config.get_text_config()
    attends = set(getattr(config, "layer_types", None) or ()) <= _ATTENDING
    implementation = model.config._attn_implementation
    if not (attends and model._supports_attention_backend and implementation in ("sdpa", NAME)):
        return 0
    # Within its window a layer attends to everything; longer documents are left to the masks of transformers.
    longest = min(max_length(config), getattr(config, "sliding_window", None) or max_length(config))
    model.set_attn_implementation(NAME)
    reason = tried(model, lambda: _reads_packed(model))
    if reason is None:
        return longest
    model.set_attn_implementation("sdpa")
    _warn_of_padding(type(model).__name__, reason)
    return 0


@cache
def _warn_of_padding(model: str, reason: str) -> None:
    """Say once that a model with the right interface reads padded batches."""
    _log.warning("%s computes on padding, because it cannot read documents packed in a row: %s", model, reason)


def outputs_at(
    model: Any, batch: Batch, wanted: Tensor, longest: int, *, cuts_rows: bool = False, alone: bool = False
) -> Tensor:
    """Return what a model says of some tokens, computed on a packed row where that is possible.

    Args:
        model: called as it is, so that hooks fire; the first of its outputs counts.
        batch: padded on the right, so that causal attention needs no mask.
        wanted: the tokens, none of them padding, bool [B, T].
        longest: what ``enable`` returned for the model. If its attention has been changed since, e.g. by
            ``set_attn_implementation("eager")``, it reads a padded batch.
        cuts_rows: a causal model, whose ``logits_to_keep`` saves all other logits on a packed row; a trunk may have an
            argument of that name too, and keeps its rows.
        alone: what this model says of a document depends on the padding behind it: each is read by itself.

    Returns:
        [wanted.sum(), ...], in the order of ``wanted``.
    """
    if alone:
        rows = zip(batch.tokens, batch.attention, wanted, strict=True)
        return torch.cat([model(row[real][None], use_cache=False)[0][0][where[real]] for row, real, where in rows])
    if batch.tokens.shape[1] > longest or model.config.get_text_config()._attn_implementation != NAME:
        padded: Tensor = model(batch.tokens, use_cache=False)[0]
        return padded[wanted]
    packing = pack(batch)
    inputs = packing.inputs(batch.tokens)
    if cuts_rows and "logits_to_keep" in inspect.signature(model.forward).parameters:
        places = packing.place[wanted]
        kept: Tensor = model(**inputs, use_cache=False, logits_to_keep=places)[0][0]
        if len(kept) != len(places):
            raise RuntimeError(f"{type(model).__name__}: {len(kept)} rows for logits_to_keep of {len(places)} places")
        return kept
    return packing.rows(model(**inputs, use_cache=False)[0], wanted)


@torch.enable_grad()
def _reads_packed(model: PreTrainedModel) -> str | None:
    """Try a row of four documents, of which two begin alike; return None if it gives what each of them gives alone.

    That documents are apart is a gradient of exactly 0: what leaks through small weights is less than rounding.

    Returns:
        Why it gives something else.
    """
    device, trunk = next(model.parameters()).device, base_model(model)
    window = getattr(model.config.get_text_config(), "sliding_window", None) or 9
    lengths = torch.tensor([3, 9, 2, 5], device=device).clamp(max=window)
    real = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
    tokens = (1 + torch.arange(real.numel(), device=device).view(real.shape) % 5) * real
    tokens[3, :2] = tokens[1, :2]
    packing = _lay_out(tokens, real, least_shared=1)
    embedded: list[Tensor] = []

    def embed(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    hook = model.get_input_embeddings().register_forward_hook(embed)
    try:
        with autocast(device):
            row = trunk(**packing.inputs(tokens), use_cache=False)[0].float()
            padded = trunk(tokens, use_cache=False)[0].float()[real]
    finally:
        hook.remove()
    packed = packing.rows(row, real)
    exact = device.type == "cpu" and model.dtype == torch.float32
    difference = ((packed - padded).abs().max() / padded.abs().max()).item()
    if not difference < (1e-5 if exact else 0.05):
        return f"its outputs there and on a padded batch differ by {difference:.2g} of the largest"
    # Those that begin alike, so that each has a stranger before it or after it.
    own = torch.zeros_like(real)
    own[1::2] = True
    read = packing.rows(row, real & own)
    (gradient,) = torch.autograd.grad((read * torch.linspace(-1, 1, read.shape[1], device=device)).sum(), embedded[0])
    if packing.rows(gradient, real & ~own).any():
        return "its outputs for a document depend on other documents of the row"
    return None


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing | None = None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend within each document; without ``packing`` do what transformers' ``sdpa`` does.

    The name of this function stays with the model, for the backward of checkpointed layers calls it as well.

    Args:
        module: the attention layer.
        query: [1, H, N, D].
        key: [1, H or a divisor of it, N, D].
        value: as ``key``.
        attention_mask: where ``packing`` is given, the one that `Packing.inputs` gives the model, which is not read.
        packing: where the documents lie.
        scaling: of the products of query and key; None: 1 / sqrt(D).
        kwargs: for ``sdpa``; there is no dropout in a packed row.

    Returns:
        [1, N, H, D], and no weights.

    Raises:
        NotImplementedError: the layer asks for what is not known here.
    """
    if packing is None:
        return kept_attention.forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if any(kwargs.get(name) is not None for name in _UNKNOWN):
        raise NotImplementedError(f"packed attention knows none of {', '.join(_UNKNOWN)}")
    if attention_mask is None or attention_mask.shape != _MASK:
        found = None if attention_mask is None else tuple(attention_mask.shape)
        raise NotImplementedError(f"packed attention reads no mask, and the layer made one of its own, shape {found}")
    if query.is_cuda and product_dtype(query) in (torch.float16, torch.bfloat16):
        return _attend_by_kernel(query, key, value, packing, scaling), None
    return _attend_by_group(query, key, value, packing, scaling), None


def _attend_by_group(query: Tensor, key: Tensor, value: Tensor, packing: Packing, scaling: float | None) -> Tensor:
    """Attend with one call a group."""
    sizes = [count * length for count, length in packing.groups]
    whole = len(packing.groups) - len(packing.masks)
    parts = [x[0].split(sizes, dim=1) for x in (query, key, value)]
    groups = [
        ([x.unflatten(1, group).transpose(0, 1) for x in heads], None)
        for group, *heads in zip(packing.groups[:whole], *(part[:whole] for part in parts), strict=True)
    ]
    if packing.masks:
        # All that is read at once: the backward of each gathering is as long as the row.
        shapes = [(len(mask), mask.shape[-1]) for mask in packing.masks]
        read = [
            x[0].transpose(0, 1).index_select(0, packing.keys).split([count * width for count, width in shapes])
            for x in (key, value)
        ]
        rest = zip(packing.groups[whole:], parts[0][whole:], shapes, *read, packing.masks, strict=True)
        groups += [
            (
                [q.unflatten(1, group).transpose(0, 1), *(x.unflatten(0, shape).transpose(1, 2) for x in (k, v))],
                mask.to(q.dtype),
            )
            for group, q, shape, k, v, mask in rest
        ]
    outputs = []
    for (q, k, v), mask in groups:
        attended = scaled_dot_product_attention(
            q, k, v, mask, is_causal=mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
        )
        outputs.append(attended.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[None]


def _attend_by_kernel(query: Tensor, key: Tensor, value: Tensor, packing: Packing, scaling: float | None) -> Tensor:
    """Attend with the kernel for documents of different lengths; its arguments grew from torch 2.10 to 2.12."""
    # Under autocast queries and keys are rotated in float32, while the values come from a linear layer.
    query, key, value = (x[0].transpose(0, 1).to(product_dtype(x)) for x in (query, key, value))
    known = inspect.signature(varlen.varlen_attn).parameters
    options: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    shared = query.shape[1] // key.shape[1]
    if shared > 1 and "enable_gqa" in known:
        options["enable_gqa"] = True
    elif shared > 1:
        key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)
    if scaling is not None and "scale" in known:
        options["scale"] = scaling
    elif scaling is not None:
        query = query * (scaling * math.sqrt(query.shape[-1]))
    ends, longest = packing.ends, packing.longest
    output: Any = varlen.varlen_attn(query, key, value, ends, ends, longest, longest, **options)
    attended: Tensor = output[None]
    return attended


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
