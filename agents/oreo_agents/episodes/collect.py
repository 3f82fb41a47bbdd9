"""Where episodes come from: demonstrations of the environment, and rollouts of a policy.

Knows: tasks, encoders, buffers. Does not know: stages, run folders, training.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import gymnasium as gym
import numpy as np
from rich.progress import track

from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.parts import WHOLE, Part, Shard, Tally, cut, tasks_a_part
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.rollout import RolloutCounts, rollout
from oreo_agents.episodes.sampler import Sampler
from oreo_agents.episodes.sources import row_source, sample_numbers
from oreo_agents.episodes.tasks import MOST
from oreo_agents.episodes.texts import demonstration_episode, encode_episode
from oreo_agents.episodes.ungraded import grade_again, is_graded, leave_out_ungraded, tell_ungraded
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.progress import is_shown, progress
from oreo_algos import EpisodeBuffer, stopping
from oreo_algos.algos import Sft
from oreo_algos.algos.base import require_whole
from oreo_algos.algos.selection import balance
from oreo_algos.bars import bar_console
from oreo_algos.episode import Episode
from oreo_algos.storage.buffer import JSON
from oreo_algos.typed import require_types
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
        require_types(self)
        require_whole(self, "samples")
        if self.samples < 1:
            raise ValueError(f"sft.samples must be at least 1, got {self.samples}")
        if self.demonstrations is not None and self.demonstrations < 0:
            raise ValueError(f"sft.demonstrations must be at least 0, or null for all, got {self.demonstrations}")


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
        part_tasks: tasks that are collected and written together, and go to one shard; None: as many as fill batches,
            see ``parts.tasks_a_part``.
        sampling: how tokens are drawn.
    """

    source: Literal["policy", "demonstrations"] = "policy"
    split: str = "train"
    tasks: int | None = None
    demonstrated: bool = False
    samples: int = 10
    keep_per_outcome: int | None = None
    part_tasks: int | None = None
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        """Check the settings."""
        require_types(self)
        counts = {name: getattr(self, name) for name in ("samples", "tasks", "part_tasks", "keep_per_outcome")}
        if self.source not in ("policy", "demonstrations"):
            raise ValueError(f"collect.source must be policy or demonstrations, got {self.source!r}")
        for name, value in counts.items():
            if value is not None and value < 1:
                raise ValueError(f"collect.{name} must be at least 1, got {value}")

    def cut(self, tasks: int) -> list[range]:
        """Return the tasks, of so many, that are collected together, see ``parts``."""
        return cut(tasks, self.part_tasks or tasks_a_part(self.samples, self.sampling.batch_size))


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
    shard: Shard = WHOLE,
    done: Path | None = None,
) -> EpisodeBuffer:
    """Sample episodes of a policy, part by part, see ``parts``.

    Each row draws from a source of its own, see ``sources``, and so does the choice among the samples of a task.
    Episodes whose verdict was lost are graded again when all others of their part are there; what stays lost is left
    out and counted.

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
        shard: which parts to collect; the episodes of all shards, in their order, are those of the whole.
        done: folder of the parts that are done, with these very arguments: they are read, and others written, so that a
            kill loses those that are on their way. None: none is written.

    Raises:
        ValueError: no episode could begin, not one could be graded, the policy would not have drawn them, or there are
            fewer parts than shards.
    """
    if len(indices) * settings.samples > MOST:
        raise ValueError(
            f"{len(indices)} tasks, collect.samples={settings.samples} of each: give at most {MOST} episodes in all"
        )

    def grade(played: Sequence[tuple[int, Episode]]) -> list[Episode]:
        if sampler is not None:
            sampler.audit([episode for _, episode in played], "what was collected")
        return grade_again(make_env, prompt_format, played)

    gathering = _Gathering(grade, indices, settings, selection_seed, shard, done)
    rows, counts = gathering.missing(), RolloutCounts()
    with gathering.interruptible(), progress("collect", len(rows)) as advance:
        drawn = rollout(
            make_env,
            policy,
            prompt_format,
            [row.index for row in rows],
            settings.sampling,
            seed=seed,
            samples=[row.sample for row in rows],
            sampler=sampler,
            counts=counts,
            progress=advance,
            starts=[slot for slot, row in enumerate(rows) if row.begins_part],
            skipped=lambda slot: gathering.add(rows[slot], None),
        )
        for slot, episode in drawn:
            gathering.add(rows[slot], episode)
    counts.report("collection")
    found = gathering.parts()
    tally = sum((part.tally for part in found), Tally())
    tell_ungraded(tally.not_graded, tally.collected + tally.not_graded, "collection")
    if not tally.collected:
        raise ValueError("collection produced no episode: every prompt fills the policy's context")
    buffer = EpisodeBuffer.concatenate([part.episodes for part in found if len(part.episodes)])
    return buffer.described(
        tokenizer_fingerprint=prompt_format.fingerprint,
        provenance={"source": "policy samples", **tally.provenance(), **provenance},
    )


