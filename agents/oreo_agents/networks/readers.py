"""Ways in which a policy reads what has been said and tells what may come next, for rows that grow token by token.

Knows: caches of keys and values, and how to do without. Does not know: how tokens are drawn, what they mean.
"""

# B rows, t new tokens of each, V vocabulary

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from oreo_agents.networks.checkpoints import autocast
from oreo_agents.networks.kv_cache import BatchCache, Prefix, Room, pad_left
from oreo_agents.networks.miniature import tried


class Reader(Protocol):
    """Rows of a batch as one network has read them."""

    def read(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Read the next tokens of each row, int64 [B, t], where ``present`` is 1; return logits, float32 [B, V]."""
        ...

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order; one may occur several times, and those left out are forgotten."""
        ...

    def join(self, other: Any) -> None:
        """Go on with the rows of another reader of the same kind too, behind these."""
        ...

    def newest(self, rows: Sequence[int], count: int) -> Tensor:
        """Copy what was kept of the last ``count`` tokens of these rows, see ``BatchCache.newest``."""
        ...


class CachedReader:
    """Reads each token once and keeps keys and values; for models that ``reads_on`` proves it of."""

    def __init__(self, model: Any, prefixes: Sequence[Prefix], device: torch.device, room: Room | None = None) -> None:
        """Begin with what each row has read already, see ``BatchCache``."""
        self._model, self._cache = model, BatchCache(model, prefixes, device, room)

    def read(self, tokens: Tensor, present: Tensor) -> Tensor:
        """See ``Reader``."""
        with autocast(tokens.device):
            logits: Tensor = self._model(tokens, **self._cache.reads(present), logits_to_keep=1).logits[:, -1]
        return logits.float()

    def select(self, rows: Sequence[int]) -> None:
        """See ``Reader``."""
        self._cache.select(rows)

    def join(self, other: "CachedReader") -> None:
        """See ``Reader``."""
        self._cache.join(other._cache)

    def newest(self, rows: Sequence[int], count: int) -> Tensor:
        """See ``Reader``."""
        return self._cache.newest(rows, count)


class WholeReader:
    """Reads everything anew at each token, without a cache, a mask or padding: what any causal model can do."""

    def __init__(self, model: Any) -> None:
        """Begin with nothing read."""
        self._model = model
        self._rows: list[list[int]] = []

    def read(self, tokens: Tensor, present: Tensor) -> Tensor:
        """See ``Reader``; rows of one length share a forward pass."""
        new = [row[where.bool()].tolist() for row, where in zip(tokens, present, strict=True)]
        self._rows = [before + after for before, after in zip(self._rows or [[] for _ in new], new, strict=True)]
        return last_outputs(self._model, self._rows, tokens.device).float()

    def select(self, rows: Sequence[int]) -> None:
        """See ``Reader``."""
        self._rows = [self._rows[row] for row in rows]

    def join(self, other: "WholeReader") -> None:
        """See ``Reader``."""
        self._rows = [*self._rows, *other._rows]

    def newest(self, rows: Sequence[int], count: int) -> Tensor:
        """Nothing is kept.

        Raises:
            RuntimeError: always; a policy that does not resume is not asked to keep.
        """
        raise RuntimeError("whole transcripts are read, and nothing is kept of them")


def last_outputs(model: Any, rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return what a model says at the last token of each row, [B, ...], read without a cache, a mask or padding.

    Rows of one length share a forward pass.
    """
    found: dict[int, Tensor] = {}
    for length in sorted({len(row) for row in rows}):
        places = [place for place, row in enumerate(rows) if len(row) == length]
        batch = torch.tensor([rows[place] for place in places], device=device)
        with autocast(device):
            found |= dict(zip(places, model(batch, use_cache=False).logits[:, -1], strict=True))
    return torch.stack([found[place] for place in range(len(rows))])


def reads_on(model: Any) -> str | None:
    """Try whether a model that reads on from a cache, as the sampler does, says what it says of whole transcripts.

    Prompts of two lengths; three tokens more of each; the second row is doubled after the first, as for equal prompts,
    and one of the two leaves after the second. The longer row goes beyond a short window.

    Returns:
        None if it does; else why not, and the sampler reads whole transcripts.
    """
    return tried(model, lambda: _reads_on(model))


def _reads_on(model: Any) -> str | None:
    device = next(model.parameters()).device
    prompts = [[1, 2, 3, 4, 5], [3, 1]]
    exact = next(model.parameters()).dtype == torch.float32 and device.type == "cpu"
    whole = WholeReader(model)
    cached = CachedReader(model, [Prefix() for _ in prompts], device)
    next_tokens = pad_left(prompts, device)
    order: Sequence[int] = (0, 1, 1)
    for step in range(4):
        said, expected = cached.read(*next_tokens), whole.read(*next_tokens)
        spread = (expected.amax(dim=-1) - expected.amin(dim=-1)).min().clamp(min=1e-6)
        difference = ((said - expected).abs().max() / spread).item()
        if not difference < (1e-3 if exact else 0.05):
            return f"its logits with a cache are off by {difference:.2g} of their spread at token {step + 1}"
        cached.select(order)
        whole.select(order)
        tokens = torch.tensor([[1 + (3 * step + row) % 5] for row in range(len(order))], device=device)
        next_tokens, order = (tokens, torch.ones_like(tokens)), (0, 2) if step == 0 else range(2)
    return None
