"""The stages of a run: start, supervised fine-tuning, collection, training, evaluation.

Knows: which stage reads what, and where its result lies. A stage whose result is there is not done again, so a run
that was killed goes on where it stopped. Does not know: Hydra, tables.

A run folder holds ``start/`` (a fresh small model), ``data/demonstrations`` and ``data/episodes`` (buffers), and a
folder for ``sft`` and for each algorithm: ``policy/``, ``value/``, ``metrics.jsonl``, TensorBoard events,
``checkpoint-N/``, ``summary.json`` and ``items-<split>-<search>.jsonl``; then ``results.json``. Round N > 1 of an
algorithm lies in ``<algorithm>-roundN/``, with the episodes collected for it in ``data/episodes`` there.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from filelock import FileLock

from oreo_agents.collect import collect, demonstrations, encode
from oreo_agents.doctor import examine_episodes, examine_results, examine_rounds
from oreo_agents.loading import Loader
from oreo_agents.model_card import model_card
from oreo_agents.parallel import cores, side_by_side
from oreo_agents.progress import start_worker
from oreo_agents.prompts import PromptFormat
from oreo_agents.scorebook import ScoreBook
from oreo_agents.settings import RunSettings
from oreo_agents.tasks import Purpose, choose_indices, derive, env_maker, identity
from oreo_agents.tiny import byte_tokenizer, create_checkpoint, word_tokenizer
from oreo_algos import EpisodeBuffer, train
from oreo_algos.algos import Algorithm
from oreo_algos.atomic import replace_folder, write_text
from oreo_algos.metrics import read_metrics
from oreo_algos.selection import NothingToLearnError
from oreo_algos.warning_log import WarningLog

_log = logging.getLogger(__name__)

_PARTS: tuple[Literal["policy", "value"], ...] = ("policy", "value")


class Run:
    """One run folder and its settings."""

    def __init__(self, settings: RunSettings, folder: Path, *, shared: Path | None = None) -> None:
        """Prepare the folder; nothing is computed yet.

        Args:
            settings: what to do.
            folder: where everything is written.
            shared: where the start and the episodes are kept for other runs that begin in the same way, such as the
                jobs of a sweep; None: in ``folder``.
        """
        self.settings, self.folder = settings, folder
        self.start_folder = folder if shared is None else shared / _start_key(settings)
        folder.mkdir(parents=True, exist_ok=True)
        self.load = Loader(settings.policy, settings.value)
        self.scores = ScoreBook(settings, folder, self.load)
        self.small = settings.policy.path is None and self.load.device.type == "cpu"
        if self.small:
            # A second thread gains a tenth on such models; a second process, see `train_and_evaluate`, nearly all.
            torch.set_num_threads(1)

    # Stages, each of which first asks for those before it.

    def prepare(self, *, episodes: bool) -> None:
        """Make the start, and the offline episodes if asked for, while no other process makes the same ones."""
        self.start_folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.start_folder / ".start.lock"):
            self.sft()
            if episodes:
                self._examine(self.folder, self.episodes())

    def start(self) -> str:
        """Return the path of the checkpoint that everything starts from; makes a small one when none is given."""
        if self.settings.policy.path is not None:
            return self.settings.policy.path
        folder = self.start_folder / "start"
        if not folder.exists():
            env: Any = self.make_env("train")().unwrapped
            if hasattr(env, "vocabulary"):
                tokenizer = word_tokenizer(env.vocabulary())
            else:
                indices = self._indices("train", self.settings.sft.demonstrations, Purpose.DEMONSTRATIONS)
                shown = demonstrations(env, indices, [self.settings.seed])
                texts = [message["content"] for one in shown for message in one.messages]
                tokenizer = byte_tokenizer(texts, self.settings.policy.tiny.tokenizer_size)
            with replace_folder(folder) as temporary:
                create_checkpoint(self.settings.policy.tiny, tokenizer, temporary, self.settings.seed)
        return str(folder)

    def sft(self) -> str:
        """Return the path of the policy after supervised fine-tuning, the start itself if that is switched off."""
        settings = self.settings.sft
        start = self.start()
        if settings.demonstrations == 0:
            return start
        return self._train(self.start_folder / "sft", settings.algorithm, start, self.demonstrations)

    def demonstrations(self) -> EpisodeBuffer:
        """Return the encoded demonstrations."""
        return self._buffer(
            self.start_folder / "data" / "demonstrations",
            PromptFormat.from_pretrained(self.start()),
            partial(self._demonstrate, self.settings.sft.demonstrations, 1, Purpose.DEMONSTRATIONS),
        )

    def episodes(self) -> EpisodeBuffer:
        """Return the offline episodes: those of ``settings.data``, else those that ``settings.collect`` asks for."""
        if self.settings.data_folders:
            return self._given_episodes(self.settings.data_folders)
        policy_path = self.sft()
        settings = self.settings.collect
        make: Callable[[PromptFormat], EpisodeBuffer] = partial(self._collect, policy_path, 1)
        if settings.source == "demonstrations":
            make = partial(self._demonstrate, settings.tasks, settings.samples, Purpose.COLLECTION)
        return self._buffer(self.start_folder / "data" / "episodes", PromptFormat.from_pretrained(policy_path), make)

    def _given_episodes(self, folders: Sequence[str]) -> EpisodeBuffer:
        """Read and join the buffers that the settings name."""
        fingerprint = PromptFormat.from_pretrained(self.sft()).fingerprint
        buffers = [EpisodeBuffer.load(folder, tokenizer_fingerprint=fingerprint) for folder in folders]
        for folder, buffer in zip(folders, buffers, strict=True):
            if buffer.env_ids != [self.settings.env.id]:
                raise ValueError(
                    f"data={folder} holds episodes of {', '.join(buffer.env_ids)}, and this run is about "
                    f"{self.settings.env.id}; choose the environment with env=..."
                )
        return EpisodeBuffer.concatenate(buffers)

    def round_episodes(self, name: str, number: int) -> EpisodeBuffer:
        """Return what a round of an algorithm learns from.

        Args:
            name: of the algorithm.
            number: of the round, from 1; the policy of the round before it must have been trained.

        Returns:
            Episodes collected with the policy of the round before, those of the start in round 1; also all earlier
            ones if the settings keep them, oldest first.
        """
        collected = self._collected(name, number)
        if number == 1 or not self.settings.iteration.keep_data:
            return collected
        return EpisodeBuffer.concatenate([self.round_episodes(name, number - 1), collected])

    def _collected(self, name: str, number: int) -> EpisodeBuffer:
        """Return the episodes collected for a round."""
        if number == 1:
            return self.episodes()
        policy_path = str(self._folder(name, number - 1) / "policy")
        return self._buffer(
            self._folder(name, number) / "data" / "episodes",
            PromptFormat.from_pretrained(policy_path),
            partial(self._collect, policy_path, number),
        )

    def train_and_evaluate(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Train algorithms from the same start and episodes, evaluate each, and write ``results.json``.

        Args:
            names: of the settings' algorithms, or ``sft`` for the start itself.

        Returns:
            The rows of the results.
        """
        # Held-out data that is missing is to be missed now, not after hours of training.
        for split in self.settings.evaluate.splits:
            self.make_env(split)().close()
        # What all of them share is made first, by this process alone.
        self.prepare(episodes=any(name in self.settings.algorithms for name in names))
        skipped = {name: reason for name in names if (reason := self._nothing_to_learn(name, 1))}
        if len(skipped) == len(names):
            raise ValueError("; ".join(f"{name}: {reason}" for name, reason in skipped.items()))
        names = [name for name in names if name not in skipped]
        for name, reason in skipped.items():
            _log.warning("%s is skipped: %s", name, reason)
        workers = min(self._workers(), len(names))
        if workers == 1:
            parts = {name: self._iterate(name) for name in names}
        else:
            # The longest first: those that train most networks.
            order = sorted(names, key=lambda name: -len(getattr(self.settings.algorithms.get(name), "needs", ())))
            found = side_by_side(
                self._iterate,
                order,
                workers,
                initializer=start_worker,
                steps_of=self._steps_so_far,
            )
            parts = dict(zip(order, found, strict=True))
        for name in names:
            skipped |= parts[name][1]
        return self.write_results([row for name in names for row in parts[name][0]], skipped)

    def _nothing_to_learn(self, name: str, number: int) -> str | None:
        """Say why an algorithm finds no example for a round, such as no success; None when it finds some."""
        if name in self.settings.algorithms:
            episodes = self.round_episodes(name, number)
            try:
                self.settings.algorithms[name].select(episodes, np.random.default_rng(0))
            except ValueError as error:
                return str(error)
        return None

    def _iterate(self, name: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Train and evaluate all rounds of an algorithm.

        Returns:
            Rows of the results, and by name of the round why the rounds from there on are skipped.
        """
        if name not in self.settings.algorithms:
            return self.evaluate(name, self.sft(), None), {}
        rows: list[dict[str, Any]] = []
        for number in range(1, self.settings.iteration.rounds + 1):
            folder = self._folder(name, number)
            reason = self._nothing_to_learn(name, number) if number > 1 else None
            if reason is not None:
                _log.warning("%s: there is no round %d: %s", name, number, reason)
                return rows, {folder.name: reason}
            self._train_round(name, number)
            found = self._evaluate_round(name, number)
            rows += [row | {"round": number} for row in found] if self.settings.iteration.rounds > 1 else found
        return rows, {}

    def _train_round(self, name: str, number: int) -> None:
        if number > 1:
            self._examine(self._folder(name, number), self._collected(name, number), self._collected(name, number - 1))
        before = self._folder(name, number - 1)
        settings = self.settings.iteration
        value = before / "value"
        self._train(
            self._folder(name, number),
            self.settings.algorithms[name],
            self.sft() if number == 1 else str(before / "policy"),
            partial(self.round_episodes, name, number),
            reference_path=self.sft() if settings.reference == "start" else None,
            value_path=str(value) if number > 1 and settings.value == "carried" and value.exists() else None,
        )

    def _evaluate_round(self, name: str, number: int) -> list[dict[str, Any]]:
        folder = self._folder(name, number)
        policy, value = str(folder / "policy"), folder / "value"
        if not value.exists() or not getattr(self.settings.algorithms[name], "trains_final_value", False):
            return self.evaluate(folder.name, policy, None)
        rows = self.evaluate(folder.name, policy, str(value))
        if folder.name == self.settings.evaluate.start_value:
            guided = [s for s in self.settings.evaluate.searches if self.settings.searches[s].needs_value]
            rows += self.evaluate("sft", self.sft(), str(value), searches=guided)
        return rows

    def _folder(self, name: str, number: int) -> Path:
        """Return the folder of a round of an algorithm; its name is that of the round in the results."""
        return self.folder / (name if number <= 1 else f"{name}-round{number}")

    def _steps_so_far(self, name: str) -> int:
        """Count the optimiser steps of all rounds of an algorithm until now."""
        if name not in self.settings.algorithms:
            return 0
        numbers = range(1, self.settings.iteration.rounds + 1)
        return sum(len(read_metrics(self._folder(name, number))) for number in numbers)

    def _workers(self) -> int:
        workers = self.settings.workers
        if workers is not None:
            return workers
        return cores() if self.small else 1

    def evaluate(
        self, name: str, policy_path: str, value_path: str | None, *, searches: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """Evaluate one policy, see ``ScoreBook.rows``."""
        return self.scores.rows(name, policy_path, value_path, self._trained_on, searches=searches)

    def write_results(
        self, rows: list[dict[str, Any]], skipped: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Write ``results.json``: the rows, what each training run cost, and why algorithms were skipped."""
        summaries = {path.parent.name: path for path in self.start_folder.glob("sft/summary.json")}
        summaries |= {path.parent.name: path for path in sorted(self.folder.glob("*/summary.json"))}
        training = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in summaries.items()}
        document = {"results": rows, "training": training, "skipped": dict(skipped or {})}
        write_text(self.folder / "results.json", json.dumps(document, indent=2) + "\n")
        for name, finding in examine_results(rows, self.folder, self.settings.trainer.doctor):
            WarningLog(self.folder / name).give([finding])
        return rows

    # How they do it.

    def make_env(self, split: str) -> Callable[[], gym.Env[str, str]]:
        """Return a function that makes an environment of a split, see ``tasks.env_maker``."""
        return env_maker(self.settings, split)

    def _examine(self, folder: Path, episodes: EpisodeBuffer, before: EpisodeBuffer | None = None) -> None:
        """Warn, in a folder, of what looks wrong in episodes, also against those of the round before."""
        limits = self.settings.trainer.doctor
        # To imitate needs no other network, and is content with episodes that are all good.
        needs = [algorithm.needs for algorithm in self.settings.algorithms.values()]
        compared = any(needs) or (not needs and self.settings.collect.source == "policy")
        findings = examine_episodes(episodes, PromptFormat.from_pretrained(self.sft()), limits, compared=compared)
        WarningLog(folder).give(findings + ([] if before is None else examine_rounds(before, episodes, limits)))

    def _train(
        self,
        folder: Path,
        algorithm: Algorithm[Any, Any],
        policy_path: str,
        data: Callable[[], EpisodeBuffer],
        *,
        reference_path: str | None = None,
        value_path: str | None = None,
    ) -> str:
        """Train in a folder unless that is done; return the path of the policy, see ``Loader.models``."""
        if not (folder / "summary.json").exists():
            buffer = data()
            models = self.load.models(
                algorithm, policy_path, buffer, reference_path=reference_path, value_path=value_path
            )
            config = dataclasses.replace(self.settings.trainer, seed=self.settings.seed)
            result = train(algorithm, models, buffer, config, folder)
            tokenizer = PromptFormat.from_pretrained(policy_path).tokenizer
            for part in _PARTS:
                network = getattr(models, part)
                if network is not None:
                    with replace_folder(folder / part) as temporary:
                        network.save(
                            temporary, tokenizer, model_card(part, algorithm, self.settings.env.id, self.settings.seed)
                        )
            summary = dataclasses.asdict(result) | {
                "policy": self._name(policy_path),
                "reference": self._name(reference_path or policy_path) if "reference" in algorithm.needs else None,
                "value": self._name(value_path or self.settings.value.path) if "value" in algorithm.needs else None,
                "episodes": len(buffer),
                "content_hash": buffer.content_hash,
            }
            write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
        return str(folder / "policy")

    def _name(self, path: str | None) -> str | None:
        """Name a checkpoint in a record: within this run by its place there."""
        for folder in (self.folder, self.start_folder):
            if path is not None and Path(path).is_relative_to(folder):
                return Path(path).relative_to(folder).as_posix()
        return path

    @staticmethod
    def _buffer(
        path: Path, prompt_format: PromptFormat, make: Callable[[PromptFormat], EpisodeBuffer]
    ) -> EpisodeBuffer:
        """Read a buffer; make it first unless it is there."""
        if not (path / "metadata.json").exists():
            make(prompt_format).save(path)
        return EpisodeBuffer.load(path, tokenizer_fingerprint=prompt_format.fingerprint)

    def _demonstrate(self, count: int | None, samples: int, purpose: int, prompt_format: PromptFormat) -> EpisodeBuffer:
        # The first sample has the seed of the run itself.
        seeds = [self.settings.seed, *(derive(self.settings.seed, sample) for sample in range(1, samples))]
        shown = demonstrations(self.make_env("train")(), self._indices("train", count, purpose), seeds)
        return encode(shown, prompt_format, self.settings.env.id, self._provenance())

    def _collect(self, policy_path: str, number: int, prompt_format: PromptFormat) -> EpisodeBuffer:
        """Sample a policy on the train tasks of a round."""
        settings = self.settings.collect
        # Tasks that were demonstrated stay the same; others are drawn anew for each round.
        tasks = (Purpose.DEMONSTRATIONS,) if settings.demonstrated else self._of_round(Purpose.COLLECTION, number)
        provenance = self._provenance()
        if number > 1:
            provenance |= {"round": number, "policy": self._name(policy_path)}
        return collect(
            self.make_env("train"),
            self.load.policy(policy_path),
            prompt_format,
            self._indices("train", settings.tasks, *tasks),
            settings,
            seed=derive(self.settings.seed, *self._of_round(Purpose.COLLECTION, number)),
            selection_seed=derive(self.settings.seed, *self._of_round(Purpose.SELECTION, number)),
            provenance=provenance,
        )

    @staticmethod
    def _of_round(purpose: int, number: int) -> tuple[int, ...]:
        """Return the purpose of draws in a round: each round has a stream of its own."""
        return (purpose,) if number == 1 else (purpose, number)

    def _provenance(self) -> dict[str, Any]:
        return {
            "env": self.settings.env.id,
            "env_options": dict(self.settings.env.options),
            "seed": self.settings.seed,
        }

    def _trained_on(self) -> frozenset[str]:
        """Return what tells the tasks of all training data there is until now."""
        env = self.make_env(self.settings.evaluate.splits[0])()
        paths = [self.start_folder / "data" / name for name in ("demonstrations", "episodes")]
        paths += [Path(path) for path in self.settings.data_folders]
        paths += sorted(self.folder.glob("*/data/episodes"))
        return frozenset(
            identity(env, episode.task_id, episode.messages)
            for path in paths
            if (path / "metadata.json").exists()
            for episode in EpisodeBuffer.load(path)
        )

    def _indices(self, split: str, count: int | None, *purpose: int) -> list[int]:
        """Choose tasks; without a purpose always the same ones."""
        seed = derive(self.settings.seed, *purpose) if purpose else None
        return choose_indices(self.make_env(split)(), count, seed)


def _start_key(settings: RunSettings) -> str:
    """Identify what decides the start and the offline episodes, the files they are made from included."""
    facts: list[Any] = [settings.env, settings.policy, settings.sft, settings.collect, settings.seed]
    facts += [settings.trainer.bf16, version("oreo-suite")]
    for path in (settings.policy.path, settings.env.path):
        if path is not None and Path(path).exists():
            files = [Path(path), *sorted(Path(path).rglob("*"))]
            facts += [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
