"""The stages of a run: start, supervised fine-tuning, collection, training, evaluation.

Knows: which stage reads what, and where its result lies. A stage whose result is there is not done again, so a run
that was killed goes on where it stopped. Does not know: Hydra, tables.

A run folder holds ``start/`` (a small model before ``sft``), ``data/demonstrations`` and ``data/episodes`` (buffers),
and a folder for ``sft`` and for each algorithm: ``policy/``, ``value/``, ``metrics.jsonl``, TensorBoard events,
``summary.json``, which says that the training is done, until then ``checkpoint-N/``, and
``items-<split>-<search>.jsonl`` with ``answers-<split>-<search>/`` (a buffer, see ``evaluation.answers``); then
``results.json``. Round N > 1 of an algorithm lies in ``<algorithm>-roundN/``, with the episodes collected for it in
``data/episodes`` there.
"""

import dataclasses
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from filelock import FileLock

from oreo_agents.evaluation.curve import DevTasks
from oreo_agents.evaluation.preferences import MEASURE as PAIRS
from oreo_agents.evaluation.preferences import DevPairs
from oreo_agents.formats.importing import CHAT
from oreo_agents.plugins import import_named
from oreo_agents.progress import start_worker
from oreo_agents.runs.cards import add_results
from oreo_agents.runs.dev_tasks import dev_indices, dev_split
from oreo_agents.runs.doctor import examine_episodes, examine_results, examine_rounds
from oreo_agents.runs.engines import Engines
from oreo_agents.runs.hparams import write_hparams
from oreo_agents.runs.layout import Layout
from oreo_agents.runs.loading import Loader
from oreo_agents.runs.memory import report_memory
from oreo_agents.runs.pair_book import PairBook
from oreo_agents.runs.parallel import cores, side_by_side
from oreo_agents.runs.run_data import Part, RunData, join
from oreo_agents.runs.scorebook import ScoreBook
from oreo_agents.runs.settings import RunSettings
from oreo_agents.runs.starts import make_start, start_key
from oreo_agents.runs.trained import Trained, is_done, require_same_episodes
from oreo_algos import EpisodeBuffer, Models, ranks, train
from oreo_algos.algos import Algorithm
from oreo_algos.algos.selection import NothingToLearnError
from oreo_algos.storage.atomic import write_text
from oreo_algos.training.metrics_writer import read_metrics
from oreo_algos.training.trackers import require_trackers
from oreo_algos.training.warning_log import WarningLog

