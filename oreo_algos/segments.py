"""Tokens to steps: the two shifts, sums and values a step, reward-to-go, granularity.

Knows: the index rule. Column t of a [B, T] tensor is about token t; log-probabilities are 0 in
column 0. `token_values` is [B, T + 1]: column t is V of the state just before token t, column n of
a row with n tokens is V after its last token; column 0 is masked, no state lies before token 0.
Does not know: losses, models.
"""

# B episodes, T tokens, K steps.

import dataclasses
import difflib
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from oreo_algos.batch import Batch

Granularity = Literal["token", "step", "response"]
"""What a step of the loss is: an action token, an environment's action, or the whole response."""


def shift_values(outputs: Tensor) -> Tensor:
    """Turn a classifier's outputs into values of the state before each token.

    The output at position t has read tokens 0..t, so it is V of the state just before token t + 1.

    Args:
        outputs: the value network's output at every position, reward units, float [B, T].

    Returns:
        `token_values`, float [B, T + 1]; column 0 is 0.
    """
    return F.pad(outputs, (1, 0))


def shift_logprobs(next_token_logprobs: Tensor) -> Tensor:
    """Move log-probabilities from the position that predicts a token to the token.

    Args:
        next_token_logprobs: column t is log pi(token t + 1 | tokens 0..t), nats, float [B, T - 1].

    Returns:
        Log-probability of token t in column t, nats, float [B, T]; column 0 is 0.
    """
    return F.pad(next_token_logprobs, (1, 0))


def sum_by_step(x: Tensor, batch: Batch) -> Tensor:
    """Sum over the tokens of each step; differentiable.

    Args:
        x: a number a token, float [B, T]; ignored outside actions.
        batch: the episodes.

    Returns:
        Sums, float [B, K], 0 on padding.
    """
    masked = x.masked_fill(~batch.action_mask, 0)
    sums = x.new_zeros(batch.step_mask.shape)
    return sums.scatter_add(1, batch.step_id.clamp(min=0), masked)


def first_token(batch: Batch) -> Tensor:
    """Index of the first token of each step, int64 [B, K], 0 on padding."""
    return _extreme_token(batch, "amin", neutral=batch.tokens.shape[1])


def last_token(batch: Batch) -> Tensor:
    """Index of the last token of each step, int64 [B, K], 0 on padding."""
    return _extreme_token(batch, "amax", neutral=-1)


def prompt_lengths(batch: Batch) -> Tensor:
    """Number of tokens before the first action token, int64 [B]."""
    return first_token(batch)[:, 0]


def step_values(token_values: Tensor, batch: Batch) -> Tensor:
    """V of the state in which each step begins.

    Args:
        token_values: column t is V just before token t, reward units, float [B, T + 1].
        batch: the episodes.

    Returns:
        V just before the first token of each step, float [B, K], 0 on padding.
    """
    return token_values.gather(1, first_token(batch)).masked_fill(~batch.step_mask, 0)


def final_values(token_values: Tensor, batch: Batch) -> Tensor:
    """V of the finished answer: just before the last action token, which is the end token.

    V after the end token is 0 by definition and is never read.

    Args:
        token_values: column t is V just before token t, reward units, float [B, T + 1].
        batch: the episodes.

    Returns:
        Values, float [B].
    """
    last = last_token(batch).amax(dim=1, keepdim=True)
    return token_values.gather(1, last).squeeze(1)


def with_final_values(batch: Batch, token_values: Tensor) -> Batch:
    """Add to the last reward of each episode that a limit cut off V of the state that it had come to.

    That state is the whole transcript: V after its last token, which is no end. So reward-to-go, one-step targets and
    lambda-returns all bootstrap from it. No gradient reaches ``token_values``.

    Args:
        batch: the episodes.
        token_values: column t is V just before token t, reward units, float [B, T + 1].

    Raises:
        ValueError: the batch does not say which episodes were cut off.
    """
    if batch.cut_off is None:
        raise ValueError("this batch does not say which episodes were cut off; give it `cut_off`, bool [B]")
    after = token_values.detach().gather(1, batch.attention.sum(dim=1, keepdim=True)).squeeze(1)
    last = batch.step_mask.sum(dim=1, keepdim=True) - 1
    rewards = batch.rewards.to(torch.promote_types(batch.rewards.dtype, after.dtype))
    gained = torch.where(batch.cut_off, after, 0).to(rewards.dtype)
    return dataclasses.replace(batch, rewards=rewards.scatter_add(1, last, gained[:, None]))


