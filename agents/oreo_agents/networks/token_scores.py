"""What a policy says of the tokens chosen, from what its head reads, without the logits of a batch.

Knows: linear heads over a vocabulary; log-probability, entropy and divergence from a reference, and their gradients.
Does not know: models, batches, losses.

`head_scores` never holds a matrix of tokens x vocabulary. Logits are computed tile by tile, some columns of the
vocabulary for some tokens at a time, folded into running sums, and computed again in the backward pass, where each
tile becomes the gradient of the loss with respect to its logits and at once that of its part of the head.
"""

# N tokens, D hidden size, V vocabulary; n x v one tile of logits. z logits, p probabilities; r_ marks the reference.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from oreo_agents.networks.checkpoints import product_dtype
from oreo_algos.losses import k3_estimate
from oreo_algos.models import KLEstimate

# Rows and elements of a tile, at most: on a CPU what stays in its cache. On a GPU what leaves the backward of 8,192
# tokens below 1 GiB, for Qwen2.5-1.5B (V = 151,936, D = 1536) with float32 weights under bfloat16 autocast: 890 MiB are
# the gradient of the head in float32 and 48 MiB that of the features; a tile of 4096 x 1024 needs 32 MiB for two
# matrices and 8 MiB for its gradient in bfloat16, and in bfloat16, too, of policy and reference 24 MiB of features
# and 6 MiB of the weight: 1008 MiB, and 3 MiB for single numbers of the rows. More rows where the vocabulary is so
# small that they fit all the same.
_CPU_TILE = (512, 2**18)
_GPU_TILE = (4096, 2**22)

Scores = tuple[Tensor, Tensor | None, Tensor | None, Tensor]
"""Log-probability, that of the reference, KL estimate and entropy of each choice, nats, [N] each."""


@dataclass(frozen=True)
class HeadInput:
    """A linear head and what it reads.

    Attributes:
        features: hidden states, one a token, float [N, D].
        weight: of the head, float [V, D].
        bias: of the head, float [V].
    """

    features: Tensor
    weight: Tensor
    bias: Tensor | None = None


def head_scores(
    policy: HeadInput, targets: Tensor, reference: HeadInput | None = None, kl: KLEstimate | None = None
) -> Scores:
    """Score the tokens chosen.

    Products of matrices are computed in the dtype of autocast where that is on, else in that of the features; all else,
    and the sum of the gradient of the head over tokens, in float32 (in float64 if the features are).

    Args:
        policy: with gradients where autograd asks for them.
        targets: the tokens chosen, int64 [N].
        reference: of the same vocabulary; never a gradient.
        kl: see `logit_scores`; needs the reference.

    Returns:
        See `Scores`. Gradients reach the policy through the log-probability and the KL estimate.

    Raises:
        ValueError: ``kl`` is not one of the estimates, or the reference has another vocabulary.
    """
    _check(kl, len(policy.weight), None if reference is None else len(reference.weight))
    exact = kl in ("exact", "forward")
    columns = _HeadScores.apply(policy.features, policy.weight, policy.bias, targets, reference, kl if exact else None)
    logprobs, ref_logprobs, divergence, entropy = columns
    if kl == "k3":
        divergence = k3_estimate(logprobs, ref_logprobs)
    return logprobs, ref_logprobs, divergence, entropy


def logit_scores(logp: Tensor, ref_logp: Tensor | None, targets: Tensor, kl: KLEstimate | None) -> Scores:
    """Score the tokens chosen, from whole distributions: for heads that do more than a product.

    Args:
        logp: log-probabilities of the policy, [N, V].
        ref_logp: log-probabilities of the reference, [N, V].
        targets: the tokens chosen, int64 [N].
        kl: ``exact``: sum over the vocabulary of pi (log pi - log ref); ``forward``: of ref (log ref - log pi);
            ``k3``: ref/pi - 1 - log(ref/pi) of the chosen token (Schulman 2020, unbiased under pi).

    Raises:
        ValueError: ``kl`` is not one of the estimates, or the reference has another vocabulary.
    """
    _check(kl, logp.shape[-1], None if ref_logp is None else ref_logp.shape[-1])
    chosen = logp.gather(-1, targets[:, None]).squeeze(-1)
    with torch.no_grad():
        entropy = -(logp.exp() * logp).sum(dim=-1)
    if ref_logp is None:
        return chosen, None, None, entropy
    ref_chosen = ref_logp.gather(-1, targets[:, None]).squeeze(-1)
    divergence = None
    if kl == "exact":
        divergence = (logp.exp() * (logp - ref_logp)).sum(dim=-1)
    elif kl == "forward":
        divergence = (ref_logp.exp() * (ref_logp - logp)).sum(dim=-1)
    elif kl == "k3":
        divergence = k3_estimate(chosen, ref_chosen)
    return chosen, ref_chosen, divergence, entropy


