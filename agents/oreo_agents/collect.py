"""Where episodes come from: demonstrations of the environment, and rollouts of a policy.

Knows: tasks, encoders, buffers. Does not know: stages, run folders, training.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import gymnasium as gym
import numpy as np
from rich.progress import track

from oreo_agents.policy import CausalPolicy
from oreo_agents.progress import is_shown, progress
from oreo_agents.prompts import PromptFormat, encode_episode
from oreo_agents.rollout import RolloutCounts, rollout
from oreo_agents.settings import CollectSettings
from oreo_agents.texts import demonstration_episode
from oreo_algos import EpisodeBuffer
from oreo_algos.buffer import JSON
from oreo_algos.selection import balance
from oreo_envs import Demonstration


def demonstrations(env: gym.Env[str, str], indices: Sequence[int], seeds: Sequence[int]) -> Iterator[Demonstration]:
    """Yield one demonstration of each task for each seed, those of one task together."""
    for index in track(indices, "demonstrations", transient=True, disable=not is_shown()):
        for seed in seeds:
            yield env.unwrapped.demonstration(index, seed=seed)  # type: ignore[attr-defined]


def encode(
    shown: Iterable[Demonstration], prompt_format: PromptFormat, env_id: str, provenance: Mapping[str, JSON]
) -> EpisodeBuffer:
    """Return demonstrations as a buffer; steps that are wrong on purpose are masked from imitation."""
    episodes = [
        encode_episode(
            demonstration_episode(one, env_id),
            prompt_format,
            masked_steps=np.flatnonzero(one.mistaken).tolist(),
        )
        for one in shown
    ]
    return EpisodeBuffer(
        episodes,
        tokenizer_fingerprint=prompt_format.fingerprint,
        provenance={
            "source": "demonstrations",
            "success_rate": sum(e.success for e in episodes) / len(episodes),
            **provenance,
        },
    )


def collect(
    make_env: Callable[[], gym.Env[str, str]],
    policy: CausalPolicy,
    prompt_format: PromptFormat,
    indices: Sequence[int],
    settings: CollectSettings,
    *,
    seed: int,
    selection_seed: int,
    provenance: Mapping[str, JSON],
) -> EpisodeBuffer:
    """Sample episodes of a policy.

    Args:
        make_env: makes one environment.
        policy: acts.
        prompt_format: of its tokenizer.
        indices: the tasks.
        settings: samples a task, what is kept of them, how tokens are drawn.
        seed: of the sampling.
        selection_seed: of the choice among samples.
        provenance: what else is to be known of the buffer.

    Raises:
        ValueError: no episode could begin.
    """
    repeated = [index for index in indices for _ in range(settings.samples)]
    counts = RolloutCounts()
    with progress("collect", len(repeated)) as advance:
        drawn = rollout(
            make_env, policy, prompt_format, repeated, settings.sampling, seed=seed, counts=counts, progress=advance
        )
        episodes = [episode for _, episode in sorted(drawn, key=lambda pair: pair[0])]
    counts.report("collection")
    if not episodes:
        raise ValueError("collection produced no episode: every prompt fills the policy's context")
    buffer = EpisodeBuffer(
        episodes,
        tokenizer_fingerprint=prompt_format.fingerprint,
        provenance={
            "source": "policy samples",
            "collected": len(episodes),
            "success_rate": sum(e.success for e in episodes) / len(episodes),
            "prompts_too_long": counts.prompts_too_long,
            "cut_off": counts.cut_off,
            **provenance,
        },
    )
    if settings.keep_per_outcome is not None:
        buffer = balance(buffer, settings.keep_per_outcome, np.random.default_rng(selection_seed))
    return buffer
