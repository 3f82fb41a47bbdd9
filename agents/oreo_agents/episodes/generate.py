"""Batched sampling from a causal language model with a key-value cache.

Knows: tokens and caches. Does not know: text, environments.

Equal prompts that are begun together are read once, and so is what a kept cache holds of a prompt; rows that are
finished leave the batch, the last rows take their places, so that little is copied, and other prompts are read as soon
as there is room for a few. Each row draws from a source of its own.
"""

# B rows still being generated, V vocabulary

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from oreo_agents.networks.checkpoints import cast_once
from oreo_agents.networks.kv_cache import Prefix, Room, pad_left
from oreo_agents.networks.packed_weights import packed
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.readers import Reader
from oreo_algos.typed import require_finite, require_types

# So many times are prompts read until a whole batch has been replaced.
_REFILL = 8
# So many steps of a row that has ended cost less than to have another row change places with it.
_MOVE = 16
# So many logits are drawn from at once on a CPU: what is computed of more does not stay in its cache.
_IN_CACHE = 1 << 19
# So many tokens may follow at least where weights are laid out for some rows at once.
_MANY_TOKENS = 32

Choices: TypeAlias = dict[int, "Choices"]
"""Continuations that are allowed, as a tree: each token that may come next, and what may follow it."""

Stop: TypeAlias = Callable[[Sequence[int]], int | None]
"""Asked after each new token: how many of the new tokens to keep when it is time to stop, else None."""


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
        require_types(self)
        require_finite(self)
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
        log_policy: the same at temperature 1, whatever it was drawn at; None: the sampler does not tell.
        ended: the model ended its turn.
        stopped: the row's ``Stop`` said so before a limit was reached; neither: a limit cut it off.
        dropped: tokens that were drawn and not kept, because the ``Stop`` took them back.
        cache: what the policy has read of the prompt and these tokens, never the last of them; nothing unless
            ``generate`` is to keep it.
    """

    tokens: list[int]
    logprobs: list[float]
    ended: bool = False
    stopped: bool = False
    dropped: int = 0
    cache: Prefix = field(default_factory=Prefix)
    log_policy: list[float] | None = None

    def stop_at(self, length: int) -> None:
        """Keep so many tokens; the turn goes on another time."""
        self.stopped, self.dropped = True, len(self.tokens) - length
        del self.tokens[length:], self.logprobs[length:]
        if self.log_policy is not None:
            del self.log_policy[length:]


@dataclass
class _Row:
    """What is being generated, and how."""

    prompt: Sequence[int]
    sample: Sample
    budget: int
    choices: Choices | None = None
    source: np.random.Generator | None = None
    stop: Stop | None = None
    cache: Prefix = field(default_factory=Prefix)
    over: bool = False

    def append(self, token: int, logs: Sequence[float], end_ids: Collection[int]) -> bool:
        """Add a token with its log-probability as drawn and at temperature 1; returns whether the row goes on."""
        sample = self.sample
        assert sample.log_policy is not None
        sample.tokens.append(token)
        sample.logprobs.append(logs[0])
        sample.log_policy.append(logs[1])
        sample.ended = token in end_ids
        if sample.ended:
            return False
        length = None if self.stop is None else self.stop(sample.tokens)
        if length is not None and length < self.budget:
            sample.stop_at(length)
        if self.choices is not None:
            self.choices = self.choices[token]
        return not sample.stopped and len(sample.tokens) < self.budget


def generate(
    policy: CausalPolicy,
    prompts: Sequence[Sequence[int]],
    end_ids: Collection[int],
    sampling: Sampling,
    *,
    choices: Sequence[Choices] | None = None,
    sources: Sequence[np.random.Generator | None] | None = None,
    stops: Sequence[Stop] | None = None,
    spoken: Sequence[int] | None = None,
    caches: Sequence[Prefix] | None = None,
) -> list[Sample]:
    """Continue each prompt until an end token, a stop or a limit.

    Args:
        policy: to sample from.
        prompts: token ids, none empty, each shorter than the policy's context.
        end_ids: tokens that end a turn.
        sampling: how.
        choices: what may be said after each prompt, see ``make_choices``; None: anything.
        sources: randomness of each row, see ``sources.row_source``, None where the likeliest tokens are wanted; not
            needed at temperature 0. A row draws the same numbers whatever rows are beside it.
        stops: where else to stop, for each row.
        spoken: tokens at the end of each prompt that belong to the same turn and count against ``max_new_tokens``.
        caches: what the policy has read of each prompt, from the samples of earlier calls; each sample then says what
            it has read of it. None: neither used nor kept. A policy that cannot go on from a cache, see
            ``can_resume``, uses and keeps none and reads whole prompts.

    Returns:
        One sample a prompt, in their order.

    Raises:
        ValueError: a prompt is empty or fills the context, or tokens are to be drawn without sources.
    """
    for length in map(len, prompts):
        if not 0 < length < policy.max_length:
            raise ValueError(f"a prompt of {length} tokens cannot be continued in a context of {policy.max_length}")
    if prompts and sampling.temperature > 0 and sources is None:
        raise ValueError(f"temperature {sampling.temperature} draws tokens: give the source of each row")
    keep_caches = caches is not None and policy.resumes
    rows = [
        _Row(
            prompt if isinstance(prompt, list) else list(prompt),
            Sample([], [], log_policy=[]),
            # What the turn may still hold, and the context.
            min(sampling.max_new_tokens - (spoken[i] if spoken else 0), policy.max_length - len(prompt)),
            choices[i] if choices else None,
            sources[i] if sources else None,
            stops[i] if stops else None,
            caches[i].before(len(prompt)) if caches and keep_caches else Prefix(),
        )
        for i, prompt in enumerate(prompts)
    ]
    # Prompts of similar length share a batch, so that little padding is computed.
    waiting = deque(sorted(rows, key=lambda row: len(row.prompt)))
    many = len(prompts) > 1 and sampling.max_new_tokens >= _MANY_TOKENS
    with cast_once(policy), packed(policy) if many else nullcontext():
        _Batch(policy, end_ids, sampling, keep_caches=keep_caches).run(waiting)
    return [row.sample for row in rows]


def make_choices(continuations: Iterable[Sequence[int]]) -> Choices:
    """Return the tree of these continuations; each ends with an end token."""
    tree: Choices = {}
    for tokens in continuations:
        node = tree
        for token in tokens:
            node = node.setdefault(token, {})
    return tree


class _Batch:
    """Rows that go on token by token, side by side: those that are finished leave, and others take their places."""

    def __init__(
        self, policy: CausalPolicy, end_ids: Collection[int], sampling: Sampling, *, keep_caches: bool
    ) -> None:
        """Begin without rows."""
        self.rows: list[_Row] = []
        self._room: Room | None = None
        self._idle = 0
        self._reader: Reader
        self._chosen: Tensor
        self._policy, self._end_ids, self._sampling, self._keep_caches = policy, end_ids, sampling, keep_caches
        self._device = next(policy.parameters()).device
        # Several prompts share a forward pass. Rows of other readers are read in batches, each of which ends first.
        self._refill = max(sampling.batch_size // _REFILL, 1) if policy.resumes else sampling.batch_size

    def run(self, waiting: deque[_Row]) -> None:
        """Fill the samples of all rows."""
        while waiting or self.rows:
            free = self._sampling.batch_size - len(self.rows)
            if waiting and (not self.rows or free >= self._refill):
                self._begin([waiting.popleft() for _ in range(min(free, len(waiting)))])
            else:
                present = torch.ones_like(self._chosen[:, None])
                if any(row.over for row in self.rows):
                    present = torch.tensor([[int(not row.over)] for row in self.rows], device=self._device)
                logits = self._reader.read(self._chosen[:, None], present)
                self.rows, self._chosen = self._advance(self.rows, self._reader, logits)

    def _begin(self, rows: list[_Row]) -> None:
        """Read the prompts of rows, each distinct one once, by the first row that has it, and draw their first tokens.

        They go on with the rows that are here.
        """
        firsts, which = _distinct(rows)
        # Where nobody goes on in it, rows take the places again that they had in the turn before.
        room = None if self.rows else next((row.cache.room for row in rows if row.cache.room is not None), None)
        self._room = room
        if room is not None:
            order = room.order([row.cache for row in firsts])
            firsts, which = [firsts[i] for i in order], [order.index(place) for place in which]
        rows = [row for _, row in sorted(zip(which, rows, strict=True), key=lambda pair: pair[0])]
        which.sort()
        prefixes = [row.cache for row in firsts]
        unread = [row.prompt[len(row.cache) :] for row in firsts]
        reader = self._policy.reader(prefixes, room)
        tokens, present = pad_left(unread, self._device)
        logits = reader.read(tokens, present)
        if self._keep_caches:
            read = reader.newest(range(len(unread)), tokens.shape[1])
            prefixes = [p.then(r[-len(new) :].clone()) for p, r, new in zip(prefixes, read, unread, strict=True)]
            for row, place in zip(rows, which, strict=True):
                row.cache = prefixes[place]
        if len(firsts) < len(rows):
            reader.select(which)
            logits = logits[which]
        rows, chosen = self._advance(rows, reader, logits)
        if rows and self.rows:
            self._reader.join(reader)
            self._chosen = torch.cat([self._chosen, chosen])
        elif rows:
            self._reader, self._chosen = reader, chosen
        self.rows = [*self.rows, *rows]

    def _advance(self, rows: list[_Row], reader: Reader, logits: Tensor) -> tuple[list[_Row], Tensor]:
        """Draw a token of each row; return the rows that go on, with these tokens, as the reader has them then.

        In a room some that have ended stay among them for a while, so that few have to move.
        """
        going = [i for i, row in enumerate(rows) if not row.over]
        drawing = [rows[i] for i in going]
        logits = logits[going] if len(going) < len(rows) else logits
        constrained = [row.choices for row in drawing if row.choices is not None]
        if constrained:
            logits = logits + _forbid_all_but(constrained, logits.shape[1]).to(self._device)
        temperature = self._sampling.temperature
        drawn, logprobs = draw(logits, temperature, [row.source for row in drawing])
        at_one = _at_one(logits, temperature, drawn, logprobs)
        for row, token, *logs in zip(drawing, drawn.tolist(), logprobs.tolist(), at_one.tolist(), strict=True):
            row.over = not row.append(token, logs, self._end_ids)
        chosen = drawn
        if len(going) < len(rows):
            chosen = drawn.new_zeros(len(rows))
            chosen[going] = drawn
        if self._keep_caches:
            _keep_caches({i: rows[i] for i in going if rows[i].over}, reader)
        gone = [i for i, row in enumerate(rows) if row.over]
        self._idle += len(gone)
        left = len(rows) - len(gone)
        moving = sum(not row.over for row in rows[left:])
        if not gone or (self._room is not None and left and self._idle < _MOVE * moving):
            return rows, chosen
        self._idle = 0
        order = _close_ranks(len(rows), gone)
        if order:
            reader.select(order)
        return [rows[i] for i in order], chosen[order]


def _distinct(rows: Sequence[_Row]) -> tuple[list[_Row], list[int]]:
    """Return the first row of each prompt, and for each row which of these has its prompt."""
    firsts: list[_Row] = []
    which: list[int] = []
    alike: dict[tuple[int, ...], list[int]] = {}
    for row in rows:
        # Long transcripts are not hashed: others of this length with this end differ early as a rule.
        places = alike.setdefault((len(row.prompt), *row.prompt[-4:]), [])
        for place in places:
            if firsts[place].prompt is row.prompt or firsts[place].prompt == row.prompt:
                break
        else:
            place = len(firsts)
            firsts.append(row)
            places.append(place)
        which.append(place)
    return firsts, which


def _at_one(logits: Tensor, temperature: float, chosen: Tensor, logprobs: Tensor) -> Tensor:
    """Return the log-probabilities of chosen tokens at temperature 1, nats, [B]."""
    if temperature in (0, 1):
        return logprobs
    return logits.gather(-1, chosen[:, None]).squeeze(-1) - logits.logsumexp(dim=-1)


def _keep_caches(finished: Mapping[int, _Row], reader: Reader) -> None:
    """Note on finished samples what has been read of them: each token but the last, none that was taken back."""
    lengths = {place: len(row.sample.tokens) + row.sample.dropped - 1 for place, row in finished.items()}
    for length in set(lengths.values()):
        places = [place for place, own in lengths.items() if own == length]
        for place, read in zip(places, reader.newest(places, length), strict=True):
            row = finished[place]
            row.sample.cache = row.cache.then(read[: max(len(row.sample.tokens) - 1, 0)].clone())


def _close_ranks(count: int, gone: Sequence[int]) -> list[int]:
    """Say which of ``count`` rows stand where once some are gone: the last ones fill the gaps."""
    order = list(range(count - len(gone)))
    gaps = [row for row in gone if row < len(order)]
    for gap, row in zip(gaps, sorted(set(range(len(order), count)) - set(gone)), strict=True):
        order[gap] = row
    return order


def _forbid_all_but(choices: Sequence[Choices], vocabulary: int) -> Tensor:
    """Return what to add to logits: 0 for tokens that may come next, else minus infinity, [B, V]."""
    added = torch.full((len(choices), vocabulary), -torch.inf)
    for row, node in enumerate(choices):
        added[row, list(node)] = 0.0
    return added


def draw(
    logits: Tensor, temperature: float, sources: Sequence[np.random.Generator | None] | None = None
) -> tuple[Tensor, Tensor]:
    """Choose one token a row of logits [B, V], by one number of the row's source.

    Args:
        logits: of every token that may come next.
        temperature: divides them; 0: the likeliest tokens.
        sources: one a row, None for the likeliest token, as if at 0; None: no row has one.

    Returns:
        Tokens int64 [B] and their log-probabilities [B], nats.
    """
    sources = sources if temperature and sources else [None] * len(logits)
    rows = max(_IN_CACHE // logits.shape[1], 1) if logits.device.type == "cpu" else len(logits)
    if len(logits) > rows:
        starts = range(0, len(logits), rows)
        parts = [draw(logits[k : k + rows], temperature, sources[k : k + rows]) for k in starts]
        return torch.cat([tokens for tokens, _ in parts]), torch.cat([logprobs for _, logprobs in parts])
    greedy = [source is None for source in sources]
    if any(greedy):
        best, likeliest = logits.max(dim=-1)
        best = best - logits.logsumexp(dim=-1)
        if all(greedy):
            return likeliest, best
    numbers = [0.0 if source is None else source.random() for source in sources]
    uniform = torch.tensor(numbers, dtype=torch.float64, device=logits.device)[:, None]
    logprobs = (logits / temperature).log_softmax(dim=-1)
    # The first token whose cumulative probability exceeds the number; none of probability 0 does.
    total = logprobs.exp().cumsum(dim=-1, dtype=torch.float64)
    drawn = torch.searchsorted(total, uniform * total[:, -1:], right=True).clamp(max=logits.shape[1] - 1)
    chosen, said = drawn.squeeze(-1), logprobs.gather(-1, drawn).squeeze(-1)
    if any(greedy):
        where = torch.tensor(greedy, device=logits.device)
        return torch.where(where, likeliest, chosen), torch.where(where, best, said)
    return chosen, said