def _check(kl: KLEstimate | None, vocabulary: int, r_vocabulary: int | None) -> None:
    """Raise ValueError for an unknown estimate, and for distributions over unequal sets."""
    if kl not in ("exact", "forward", "k3", None):
        raise ValueError(f"kl must be 'exact', 'forward', 'k3' or None, got {kl!r}")
    if r_vocabulary not in (vocabulary, None):
        raise ValueError(
            f"the policy chooses among {vocabulary} tokens, the reference among {r_vocabulary}; checkpoints of one "
            "family may be padded differently: bring one to the size of the other with resize_token_embeddings, or "
            "take a reference of the policy's size"
        )


class _HeadScores(torch.autograd.Function):
    """`head_scores` but for ``k3``."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        reference: HeadInput | None,
        kl: KLEstimate | None,
    ) -> Scores:
        ctx.set_materialize_grads(False)
        # Without a KL no gradient depends on the reference: let its hidden states go.
        ctx.reference, ctx.kl, ctx.dtype = reference if kl else None, kl, product_dtype(features)
        policy = HeadInput(features, weight, bias)
        tiles = _Tiles(len(targets), len(weight), features, buffers=4)
        columns = []
        for rows in tiles.rows():
            head = _Head(policy, rows, ctx.dtype)
            r_head = None if reference is None else _Head(reference, rows, ctx.dtype)
            columns.append(_read(head, r_head, targets, kl, tiles, rows))
        logprobs, normaliser, entropy, ref_logprobs, ref_normaliser, gap = torch.cat(columns, dim=1)
        sums = torch.stack([normaliser, ref_normaliser, gap]).to(tiles.dtype)
        ctx.save_for_backward(features, weight, bias, targets, sums)
        divergence = None
        if kl == "exact":
            divergence = (gap - (normaliser - ref_normaliser)).to(tiles.dtype)
        elif kl == "forward":
            divergence = (gap - (ref_normaliser - normaliser)).to(tiles.dtype)
        other = None if reference is None else ref_logprobs.to(tiles.dtype)
        entropy = entropy.to(tiles.dtype)
        ctx.mark_non_differentiable(*([entropy] if other is None else [entropy, other]))
        return logprobs.to(tiles.dtype), other, divergence, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_logprobs: Tensor | None, _ref: None, d_kl: Tensor | None, _entropy: None) -> Any:
        features, weight, bias, targets, sums = ctx.saved_tensors
        needs_features, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        policy = HeadInput(features, weight, bias)
        kl = None if d_kl is None else ctx.kl
        tiles = _Tiles(len(targets), len(weight), features, buffers=2)
        zero = torch.zeros_like(sums[0])
        outer = torch.stack([zero if d is None else d for d in (d_logprobs, d_kl)])

        d_features = torch.zeros_like(features, dtype=tiles.dtype) if needs_features else None
        d_weight = torch.zeros_like(weight, dtype=tiles.dtype) if needs_weight else None
        d_bias = None if bias is None or not needs_bias else torch.zeros_like(bias, dtype=tiles.dtype)
        for rows in tiles.rows():
            head = _Head(policy, rows, ctx.dtype)
            r_head = None if kl is None else _Head(ctx.reference, rows, ctx.dtype)
            for columns in tiles.columns():
                d_logits = _logit_gradient(head, r_head, targets, sums, outer, kl, tiles.tile(rows, columns))
                factor = d_logits.to(ctx.dtype)
                if d_features is not None:
                    _add_product(d_features[rows], factor, head.columns(columns))
                if d_weight is not None:
                    _add_product(d_weight[columns], factor.t(), head.features)
                if d_bias is not None:
                    d_bias[columns] += d_logits.sum(dim=0)
        gradients = ((d_features, features), (d_weight, weight), (d_bias, bias))
        return *(None if d is None else d.to(x.dtype) for d, x in gradients), None, None, None


@dataclass(frozen=True)
class _Tile:
    """Some columns of the logits of some rows, and room to compute in.

    Attributes:
        rows, columns: which.
        buffers: matrices to compute in, [n, v] each.
    """

    rows: slice
    columns: slice
    buffers: tuple[Tensor, ...]

    def place(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the column of each row's target within the tile, [n, 1], and whether it is there, [n, 1]."""
        local = targets[self.rows, None] - self.columns.start
        last = self.columns.stop - self.columns.start - 1
        return local.clamp(0, last), (local >= 0) & (local <= last)


