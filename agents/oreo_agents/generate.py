"""Batched sampling from a causal language model with a key-value cache.

Knows: tokens and caches. Does not know: text, environments.
"""

# B rows still being generated, V vocabulary

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import DynamicCache

from oreo_agents.networks import autocast
from oreo_agents.policy import CausalPolicy

Choices: TypeAlias = dict[int, "Choices"]
"""Continuations that are allowed, as a tree: each token that may come next, and what may follow it."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to draw tokens.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token.
        max_new_tokens: tokens a turn at most.
        batch_size: rows generated together.
    """

    temperature: float = 1.0
    max_new_tokens: int = 256
    batch_size: int = 128

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative, got {self.temperature}")
        if self.max_new_tokens < 1 or self.batch_size < 1:
            raise ValueError(
                f"max_new_tokens and batch_size must be at least 1, got {self.max_new_tokens} and {self.batch_size}"
            )


@dataclass
class Sample:
    """One generated continuation.

    Attributes:
        tokens: the new tokens, the end token included.
        logprobs: log-probability of each under the distribution it was drawn from (at temperature 0: under the
            policy), nats; where choices are given, renormalised over the tokens that are allowed.
        ended: the model ended its turn; False: a limit cut it off.
    """

    tokens: list[int]
    logprobs: list[float]
    ended: bool = False


@torch.no_grad()
def generate(
    policy: CausalPolicy,
    prompts: Sequence[Sequence[int]],
    end_ids: Collection[int],
    sampling: Sampling,
    generator: torch.Generator | None = None,
    *,
    choices: Sequence[Choices] | None = None,
) -> list[Sample]:
    """Continue each prompt until an end token or a limit.

    Args:
        policy: to sample from.
        prompts: token ids, none empty, each shorter than the policy's context.
        end_ids: tokens that end a turn.
        sampling: how.
        generator: source of randomness, on the policy's device; not needed at temperature 0.
        choices: what may be said after each prompt, see ``make_choices``; None: anything.

    Returns:
        One sample a prompt, in their order.

    Raises:
        ValueError: a prompt is empty or fills the context.
    """
    for prompt in prompts:
        if not 0 < len(prompt) < policy.max_length:
            raise ValueError(
                f"a prompt of {len(prompt)} tokens cannot be continued in a context of {policy.max_length}"
            )
    samples = [Sample([], []) for _ in prompts]
    # Prompts of similar length share a batch, so that little padding is computed.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), sampling.batch_size):
        rows = order[start : start + sampling.batch_size]
        _generate_batch(
            policy,
            [prompts[i] for i in rows],
            [samples[i] for i in rows],
            end_ids,
            sampling,
            generator,
            None if choices is None else [choices[i] for i in rows],
        )
    return samples


def make_choices(continuations: Iterable[Sequence[int]]) -> Choices:
    """Return the tree of these continuations; each ends with an end token."""
    tree: Choices = {}
    for tokens in continuations:
        node = tree
        for token in tokens:
            node = node.setdefault(token, {})
    return tree


def _generate_batch(
    policy: CausalPolicy,
    prompts: list[Sequence[int]],
    samples: list[Sample],
    end_ids: Collection[int],
    sampling: Sampling,
    generator: torch.Generator | None,
    choices: list[Choices] | None,
) -> None:
    """Fill ``samples``; finished rows leave the batch."""
    model = policy.causal_lm
    device = next(policy.parameters()).device
    width = max(map(len, prompts))
    tokens = torch.zeros(len(prompts), width, dtype=torch.long, device=device)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.tensor(prompt, device=device)
        mask[row, width - len(prompt) :] = 1
    # Budget of each row: what the context still holds.
    budgets = [min(sampling.max_new_tokens, policy.max_length - len(p)) for p in prompts]
    live = list(range(len(prompts)))
    cache = DynamicCache(config=model.config)
    while live:
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        with autocast(device):
            logits = model(
                tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
        logits = logits.float()
        if choices is not None:
            logits = logits + _forbid_all_but(choices, logits.shape[1]).to(device)
        chosen, logprobs = draw(logits, sampling.temperature, generator)
        kept = []
        for i, (token, logprob) in enumerate(zip(chosen.tolist(), logprobs.tolist(), strict=True)):
            sample = samples[live[i]]
            sample.tokens.append(token)
            sample.logprobs.append(logprob)
            sample.ended = token in end_ids
            if not sample.ended and len(sample.tokens) < budgets[live[i]]:
                kept.append(i)
        if len(kept) < len(live):
            index = torch.tensor(kept, dtype=torch.long, device=device)
            cache.batch_select_indices(index)
            mask, chosen = mask[index], chosen[index]
            live = [live[i] for i in kept]
            choices = None if choices is None else [choices[i] for i in kept]
        if choices is not None:
            choices = [node[token] for node, token in zip(choices, chosen.tolist(), strict=True)]
        tokens = chosen[:, None]
        mask = torch.cat([mask, torch.ones_like(tokens)], dim=1)


def _forbid_all_but(choices: Sequence[Choices], vocabulary: int) -> Tensor:
    """Return what to add to logits: 0 for tokens that may come next, else minus infinity, [B, V]."""
    added = torch.full((len(choices), vocabulary), -torch.inf)
    for row, node in enumerate(choices):
        added[row, list(node)] = 0.0
    return added


def draw(logits: Tensor, temperature: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Choose one token a row of logits [B, V]; returns tokens int64 [B] and their log-probabilities [B], nats."""
    if temperature == 0:
        logprobs = logits.log_softmax(dim=-1)
        chosen = logits.argmax(dim=-1)
    else:
        logprobs = (logits / temperature).log_softmax(dim=-1)
        chosen = torch.multinomial(logprobs.exp(), 1, generator=generator).squeeze(-1)
    return chosen, logprobs.gather(-1, chosen[:, None]).squeeze(-1)
