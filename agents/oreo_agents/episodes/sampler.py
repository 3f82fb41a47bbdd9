"""Who says what comes next: a policy in this process, or a server that holds the same weights.

Knows: what is asked and what comes back. Does not know: environments, searches, HTTP.
Rollouts, searches and servers ask a ``Sampler`` and never a policy, so that one place decides who generates.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from oreo_agents.episodes.generate import Choices, Sample, Sampling, Stop, generate
from oreo_agents.networks.kv_cache import Prefix
from oreo_agents.networks.policy import CausalPolicy
from oreo_algos.episode import Episode


@dataclass(frozen=True)
class Turn:
    """What is to be continued, and how.

    Attributes:
        prompt: token ids, at least one and fewer than the context holds.
        source: of randomness; None: the likeliest tokens.
        choices: what may be said, see ``make_choices``; None: anything.
        cache: what the policy has read of the prompt; None: nothing is kept.
    """

    prompt: Sequence[int]
    source: np.random.Generator | None = None
    choices: Choices | None = None
    cache: Prefix | None = None


class Stream(Protocol):
    """Turns being said side by side, which come back as they end."""

    def ask(self, key: int, turn: Turn) -> None:
        """Have a turn said; ``key`` tells it from the others that are on their way."""
        ...

    def answers(self) -> list[tuple[int, Sample]]:
        """Wait until turns have ended, and return those with their keys; none was asked: none."""
        ...

    def close(self) -> None:
        """Give up what is still on its way."""
        ...


class Sampler(Protocol):
    """Continues token sequences by the weights of one policy.

    Attributes:
        max_length: longest transcript, tokens.
        waits: turns that are asked at once come back at once, so that one that is asked later waits for all of them.
    """

    waits: bool

    @property
    def max_length(self) -> int:
        """See above."""
        ...

    def width(self, sampling: Sampling) -> int:
        """Return how many rows to have on their way."""
        ...

    def stream(self, end_ids: Collection[int], sampling: Sampling) -> Stream:
        """Begin to say turns."""
        ...

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
        """Continue each prompt, see ``generate.generate``."""
        ...

    def audit(self, episodes: Sequence[Episode], where: str) -> None:
        """Hold a sample of what was drawn without choices against the policy itself.

        Raises:
            ValueError: another policy, or another temperature, drew it; ``where`` names the episodes.
        """
        ...


class LocalSampler:
    """A policy in this process: rows of a batch go token by token, side by side."""

    waits = True

    def __init__(self, policy: CausalPolicy) -> None:
        """Take the policy."""
        self.policy = policy

    @property
    def max_length(self) -> int:
        """Of the policy's context, tokens."""
        return self.policy.max_length

    def width(self, sampling: Sampling) -> int:
        """A batch."""
        return sampling.batch_size

    def stream(self, end_ids: Collection[int], sampling: Sampling) -> "LocalStream":
        """See ``Sampler``."""
        return LocalStream(self, end_ids, sampling)

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
        """See ``generate.generate``."""
        return generate(
            self.policy,
            prompts,
            end_ids,
            sampling,
            sources=sources,
            choices=choices,
            stops=stops,
            spoken=spoken,
            caches=caches,
        )

    def audit(self, episodes: Sequence[Episode], where: str) -> None:
        """Find nothing: the policy itself drew them."""


@dataclass
class LocalStream:
    """Turns that are said in one batch when their answers are waited for."""

    sampler: LocalSampler
    end_ids: Collection[int]
    sampling: Sampling
    asked: dict[int, Turn] = field(default_factory=dict)

    def ask(self, key: int, turn: Turn) -> None:
        """See ``Stream``."""
        self.asked[key] = turn

    def answers(self) -> list[tuple[int, Sample]]:
        """Say all that was asked."""
        asked, self.asked = self.asked, {}
        if not asked:
            return []
        turns = list(asked.values())
        choices = [turn.choices for turn in turns if turn.choices is not None]
        caches = [turn.cache for turn in turns if turn.cache is not None]
        samples = self.sampler.generate(
            [turn.prompt for turn in turns],
            self.end_ids,
            self.sampling,
            sources=[turn.source for turn in turns],
            choices=choices or None,
            caches=caches or None,
        )
        return list(zip(asked, samples, strict=True))

    def close(self) -> None:
        """See ``Stream``."""
        self.asked = {}