class _Tiles:
    """A way through a matrix of tokens x vocabulary, and the memory that all tiles share."""

    def __init__(self, tokens: int, vocabulary: int, like: Tensor, *, buffers: int) -> None:
        self.tokens, self.vocabulary = tokens, vocabulary
        self.dtype = torch.promote_types(like.dtype, torch.float32)
        rows, elements = _CPU_TILE if like.device.type == "cpu" else _GPU_TILE
        self.height = max(min(tokens, max(rows, elements // vocabulary)), 1)
        self.width = min(max(elements // self.height, 1), vocabulary)
        self.memory = like.new_empty(buffers, self.height * self.width, dtype=self.dtype)

    def rows(self) -> Iterator[slice]:
        """Yield all rows, some at a time; once, and none, if there are none."""
        for start in range(0, max(self.tokens, 1), self.height):
            yield slice(start, min(start + self.height, self.tokens))

    def columns(self) -> Iterator[slice]:
        """Yield all columns, some at a time."""
        for start in range(0, self.vocabulary, self.width):
            yield slice(start, min(start + self.width, self.vocabulary))

    def tile(self, rows: slice, columns: slice) -> _Tile:
        """Return one tile; it shares its memory with all others."""
        n, v = rows.stop - rows.start, columns.stop - columns.start
        return _Tile(rows, columns, tuple(buffer[: n * v].view(n, v) for buffer in self.memory))


class _Head:
    """A linear head and some rows of what it reads, in the dtype of its products."""

    def __init__(self, head: HeadInput, rows: slice, dtype: torch.dtype) -> None:
        self.features, self.weight, self.bias, self.dtype = head.features[rows].to(dtype), head.weight, head.bias, dtype

    def columns(self, columns: slice) -> Tensor:
        """Return the part of the weight that makes some columns of the logits, [v, D]."""
        return self.weight[columns].to(self.dtype)

    def logits(self, tile: _Tile, out: Tensor) -> Tensor:
        """Write the logits of a tile over ``out``, and return it."""
        _add_product(out, self.features, self.columns(tile.columns).t(), beta=0)
        return out if self.bias is None else out.add_(self.bias[tile.columns])


class _Running:
    """Of one distribution a row, read tile by tile: its normaliser, the logit of the target, and means under it."""

    def __init__(self, means: int, like: Tensor) -> None:
        # Not -inf, from which a tile of such logits would make NaN.
        self.maximum = torch.full_like(like, torch.finfo(like.dtype).min)
        self.chosen = torch.zeros_like(like)
        self.total = torch.zeros_like(like)
        self.sums = [torch.zeros_like(like) for _ in range(means)]

    def read(self, z: Tensor, place: tuple[Tensor, Tensor], values: Sequence[Tensor], tile: _Tile) -> None:
        """Add a tile of logits and, of the same choices, what the means are over; the last two buffers are free."""
        column, there = place
        self.chosen += torch.where(there, z.gather(1, column), 0)
        maximum = torch.maximum(self.maximum, z.amax(dim=1, keepdim=True))
        rescale = (self.maximum - maximum).exp_()
        self.maximum = maximum
        weights = torch.sub(z, maximum, out=tile.buffers[2]).exp_()
        self.total.mul_(rescale).add_(weights.sum(dim=1, keepdim=True))
        for total, value in zip(self.sums, values, strict=True):
            product = torch.mul(weights, value, out=tile.buffers[3])
            total.mul_(rescale).add_(product.sum(dim=1, keepdim=True))

    def normaliser(self) -> Tensor:
        """Log of the sum of exp(z); in float64, since small differences of such numbers are wanted."""
        return self.maximum.double() + self.total.double().log()

    def mean(self, number: int) -> Tensor:
        """Mean of one of the values."""
        return self.sums[number].double() / self.total.double()


def _read(
    head: _Head, reference: _Head | None, targets: Tensor, kl: KLEstimate | None, tiles: _Tiles, rows: slice
) -> Tensor:
    """Read the logits of some rows once.

    Returns:
        Float64 [6, n]: log-probability, log normaliser and entropy; log-probability and log normaliser of the
        reference, and, for a KL, the mean difference of the logits of both; 0 where there is none.
    """
    like = tiles.memory.new_empty(rows.stop - rows.start, 1)
    policy, other = _Running(2 if kl == "exact" else 1, like), _Running(kl == "forward", like)
    for columns in tiles.columns():
        tile = tiles.tile(rows, columns)
        place = tile.place(targets)
        z = head.logits(tile, tile.buffers[0])
        if reference is None:
            policy.read(z, place, [z], tile)
            continue
        r = reference.logits(tile, tile.buffers[1])
        if kl == "forward":
            policy.read(z, place, [z], tile)
            other.read(r, place, [torch.sub(r, z, out=z)], tile)
        else:
            other.read(r, place, [], tile)
            policy.read(z, place, [z, torch.sub(z, r, out=r)] if kl else [z], tile)
    normaliser = policy.normaliser()
    zero = torch.zeros_like(normaliser)
    sums = [policy.chosen - normaliser, normaliser, normaliser - policy.mean(0), zero, zero, zero]
    if reference is not None:
        sums[3:5] = other.chosen - other.normaliser(), other.normaliser()
    if kl is not None:
        sums[5] = policy.mean(1) if kl == "exact" else other.mean(0)
    return torch.cat(sums, dim=1).t()


def _logit_gradient(
    head: _Head,
    reference: _Head | None,
    targets: Tensor,
    sums: Tensor,
    outer: Tensor,
    kl: KLEstimate | None,
    tile: _Tile,
) -> Tensor:
    """Return the gradient of the loss with respect to a tile of logits.

    With y the target: d logp_y / d z = [y] - p, d KL(pi || ref) / d z = p (z - r - mean of z - r under p), and
    d KL(ref || pi) / d z = p - q.

    Args:
        head, reference: the reference's is read for a KL only.
        targets: the tokens chosen.
        sums: log normalisers of the policy and of the reference, and the mean difference of their logits, [3, N].
        outer: gradient of the loss with respect to the log-probabilities and to the KL, [2, N].
        kl: which.
        tile: of all of them.
    """
    normaliser, r_normaliser, gap = sums[:, tile.rows, None]
    d_logprob, d_kl = outer[:, tile.rows, None]
    z = head.logits(tile, tile.buffers[0])
    if reference is None:
        p = z.sub_(normaliser).exp_()
        gradient = p.mul_(-d_logprob)
    else:
        r = reference.logits(tile, tile.buffers[1])
        if kl == "exact":
            torch.sub(z, r, out=r)
            factor = torch.addcmul(-d_logprob - d_kl * gap, r, d_kl, out=r)
            gradient = z.sub_(normaliser).exp_().mul_(factor)
        else:
            q = r.sub_(r_normaliser).exp_()
            gradient = z.sub_(normaliser).exp_().mul_(d_kl - d_logprob).sub_(q.mul_(d_kl))
    column, there = tile.place(targets)
    return gradient.scatter_add_(1, column, d_logprob * there)


def _add_product(out: Tensor, a: Tensor, b: Tensor, *, beta: int = 1) -> None:
    """Set out = beta * out + a @ b; a product of half-precision factors is not rounded before it is added."""
    if a.dtype == out.dtype:
        out.addmm_(a, b, beta=beta)
    elif out.is_cuda:
        torch.addmm(out, a, b, out_dtype=out.dtype, beta=beta, out=out)
    else:
        out.addmm_(a.to(out.dtype), b.to(out.dtype), beta=beta)
