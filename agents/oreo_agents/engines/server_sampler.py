"""A policy on a server of vLLM as a sampler: rows come back as they end, and every answer is checked.

Knows: rows and how they stop, requests. Does not know: HTTP, environments, how a server is started.
"""

import logging
import queue
import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oreo_agents.engines.line import Line, ServerError
from oreo_agents.engines.proof import (
    PROBE_TEMPERATURE,
    audit_episodes,
    probe_length,
    probe_prompts,
    require_samples,
)
from oreo_agents.engines.settings import SamplerSettings
from oreo_agents.engines.wire import Asked, choose_model, read_answer
from oreo_agents.episodes.generate import Choices, Sample, Sampling, Stop
from oreo_agents.episodes.sampler import Turn
from oreo_agents.networks.kv_cache import Prefix
from oreo_agents.networks.policy import CausalPolicy
from oreo_algos.episode import Episode

_log = logging.getLogger(__name__)

_COMPLETIONS = "/v1/completions"
# Of rows that no shard holds, one in so many is scored again.
_ONE_IN = 64


@dataclass
class _Row:
    """A turn on its way, in one request or several."""

    turn: Turn
    budget: int
    temperature: float
    end_ids: Collection[int]
    stop: Stop | None
    step_tokens: int
    sample: Sample = field(default_factory=lambda: Sample([], []))
    choices: Choices | None = None
    done: bool = False

    def __post_init__(self) -> None:
        self.choices = self.turn.choices
        self._say_forced()

    def next(self) -> Asked:
        """Return what to ask for."""
        most = self.budget - len(self.sample.tokens)
        if self.choices is not None:
            most = 1
        elif self.stop is not None:
            most = min(most, self.step_tokens)
        source = self.turn.source if self.temperature else None
        return Asked(
            [*self.turn.prompt, *self.sample.tokens],
            most,
            0.0 if source is None else self.temperature,
            None if source is None else int(source.integers(2**63)),
            self.end_ids,
            None if self.choices is None else list(self.choices),
        )

    def take(self, tokens: Sequence[int], logprobs: Sequence[float]) -> None:
        """Add an answer, up to where the row stops."""
        for place, (token, logprob) in enumerate(zip(tokens, logprobs, strict=True)):
            self._append(token, logprob)
            if self.done:
                self.sample.dropped += len(tokens) - place - 1
                return
        self._say_forced()

    def _say_forced(self) -> None:
        """Say what alone may come next: its log-probability among what is allowed is 0."""
        while not self.done and self.choices is not None and len(self.choices) == 1:
            self._append(next(iter(self.choices)), 0.0)

    def _append(self, token: int, logprob: float) -> None:
        sample = self.sample
        sample.tokens.append(token)
        sample.logprobs.append(logprob)
        sample.ended = token in self.end_ids
        if self.choices is not None:
            self.choices = self.choices[token]
        if not sample.ended and self.stop is not None:
            length = self.stop(sample.tokens)
            if length is not None and length < self.budget:
                sample.stop_at(length)
        self.done = sample.ended or sample.stopped or len(sample.tokens) >= self.budget


