"""Batches without padding: the documents of a batch one after another in a single row.

Knows: where a token of a batch lies in the row, attention within documents, which transformers models can read such a
row. Does not know: heads, losses.

The ends of the documents reach the attention function as an argument of the model's forward. Nothing depends on the
masks that transformers builds: it would notice packed documents in their positions, but only without a cache and
without an attention mask, and attends across documents in silence otherwise.
"""

# B documents, T tokens of the longest, N positions of the packed row, H heads, D width of a head

import inspect
import logging
import math
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.attention import varlen
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from oreo_agents.networks.checkpoints import autocast, base_model, max_length, product_dtype
from oreo_algos.batch import Batch

_NAME = "oreo_packed"

# On a CPU documents of similar length share a call of the attention: it costs as much as computing so many tokens.
_PADDING_PER_CALL = 16

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
    a view of the row; attention is causal, so the few padding tokens change nothing.

    Attributes:
        groups: number of documents and their common length, for one group after another.
        source: index into the flattened [B, T] batch for each position of the row, int64 [N].
        place: position in the row for each token of the batch, int64 [B, T]; meaningless on the batch's padding.
        position_ids: position within its document, int64 [1, N].
        ends: cumulative lengths of the documents, int32 [B + 1].
    """

    groups: tuple[tuple[int, int], ...]
    source: Tensor
    place: Tensor
    position_ids: Tensor
    ends: Tensor

    @property
    def longest(self) -> int:
        """Length of the longest document."""
        return self.groups[-1][1]

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
        _layouts[batch] = _lay_out(batch.attention)
    return _layouts[batch]


_layouts: WeakKeyDictionary[Batch, Packing] = WeakKeyDictionary()


def _lay_out(attention: Tensor) -> Packing:
    """Lay out documents of which the real tokens are given, bool [B, T]."""
    device, width = attention.device, attention.shape[1]
    lengths, order = attention.sum(dim=1).cpu().sort(stable=True)
    groups = _group(lengths.tolist(), 0 if device.type == "cuda" else _PADDING_PER_CALL)
    padded = torch.tensor([length for count, length in groups for _ in range(count)])
    ends = torch.nn.functional.pad(padded.cumsum(0), (1, 0))
    positions = torch.arange(int(ends[-1])) - ends[:-1].repeat_interleave(padded)
    source = (order * width).repeat_interleave(padded) + positions
    place = torch.zeros(attention.numel(), dtype=torch.long)
    place[source] = torch.arange(len(source))
    return Packing(
        groups,
        source.to(device),
        place.view(attention.shape).to(device),
        positions[None].to(device),
        ends.to(device, torch.int32),
    )


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
    if not (attends and model._supports_attention_backend and implementation in ("sdpa", _NAME)):
        return 0
    # Within its window a layer attends to everything; longer documents are left to the masks of transformers.
    longest = min(max_length(config), getattr(config, "sliding_window", None) or max_length(config))
    model.set_attn_implementation(_NAME)
    try:
        _check_reads_packed(model, longest)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        model.set_attn_implementation("sdpa")
        _warn_of_padding(type(model).__name__, str(error))
        return 0
    return longest


@cache
def _warn_of_padding(model: str, reason: str) -> None:
    """Say once that a model with the right interface reads padded batches."""
    _log.warning("%s computes on padding, because it cannot read documents packed in a row: %s", model, reason)


def outputs_at(model: Any, batch: Batch, wanted: Tensor, longest: int, *, cuts_rows: bool = False) -> Tensor:
    """Return what a model says of some tokens, computed on a packed row where that is possible.

    Args:
        model: called as it is, so that hooks fire; the first of its outputs counts.
        batch: padded on the right, so that causal attention needs no mask.
        wanted: the tokens, none of them padding, bool [B, T].
        longest: what ``enable`` returned for the model. If its attention has been changed since, e.g. by
            ``set_attn_implementation("eager")``, it reads a padded batch.
        cuts_rows: a causal model, whose ``logits_to_keep`` saves all other logits on a packed row; a trunk may have an
            argument of that name too, and keeps its rows.

    Returns:
        [wanted.sum(), ...], in the order of ``wanted``.
    """
    if batch.tokens.shape[1] > longest or model.config.get_text_config()._attn_implementation != _NAME:
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
def _check_reads_packed(model: PreTrainedModel, longest: int) -> None:
    """Try a row of four documents; raise RuntimeError where it does not give what each of them gives alone.

    That documents are apart is a gradient of exactly 0: what leaks through small weights is less than rounding.
    """
    device = next(model.parameters()).device
    lengths = torch.tensor([3, 24, 2, 5], device=device).clamp(max=longest)
    real = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
    tokens = (1 + torch.arange(real.numel(), device=device).view(real.shape) % 5) * real
    packing = _lay_out(real)
    embedded: list[Tensor] = []
    hidden: list[Tensor] = []

    def embed(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    hooks = [
        model.get_input_embeddings().register_forward_hook(embed),
        base_model(model).register_forward_hook(lambda module, inputs, output: hidden.append(output[0].float())),
    ]
    try:
        with autocast(device):
            model(**packing.inputs(tokens), use_cache=False)
            model(tokens, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    packed, padded = packing.rows(hidden[0], real), hidden[1][real]
    exact = device.type == "cpu" and model.dtype == torch.float32
    difference = ((packed - padded).abs().max() / padded.abs().max()).item()
    if not difference < (1e-5 if exact else 0.05):
        raise RuntimeError(f"its outputs there and on a padded batch differ by {difference:.2g} of the largest")
    # Every other document of the row, so that each has a stranger before it or after it.
    own = torch.zeros_like(real)
    own[lengths.argsort()[1::2]] = True
    read = packing.rows(hidden[0], real & own)
    (gradient,) = torch.autograd.grad((read * torch.linspace(-1, 1, read.shape[1], device=device)).sum(), embedded[0])
    if packing.rows(gradient, real & ~own).any():
        raise RuntimeError("its outputs for a document depend on other documents of the row")


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
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
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
    parts = zip(packing.groups, *(x[0].split(sizes, dim=1) for x in (query, key, value)), strict=True)
    outputs = []
    for group, *heads in parts:
        q, k, v = (x.unflatten(1, group).transpose(0, 1) for x in heads)
        attended = scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
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


AttentionInterface.register(_NAME, attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)
