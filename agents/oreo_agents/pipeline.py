"""The stages of a run: start, supervised fine-tuning, collection, training, evaluation.

Knows: which stage reads what, and where its result lies. A stage whose result is there is not done again, so a run
that was killed goes on where it stopped. Does not know: Hydra, tables.

A run folder holds ``start/`` (a fresh small model), ``data/demonstrations`` and ``data/episodes`` (buffers), and a
folder for ``sft`` and for each algorithm: ``policy/``, ``value/``, ``metrics.jsonl``, TensorBoard events,
``checkpoint-N/``, ``summary.json`` and ``items-<search>.jsonl``; then ``results.json``.
"""

import dataclasses
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import cached_property, partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from rich.progress import Progress, TextColumn, TimeElapsedColumn, track
from transformers.utils import logging as transformers_logging

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_agents.evaluate import Item, evaluate, summarize
from oreo_agents.model_card import model_card
from oreo_agents.policy import CausalPolicy
from oreo_agents.prompts import PromptFormat, encode_episode
from oreo_agents.rollout import RolloutCounts, rollout
from oreo_agents.settings import RunSettings
from oreo_agents.texts import text_episode
from oreo_agents.tiny import byte_tokenizer, create_checkpoint, word_tokenizer
from oreo_agents.value import TokenValue
from oreo_algos import Episode, EpisodeBuffer, Models, train
from oreo_algos.algos import Algorithm
from oreo_algos.atomic import replace_folder
from oreo_algos.metrics import read_metrics
from oreo_algos.selection import balance

_log = logging.getLogger(__name__)