class ServerSampler:
    """The weights of one policy on a server; see ``Sampler``."""

    waits = False

    def __init__(
        self,
        line: Line,
        policy: CausalPolicy,
        settings: SamplerSettings,
        *,
        version: str,
        special: Sequence[int] = (),
        vocabulary: int | None = None,
    ) -> None:
        """Check that the server computes what the policy does.

        Args:
            line: to the server.
            policy: the same weights in this process, for the checks.
            settings: limits.
            version: tells these weights from all others.
            special: tokens that do not occur in ordinary text; the probe leaves them out.
            vocabulary: ordinary tokens, of the tokenizer; None: all that the policy reads.

        Raises:
            ServerError: it does not, or cannot be used; it says in what.
        """
        self.line, self.policy, self.settings, self.version = line, policy, settings, version
        self.vocabulary = policy.vocabulary
        self.model, self.max_length = "", policy.max_length
        self.largest_difference = 0.0
        """Of all log-probabilities that were held against the policy, nats."""
        self._rows_unaudited = 0
        self._probed = (vocabulary or policy.vocabulary, special)
        self._line_checks()

    def _line_checks(self) -> None:
        self.line.do(self._meet())
        self.line.do(self.prove(self.line.post))
        self.line.on_return = self._prove_again

    async def _meet(self) -> None:
        """Learn the name and the context of the server's model."""
        models = await self.line.get("/v1/models")
        self.model, context = choose_model(models, self.settings.model, self.line.url, "sampler")
        if context is not None and context < self.policy.max_length:
            _log.info("%s: transcripts end after %d tokens, its context", self.line.url, context)
            self.max_length = context

    async def _prove_again(self) -> None:
        await self.prove(self.line.post_once)

    async def prove(self, post: Callable[[str, dict[str, Any]], Awaitable[Any]]) -> None:
        """Draw a few tokens and hold them against the policy; the same prompts each time, which finds stale caches.

        Raises:
            ServerError: the server has other weights, or draws in another way.
        """
        prompts = probe_prompts(*self._probed, self.max_length)
        samples = []
        for seed, prompt in enumerate(prompts):
            asked = Asked(prompt, probe_length(self.max_length), PROBE_TEMPERATURE, seed, ())
            # Every other prompt is read anew: a cache that forgot nothing must not hide what the weights are now.
            salt = self.version if seed % 2 else f"{self.version}-{uuid.uuid4()}"
            reply = await post(_COMPLETIONS, asked.body(self.model, salt))
            samples.append((prompt, *read_answer(reply, asked, self.model, self.vocabulary, self.line.url)))
        self._note(require_samples(self.policy, samples, PROBE_TEMPERATURE, self.settings.tolerance, self.line.url))

    def _note(self, difference: float) -> None:
        self.largest_difference = max(self.largest_difference, difference)

    def width(self, sampling: Sampling) -> int:
        """As many rows as may be on their way."""
        return self.settings.in_flight

    def stream(self, end_ids: Collection[int], sampling: Sampling) -> "ServerStream":
        """See ``Sampler``."""
        return ServerStream(self, end_ids, sampling)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        end_ids: Collection[int],
        sampling: Sampling,
        *,
        sources: Sequence[np.random.Generator | None] | None = None,
        choices: Sequence[Choices] | None = None,
        stops: Sequence[Stop] | None = None,
        spoken: Sequence[int] | None = None,
        caches: Sequence[Prefix] | None = None,
    ) -> list[Sample]:
        """Continue each prompt, see ``generate.generate``; ``caches`` are the server's own business.

        Raises:
            ValueError: a prompt is empty or fills the context, or tokens are to be drawn without sources.
            ServerError: the server cannot be used.
        """
        if prompts and sampling.temperature > 0 and sources is None:
            raise ValueError(f"temperature {sampling.temperature} draws tokens: give the source of each row")
        stream = self.stream(end_ids, sampling)
        try:
            for key, prompt in enumerate(prompts):
                turn = Turn(prompt, sources[key] if sources else None, choices[key] if choices else None)
                stream.ask(key, turn, stop=stops[key] if stops else None, spoken=spoken[key] if spoken else 0)
            found: dict[int, Sample] = {}
            while len(found) < len(prompts):
                found |= dict(stream.answers())
        finally:
            stream.close()
        samples = [found[key] for key in range(len(prompts))]
        for key, sample in enumerate(samples):
            # At other temperatures a server says what it drew from, and nothing else.
            if sampling.temperature in (0, 1) or (sources is not None and sources[key] is None):
                sample.log_policy = list(sample.logprobs)
        if choices is None:
            self._audit_one(prompts, samples, sampling.temperature, sources)
        return samples

    def _audit_one(
        self,
        prompts: Sequence[Sequence[int]],
        samples: Sequence[Sample],
        temperature: float,
        sources: Sequence[np.random.Generator | None] | None,
    ) -> None:
        """Score one of these rows again, now and then."""
        self._rows_unaudited += len(samples)
        if not samples or not self.settings.audit or self._rows_unaudited < _ONE_IN:
            return
        self._rows_unaudited = 0
        row = max(range(len(samples)), key=lambda i: len(samples[i].tokens))
        drawn = temperature if sources is not None and sources[row] is not None else 0.0
        said = (prompts[row], samples[row].tokens, samples[row].logprobs)
        self._note(require_samples(self.policy, [said], drawn, self.settings.tolerance, self.line.url))

    def audit(self, episodes: Sequence[Episode], where: str) -> None:
        """See ``Sampler``."""
        found = audit_episodes(self.policy, episodes, self.settings.audit, self.settings.tolerance, where)
        self._note(found or 0.0)

    async def say(self, asked: Asked) -> tuple[list[int], list[float]]:
        """Return the tokens that the server draws."""
        reply = await self.line.post(_COMPLETIONS, asked.body(self.model, self.version))
        return read_answer(reply, asked, self.model, self.vocabulary, self.line.url)


class ServerStream:
    """Turns on their way to a server and back; see ``Stream``."""

    def __init__(self, sampler: ServerSampler, end_ids: Collection[int], sampling: Sampling) -> None:
        """Nothing is asked yet."""
        self.sampler, self.end_ids, self.sampling = sampler, end_ids, sampling
        self._rows: dict[int, _Row] = {}
        self._futures: dict[int, Future[tuple[list[int], list[float]]]] = {}
        self._back: queue.SimpleQueue[int] = queue.SimpleQueue()

    def ask(self, key: int, turn: Turn, *, stop: Stop | None = None, spoken: int = 0) -> None:
        """Have a turn said.

        Args:
            key: tells it from the others that are on their way.
            turn: what to continue.
            stop: where else to stop.
            spoken: tokens at the end of the prompt that belong to the same turn and count against the limit.

        Raises:
            ValueError: the prompt is empty or fills the context.
        """
        room = self.sampler.max_length - len(turn.prompt)
        if not turn.prompt or room < 1:
            raise ValueError(
                f"a prompt of {len(turn.prompt)} tokens cannot be continued in a context of {self.sampler.max_length}"
            )
        budget = max(min(self.sampling.max_new_tokens - spoken, room), 1)
        steps = self.sampler.settings.step_tokens
        row = _Row(turn, budget, self.sampling.temperature, self.end_ids, stop, steps)
        self._rows[key] = row
        if row.done:
            self._back.put(key)
        else:
            self._send(key)

    def _send(self, key: int) -> None:
        line = self.sampler.line
        future = line.start(self.sampler.say(self._rows[key].next()))
        self._futures[key] = future
        future.add_done_callback(lambda _: self._back.put(key))

    def answers(self) -> list[tuple[int, Sample]]:
        """See ``Stream``.

        Raises:
            ServerError: the server cannot be used.
        """
        found: list[tuple[int, Sample]] = []
        while self._rows and (not found or not self._back.empty()):
            key = self._back.get()
            row = self._rows[key]
            if not row.done:
                row.take(*self._futures.pop(key).result())
            if row.done:
                del self._rows[key]
                found.append((key, row.sample))
            else:
                self._send(key)
        return found

    def close(self) -> None:
        """See ``Stream``."""
        for future in self._futures.values():
            future.cancel()
        self._rows, self._futures = {}, {}


__all__ = ["ServerError", "ServerSampler", "ServerStream"]
