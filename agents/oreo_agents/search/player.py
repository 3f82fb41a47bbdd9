"""What searches work with: a policy, perhaps its value, and the tasks to answer.

Knows: rollouts, records, batches. Does not know: a particular search, whether an answer is right.
Nothing else in this folder runs a network: ``continue_turns`` and ``judge`` read of a record only what the network has
not read yet, and remember what it has.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import gymnasium as gym
import numpy as np

from oreo_agents.episodes.generate import Sample, Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.record import Record
from oreo_agents.episodes.rollout import RolloutCounts, rollout
from oreo_agents.episodes.sampler import LocalSampler, Sampler
from oreo_agents.episodes.sources import row_source
from oreo_agents.episodes.turn_tokens import StepEnd
from oreo_agents.networks.kv_cache import Prefix, Room
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import StateValue, readings
from oreo_agents.search.log_policy import log_policy_of, log_policy_of_samples
from oreo_algos.episode import Episode


@dataclass(frozen=True)
class Judgement:
    """What the value network says of a state.

    Attributes:
        value: V, reward units.
        read: tokens that it read for that; what several states share counts for the first of them.
        cache: what it has read of the state's transcript.
    """

    value: float
    read: int
    cache: Prefix


@dataclass
class _Opening:
    """What the samples of a task have in common."""

    tokens: list[int]
    value_cache: Prefix = field(default_factory=Prefix)

    @classmethod
    def of(cls, episode: Episode) -> "_Opening":
        """Return the tokens before the first action."""
        return cls(episode.tokens[: int((episode.step_id >= 0).argmax())].tolist())


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
        value: StateValue | None = None,
        sampler: Sampler | None = None,
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
            sampler: draws from the policy; None: this process does.
            counts: filled with what went wrong.
            progress: called with the number of tasks just answered; one of which a part of the samples is drawn
                counts in part.
        """
        self.make_env, self.policy, self.prompt_format = make_env, policy, prompt_format
        self.sampler: Sampler = LocalSampler(policy) if sampler is None else sampler
        self.indices, self.sampling, self.seed, self.value = indices, sampling, seed, value
        self.counts = RolloutCounts() if counts is None else counts
        self.progress = progress
        self._samples: dict[tuple[int, float, bool], list[list[Episode]]] = {}
        self._final_values: dict[tuple[int, float, bool], list[list[Judgement]]] = {}
        self._final_answers: dict[tuple[int, float, bool], list[list[str | None]]] = {}
        self._final_log_policy: dict[tuple[int, float, bool], list[list[float]]] = {}

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
            sampler=self.sampler,
            counts=self.counts,
            progress=lambda done: self.progress(done / count),
        ):
            drawn[slot] = episode
        blocks = [drawn[start : start + count] for start in range(0, len(drawn), count)]
        self._samples[key] = [[episode for episode in block if episode is not None] for block in blocks]
        if not constrained:
            self.sampler.audit([episode for block in self._samples[key] for episode in block], "a set of answers")
        return self._samples[key]

    def final_values(self, count: int, temperature: float, constrained: bool = False) -> list[list[Judgement]]:
        """Judge each of those episodes just before its last action token.

        The opening that the samples of a task share is read once.
        """
        key = (count, temperature, constrained)
        if key not in self._final_values:
            if key not in self._samples:
                self.samples(*key)
            drawn = self._samples[key]
            tasks = max(self.sampling.batch_size // count, 1)
            blocks = [drawn[start : start + tasks] for start in range(0, len(drawn), tasks)]
            self._final_values[key] = [judged for block in blocks for judged in self._judge_finals(block)]
        return self._final_values[key]

    def final_answers(self, count: int, temperature: float, constrained: bool = False) -> list[list[str | None]]:
        """Return the final answer of each of those episodes, equal for equal ones as the environment says."""
        key = (count, temperature, constrained)
        if key not in self._final_answers:
            if key not in self._samples:
                self.samples(*key)
            self._final_answers[key] = [
                [self.final_answer(episode) for episode in episodes] for episodes in self._samples[key]
            ]
        return self._final_answers[key]

    def final_log_policy(self, count: int, temperature: float, constrained: bool = False) -> list[list[float]]:
        """Return log pi of each of those episodes at temperature 1, see ``log_policy_of``."""
        key = (count, temperature, constrained)
        if key not in self._final_log_policy:
            if key not in self._samples:
                self.samples(*key)
            drawn = self._samples[key]
            flat = [episode for episodes in drawn for episode in episodes]
            read = iter(log_policy_of(self.policy, flat, freely=not constrained))
            self._final_log_policy[key] = [[next(read) for _ in episodes] for episodes in drawn]
        return self._final_log_policy[key]

    def final_answer(self, episode: Episode) -> str | None:
        """Return the final answer of an episode in the form that equal ones share; None: it has none."""
        answer = episode.info.get("answer")
        return None if answer is None else self._form(str(answer))

    @cached_property
    def _form(self) -> Callable[[str], str]:
        env = self.make_env()
        env.close()
        return env.unwrapped.canonical  # type: ignore[attr-defined]

    def _judge_finals(self, drawn: Sequence[Sequence[Episode]]) -> list[list[Judgement]]:
        """Judge the samples of a few tasks, which are read side by side."""
        openings = [_Opening.of(episodes[0]) if episodes else _Opening([]) for episodes in drawn]
        pairs = [(opening, episode) for opening, episodes in zip(openings, drawn, strict=True) for episode in episodes]
        judged = iter(
            self.judge(
                [opening for opening, _ in pairs],
                [final_state(episode)[len(opening.tokens) :] for opening, episode in pairs],
            )
        )
        # These episodes are over: nothing goes on from what was read.
        return [[replace(next(judged), cache=Prefix()) for _ in episodes] for episodes in drawn]

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
                begun = [record for record in records if len(record.tokens) < self.sampler.max_length]
                room = Room()
                for record in begun:
                    record.policy_cache = Prefix(room=room)
                self.counts.prompts_too_long += len(records) - len(begun)
                self.progress(len(records) - len(begun))
                yield begun
        finally:
            for env in pool:
                env.close()

    def end(self, record: Record, temperature: float) -> Episode:
        """Freeze the record that answers its task, and release what was read of it."""
        record.forget()
        self.counts.cut_off += record.truncated
        self.progress(1)
        return self.episode(record, temperature)

    def episode(self, record: Record, temperature: float) -> Episode:
        """Freeze a record that is over, also one that does not answer its task."""
        return record.episode({"seed": self.seed, "temperature": temperature})

    def source(self, record: Record, *place: int) -> np.random.Generator:
        """Return the randomness of one place in the search for an answer: the same whatever else is searched."""
        return self.source_at(record.slot, *place)

    def source_at(self, slot: int, *place: int) -> np.random.Generator:
        """Return the same for the task at a place of ``indices``."""
        return row_source(self.seed, self.indices[slot], *place)

    def continue_turns(
        self,
        records: Sequence[Record],
        temperature: float,
        sources: Sequence[np.random.Generator | None],
        *,
        one_step: bool,
        least: int = 1,
        most: int | None = None,
    ) -> list[Sample]:
        """Say how the turn of each record may go on, without changing the record.

        Args:
            records: the same one may occur several times.
            temperature: > 0.
            sources: of randomness, one a record; None: the likeliest tokens.
            one_step: up to the end of a step; else to the end of the turn.
            least: tokens of whole steps that are taken as one.
            most: tokens of each; None: what is left of the turn's.
        """
        spoken, limit = [record.spoken for record in records], self.sampling.max_new_tokens
        stops = None
        if one_step:
            stops = [StepEnd(self.prompt_format, record.delimiters, record.spoken > 0, least) for record in records]
        return self.sampler.generate(
            [record.tokens for record in records],
            self.prompt_format.end_ids,
            replace(self.sampling, temperature=temperature),
            sources=sources,
            stops=stops,
            spoken=spoken if most is None else [max(count, limit - most) for count in spoken],
            caches=[record.policy_cache for record in records],
        )

    def left(self, record: Record) -> int:
        """Return how many tokens the present turn of a record may still hold, 0 or less: none."""
        return min(self.sampling.max_new_tokens - record.spoken, self.sampler.max_length - len(record.tokens))

    def log_policy(self, records: Sequence[Record], samples: Sequence[Sample]) -> list[float]:
        """Return log pi of samples with which the turns of records may go on, at temperature 1, nats."""
        return log_policy_of_samples(self.policy, [record.tokens for record in records], samples)

    def judge(self, records: Sequence[Record | _Opening], continuations: Sequence[Sequence[int]]) -> list[Judgement]:
        """Return V of the state after some more tokens of each record, without adding them to it.

        What the network has not read of a record itself is read first, once, and noted there.

        Args:
            records: the same one may occur several times.
            continuations: of each, may be empty.

        Raises:
            ValueError: there is no value network.
        """
        if self.value is None:
            raise ValueError("this search reads V, and the player has no value network")
        with readings(self.value):
            distinct = {id(record): record for record in records} if self.value.resumes else {}
            behind = [record for record in distinct.values() if len(record.value_cache) < len(record.tokens)]
            read: Counter[int] = Counter()
            caught_up = self._read(self.value, [r.tokens for r in behind], [r.value_cache for r in behind])
            for record, judgement in zip(behind, caught_up, strict=True):
                record.value_cache, read[id(record)] = judgement.cache, judgement.read
            judged = self._read(
                self.value,
                [[*record.tokens, *more] for record, more in zip(records, continuations, strict=True)],
                [record.value_cache for record in records],
            )
        return [
            replace(judgement, read=judgement.read + read.pop(id(record), 0))
            for record, judgement in zip(records, judged, strict=True)
        ]

    def _read(
        self, value: StateValue, transcripts: Sequence[Sequence[int]], prefixes: Sequence[Prefix]
    ) -> list[Judgement]:
        """Judge the state after each of these token sequences, of which ``prefixes`` have been read."""
        # Transcripts of similar length share a batch.
        order = sorted(range(len(transcripts)), key=lambda i: len(transcripts[i]))
        found: dict[int, Judgement] = {}
        for start in range(0, len(order), self.sampling.batch_size):
            rows = order[start : start + self.sampling.batch_size]
            values, caches = value.values_after([transcripts[i] for i in rows], [prefixes[i] for i in rows])
            for i, v, cache in zip(rows, values.tolist(), caches, strict=True):
                # The last token is always read: V is said of it.
                unread = max(len(transcripts[i]) - len(prefixes[i]), 1)
                found[i] = Judgement(v, unread, cache)
        return [found[i] for i in range(len(transcripts))]


def final_state(episode: Episode) -> list[int]:
    """Return the tokens before the last action token, which is the end token: V after it is 0 by definition."""
    tokens: list[int] = episode.tokens[: np.flatnonzero(episode.step_id >= 0)[-1]].tolist()
    return tokens
