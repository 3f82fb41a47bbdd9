"""Environment x policy to episodes, many side by side.

Knows: both worlds. Does not know: a particular environment, a search, a loss.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from oreo_agents.episodes.generate import Sampling, generate
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.record import Record
from oreo_agents.episodes.sources import row_source, sample_numbers
from oreo_agents.episodes.ungraded import WHY
from oreo_agents.networks.policy import CausalPolicy
from oreo_algos.episode import Episode

_log = logging.getLogger(__name__)


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
    constrained: bool = False,
    info: dict[str, Any] | None = None,
    counts: RolloutCounts | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[tuple[int, Episode]]:
    """Run one episode for each entry of ``indices`` and yield (position in ``indices``, episode), in any order.

    Args:
        make_env: makes one environment; a pool of ``sampling.batch_size`` of them plays side by side.
        policy: acts.
        prompt_format: of the policy's tokenizer.
        indices: task indices, as for ``env.reset(options={"index": ...})``; one may occur several times.
        sampling: how tokens are drawn.
        seed: of the sampling: each row draws from ``row_source(seed, index, sample)``.
        samples: which sample of its task each row is; None: as often as its index has occurred before.
        constrained: only actions that the environment admits can be said: every token that leads to none of them is
            masked, at each position.
        info: JSON scalars to add to the info of every episode, e.g. which policy acted.
        counts: filled with what went wrong.
        progress: called with the number of episodes just finished.

    Raises:
        ValueError: ``constrained`` in an environment that does not say what it admits.
    """
    counts = counts if counts is not None else RolloutCounts()
    samples = sample_numbers(indices) if samples is None else samples
    pool = [make_env() for _ in range(min(sampling.batch_size, len(indices)))]
    extra = {"seed": seed, "temperature": sampling.temperature, **(info or {})}
    try:
        # An answer is one turn: nothing of it is read a second time.
        in_turns = bool(pool) and not pool[0].unwrapped.step_delimiters  # type: ignore[attr-defined]
        if in_turns:
            prompt_format.require_turns()
        if constrained and pool and not hasattr(pool[0].unwrapped, "action_text"):
            raise ValueError("constrained: this environment admits any text; use a search that does not constrain")
        for start in range(0, len(indices), sampling.batch_size):
            slots = range(start, min(start + sampling.batch_size, len(indices)))
            begun = [
                Record.begin(env, slot, indices[slot], prompt_format) for env, slot in zip(pool, slots, strict=False)
            ]
            running = [episode for episode in begun if len(episode.tokens) < policy.max_length]
            if len(running) < len(begun):
                counts.prompts_too_long += len(begun) - len(running)
                progress(len(begun) - len(running))
            sources = (
                {e.slot: row_source(seed, indices[e.slot], samples[e.slot]) for e in running}
                if sampling.temperature
                else None
            )
            for episode in _play(running, policy, prompt_format, sampling, sources, constrained, in_turns):
                counts.cut_off += episode.truncated
                progress(1)
                yield episode.slot, episode.episode(extra)
    finally:
        for env in pool:
            env.close()


def _play(
    running: Sequence[Record],
    policy: CausalPolicy,
    prompt_format: PromptFormat,
    sampling: Sampling,
    sources: Mapping[int, np.random.Generator] | None,
    constrained: bool,
    in_turns: bool,
) -> Iterator[Record]:
    """Play episodes side by side, turn by turn, and yield each when it is over; ``sources`` are by slot."""
    while running:
        samples = generate(
            policy,
            [episode.tokens for episode in running],
            prompt_format.end_ids,
            sampling,
            sources=[sources[episode.slot] for episode in running] if sources else None,
            choices=[episode.choices(prompt_format) for episode in running] if constrained else None,
            caches=[episode.policy_cache for episode in running] if in_turns else None,
        )
        for episode, sample in zip(running, samples, strict=True):
            episode.advance(sample, prompt_format, policy.max_length)
        yield from (episode for episode in running if episode.over)
        running = [episode for episode in running if not episode.over]