_log = logging.getLogger(__name__)


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
        self.start_folder = folder if shared is None else shared / start_key(settings)
        folder.mkdir(parents=True, exist_ok=True)
        self.layout = Layout(folder, self.start_folder)
        self.engines = Engines(settings.sampler, settings.policy, settings.value.url, folder)
        self.load = Loader(settings.policy, settings.value, self.engines)
        self.data = RunData(settings, self.layout, self.load)
        self.scores = ScoreBook(settings, folder, self.load)
        self.pairs = PairBook(settings, folder, self.load, self.data)
        self.ranks = ranks.current()
        if self.ranks.size > 1 and settings.workers not in (None, 1):
            raise ValueError(
                f"workers={settings.workers} is for one process, and here are {self.ranks.size} together; leave it out"
            )
        self.small = settings.policy.path is None and self.load.device.type == "cpu"
        if self.small:
            # A second thread gains a tenth on such models; a second process, see `train_and_evaluate`, nearly all.
            torch.set_num_threads(1)

    # Stages, each of which first asks for those before it.

    def prepare(self, *, episodes: bool) -> None:
        """Make the start, and the offline episodes if asked for, while no other process makes the same ones."""
        self._check_dev()
        require_trackers(self.settings.trainer.tracker)
        self.start_folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.start_folder / ".start.lock") if self.ranks.leads else nullcontext():
            self.sft()
            if episodes:
                self._examine(self.folder, self.episodes())
                self.pairs.require(self.sft())

    def _check_dev(self) -> None:
        """Find out before anything is trained whether there are tasks to ask on the way."""
        settings = self.settings
        if self.pairs.on_the_way or not settings.trainer.evaluate_every:
            return
        split = dev_split(settings)
        if settings.trainer.chooses and split in settings.evaluate.splits:
            _log.warning(
                "the results are of split %s, by which networks are chosen: they are better than on other tasks", split
            )

    def start(self) -> str:
        """Return the path of the checkpoint before supervised fine-tuning; makes a small one when none is given."""
        if self.settings.policy.path is not None:
            return self.settings.policy.path
        folder = self.start_folder / "start"
        self.ranks.first(lambda: make_start(self.settings, folder))
        return str(folder)

    def sft(self) -> str:
        """Return the path of the policy after supervised fine-tuning, the start itself if that is switched off."""
        settings = self.settings.sft
        start = self.start()
        if settings.demonstrations == 0:
            return start
        return self._train(
            self.start_folder / "sft", settings.algorithm, start, lambda: [self.data.demonstrations(start)]
        )

    def episodes(self) -> EpisodeBuffer:
        """Return the offline episodes: those of ``settings.data``, else those that ``settings.collect`` asks for."""
        return join(self.data.offline(self.sft()))

    def train_and_evaluate(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Train algorithms from the same start and episodes, evaluate each, and write ``results.json``.

        Args:
            names: of the settings' algorithms, or ``sft`` for the start itself.

        Returns:
            The rows of the results.
        """
        # Held-out data that is missing is to be missed now, not after hours of training.
        self.ranks.first(self._require_splits)
        learning = any(name in self.settings.algorithms for name in names)
        if learning and not self.settings.data_folders:
            self.settings.train_indices(1, split=self.settings.collect.split)
        self._report_memory(names)
        # What all of them share is made first, by this process alone.
        self.prepare(episodes=learning)
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
            # The workers share this process's GPU: give back what it keeps for itself there.
            torch.cuda.empty_cache()
            # The longest first: those that train most networks.
            order = sorted(names, key=lambda name: -len(getattr(self.settings.algorithms.get(name), "needs", ())))
            found = side_by_side(
                self._iterate,
                order,
                workers,
                initializer=partial(_start_worker, tuple(self.settings.imports)),
                steps_of=self._steps_so_far,
            )
            parts = dict(zip(order, found, strict=True))
        for name in names:
            skipped |= parts[name][1]
        return self.write_results([row for name in names for row in parts[name][0]], skipped)

    def _require_splits(self) -> None:
        for split in self.settings.evaluate.splits:
            self.make_env(split)().close()

    def _report_memory(self, names: Sequence[str]) -> None:
        """Say what updates take on a GPU, before anything is loaded; small models of our own are no matter."""
        if self.load.device.type == "cuda" and self.settings.policy.path is not None and self.ranks.leads:
            device = torch.cuda.get_device_properties(self.load.device)
            report_memory(self.settings, names, device.total_memory, self._workers())

    def _nothing_to_learn(self, name: str, number: int) -> str | None:
        """Say why an algorithm finds no example for a round, such as no success; None when it finds some."""
        if name not in self.settings.algorithms:
            return None
        episodes = join(self.data.learned_in(name, number, self.sft()))
        try:
            algorithm = self.settings.algorithms[name]
            algorithm.select(algorithm.learnable(episodes), np.random.default_rng(0))
        except NothingToLearnError as error:
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
            folder = self.layout.round(name, number)
            reason = self._nothing_to_learn(name, number) if number > 1 else None
            if reason is not None:
                _log.warning("%s: there is no round %d: %s", name, number, reason)
                return rows, {folder.name: reason}
            self._train_round(name, number)
            found = self._evaluate_round(name, number)
            rows += [row | {"round": number} for row in found] if self.settings.iteration.rounds > 1 else found
        return rows, {}

    def _train_round(self, name: str, number: int) -> None:
        start, settings, folder = self.sft(), self.settings.iteration, self.layout.round(name, number)
        policy_path, value_path = start, None
        if number > 1:
            before, now = (join(self.data.collected(name, k, start)) for k in (number - 1, number))
            self._examine(folder, now, before)
            previous = self.layout.round(name, number - 1)
            policy_path = str(previous / "policy")
            if settings.value == "carried" and (previous / "value").exists():
                value_path = str(previous / "value")
        self._train(
            folder,
            self.settings.algorithms[name],
            policy_path,
            partial(self.data.learned_in, name, number, start),
            reference_path=start if settings.reference == "start" else None,
            value_path=value_path,
        )

    def _evaluate_round(self, name: str, number: int) -> list[dict[str, Any]]:
        folder, algorithm = self.layout.round(name, number), self.settings.algorithms[name]
        policy, value = str(folder / "policy"), folder / "value"
        own = str(value) if value.exists() and getattr(algorithm, "trains_final_value", False) else None
        rows = self.evaluate(folder.name, policy, own)
        begun = self.sft() if number == 1 else str(self.layout.round(name, number - 1) / "policy")
        reference = self.sft() if self.settings.iteration.reference == "start" else begun
        learned = partial(self.data.tasks_of, name, number, self.sft())
        beta = self.pairs.beta(getattr(algorithm, "beta", None))
        rows += self.ranks.first(lambda: self.pairs.rows(folder.name, policy, own, reference, beta, learned))
        if own is None:
            return rows
        if folder.name == self.settings.evaluate.start_value:
            known, asked = self.settings.searches, self.settings.evaluate.with_value
            guided = [search for search in asked if known[search].needs_value]
            rows += self.evaluate("sft", self.sft(), str(value), searches=guided)
        return rows

    def _steps_so_far(self, name: str) -> int:
        """Count the optimiser steps of all rounds of an algorithm until now."""
        if name not in self.settings.algorithms:
            return 0
        numbers = range(1, self.settings.iteration.rounds + 1)
        rows = [read_metrics(self.layout.round(name, number)) for number in numbers]
        return sum(int(own[-1]["step"]) for own in rows if own)

    def _workers(self) -> int:
        workers = self.settings.workers
        if workers is not None or self.ranks.size > 1:
            return workers or 1
        if self.settings.sampler.engine != "local" or self.settings.value.url is not None:
            return 1
        return cores() if self.small else 1

    def evaluate(
        self, name: str, policy_path: str, value_path: str | None, *, searches: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """Evaluate one policy on tasks, see ``ScoreBook.rows``."""
        if self.settings.env.id == CHAT:  # which judges no answer
            if not self.pairs.given:
                text = "%s is not evaluated: %s judges no answer; evaluate.pairs.share=0.1, or .data=FILE, ranks pairs"
                _log.warning(text, name, CHAT)
            return []
        networks = [name] if value_path is None else [name, Path(value_path).parent.name]
        seen = partial(self.data.seen_by, networks)
        return self.ranks.first(lambda: self.scores.rows(name, policy_path, value_path, seen, searches=searches))

    def write_results(
        self, rows: list[dict[str, Any]], skipped: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Write ``results.json``: rows of tasks and of pairs, what training cost, why algorithms were skipped."""
        return self.ranks.first(lambda: self._write_results(rows, skipped))

    def _write_results(self, rows: list[dict[str, Any]], skipped: Mapping[str, str] | None) -> list[dict[str, Any]]:
        summaries = {path.parent.name: path for path in self.start_folder.glob("sft/summary.json")}
        summaries |= {path.parent.name: path for path in sorted(self.folder.glob("*/summary.json"))}
        training = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in summaries.items()}
        every, ranked = rows, [row for row in rows if row.get("measure") == PAIRS]
        rows = [row for row in rows if row.get("measure") != PAIRS]
        document = {"results": rows, "pairs": ranked, "training": training, "skipped": dict(skipped or {})}
        write_text(self.folder / "results.json", json.dumps(document, indent=2) + "\n")
        for name in dict.fromkeys(row["algo"] for row in every) if self._events else ():
            own = [row for row in every if row["algo"] == name]
            write_hparams(self.folder / name, self.settings, own, training.get(name, {}))
        add_results(self.folder, every)
        for name, finding in examine_results(rows, self.folder, self.settings.trainer.doctor):
            WarningLog(self.folder / name, events=self._events).give([finding])
        return every

    # How they do it.

    def make_env(self, split: str) -> Callable[[], gym.Env[str, str]]:
        """Return a function that makes an environment of a split, see ``tasks.env_maker``."""
        return self.settings.env_maker(split)

    @property
    def _events(self) -> bool:
        """Whether files of events are written for TensorBoard."""
        return "tensorboard" in self.settings.trainer.tracker

    def _examine(self, folder: Path, episodes: EpisodeBuffer, before: EpisodeBuffer | None = None) -> None:
        """Warn, in a folder, of what looks wrong in episodes, also against those of the round before."""
        limits = self.settings.trainer.doctor
        # To imitate needs no other network, and is content with episodes that are all good.
        needs = [algorithm.needs for algorithm in self.settings.algorithms.values()]
        compared = any(needs) or (not needs and self.settings.collect.source == "policy")
        start = self.sft()
        if not self.ranks.leads:
            return
        findings = examine_episodes(episodes, self.load.prompt_format(start), limits, compared=compared)
        findings += [] if before is None else examine_rounds(before, episodes, limits)
        WarningLog(folder, events=self._events).give(findings)

    def _train(
        self,
        folder: Path,
        algorithm: Algorithm[Any],
        policy_path: str,
        data: Callable[[], Sequence[Part]],
        *,
        reference_path: str | None = None,
        value_path: str | None = None,
    ) -> str:
        """Train in a folder unless that is done; return the path of the policy, see ``Loader.models``."""
        if self.ranks.first(partial(is_done, folder)):
            if self.settings.data_folders:
                require_same_episodes(folder, data())
            return str(folder / "policy")
        parts = data()
        buffer = join(parts)
        # A shard fits where a whole network may not.
        load = self.load.on_host() if self.ranks.started and self.settings.trainer.sharding == "full" else self.load
        models = load.models(algorithm, policy_path, buffer, reference_path=reference_path, value_path=value_path)
        config = dataclasses.replace(self.settings.trainer, seed=self.settings.seed)
        dev = self._dev_tasks(folder, algorithm, models, policy_path)
        env = self.settings.env
        facts = {"env": {"id": env.id, "options": env.options}, "policy": {"path": self.settings.policy.path}}
        result = train(algorithm, models, buffer, config, folder, evaluate=dev, facts=facts, device=self.load.device)
        starts = {
            "policy": policy_path,
            "reference": (reference_path or policy_path) if "reference" in algorithm.needs else None,
            "value": (value_path or self.settings.value.path) if "value" in algorithm.needs else None,
        }
        trained, prompt_format = (
            Trained(algorithm, models, parts, buffer, result, starts),
            self.load.prompt_format(policy_path),
        )
        self.ranks.first(lambda: trained.save(folder, self.settings, self.layout, prompt_format))
        return str(folder / "policy")

    def _dev_tasks(
        self, folder: Path, algorithm: Algorithm[Any], models: Models, policy_path: str
    ) -> DevTasks | DevPairs | None:
        """Return what a network is asked while it is trained; None where it is asked nothing."""
        if not self.settings.trainer.evaluate_every:
            return None
        if self.pairs.on_the_way:
            return self.pairs.dev(algorithm, models, policy_path)
        split = dev_split(self.settings)
        env_name = re.sub(r"[^-.\w]", "_", self.settings.env.id.rpartition("/")[2])  # as TensorBoard takes names
        make, indices = dev_indices(self.settings, split, partial(self.data.seen_by, [folder.name]))
        return DevTasks(
            make,
            indices,
            name=f"{env_name}/{split}",
            prompt_format=self.load.prompt_format(policy_path),
            sampling=self.settings.evaluate.sampling,
            examples=self.settings.evaluate.dev.examples,
            models=models,
        )


def _start_worker(imports: Sequence[str]) -> None:
    """Set up another process, with the modules that this one imported."""
    for name in imports:
        import_named(name)
    start_worker()
