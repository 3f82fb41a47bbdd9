"""Where episodes come from: demonstrations of the environment, and rollouts of a policy.

Knows: tasks, encoders, buffers. Does not know: stages, run folders, training.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import gymnasium as gym
import numpy as np
from rich.progress import track

from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.rollout import RolloutCounts, rollout
from oreo_agents.episodes.sampler import Sampler
from oreo_agents.episodes.texts import demonstration_episode, encode_episode
from oreo_agents.episodes.ungraded import grade_again, is_graded, leave_out_ungraded
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.progress import is_shown, progress
from oreo_algos import EpisodeBuffer
from oreo_algos.algos import Sft
from oreo_algos.algos.base import require_whole
from oreo_algos.algos.selection import balance
from oreo_algos.bars import bar_console
from oreo_algos.storage.buffer import JSON
from oreo_envs import Demonstration


@dataclass(frozen=True, kw_only=True)
class SftSettings:
    """Supervised start.

    Attributes:
        split: of the environment, whose tasks are demonstrated.
        demonstrations: tasks of it to learn from, at most; None: all of them; 0: no fine-tuning.
        samples: demonstrations of each, which differ where the environment draws what its solver does: with one epoch
            over them, what is drawn is fresh each time that a task is seen.
        algorithm: how to learn.
    """

    split: str = "train"
    demonstrations: int | None = None
    samples: int = 1
    algorithm: Sft = Sft()

    def __post_init__(self) -> None:
        """Check the settings."""
        require_whole(self, "samples")
        if self.samples < 1:
            raise ValueError(f"sft.samples must be at least 1, got {self.samples}")


@dataclass(frozen=True, kw_only=True)
class CollectSettings:
    """Offline episodes.

    Attributes:
        source: ``policy``: samples of the start policy; ``demonstrations``: the environment's, of its own solver.
        split: of the environment, whose tasks are collected on.
        tasks: tasks of it, at most; None: all of them.
        demonstrated: prefer the tasks that the supervised start was shown, which a small model may solve by heart.
        samples: episodes a task.
        keep_per_outcome: keep at most so many right and so many wrong episodes a task; None: all.
        sampling: how tokens are drawn.
    """

    source: Literal["policy", "demonstrations"] = "policy"
    split: str = "train"
    tasks: int | None = None
    demonstrated: bool = False
    samples: int = 10
    keep_per_outcome: int | None = None
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.source not in ("policy", "demonstrations"):
            raise ValueError(f"collect.source must be policy or demonstrations, got {self.source!r}")
        if self.samples < 1 or (self.tasks is not None and self.tasks < 1):
            raise ValueError(
                f"collect.samples and collect.tasks must be at least 1, got {self.samples} and {self.tasks}"
            )


def demonstrations(env: gym.Env[str, str], indices: Sequence[int], seeds: Sequence[int]) -> list[Demonstration]:
    """Return one demonstration of each task for each seed, those of one task together.

    One whose verdict was lost is asked for again after all others.

    Raises:
        ValueError: the environment has none.
    """
    show: Callable[..., Demonstration] = env.unwrapped.demonstration  # type: ignore[attr-defined]
    asked = track(indices, "demonstrations", transient=True, console=bar_console(), disable=not is_shown())
    try:
        shown = [(seed, show(index, seed=seed)) for index in asked for seed in seeds]
    except NotImplementedError as error:
        raise ValueError(
            f"{error}; without demonstrations begin with a checkpoint: policy.path=CHECKPOINT sft.demonstrations=0"
        ) from error
    return [one if is_graded(one.info) else show(one.index, seed=seed) for seed, one in shown]


def encode(
    shown: Iterable[Demonstration], prompt_format: PromptFormat, env_id: str, provenance: Mapping[str, JSON]
) -> EpisodeBuffer:
    """Return demonstrations as a buffer; steps that are wrong on purpose are masked from imitation.

    Raises:
        ValueError: not one of them could be graded.
    """
    episodes = [
        encode_episode(
            demonstration_episode(one, env_id),
            prompt_format,
            masked_steps=np.flatnonzero(one.mistaken).tolist(),
        )
        for one in shown
    ]
    asked = len(episodes)
    episodes = leave_out_ungraded(episodes, "demonstrations")
    return EpisodeBuffer(
        episodes,
        tokenizer_fingerprint=prompt_format.fingerprint,
        provenance={
            "source": "demonstrations",
            "success_rate": sum(e.success for e in episodes) / len(episodes),
            **({"not_graded": asked - len(episodes)} if asked > len(episodes) else {}),
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
    sampler: Sampler | None = None,
) -> EpisodeBuffer:
    """Sample episodes of a policy.

    Those whose verdict was lost are graded again when all others are there; what stays lost is left out and counted.

    Args:
        make_env: makes one environment.
        policy: acts.
        prompt_format: of its tokenizer.
        indices: the tasks.
        settings: samples a task, what is kept of them, how tokens are drawn.
        seed: of the sampling.
        selection_seed: of the choice among samples.
        provenance: what else is to be known of the buffer.
        sampler: draws from the policy; None: this process does.

    Raises:
        ValueError: no episode could begin, not one could be graded, or the policy would not have drawn them.
    """
    repeated = [index for index in indices for _ in range(settings.samples)]
    counts = RolloutCounts()
    with progress("collect", len(repeated)) as advance:
        drawn = rollout(
            make_env,
            policy,
            prompt_format,
            repeated,
            settings.sampling,
            seed=seed,
            sampler=sampler,
            counts=counts,
            progress=advance,
        )
        ordered = sorted(drawn, key=lambda pair: pair[0])
    if sampler is not None:
        sampler.audit([episode for _, episode in ordered], "what was collected")
    played = grade_again(make_env, prompt_format, [(repeated[slot], episode) for slot, episode in ordered])
    counts.report("collection")
    if not played:
        raise ValueError("collection produced no episode: every prompt fills the policy's context")
    episodes = leave_out_ungraded(played, "collection")
    buffer = EpisodeBuffer(
        episodes,
        tokenizer_fingerprint=prompt_format.fingerprint,
        provenance={
            "source": "policy samples",
            "collected": len(episodes),
            "success_rate": sum(e.success for e in episodes) / len(episodes),
            "prompts_too_long": counts.prompts_too_long,
            "cut_off": counts.cut_off,
            "not_graded": len(played) - len(episodes),
            **provenance,
        },
    )
    if settings.keep_per_outcome is not None:
        buffer = balance(buffer, settings.keep_per_outcome, np.random.default_rng(selection_seed))
    return buffer
