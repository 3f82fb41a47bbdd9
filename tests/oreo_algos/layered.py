"""Networks of a few numbers with layers, called as modules are, so that they can be held in parts."""

# B episodes, T tokens.

from typing import NamedTuple

import torch
from tabular import VOCABULARY, Scorer
from torch import Tensor, nn

from oreo_algos.batch import Batch
from oreo_algos.models import KLEstimate, Models, TokenScores
from oreo_algos.segments import shift_values


class Trunk(nn.Module):
    """Running means of embeddings through layers, [B, T, width]."""

    def __init__(self, width: int = 4) -> None:
        """Draw the weights."""
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        count = torch.arange(1, tokens.shape[1] + 1, dtype=hidden.dtype)[:, None]
        for layer in self.layers:
            hidden = hidden + torch.tanh(layer(hidden.cumsum(dim=1) / count))
        return hidden


class LayeredPolicy(Scorer):
    def __init__(self, *, tied: bool = False, adapted: bool = False) -> None:
        """Draw the weights; ``adapted``: but for the layers none is trained."""
        super().__init__()
        self.trunk = Trunk()
        self.head = nn.Linear(4, VOCABULARY, bias=False)
        if tied:
            self.head.weight = self.trunk.embedding.weight
        if adapted:
            self.requires_grad_(False)
            self.trunk.layers.requires_grad_(True)

    def logits(self, tokens: Tensor) -> Tensor:
        return self.head(self.trunk(tokens))

    def forward(
        self, batch: Batch, reference: Scorer | None = None, kl: KLEstimate | None = None, *, whole: bool = False
    ) -> TokenScores | Tensor:
        if whole:
            return self.log_probabilities(batch.tokens)
        return super().score(batch, None if reference is None else _Called(reference), kl)

    def score(self, batch: Batch, reference: Scorer | None = None, kl: KLEstimate | None = None) -> TokenScores:
        found: TokenScores = self(batch, reference, kl)
        return found


class _Called(NamedTuple):
    """A policy whose distributions are read through a call of it."""

    policy: Scorer

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        every = torch.ones_like(tokens, dtype=torch.bool)
        none = tokens.new_zeros(len(tokens), 1)
        return self.policy(Batch(tokens, tokens, every, every, none.double(), none == 0, none[:, 0] == 0), whole=True)


class LayeredValue(nn.Module):
    def __init__(self) -> None:
        """Draw the weights."""
        super().__init__()
        self.trunk = Trunk()
        self.head = nn.Linear(4, 1)

    def forward(self, batch: Batch) -> Tensor:
        return shift_values(self.head(self.trunk(batch.tokens)).squeeze(-1))

    def token_values(self, batch: Batch) -> Tensor:
        values: Tensor = self(batch)
        return values


def layered_models(**policy: bool) -> Models:
    """Networks in float64; the reference is another than the policy."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own, reference, value = LayeredPolicy(**policy), LayeredPolicy(**policy), LayeredValue()
    return Models(own.double(), reference.double().requires_grad_(False), value.double())
