"""Environment x policy to episodes: tokens, steps and rewards are written down as they happen.

Knows: both worlds. Does not know: a particular environment, a search, a loss.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from oreo_agents.generate import Choices, Sample, Sampling, generate, make_choices
from oreo_agents.policy import CausalPolicy
from oreo_agents.prompts import PromptFormat
from oreo_algos.episode import Episode

_log = logging.getLogger(__name__)

# Keys of `info` that an episode keeps elsewhere, or that describe a moment and not the episode.
_NOT_KEPT = {"messages", "task_id", "index", "step", "admissible_commands", "invalid_action", "command_executed"}


@dataclass
class RolloutCounts:
    """What happened beside the episodes: nothing is lost in silence.

    Attributes:
        prompts_too_long: rollouts not begun because the opening fills the policy's context.
        cut_off: rollouts ended by a limit on tokens, text or steps, or by the context.
    """

    prompts_too_long: int = 0
    cut_off: int = 0

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


@dataclass
class _Running:
    """One episode on its way."""

    env: gym.Env[str, str]
    slot: int
    info: dict[str, Any]
    tokens: list[int]
    prompt_length: int
    step_id: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    spans: list[tuple[int, int, int]] = field(default_factory=list)
    generated: int = 0
    invalid: int = 0
    terminated: bool = False
    truncated: bool = False

    def __post_init__(self) -> None:
        self.step_id = [-1] * self.prompt_length
        self.logprobs = [0.0] * self.prompt_length

    @property
    def over(self) -> bool:
        return self.terminated or self.truncated

    def choices(self, prompt_format: PromptFormat) -> Choices:
        """Return the tokens of each action that the environment admits now."""
        write = self.env.unwrapped.action_text  # type: ignore[attr-defined]
        return make_choices(
            [*prompt_format.encode(write(command)), prompt_format.end_of_turn]
            for command in self.info["admissible_commands"]
        )

    def advance(self, sample: Sample, prompt_format: PromptFormat, max_length: int) -> None:
        """Hand a generated turn to the environment, step by step, and record what it used of it."""
        self.generated += len(sample.tokens)
        delimiters = self.env.unwrapped.step_delimiters  # type: ignore[attr-defined]
        numbers, texts = prompt_format.split_steps(sample.tokens, delimiters)
        observation = ""
        used = 0
        for text in texts:
            observation = self._act(text)
            used += 1
            if self.over:
                break
        in_one_message = bool(delimiters)
        if not self.over and in_one_message and sample.ended:
            # The answer ended without a final answer: an empty action closes the episode.
            self._close()
        kept = sum(1 for number in numbers if number < used)
        first = len(self.rewards) - used
        self.tokens += sample.tokens[:kept]
        self.step_id += [first + number for number in numbers[:kept]]
        self.logprobs += sample.logprobs[:kept]
        if self.over:
            return
        if not sample.ended:
            self.truncated = True
            return
        between = prompt_format.next_turn(observation)
        if len(self.tokens) + len(between) >= max_length:
            self.truncated = True
            return
        self.tokens += between
        self.step_id += [-1] * len(between)
        self.logprobs += [0.0] * len(between)

    def _act(self, text: str) -> str:
        before = self.info["messages"]
        observation, reward, self.terminated, self.truncated, self.info = self.env.step(text)
        message, start = len(before), 0
        if before[-1]["role"] == "assistant":
            message, start = len(before) - 1, len(before[-1]["content"])
        self.spans.append((message, start, start + len(text)))
        self.rewards.append(float(reward))
        self.invalid += bool(self.info.get("invalid_action"))
        return observation

    def _close(self) -> None:
        """End an episode whose text is complete; the reward belongs to the last action that has tokens."""
        _, reward, self.terminated, self.truncated, self.info = self.env.step("")
        self.rewards[-1] += float(reward)

    def episode(self, env_id: str, extra: dict[str, Any]) -> Episode:
        """Freeze what was recorded."""
        kept = {
            key: value
            for key, value in self.info.items()
            if key not in _NOT_KEPT and isinstance(value, str | int | float | bool | None)
        }
        if "invalid_action" in self.info:
            kept["invalid_actions"] = self.invalid
        return Episode(
            tokens=np.array(self.tokens, dtype=np.int32),
            step_id=np.array(self.step_id, dtype=np.int32),
            rewards=np.array(self.rewards, dtype=np.float32),
            behavior_logprobs=np.array(self.logprobs, dtype=np.float32),
            action_spans=np.array(self.spans, dtype=np.int32),
            terminated=self.terminated,
            truncated=self.truncated,
            task_id=self.info["task_id"],
            env_id=env_id,
            messages=self.info["messages"],
            info={**kept, "generated_tokens": self.generated, **extra},
        )


def rollout(
    make_env: Callable[[], gym.Env[str, str]],
    policy: CausalPolicy,
    prompt_format: PromptFormat,
    indices: Sequence[int],
    sampling: Sampling,
    *,
    seed: int,
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
        seed: of the sampling.
        constrained: only actions that the environment admits can be said: every token that leads to none of them is
            masked, at each position.
        info: JSON scalars to add to the info of every episode, e.g. which policy acted.
        counts: filled with what went wrong.
        progress: called with the number of episodes just finished.

    Raises:
        ValueError: ``constrained`` in an environment that does not say what it admits.
    """
    counts = counts if counts is not None else RolloutCounts()
    generator = torch.Generator(next(policy.parameters()).device)
    generator.manual_seed(int(np.random.SeedSequence([seed, len(indices)]).generate_state(1)[0]))
    pool = [make_env() for _ in range(min(sampling.batch_size, len(indices)))]
    extra = {"seed": seed, "temperature": sampling.temperature, **(info or {})}
    try:
        if pool and not pool[0].unwrapped.step_delimiters:  # type: ignore[attr-defined]
            prompt_format.require_turns()
        if constrained and pool and not hasattr(pool[0].unwrapped, "action_text"):
            raise ValueError("constrained: this environment admits any text; use a search that does not constrain")
        for start in range(0, len(indices), sampling.batch_size):
            slots = range(start, min(start + sampling.batch_size, len(indices)))
            running = []
            for env, slot in zip(pool, slots, strict=False):
                _, reset_info = env.reset(options={"index": int(indices[slot])})
                tokens = prompt_format.opening(reset_info["messages"])
                if len(tokens) >= policy.max_length:
                    counts.prompts_too_long += 1
                    progress(1)
                    continue
                running.append(_Running(env, slot, reset_info, tokens, len(tokens)))
            while running:
                samples = generate(
                    policy,
                    [episode.tokens for episode in running],
                    prompt_format.end_ids,
                    sampling,
                    generator,
                    choices=[episode.choices(prompt_format) for episode in running] if constrained else None,
                )
                for episode, sample in zip(running, samples, strict=True):
                    episode.advance(sample, prompt_format, policy.max_length)
                for episode in running:
                    if episode.over:
                        counts.cut_off += episode.truncated
                        progress(1)
                        assert episode.env.spec is not None
                        yield episode.slot, episode.episode(episode.env.spec.id, extra)
                running = [episode for episode in running if not episode.over]
    finally:
        for env in pool:
            env.close()