@dataclass(frozen=True)
class _Row:
    """A row to be played: a sample of a task."""

    place: int
    tasks: range
    index: int
    sample: int
    begins_part: bool


class _Gathering:
    """The parts of a collection: which rows are missing, and what becomes of a part when it has all of its rows."""

    def __init__(
        self,
        grade: Callable[[Sequence[tuple[int, Episode]]], list[Episode]],
        indices: Sequence[int],
        settings: CollectSettings,
        selection_seed: int,
        shard: Shard,
        folder: Path | None,
    ) -> None:
        """See which parts there are, and which of them are done."""
        self._grade, self._indices, self._settings = grade, indices, settings
        self._selection_seed, self._repeats = selection_seed, sample_numbers(indices)
        every = settings.cut(len(indices))
        # A part that is all there is, is lost by a kill in any case.
        self._folder = folder if len(every) > 1 else None
        self._done = {tasks: self._load(tasks) for tasks in shard.share(every)}
        self._going: dict[range, dict[int, Episode | None]] = {}

    def missing(self) -> list[_Row]:
        """Return the rows of the parts that are not done, in their order."""
        samples = self._settings.samples
        return [
            _Row(
                place=task * samples + sample,
                tasks=tasks,
                index=self._indices[task],
                sample=self._repeats[task] * samples + sample,
                begins_part=task == tasks.start and sample == 0,
            )
            for tasks, part in self._done.items()
            if part is None
            for task in tasks
            for sample in range(samples)
        ]

    def add(self, row: _Row, episode: Episode | None) -> None:
        """Take the episode of a row, None of one that could not begin; finish its part if it was the last."""
        going = self._going.setdefault(row.tasks, {})
        going[row.place] = episode
        if len(going) == len(row.tasks) * self._settings.samples:
            del self._going[row.tasks]
            self._done[row.tasks] = self._finished(row.tasks, going)
            if self._folder is not None:
                stopping.check(f"{len(self.parts())} of {len(self._done)} parts are collected")

    def interruptible(self) -> AbstractContextManager[None]:
        """Let a signal end the collection when a part is done, where parts are kept."""
        return nullcontext() if self._folder is None else stopping.at_safe_points("the part that is being collected")

    def parts(self) -> list[Part]:
        """Return the parts, all of them done."""
        return [part for part in self._done.values() if part is not None]

    def _finished(self, tasks: range, rows: Mapping[int, Episode | None]) -> Part:
        samples = self._settings.samples
        begun = [(place, episode) for place, episode in sorted(rows.items()) if episode is not None]
        played = self._grade([(self._indices[place // samples], episode) for place, episode in begun])
        graded = [(place, e) for (place, _), e in zip(begun, played, strict=True) if is_graded(e.info)]
        kept: list[Episode] = []
        for task, group in groupby(graded, lambda row: row[0] // samples):
            own = EpisodeBuffer(episode for _, episode in group)
            if self._settings.keep_per_outcome is not None:
                rng = row_source(self._selection_seed, self._indices[task], self._repeats[task])
                own = balance(own, self._settings.keep_per_outcome, rng)
            kept += own
        tally = Tally(
            collected=len(graded),
            successes=sum(episode.success for _, episode in graded),
            prompts_too_long=len(rows) - len(begun),
            cut_off=sum(episode.truncated for _, episode in begun),
            not_graded=len(begun) - len(graded),
        )
        part = Part(EpisodeBuffer(kept), tally)
        if self._folder is not None:
            part.save(self._path(tasks))
        return part

    def _load(self, tasks: range) -> Part | None:
        return Part.load(self._path(tasks)) if self._folder is not None and self._path(tasks).exists() else None

    def _path(self, tasks: range) -> Path:
        assert self._folder is not None
        return self._folder / f"tasks-{tasks.start:07d}"