# Purposes of random draws: each has a stream of its own.
_DEMONSTRATIONS, _COLLECTION, _SELECTION, _EVALUATION = range(4)
_MAX_INDEX = 2**31
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
        self.start_folder = folder if shared is None else shared / settings.start_fingerprint
        folder.mkdir(parents=True, exist_ok=True)
        device = settings.policy.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.small = settings.policy.path is None and self.device.type == "cpu"
        if self.small:
            # A second thread gains a tenth on such models; a second process, see `_in_parallel`, nearly all.
            torch.set_num_threads(1)

    # Stages, each of which first asks for those before it.

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
                texts = [message["content"] for e in self._demonstrations() for message in e.messages]
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
        prompt_format = PromptFormat.from_pretrained(self.start())

        def make() -> EpisodeBuffer:
            return EpisodeBuffer(
                (encode_episode(episode, prompt_format) for episode in self._demonstrations()),
                tokenizer_fingerprint=prompt_format.fingerprint,
                provenance={"source": "demonstrations", **self._provenance()},
            )

        return self._buffer("demonstrations", prompt_format, make)

    def episodes(self) -> EpisodeBuffer:
        """Return the offline episodes: those of ``settings.data``, else samples of the start policy."""
        path = self.settings.data
        if path is not None:
            fingerprint = PromptFormat.from_pretrained(self.sft()).fingerprint
            return EpisodeBuffer.load(path, tokenizer_fingerprint=fingerprint)
        policy_path = self.sft()
        prompt_format = PromptFormat.from_pretrained(policy_path)
        return self._buffer("episodes", prompt_format, lambda: self._collect(policy_path, prompt_format))

    def train_and_evaluate(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Train algorithms from the same start and episodes, evaluate each, and write ``results.json``.

        Args:
            names: of the settings' algorithms, or ``sft`` for the start itself.

        Returns:
            The rows of the results.
        """
        # What all of them share is made first, by this process alone.
        self.sft()
        if any(name in self.settings.algorithms for name in names):
            self.episodes()
        workers = min(self._workers(), len(names))
        parts = map(self._train_and_evaluate, names) if workers == 1 else self._in_parallel(names, workers)
        return self.write_results([row for rows in parts for row in rows])

    def _train_and_evaluate(self, name: str) -> list[dict[str, Any]]:
        start = policy = self.sft()
        if name in self.settings.algorithms:
            policy = self._train(self.folder / name, self.settings.algorithms[name], start, self.episodes)
        value = self.folder / name / "value"
        if not value.exists():
            return self.evaluate(name, policy, None)
        rows = self.evaluate(name, policy, str(value))
        if name == self.settings.evaluate.start_value:
            guided = [s for s in self.settings.evaluate.searches if self.settings.searches[s].needs_value]
            rows += self.evaluate("sft", start, str(value), searches=guided)
        return rows

    def _in_parallel(self, names: Sequence[str], workers: int) -> list[list[dict[str, Any]]]:
        """Give each name to one of several processes: small models leave a second core idle otherwise."""
        with (
            ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker) as pool,
            Progress(TextColumn("{task.description}"), TextColumn("{task.fields[doing]}"), TimeElapsedColumn()) as bar,
        ):
            # The longest first: those that train most networks.
            order = sorted(
                names,
                key=lambda name: -len(self.settings.algorithms[name].needs) if name in self.settings.algorithms else 0,
            )
            jobs = {name: pool.submit(_work, self, name) for name in order}
            tasks = {name: bar.add_task(name, total=1, doing="waiting", start=False) for name in order}
            while running := [name for name in order if not bar.tasks[tasks[name]].finished]:
                wait([jobs[name] for name in running], timeout=1, return_when=FIRST_COMPLETED)
                for name in running:
                    if jobs[name].done():
                        jobs[name].result()
                        bar.update(tasks[name], completed=1, doing="done")
                    elif jobs[name].running():
                        bar.start_task(tasks[name])
                        steps = len(read_metrics(self.folder / name)) if name in self.settings.algorithms else 0
                        bar.update(tasks[name], doing=f"trained {steps} steps" if steps else "started")
            return [jobs[name].result() for name in names]

    def _workers(self) -> int:
        workers = self.settings.workers
        if workers is not None:
            return workers
        return os.cpu_count() or 1 if self.small else 1

    def evaluate(
        self, name: str, policy_path: str, value_path: str | None, *, searches: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """Evaluate one policy; items already on disk are not computed again.

        Args:
            name: of the algorithm, in the results.
            policy_path: its checkpoint.
            value_path: its value network, None without one.
            searches: which to use; None: all of the settings that this policy can serve.

        Returns:
            The rows of the results, one a search.
        """
        settings = self.settings.evaluate
        if searches is None:
            known = self.settings.searches
            searches = [s for s in settings.searches if value_path is not None or not known[s].needs_value]
        folder = self.folder / name
        missing = {s: self.settings.searches[s] for s in searches if not _items_path(folder, s).exists()}
        indices = self._indices(settings.split, settings.tasks, None)
        if missing:
            counts = RolloutCounts()
            policy = self._load_policy(policy_path)
            total = sum(len(indices) * n for n in {s.samples for s in missing.values()})
            with _progress(f"evaluate {name}", total) as advance:
                found = evaluate(
                    self.make_env(settings.split),
                    policy,
                    PromptFormat.from_pretrained(policy_path),
                    missing,
                    indices,
                    settings.sampling,
                    seed=_derive(self.settings.seed, _EVALUATION),
                    value=None if value_path is None else self._load_value(value_path),
                    counts=counts,
                    progress=advance,
                )
            counts.report(f"evaluation of {name}")
            folder.mkdir(parents=True, exist_ok=True)
            for search, items in found.items():
                lines = [json.dumps(dataclasses.asdict(item)) for item in items]
                _write_atomically(_items_path(folder, search), "\n".join(lines) + "\n")
        rows = []
        for search in searches:
            items = [Item(**json.loads(line)) for line in _items_path(folder, search).read_text().splitlines()]
            row = {
                "algo": name,
                "search": search,
                "env": self.settings.env.id,
                "env_options": dict(self.settings.env.options),
                "split": settings.split,
                "seed": self.settings.seed,
                **summarize(items),
            }
            if name in self.settings.algorithms:
                row["settings"] = dataclasses.asdict(self.settings.algorithms[name])
            if self.settings.searches[search].needs_value and value_path is not None:
                row["value"] = Path(value_path).parent.name
            seen = sum(item.task_id in self._trained_on for item in items)
            if seen:
                row["seen_in_training"] = seen
                _log.warning("%s: %d of %d evaluated tasks are also in the training data", name, seen, len(items))
            rows.append(row)
        return rows

    def write_results(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Write ``results.json``: the rows, and what each training run cost."""
        summaries = {path.parent.name: path for path in self.start_folder.glob("sft/summary.json")}
        summaries |= {path.parent.name: path for path in sorted(self.folder.glob("*/summary.json"))}
        training = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in summaries.items()}
        document = {"results": rows, "training": training}
        _write_atomically(self.folder / "results.json", json.dumps(document, indent=2) + "\n")
        return rows

    # How they do it.

    def make_env(self, split: str) -> Callable[[], gym.Env[str, str]]:
        """Return a function that makes an environment of a split."""
        return partial(
            gym.make,
            self.settings.env.id,
            split=split,
            disable_env_checker=True,
            **self.settings.env.keywords(),
        )

    def _train(
        self, folder: Path, algorithm: Algorithm[Any, Any], policy_path: str, data: Callable[[], EpisodeBuffer]
    ) -> str:
        if not (folder / "summary.json").exists():
            buffer = data()
            started = time.process_time()
            models = self._load_models(algorithm, policy_path, buffer)
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
            summary = dataclasses.asdict(result) | {"cpu_seconds": time.process_time() - started}
            _write_atomically(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
        return str(folder / "policy")

    def _load_models(self, algorithm: Algorithm[Any, Any], path: str, buffer: EpisodeBuffer) -> Models:
        policy = self._load_policy(path)
        models = Models(policy)
        if "reference" in algorithm.needs:
            models.reference = policy.frozen_copy()
            models.policy_is_reference = True
        if "value" in algorithm.needs:
            settings = self.settings.value
            bias = None
            if settings.bias_at_mean_reward:
                bias = float(np.mean([episode.total_reward for episode in buffer]))
            models.value = (
                TokenValue.from_policy(path, bias=bias, **self._where(), lora=settings.lora)
                if settings.path is None
                else self._load_value(settings.path)
            )
        return models

    def _load_policy(self, path: str) -> CausalPolicy:
        return CausalPolicy.from_pretrained(path, **self._where(), lora=self.settings.policy.lora)

    def _load_value(self, path: str) -> TokenValue:
        return TokenValue.from_pretrained(path, **self._where(), lora=self.settings.value.lora)

    def _where(self) -> dict[str, Any]:
        return {"device": self.device, "dtype": getattr(torch, self.settings.policy.dtype)}

    def _buffer(self, name: str, prompt_format: PromptFormat, make: Callable[[], EpisodeBuffer]) -> EpisodeBuffer:
        path = self.start_folder / "data" / name
        if not (path / "metadata.json").exists():
            make().save(path)
        return EpisodeBuffer.load(path, tokenizer_fingerprint=prompt_format.fingerprint)

    def _demonstrations(self) -> list[Episode]:
        env: Any = self.make_env("train")().unwrapped
        indices = self._indices("train", self.settings.sft.demonstrations, _DEMONSTRATIONS)
        episodes = []
        for index in track(indices, "demonstrations", transient=True, disable=parent_process() is not None):
            shown = env.demonstration(index, seed=self.settings.seed)
            episodes.append(
                text_episode(
                    shown.messages[:-1],
                    shown.steps,
                    shown.rewards,
                    task_id=shown.task_id,
                    env_id=self.settings.env.id,
                    info=shown.info,
                )
            )
        return episodes

    def _collect(self, policy_path: str, prompt_format: PromptFormat) -> EpisodeBuffer:
        settings = self.settings.collect
        indices = [
            index for index in self._indices("train", settings.tasks, _COLLECTION) for _ in range(settings.samples)
        ]
        counts = RolloutCounts()
        with _progress("collect", len(indices)) as advance:
            drawn = rollout(
                self.make_env("train"),
                self._load_policy(policy_path),
                prompt_format,
                indices,
                settings.sampling,
                seed=_derive(self.settings.seed, _COLLECTION),
                counts=counts,
                progress=advance,
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
                **self._provenance(),
            },
        )
        if settings.keep_per_outcome is not None:
            generator = np.random.default_rng(_derive(self.settings.seed, _SELECTION))
            buffer = balance(buffer, settings.keep_per_outcome, generator)
        return buffer

    def _provenance(self) -> dict[str, Any]:
        return {
            "env": self.settings.env.id,
            "env_options": dict(self.settings.env.options),
            "seed": self.settings.seed,
        }

    @cached_property
    def _trained_on(self) -> frozenset[str]:
        """Tasks of all training data there is; asked for once everything has been trained."""
        paths = [self.start_folder / "data" / name for name in ("demonstrations", "episodes")]
        paths += [Path(self.settings.data)] if self.settings.data else []
        return frozenset(
            episode.task_id
            for path in paths
            if (path / "metadata.json").exists()
            for episode in EpisodeBuffer.load(path)
        )

    def _indices(self, split: str, count: int | None, purpose: int | None) -> list[int]:
        """Choose tasks: the first ``count`` ones, or with a purpose random ones, all if ``count`` is None."""
        env: Any = self.make_env(split)().unwrapped
        available = env.num_tasks
        if available is None and count is None:
            raise ValueError(f"{self.settings.env.id} generates tasks without end: say how many to use")
        if available is not None and count is not None and count > available:
            raise ValueError(f"{count} tasks were asked for, split {split!r} has {available}")
        if purpose is None:
            return list(range(available if count is None else count))
        generator = np.random.default_rng(_derive(self.settings.seed, purpose))
        if available is None:
            # Far fewer are drawn than there are, so a repetition is unlikely, and harmless.
            return generator.integers(_MAX_INDEX, size=count).tolist()
        return generator.permutation(available)[:count].tolist()


def _derive(seed: int, purpose: int) -> int:
    """Return the seed of one purpose."""
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0])


def _items_path(folder: Path, search: str) -> Path:
    return folder / f"items-{search}.jsonl"


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _start_worker() -> None:
    """Set up a process that works beside others, on one core."""
    torch.set_num_threads(1)
    quiet()


def _work(run: Run, name: str) -> list[dict[str, Any]]:
    return run._train_and_evaluate(name)


def quiet() -> None:
    """Silence the bars of transformers: they show files of kilobytes being read."""
    transformers_logging.disable_progress_bar()


@contextmanager
def _progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar; yields the function to call with the number just finished."""
    # Processes beside the first one would draw over each other.
    with Progress(disable=parent_process() is not None) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.advance(task, done)
