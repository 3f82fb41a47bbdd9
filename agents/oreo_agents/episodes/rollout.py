"""Environment x policy to episodes, many side by side.

Knows: both worlds. Does not know: a particular environment, a search, a loss.
"""

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.record import Record
from oreo_agents.episodes.sampler import LocalSampler, Sampler, Turn
from oreo_agents.episodes.sources import row_source, sample_numbers
from oreo_agents.episodes.ungraded import WHY
from oreo_agents.networks.kv_cache import Prefix, Room
from oreo_agents.networks.packed_weights import hold_packed
from oreo_agents.networks.policy import CausalPolicy
from oreo_algos.episode import Episode

_log = logging.getLogger(__name__)

# Batches of answers of one turn that are asked of a sampler together.
_BATCHES_AT_ONCE = 16


@dataclass
class RolloutCounts:
    """What happened beside the episodes: nothing is lost in silence.

    Attributes:
        prompts_too_long: rollouts not begun because the opening fills the policy's context.
        cut_off: rollouts ended by a limit on tokens, text or steps, or by the context.
        not_graded: answers without a verdict, see ``ungraded``; they are left out of results.
    """

    prompts_too_long: int = 0
    cut_off: int = 0
    not_graded: int = 0

    def report(self, where: str) -> None:
        """Log what is not 0."""
        if self.prompts_too_long:
            _log.warning(
                "%s: %d rollouts skipped, their prompt fills the policy's context",
                where,
                self.prompts_too_long,
            )
        if self.cut_off:
            _log.warning("%s: %d rollouts were cut off by a limit", where, self.cut_off)
        if self.not_graded:
            _log.warning("%s: %d answers were not graded and are left out: %s", where, self.not_graded, WHY)


def rollout(
    make_env: Callable[[], gym.Env[str, str]],
    policy: CausalPolicy,
    prompt_format: PromptFormat,
    indices: Sequence[int],
    sampling: Sampling,
    *,
    seed: int,
    samples: Sequence[int] | None = None,
    sampler: Sampler | None = None,
    constrained: bool = False,
    info: dict[str, Any] | None = None,
    counts: RolloutCounts | None = None,
    progress: Callable[[int], None] = lambda done: None,
    starts: Iterable[int] = (),
    skipped: Callable[[int], None] = lambda slot: None,
) -> Iterator[tuple[int, Episode]]:
    """Run one episode for each entry of ``indices`` and yield (position in ``indices``, episode), in any order.

    Args:
        make_env: makes one environment; a pool of as many as there are rows on their way plays side by side.
        policy: acts.
        prompt_format: of the policy's tokenizer.
        indices: task indices, as for ``env.reset(options={"index": ...})``; one may occur several times.
        sampling: how tokens are drawn.
        seed: of the sampling: each row draws from ``row_source(seed, index, sample)``.
        samples: which sample of its task each row is; None: as often as its index has occurred before.
        sampler: draws from the policy; None: this process does. Where turns come back one by one, each episode goes on,
            and the next begins, without waiting for the others.
        constrained: only actions that the environment admits can be said: every token that leads to none of them is
            masked, at each position.
        info: JSON scalars to add to the info of every episode, e.g. which policy acted.
        counts: filled with what went wrong.
        progress: called with the number of episodes just finished.
        starts: positions that begin a batch, where there are batches: what is drawn side by side is then the same
            wherever the rows before it are drawn.
        skipped: called with the position of a row that is not begun, because its opening fills the context.

    Raises:
        ValueError: ``constrained`` in an environment that does not say what it admits.
    """
    counts = counts if counts is not None else RolloutCounts()
    samples = sample_numbers(indices) if samples is None else samples
    sampler = LocalSampler(policy) if sampler is None else sampler
    pool = [make_env() for _ in indices[:1]]
    stream = sampler.stream(prompt_format.end_ids, sampling)
    extra = {"seed": seed, "temperature": sampling.temperature, **(info or {})}
    held = ExitStack()
    try:
        held.enter_context(hold_packed(policy))
        # An answer is one turn: nothing of it is read a second time.
        in_turns = bool(pool) and not pool[0].unwrapped.step_delimiters  # type: ignore[attr-defined]
        # Where all come back at once, others take the places of those that end only among what was asked at once.
        width = sampler.width(sampling) * (1 if in_turns or not sampler.waits else _BATCHES_AT_ONCE)
        pool += [make_env() for _ in range(1, min(width, len(indices)))]
        if in_turns:
            prompt_format.require_turns()
        if constrained and pool and not hasattr(pool[0].unwrapped, "action_text"):
            raise ValueError("constrained: this environment admits any text; use a search that does not constrain")

        def ask(record: Record) -> None:
            choices = record.choices(prompt_format) if constrained else None
            stream.ask(
                record.slot,
                Turn(record.tokens, sources.get(record.slot), choices, record.policy_cache if in_turns else None),
            )

        free, next_slot, room = [*pool], 0, Room()
        ends = sorted({*(starts if sampler.waits else ()), len(indices)})
        running: dict[int, Record] = {}
        sources: dict[int, np.random.Generator] = {}
        over: list[tuple[int, Episode]] = []
        while True:
            # Where all turns come back at once, an episode that began now would wait for the longest of the others.
            end = ends[bisect_right(ends, next_slot)] if next_slot < len(indices) else next_slot
            begun = range(next_slot, next_slot if running and sampler.waits else min(next_slot + len(free), end))
            next_slot = begun.stop
            for slot in begun:
                record = Record.begin(free[-1], slot, indices[slot], prompt_format)
                if len(record.tokens) >= sampler.max_length:
                    counts.prompts_too_long += 1
                    progress(1)
                    skipped(slot)
                    continue
                free.pop()
                running[slot] = record
                if sampling.temperature:
                    sources[slot] = row_source(seed, indices[slot], samples[slot])
                if in_turns:
                    record.policy_cache = Prefix(room=room)
                ask(record)
            for found in over:
                progress(1)
                yield found
            if not begun and not running:
                return
            over = []
            for slot, sample in stream.answers():
                record = running[slot]
                record.advance(sample, prompt_format, sampler.max_length)
                if record.over:
                    counts.cut_off += record.truncated
                    over.append((slot, record.episode(extra)))
                    free.append(running.pop(slot).env)
                else:
                    ask(record)
    finally:
        held.close()
        stream.close()
        for env in pool:
            env.close()