def unread_states(batch: Batch, granularity: Granularity) -> Tensor:
    """Find the states that a search reads and that no step of the loss begins with.

    A search reads V where an action of the environment begins and just before the last token of every turn, that is
    before the environment answers; the last token of the episode is one of these.

    Args:
        batch: episodes whose steps are actions of the environment.
        granularity: what a step of the loss is.

    Returns:
        Bool [B, N], in the columns of ``regroup(batch, "token")``: True where the state just before that token is
        such a state. All False at token level.
    """
    read = torch.zeros_like(batch.action_mask).scatter(1, first_token(batch), batch.step_mask)
    read[:, 0] = False  # where `scatter` put the padding; no action begins a transcript
    read |= batch.action_mask & ~F.pad(batch.action_mask[:, 1:], (0, 1))
    steps, tokens = regroup(batch, granularity), regroup(batch, "token")
    begun = torch.zeros_like(read).scatter(1, first_token(steps), True)
    return (read & ~begun).gather(1, first_token(tokens)) & tokens.step_mask


def suffix_sum(x: Tensor) -> Tensor:
    """Sum of the entry itself and everything to its right, [B, K] to [B, K]."""
    # From the right, so that zeros in the padding leave every bit as it was.
    return x.flip(1).cumsum(1).flip(1)


def reward_to_go(rewards: Tensor, step_mask: Tensor) -> Tensor:
    """Undiscounted sum of the rewards from each step on.

    Args:
        rewards: reward after step k, reward units, float [B, K].
        step_mask: True on real steps, bool [B, K].

    Returns:
        R_k = sum_{i >= k} r_i, float [B, K], 0 on padding.
    """
    return suffix_sum(rewards.masked_fill(~step_mask, 0))


def regroup(batch: Batch, granularity: Granularity) -> Batch:
    """Renumber the steps and move the rewards with them.

    Token level: every action token is a step, and an action's reward falls on its last token. Step
    level: the batch as it is. Response level: one step, with the sum of the rewards. Losses do not
    know the granularity.

    Args:
        batch: episodes whose steps are actions of the environment.
        granularity: "token", "step" or "response".

    Raises:
        ValueError: no such granularity.
    """
    match granularity:
        case "token":
            return _by_token(batch)
        case "step":
            return batch
        case "response":
            return _by_response(batch)
    names = get_args(Granularity)
    close = difflib.get_close_matches(str(granularity), names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"granularity must be one of {', '.join(names)}, got {granularity!r}{hint}")


def _by_token(batch: Batch) -> Batch:
    action = batch.action_mask
    counts = action.sum(dim=1)
    number = (action.cumsum(dim=1) - 1).masked_fill(~action, -1)
    last = number.gather(1, last_token(batch)).clamp(min=0)
    rewards = batch.rewards.new_zeros(len(batch), int(counts.max()))
    rewards = rewards.scatter_add(1, last, batch.rewards.masked_fill(~batch.step_mask, 0))
    step_mask = torch.arange(rewards.shape[1], device=counts.device) < counts[:, None]
    return dataclasses.replace(batch, step_id=number, rewards=rewards, step_mask=step_mask)


def _by_response(batch: Batch) -> Batch:
    rewards = batch.rewards.masked_fill(~batch.step_mask, 0).sum(dim=1, keepdim=True)
    step_mask = batch.step_mask.any(dim=1, keepdim=True)
    return dataclasses.replace(batch, step_id=batch.step_id.clamp(max=0), rewards=rewards, step_mask=step_mask)


def _extreme_token(batch: Batch, reduce: str, *, neutral: int) -> Tensor:
    """First or last token of each step; `neutral` is an index that the reduction never prefers."""
    columns = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    positions = columns.expand_as(batch.tokens).masked_fill(~batch.action_mask, neutral)
    start = positions.new_full(batch.step_mask.shape, neutral)
    found = start.scatter_reduce(1, batch.step_id.clamp(min=0), positions, reduce)
    return found.masked_fill(~batch.step_mask, 0)
