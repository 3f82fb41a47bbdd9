"""Networks of a few numbers that implement the protocols of `oreo_algos.models`.

`Tiny*` read the whole context (a running mean of embeddings), optionally with dropout. `Table*` read the last token
only, so that a Markov problem has a closed form: the state is the last token.
"""

# B episodes, T tokens, V vocabulary.

import copy
import dataclasses
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from oreo_algos.batch import Batch
from oreo_algos.episode import Episode
from oreo_algos.models import KLEstimate, Models, TokenScores
from oreo_algos.segments import shift_logprobs, shift_values

VOCABULARY = 50


class Scorer(nn.Module):
    """A policy, given the logits of the next token at every position."""

    max_length = 1000

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits of token t + 1 in column t, [B, T, V]."""
        raise NotImplementedError

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        """Column t is about token t + 1, [B, T - 1, V]."""
        return self.logits(tokens)[:, :-1].log_softmax(dim=-1)

    def score(self, batch: Batch, reference: "Scorer | None" = None, kl: KLEstimate | None = None) -> TokenScores:
        logp = self.log_probabilities(batch.tokens)
        chosen = self._of_actions(self._pick(logp, batch), batch)
        entropy = self._of_actions(-(logp.exp() * logp).sum(dim=-1), batch).detach()
        if reference is None:
            return TokenScores(chosen, entropy=entropy)
        with torch.no_grad():
            ref_logp = reference.log_probabilities(batch.tokens)
        ref_chosen = self._of_actions(self._pick(ref_logp, batch), batch)
        divergence = None
        if kl == "exact":
            divergence = self._of_actions((logp.exp() * (logp - ref_logp)).sum(dim=-1), batch)
        elif kl == "forward":
            divergence = self._of_actions((ref_logp.exp() * (ref_logp - logp)).sum(dim=-1), batch)
        elif kl == "k3":
            divergence = (ref_chosen - chosen).exp() - 1 - (ref_chosen - chosen)
        return TokenScores(chosen, ref_chosen, divergence, entropy)

    @staticmethod
    def _pick(logp: Tensor, batch: Batch) -> Tensor:
        return logp.gather(-1, batch.tokens[:, 1:, None]).squeeze(-1)

    @staticmethod
    def _of_actions(x: Tensor, batch: Batch) -> Tensor:
        return shift_logprobs(x).masked_fill(~batch.action_mask, 0)


class _Context(nn.Module):
    """The running mean of embeddings, through tanh and dropout, [B, T, width]."""

    def __init__(self, width: int, dropout: float) -> None:
        """Draw the embeddings."""
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = self.embedding(tokens)
        count = torch.arange(1, tokens.shape[1] + 1, dtype=embedded.dtype)
        return self.dropout(torch.tanh(embedded.cumsum(dim=1) / count[:, None] + embedded))


class TinyPolicy(Scorer):
    def __init__(self, dropout: float = 0.0, width: int = 6) -> None:
        """Draw the weights."""
        super().__init__()
        self.context = _Context(width, dropout)
        self.head = nn.Linear(width, VOCABULARY)

    def logits(self, tokens: Tensor) -> Tensor:
        return self.head(self.context(tokens))


class TinyValue(nn.Module):
    def __init__(self, dropout: float = 0.0, width: int = 6) -> None:
        """Draw the weights."""
        super().__init__()
        self.context = _Context(width, dropout)
        self.head = nn.Linear(width, 1)

    def token_values(self, batch: Batch) -> Tensor:
        return shift_values(self.head(self.context(batch.tokens)).squeeze(-1))


class TablePolicy(Scorer):
    """Row s of the table: logits of the token after token s."""

    def __init__(self, logits: Tensor) -> None:
        """Start from logits, [V, V]."""
        super().__init__()
        self.table = nn.Parameter(logits.clone())

    def logits(self, tokens: Tensor) -> Tensor:
        return self.table[tokens]


class TableValue(nn.Module):
    """Entry s of the table: V of the state whose last token is s."""

    def __init__(self, states: int) -> None:
        """Start at 0."""
        super().__init__()
        self.table = nn.Parameter(torch.zeros(states))

    def token_values(self, batch: Batch) -> Tensor:
        return shift_values(self.table[batch.tokens])


def tiny_models(seed: int = 0, *, dropout: float = 0.0, moved: bool = True) -> Models:
    """Networks in float64, so that sums in another order agree to 1e-12.

    `moved`: the policy is another than the reference, so that no log-ratio is 0.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reference, other, value = TinyPolicy().double(), TinyPolicy(dropout).double(), TinyValue(dropout).double()
    if not moved:
        other.load_state_dict(copy.deepcopy(reference.state_dict()))
    return Models(other, reference, value, policy_is_reference=not moved)


def sampled(episodes: Iterable[Episode]) -> list[Episode]:
    """The episodes with log-probabilities at sampling, about those of a uniform policy."""
    return [
        dataclasses.replace(e, behavior_logprobs=np.where(e.step_id >= 0, e.tokens % 5 / 10 - 4.1, 0)) for e in episodes
    ]


def with_twins(episodes: list[Episode], count: int) -> list[Episode]:
    """The episodes, and twins of the first ones, which end in another token and have the opposite outcome."""
    twins = []
    for episode in episodes[:count]:
        tokens, last = episode.tokens.copy(), np.flatnonzero(episode.step_id >= 0)[-1]
        tokens[last] = tokens[last] % (VOCABULARY - 1) + 1
        changes = {"tokens": tokens, "rewards": -episode.rewards, "success": not episode.success}
        twins.append(dataclasses.replace(episode, **changes))
    return [*episodes, *twins]


def parameters(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the parameters by name."""
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
