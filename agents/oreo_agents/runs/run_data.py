"""The episodes of a run: which buffers each policy learns from, where they lie, how they are made.

Knows: settings, rounds, tasks. A buffer that is there is not made again. Does not know: training, evaluation.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from oreo_agents.episodes.collect import collect, demonstrations, encode
from oreo_agents.episodes.held_out import HeldOutFound, HeldOutTasks, require_learnable
from oreo_agents.episodes.parts import WHOLE, Shard
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.tasks import Purpose, derive, identity
from oreo_agents.episodes.ungraded import only_graded
from oreo_agents.evaluation.kept import SOURCE
from oreo_agents.evaluation.round_names import split_round
from oreo_agents.formats.draft import digest
from oreo_agents.networks.checkpoints import weights_digest
from oreo_agents.runs.given import ALLOW, import_rows, imported_name, is_rows
from oreo_agents.runs.layout import Layout
from oreo_agents.runs.loading import Loader
from oreo_agents.runs.settings import RunSettings
from oreo_algos import EpisodeBuffer, ranks
from oreo_algos.algos import MoreSft
from oreo_algos.storage.atomic import remove, remove_leftovers


@dataclass(frozen=True)
class Part:
    """A buffer that is learned from, perhaps among others.

    Attributes:
        path: where it lies, as records name it.
        buffer: its episodes.
        given: what the settings call it, where it was given.
        held_out: what it holds of held-out tasks, where that is allowed.
    """

    path: str
    buffer: EpisodeBuffer
    given: str | None = None
    held_out: HeldOutFound | None = None

    def record(self) -> dict[str, Any]:
        """Return what identifies it, for a summary."""
        found = {"path": self.path, "content_hash": self.buffer.content_hash, "episodes": len(self.buffer)}
        found |= {} if self.given in (None, self.path) else {"given": self.given}
        return found | ({} if self.held_out is None else {"held_out": self.held_out.record()})


def join(parts: Sequence[Part]) -> EpisodeBuffer:
    """Return the episodes of all parts, in their order."""
    return EpisodeBuffer.concatenate([part.buffer for part in parts])


def divide(buffers: Sequence[EpisodeBuffer], share: float, *, held: bool) -> list[EpisodeBuffer]:
    """Return what is held back of buffers, a share of their tasks, or what is learned from.

    Which tasks are held back depends on their names alone, so that it is the same in every run.

    Raises:
        ValueError: nothing is left to learn from.
    """
    tasks = sorted({task for buffer in buffers for task in buffer.columns.task_ids}, key=digest)
    count = max(1, round(share * len(tasks)))
    if count >= len(tasks):
        raise ValueError(
            f"evaluate.pairs.share={share:g} of the {len(tasks)} prompts of data=... leaves none to learn from"
        )
    held_back, found = set(tasks[:count]), []
    for buffer in buffers:
        is_held = np.array([task in held_back for task in buffer.columns.task_ids])[buffer.columns.task]
        found.append(buffer[is_held == held])
    return found


class RunData:
    """The buffers of one run."""

    def __init__(self, settings: RunSettings, layout: Layout, load: Loader) -> None:
        """Nothing is read or made yet."""
        self.settings, self.layout, self.load = settings, layout, load
        self._seen: dict[Path, frozenset[str]] = {}
        self._found: dict[str, HeldOutFound | None] = {}

    def demonstrations(self, policy_path: str) -> Part:
        """Return the demonstrations of the supervised start, encoded for a policy."""
        seeds = self._seeds(self.settings.sft.samples)
        return self._part(self.layout.demonstrations, policy_path, partial(self._demonstrate_start, seeds))

    def learned_in(self, algorithm: str, number: int, start: str) -> list[Part]:
        """Return what a round of an algorithm learns from, oldest first.

        Args:
            algorithm: its name.
            number: of the round, from 1; the policy of the round before it must have been trained.
            start: path of the policy that the first round begins with.

        Returns:
            The episodes collected for this round; before them those of all earlier rounds if the settings keep them.
        """
        first = 1 if self.settings.iteration.keep_data else number
        return [part for k in range(first, number + 1) for part in self.collected(algorithm, k, start)]

    def tasks_of(self, algorithm: str, number: int, start: str) -> frozenset[str]:
        """Return the names of the tasks that a round of an algorithm learns from, see ``learned_in``."""
        parts = self.learned_in(algorithm, number, start)
        return frozenset(task_id for part in parts for task_id in part.buffer.columns.task_ids)

    def collected(self, algorithm: str, number: int, start: str) -> list[Part]:
        """Return what was made for one round, see ``learned_in``: episodes, or demonstrations where it wants these."""
        asked = self.settings.algorithms.get(algorithm)
        if isinstance(asked, MoreSft):
            if self.settings.sft.demonstrations == 0:
                raise ValueError(
                    f"{algorithm} learns from new demonstrations of the tasks that the supervised start was shown, and "
                    "sft.demonstrations=0 shows none; give sft.demonstrations=..., or null for all"
                )
            # From 1: a 0 at the end changes no seed, and (MORE, 0) would be the seed of the start's sample number MORE.
            samples = range(1, asked.samples + 1)
            seeds = [derive(self.settings.seed, *_of_round(Purpose.MORE, number), sample) for sample in samples]
            return [self._part(self.layout.episodes(algorithm, number), start, partial(self._demonstrate_start, seeds))]
        if number == 1:
            return self.offline(start)
        policy_path = str(self.layout.round(algorithm, number - 1) / "policy")
        path = self.layout.episodes(algorithm, number)
        return [self._part(path, policy_path, partial(self._collect, policy_path, number, path, WHOLE))]

    def offline(self, start: str) -> list[Part]:
        """Return what all algorithms begin with: the buffers of ``settings.data``, else what ``collect`` asks for.

        Of the former what is held back, see ``held_out_pairs``, is no part.
        """
        if self.settings.data_folders:
            return [part for part in self._divided(start, held=False) if part.buffer]
        settings = self.settings.collect
        make: Callable[[PromptFormat], EpisodeBuffer] = partial(self._collect, start, 1, self.layout.offline, WHOLE)
        if settings.source == "demonstrations":
            indices = self.settings.train_indices(settings.tasks, Purpose.COLLECTION, split=settings.split)
            make = partial(self._demonstrate, settings.split, indices, self._seeds(settings.samples))
        return [self._part(self.layout.offline, start, make)]

    def held_out_pairs(self, start: str) -> EpisodeBuffer | None:
        """Return the episodes whose pairs are ranked, encoded for a policy; None: ``evaluate.pairs`` asks for none.

        Raises:
            ValueError: what is there cannot be read, or no part of it can be held back.
        """
        asked = self.settings.evaluate.pairs
        if asked.places:
            return join(self._given(asked.places, start, "evaluate.pairs.data"))
        if asked.share is None:
            return None
        if not self.settings.data_folders:
            raise ValueError("evaluate.pairs.share holds back a part of data=..., and none is given")
        return join(self._divided(start, held=True))

    def _divided(self, start: str, *, held: bool) -> list[Part]:
        """Return what is learned from of the buffers that the settings name, or what is held back of them."""
        parts = self._learnable(self._given(self.settings.data_folders, start, "data"))
        share = self.settings.evaluate.pairs.share
        if share is None:
            return parts
        divided = divide([part.buffer for part in parts], share, held=held)
        return [replace(part, buffer=buffer) for part, buffer in zip(parts, divided, strict=True)]

    def _learnable(self, parts: Sequence[Part]) -> list[Part]:
        """Refuse buffers with episodes of held-out tasks, or say so where that is allowed; each is read once.

        Raises:
            ValueError: there are some, and it is not allowed.
        """
        if unread := [part for part in parts if part.path not in self._found]:
            tasks, allowed = HeldOutTasks(self.settings.env), self.settings.allow_held_out
            for part in unread:
                found = tasks.find(str(part.given), part.buffer)
                self._found[part.path] = require_learnable(found, allowed=allowed, switch=ALLOW, names="data=")
        return [replace(part, held_out=self._found[part.path]) for part in parts]

    def require_shard(self, shard: Shard) -> None:
        """Find out before anything is made whether a shard can be collected.

        Raises:
            ValueError: the episodes are not samples of a policy, or there are fewer parts than shards.
        """
        settings = self.settings.collect
        if self.settings.data_folders or settings.source != "policy":
            raise ValueError(
                f"shard={shard}: only samples of a policy are collected in shards; leave out "
                + ("data=..." if self.settings.data_folders else "shard=..., for demonstrations are quickly made")
            )
        shard.share(settings.cut(len(self._tasks(1)[1])))

    def shard(self, start: str, shard: Shard) -> Part:
        """Return a shard of the episodes that all algorithms begin with; the others are made elsewhere."""
        path = self.layout.shard(shard.name)
        return self._part(path, start, partial(self._collect, start, 1, path, shard))

    def seen_by(self, names: Iterable[str]) -> frozenset[str]:
        """Return what tells the tasks, see ``tasks.identity``, that networks of this run have learned from.

        Args:
            names: in the results; one that is no algorithm of this run is the start, or comes from elsewhere.
        """
        paths = {self.layout.demonstrations}
        for algorithm, number in map(split_round, names):
            if isinstance(self.settings.algorithms.get(algorithm), MoreSft):
                paths |= {self.layout.episodes(algorithm, k) for k in range(1, number + 1)}
            elif algorithm in self.settings.algorithms:
                paths |= {*map(self._given_path, self.settings.data_folders)} or {self.layout.offline}
                # Also what earlier rounds learned from and this one dropped.
                paths |= {self.layout.episodes(algorithm, k) for k in range(2, number + 1)}
        present = [path for path in paths if (path / "metadata.json").exists()]
        return frozenset[str]().union(*(self._identities(path) for path in present))

    def _identities(self, path: Path) -> frozenset[str]:
        """Return what tells the tasks of a buffer; it is read once, for there may be tens of thousands of episodes."""
        if path not in self._seen:
            env = self.settings.env_maker(self.settings.evaluate.splits[0])()
            episodes = EpisodeBuffer.load(path)
            self._seen[path] = frozenset(identity(env, episode.task_id, episode.messages) for episode in episodes)
        return self._seen[path]

    def _given(self, folders: Sequence[str], policy_path: str, setting: str) -> list[Part]:
        """Read the buffers that a setting names; only what is not to be learned from may be of other environments."""
        learned = setting == "data"
        allowed = self.settings.allow_held_out or not learned
        fingerprint = self.load.prompt_format(policy_path).fingerprint
        parts = []
        for folder in folders:
            if is_rows(folder):
                place = self._given_path(folder)
                make = partial(import_rows, folder, self.settings.env, setting=setting, held_out=allowed)
                part = self._part(place, policy_path, make)
            else:
                part = Part(folder, EpisodeBuffer.load(folder, tokenizer_fingerprint=fingerprint))
            parts.append(Part(part.path, only_graded(part.buffer, f"{setting}={folder}"), given=folder))
        for part in parts if learned else ():
            told = part.buffer.provenance
            if not allowed and told.get("source") == SOURCE and told.get("held_out"):
                split = told["split"]
                raise ValueError(
                    f"data={part.path} holds judged answers to the split {split}, which is held out to measure with; "
                    f"learn from episodes of the train split (`oreo collect`), or of these all the same ({ALLOW})"
                )
            if part.buffer.env_ids != [self.settings.env.id]:
                raise ValueError(
                    f"data={part.path} holds episodes of {', '.join(part.buffer.env_ids)}, and this run is about "
                    f"{self.settings.env.id}; choose the environment with env=..."
                )
        return parts

    def _given_path(self, folder: str) -> Path:
        """Return where a buffer lies: what was imported on the way, in the run's own folder."""
        return self.layout.start / "data" / imported_name(folder) if is_rows(folder) else Path(folder)

    def _part(self, path: Path, policy_path: str, make: Callable[[PromptFormat], EpisodeBuffer]) -> Part:
        """Read a buffer that a policy is to learn from; make it first unless it is there."""
        prompt_format = self.load.prompt_format(policy_path)

        def made() -> None:
            if not (path / "metadata.json").exists():
                make(prompt_format).save(path)
            remove(_done(path))
            remove_leftovers(path.parent)

        ranks.current().first(made)
        buffer = EpisodeBuffer.load(path, tokenizer_fingerprint=prompt_format.fingerprint)
        return Part(self.layout.name(path), buffer)

    def _seeds(self, samples: int) -> list[int]:
        """Return the seeds of so many demonstrations of a task; the first one's is that of the run itself."""
        return [self.settings.seed, *(derive(self.settings.seed, sample) for sample in range(1, samples))]

    def _demonstrate_start(self, seeds: Sequence[int], prompt_format: PromptFormat) -> EpisodeBuffer:
        """Demonstrate the tasks of the supervised start."""
        settings = self.settings.sft
        indices = self.settings.train_indices(settings.demonstrations, Purpose.DEMONSTRATIONS, split=settings.split)
        return self._demonstrate(settings.split, indices, seeds, prompt_format)

    def _demonstrate(
        self, split: str, indices: Sequence[int], seeds: Sequence[int], prompt_format: PromptFormat
    ) -> EpisodeBuffer:
        shown = demonstrations(self.settings.env_maker(split)(), indices, seeds)
        return encode(shown, prompt_format, self.settings.env.id, self._provenance())

    def _collect(
        self, policy_path: str, number: int, path: Path, shard: Shard, prompt_format: PromptFormat
    ) -> EpisodeBuffer:
        """Sample a policy on the train tasks of a round; what is done is kept beside ``path`` until all of it is."""
        split, indices = self._tasks(number)
        key = self._collection(policy_path, number, split, indices)
        provenance = self._provenance() | {"round": number, "policy": self.layout.name(policy_path)}
        if self.settings.sampler.engine != "local":
            provenance["sampler"] = self.settings.sampler.engine
        if shard != WHOLE:
            provenance["shard"] = {"number": shard.number, "of": shard.of, "collection": key}
        policy = self.load.policy(policy_path)
        return collect(
            self.settings.env_maker(split),
            policy,
            prompt_format,
            indices,
            self.settings.collect,
            seed=derive(self.settings.seed, *_of_round(Purpose.COLLECTION, number)),
            selection_seed=derive(self.settings.seed, *_of_round(Purpose.SELECTION, number)),
            sampler=self.load.sampler(policy, policy_path),
            provenance=provenance,
            shard=shard,
            done=_done(path) / key,
        )

    def _tasks(self, number: int) -> tuple[str, list[int]]:
        """Return the split, and the tasks of it, that a round collects on."""
        settings = self.settings.collect
        # Tasks that were demonstrated stay the same; others are drawn anew for each round.
        tasks = (Purpose.DEMONSTRATIONS,) if settings.demonstrated else _of_round(Purpose.COLLECTION, number)
        split = self.settings.sft.split if settings.demonstrated else settings.split
        return split, self.settings.train_indices(settings.tasks, *tasks, split=split)

    def _collection(self, policy_path: str, number: int, split: str, indices: Sequence[int]) -> str:
        """Tell a collection from others: by all that its episodes hang on, wherever the policy and the tasks lie."""
        settings = self.settings
        facts = [
            weights_digest(policy_path),
            replace(settings.policy, path=None),
            replace(settings.env, path=None),
            *(settings.sampler.engine, settings.collect, settings.seed, number),
            *(split, list(indices), version("oreo-suite")),
        ]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]

    def _provenance(self) -> dict[str, Any]:
        return {
            "env": self.settings.env.id,
            "env_options": dict(self.settings.env.options),
            "seed": self.settings.seed,
        }


def _done(path: Path) -> Path:
    """Return where the parts of a collection lie until its buffer is there."""
    return path.with_name(f"{path.name}.parts")


def _of_round(purpose: Purpose, number: int) -> tuple[int, ...]:
    """Return the purpose of draws in a round: each round has a stream of its own."""
    return (purpose,) if number == 1 else (purpose, number)
