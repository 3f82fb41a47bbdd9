"""What searches work with: a policy, perhaps its value, and the tasks to answer.

Knows: rollouts, records, batches. Does not know: a particular search, whether an answer is right.
Nothing else in this folder runs a network: ``continue_turns`` and ``values_after`` read the tokens of a record anew
each time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import gymnasium as gym
import numpy as np
import torch

from oreo_agents.generate import Sample, Sampling, generate
from oreo_agents.networks import autocast
from oreo_agents.policy import CausalPolicy
from oreo_agents.prompts import PromptFormat
from oreo_agents.record import Record
from oreo_agents.rollout import RolloutCounts, rollout
from oreo_agents.value import TokenValue
from oreo_algos.batch import Batch
from oreo_algos.episode import Episode


class Player:
    """A policy at a list of tasks; samples that several searches ask for are drawn and scored once."""

    def __init__(
        self,
        make_env: Callable[[], gym.Env[str, str]],
        policy: CausalPolicy,
        prompt_format: PromptFormat,
        indices: Sequence[int],
        sampling: Sampling,
        *,
        seed: int,
        value: TokenValue | None = None,
        counts: RolloutCounts | None = None,
        progress: Callable[[float], None] = lambda done: None,
    ) -> None:
        """Draw nothing yet.

        Args:
            make_env: makes one environment of the split.
            policy: acts.
            prompt_format: of the policy's tokenizer.
            indices: the tasks.
            sampling: limits; the temperature is that of each search.
            seed: of the sampling.
            value: for the searches that need one.
            counts: filled with what went wrong.
            progress: called with the number of tasks just answered; one of which a part of the samples is drawn
                counts in part.
        """
        self.make_env, self.policy, self.prompt_format = make_env, policy, prompt_format
        self.indices, self.sampling, self.seed, self.value = indices, sampling, seed, value
        self.counts = RolloutCounts() if counts is None else counts
        self.progress = progress
        self._samples: dict[tuple[int, float, bool], list[list[Episode]]] = {}
        self._final_values: dict[tuple[int, float, bool], list[np.ndarray]] = {}

    # Whole episodes.

    def samples(self, count: int, temperature: float, constrained: bool = False) -> list[list[Episode]]:
        """Draw ``count`` episodes of each task, see ``rollout``; none of a task whose opening fills the context."""
        key = (count, temperature, constrained)
        if key in self._samples:
            self.progress(len(self.indices))
            return self._samples[key]
        drawn: list[Episode | None] = [None] * (len(self.indices) * count)
        for slot, episode in rollout(
            self.make_env,
            self.policy,
            self.prompt_format,
            [index for index in self.indices for _ in range(count)],
            replace(self.sampling, temperature=temperature),
            seed=self.seed,
            constrained=constrained,
            counts=self.counts,
            progress=lambda done: self.progress(done / count),
        ):
            drawn[slot] = episode
        blocks = [drawn[start : start + count] for start in range(0, len(drawn), count)]
        self._samples[key] = [[episode for episode in block if episode is not None] for block in blocks]
        return self._samples[key]

    def final_values(self, count: int, temperature: float, constrained: bool = False) -> list[np.ndarray]:
        """Return V of each of those episodes just before its last action token, float [N] for each task."""
        key = (count, temperature, constrained)
        if key not in self._final_values:
            if key not in self._samples:
                self.samples(*key)
            drawn = self._samples[key]
            values = self.values_after([final_state(episode) for episodes in drawn for episode in episodes])
            ends = np.cumsum([len(episodes) for episodes in drawn])
            self._final_values[key] = np.split(values, ends[:-1])
        return self._final_values[key]

    # Episodes on their way.

    def begin(self) -> Iterator[list[Record]]:
        """Yield the tasks that can be begun, ``batch_size`` of them at a time; slots count in ``indices``."""
        size = min(self.sampling.batch_size, len(self.indices))
        pool = [self.make_env() for _ in range(size)]
        try:
            for start in range(0, len(self.indices), max(size, 1)):
                slots = range(start, min(start + size, len(self.indices)))
                records = [
                    Record.begin(env, slot, self.indices[slot], self.prompt_format)
                    for env, slot in zip(pool, slots, strict=False)
                ]
                begun = [record for record in records if len(record.tokens) < self.policy.max_length]
                self.counts.prompts_too_long += len(records) - len(begun)
                self.progress(len(records) - len(begun))
                yield begun
        finally:
            for env in pool:
                env.close()

    def end(self, record: Record, temperature: float) -> Episode:
        """Freeze the record that answers its task."""
        self.counts.cut_off += record.truncated
        self.progress(1)
        return record.episode({"seed": self.seed, "temperature": temperature})

    def source(self, record: Record, *place: int) -> np.random.Generator:
        """Return the randomness of one place in the search for an answer: the same whatever else is searched."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, self.indices[record.slot], *place]))

    def continue_turns(
        self,
        records: Sequence[Record],
        temperature: float,
        sources: Sequence[np.random.Generator | None],
        *,
        one_step: bool,
    ) -> list[Sample]:
        """Say how the turn of each record may go on, without changing the record.

        Args:
            records: the same one may occur several times.
            temperature: > 0.
            sources: of randomness, one a record; None: the likeliest tokens.
            one_step: up to the end of a step; else to the end of the turn.
        """
        stops = None
        if one_step:
            stops = [
                partial(self.prompt_format.complete_step, delimiters=record.delimiters, inside=record.spoken > 0)
                for record in records
            ]
        return generate(
            self.policy,
            [record.tokens for record in records],
            self.prompt_format.end_ids,
            replace(self.sampling, temperature=temperature),
            sources=sources,
            stops=stops,
            spoken=[record.spoken for record in records],
        )

    @torch.no_grad()
    def values_after(self, prefixes: Sequence[Sequence[int]]) -> np.ndarray:
        """Return V of the state after each of these token sequences, float [N].

        Raises:
            ValueError: there is no value network.
        """
        if self.value is None:
            raise ValueError("this search reads V, and the player has no value network")
        device = next(self.value.parameters()).device
        # Prefixes of similar length share a batch.
        order = sorted(range(len(prefixes)), key=lambda i: len(prefixes[i]))
        values = np.zeros(len(prefixes))
        for start in range(0, len(order), self.sampling.batch_size):
            rows = order[start : start + self.sampling.batch_size]
            batch = _pad([prefixes[i] for i in rows]).to(device)
            after = batch.attention.sum(dim=1, keepdim=True)
            with autocast(device):
                values[rows] = self.value.token_values(batch).gather(1, after).squeeze(1).cpu().numpy()
        return values


def final_state(episode: Episode) -> list[int]:
    """Return the tokens before the last action token, which is the end token: V after it is 0 by definition."""
    tokens: list[int] = episode.tokens[: np.flatnonzero(episode.step_id >= 0)[-1]].tolist()
    return tokens


def _pad(prefixes: Sequence[Sequence[int]]) -> Batch:
    """Return a batch of tokens in which nothing is an action."""
    lengths = torch.tensor([len(prefix) for prefix in prefixes])
    attention = torch.arange(int(lengths.max())) < lengths[:, None]
    tokens = torch.zeros(attention.shape, dtype=torch.long)
    tokens[attention] = torch.tensor([token for prefix in prefixes for token in prefix])
    nothing = torch.zeros_like(attention)
    return Batch(
        tokens=tokens,
        step_id=tokens.new_full(tokens.shape, -1),
        loss_mask=nothing,
        attention=attention,
        rewards=torch.zeros(len(tokens), 1),
        step_mask=nothing[:, :1],
    )
