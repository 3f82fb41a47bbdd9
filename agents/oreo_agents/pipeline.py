"""The stages of a run: start, supervised fine-tuning, collection, training, evaluation.

Knows: which stage reads what, and where its result lies. A stage whose result is there is not done again, so a run
that was killed goes on where it stopped. Does not know: Hydra, tables.

A run folder holds ``start/`` (a fresh small model), ``data/demonstrations`` and ``data/episodes`` (buffers), and a
folder for ``sft`` and for each algorithm: ``policy/``, ``value/``, ``metrics.jsonl``, TensorBoard events,
``checkpoint-N/``, ``summary.json`` and ``items-<split>-<search>.jsonl``; then ``results.json``.
"""

import dataclasses
import hashlib
import json
import logging
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from importlib.metadata import version
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from filelock import FileLock
from rich.progress import Progress, track
from transformers.utils import logging as transformers_logging

from oreo_agents.evaluate import Item, evaluate, summarize
from oreo_agents.model_card import model_card
from oreo_agents.parallel import cores, side_by_side
from oreo_agents.policy import CausalPolicy
from oreo_agents.prompts import PromptFormat, encode_episode
from oreo_agents.rollout import RolloutCounts, rollout
from oreo_agents.settings import RunSettings
from oreo_agents.tasks import choose_indices, identities, identity, make_env
from oreo_agents.texts import demonstration_episode
from oreo_agents.tiny import byte_tokenizer, create_checkpoint, word_tokenizer
from oreo_agents.value import TokenValue
from oreo_algos import EpisodeBuffer, Models, train
from oreo_algos.algos import Algorithm
from oreo_algos.atomic import replace_folder
from oreo_algos.metrics import read_metrics
from oreo_algos.selection import balance
from oreo_envs import Demonstration

_log = logging.getLogger(__name__)

# Purposes of random draws: each has a stream of its own.
_DEMONSTRATIONS, _COLLECTION, _SELECTION, _EVALUATION = range(4)
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
        device = settings.policy.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.small = settings.policy.path is None and self.device.type == "cpu"
        if self.small:
            # A second thread gains a tenth on such models; a second process, see `_in_parallel`, nearly all.
            torch.set_num_threads(1)

    # Stages, each of which first asks for those before it.

    def prepare(self, *, episodes: bool) -> None:
        """Make the start, and the offline episodes if asked for, while no other process makes the same ones."""
        self.start_folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.start_folder / ".start.lock"):
            self.sft()
            if episodes:
                self.episodes()

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
                shown = self._shown(self.settings.sft.demonstrations, 1, _DEMONSTRATIONS)
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
        prompt_format = PromptFormat.from_pretrained(self.start())

        count = self.settings.sft.demonstrations
        return self._buffer(
            "demonstrations", prompt_format, lambda: self._demonstrate(prompt_format, count, 1, _DEMONSTRATIONS)
        )

    def episodes(self) -> EpisodeBuffer:
        """Return the offline episodes: those of ``settings.data``, else those that ``settings.collect`` asks for."""
        path = self.settings.data
        if path is not None:
            fingerprint = PromptFormat.from_pretrained(self.sft()).fingerprint
            buffer = EpisodeBuffer.load(path, tokenizer_fingerprint=fingerprint)
            if buffer.env_ids != [self.settings.env.id]:
                raise ValueError(
                    f"data={path} holds episodes of {', '.join(buffer.env_ids)}, and this run is about "
                    f"{self.settings.env.id}; choose the environment with env=..."
                )
            return buffer
        policy_path = self.sft()
        prompt_format = PromptFormat.from_pretrained(policy_path)
        collect = self.settings.collect
        if collect.source == "demonstrations":
            return self._buffer(
                "episodes",
                prompt_format,
                lambda: self._demonstrate(prompt_format, collect.tasks, collect.samples, _COLLECTION),
            )
        return self._buffer("episodes", prompt_format, lambda: self._collect(policy_path, prompt_format))

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
        skipped = {name: reason for name in names if (reason := self._nothing_to_learn(name))}
        if len(skipped) == len(names):
            raise ValueError("; ".join(f"{name}: {reason}" for name, reason in skipped.items()))
        names = [name for name in names if name not in skipped]
        for name, reason in skipped.items():
            _log.warning("%s is skipped: %s", name, reason)
        workers = min(self._workers(), len(names))
        if workers == 1:
            parts = {name: self._train_and_evaluate(name) for name in names}
        else:
            # The longest first: those that train most networks.
            order = sorted(names, key=lambda name: -len(getattr(self.settings.algorithms.get(name), "needs", ())))
            found = side_by_side(
                self._train_and_evaluate,
                order,
                workers,
                initializer=_start_worker,
                steps_of=lambda name: len(read_metrics(self.folder / name)) if name != "sft" else 0,
            )
            parts = dict(zip(order, found, strict=True))
        return self.write_results([row for name in names for row in parts[name]], skipped)

    def _nothing_to_learn(self, name: str) -> str | None:
        """Say why an algorithm finds no example in the episodes, such as no success; None when it finds some."""
        if name in self.settings.algorithms:
            try:
                self.settings.algorithms[name].select(self.episodes(), np.random.default_rng(0))
            except ValueError as error:
                return str(error)
        return None

    def _train_and_evaluate(self, name: str) -> list[dict[str, Any]]:
        start = policy = self.sft()
        if name in self.settings.algorithms:
            policy = self._train(self.folder / name, self.settings.algorithms[name], start, self.episodes)
        value = self.folder / name / "value"
        if not value.exists() or not getattr(self.settings.algorithms.get(name), "trains_final_value", False):
            return self.evaluate(name, policy, None)
        rows = self.evaluate(name, policy, str(value))
        if name == self.settings.evaluate.start_value:
            guided = [s for s in self.settings.evaluate.searches if self.settings.searches[s].needs_value]
            rows += self.evaluate("sft", start, str(value), searches=guided)
        return rows

    def _workers(self) -> int:
        workers = self.settings.workers
        if workers is not None:
            return workers
        return cores() if self.small else 1

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
            The rows of the results, one a split and search.
        """
        settings = self.settings.evaluate
        if searches is None:
            known = self.settings.searches
            searches = [s for s in settings.searches if value_path is not None or not known[s].needs_value]
            if not searches:
                _log.warning("%s has no value that %s could use: not evaluated", name, ", ".join(settings.searches))
        rows = []
        for split in settings.splits if searches else ():
            indices = self._indices(split, settings.tasks, None)
            self._answer(name, policy_path, value_path, split, indices, searches)
            rows += self._rows(name, value_path, split, indices, searches)
        return rows

    def _answer(
        self,
        name: str,
        policy_path: str,
        value_path: str | None,
        split: str,
        indices: Sequence[int],
        searches: Sequence[str],
    ) -> None:
        """Write down the items of those searches that have none yet."""
        folder = self.folder / name
        missing = {s: self.settings.searches[s] for s in searches if not _items_path(folder, split, s).exists()}
        if not missing:
            return
        counts = RolloutCounts()
        policy = self._load_policy(policy_path)
        total = sum(len(indices) * n for n in {s.samples for s in missing.values()})
        with _progress(f"evaluate {name}, {split}", total) as advance:
            found = evaluate(
                self.make_env(split),
                policy,
                PromptFormat.from_pretrained(policy_path),
                missing,
                indices,
                self.settings.evaluate.sampling,
                seed=_derive(self.settings.seed, _EVALUATION),
                value=None if value_path is None else self._load_value(value_path, policy_path),
                counts=counts,
                progress=advance,
            )
        counts.report(f"evaluation of {name} on {split}")
        folder.mkdir(parents=True, exist_ok=True)
        for search, items in found.items():
            lines = [json.dumps(dataclasses.asdict(item)) for item in items]
            _write_atomically(_items_path(folder, split, search), "\n".join(lines) + "\n")

    def _rows(
        self, name: str, value_path: str | None, split: str, indices: Sequence[int], searches: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Summarise the items of one split."""
        folder = self.folder / name
        trained_on = self._trained_on
        seen = len(trained_on & identities(self.make_env(split)(), indices)) if trained_on else 0
        if seen:
            _log.warning("%s: %d of %d evaluated tasks are also in the training data", name, seen, len(indices))
        rows = []
        for search in searches:
            lines = _items_path(folder, split, search).read_text(encoding="utf-8").splitlines()
            items = [Item(**json.loads(line)) for line in lines]
            row = {
                "algo": name,
                "search": search,
                "env": self.settings.env.id,
                "env_options": dict(self.settings.env.options),
                "split": split,
                "seed": self.settings.seed,
                **summarize(items),
            }
            if name in self.settings.algorithms:
                row["settings"] = dataclasses.asdict(self.settings.algorithms[name])
            if self.settings.searches[search].needs_value and value_path is not None:
                row["value"] = Path(value_path).parent.name
            if seen:
                row["seen_in_training"] = seen
            rows.append(row)
        return rows

    def write_results(
        self, rows: list[dict[str, Any]], skipped: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Write ``results.json``: the rows, what each training run cost, and why algorithms were skipped."""
        summaries = {path.parent.name: path for path in self.start_folder.glob("sft/summary.json")}
        summaries |= {path.parent.name: path for path in sorted(self.folder.glob("*/summary.json"))}
        training = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in summaries.items()}
        document = {"results": rows, "training": training, "skipped": dict(skipped or {})}
        _write_atomically(self.folder / "results.json", json.dumps(document, indent=2) + "\n")
        return rows

    # How they do it.

    def make_env(self, split: str) -> Callable[[], gym.Env[str, str]]:
        """Return a function that makes an environment of a split.

        Raises:
            ValueError: ``env.path`` is one file of tasks, which would serve as every split, and this one is not
                evaluated.
        """
        path = self.settings.env.path
        one_file = path is not None and Path(path).is_file() and not tarfile.is_tarfile(path)
        if one_file and split not in self.settings.evaluate.splits:
            raise ValueError(
                f"env.path={path} is one file, so training and evaluation would see the same tasks; give the folder "
                "that holds a file for each split"
            )
        return partial(make_env, self.settings.env, split)

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
        if self.settings.policy.dtype == "bfloat16" and self.settings.policy.lora.rank == 0:
            raise ValueError(
                "policy.dtype=bfloat16 would lose most updates: a step at these learning rates is smaller than the "
                "precision of the weights; train float32 weights (a GPU still computes in bfloat16), or adapters "
                "with policy.lora.rank"
            )
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
                else self._load_value(settings.path, path)
            )
        return models

    def _load_policy(self, path: str) -> CausalPolicy:
        return CausalPolicy.from_pretrained(path, **self._where(), lora=self.settings.policy.lora)

    def _load_value(self, path: str, policy_path: str) -> TokenValue:
        if PromptFormat.from_pretrained(path).fingerprint != PromptFormat.from_pretrained(policy_path).fingerprint:
            raise ValueError(
                f"value.path={path} has another tokenizer than the policy {policy_path}, so it reads other tokens"
            )
        return TokenValue.from_pretrained(path, **self._where(), lora=self.settings.value.lora)

    def _where(self) -> dict[str, Any]:
        return {"device": self.device, "dtype": getattr(torch, self.settings.policy.dtype)}

    def _buffer(self, name: str, prompt_format: PromptFormat, make: Callable[[], EpisodeBuffer]) -> EpisodeBuffer:
        path = self.start_folder / "data" / name
        if not (path / "metadata.json").exists():
            make().save(path)
        return EpisodeBuffer.load(path, tokenizer_fingerprint=prompt_format.fingerprint)

    def _shown(self, count: int | None, samples: int, purpose: int) -> Iterator[Demonstration]:
        """Yield ``samples`` demonstrations of each of ``count`` tasks; None: of all."""
        env: Any = self.make_env("train")().unwrapped
        indices = self._indices("train", count, purpose)
        for index in track(indices, "demonstrations", transient=True, disable=parent_process() is not None):
            for sample in range(samples):
                # The first sample has the seed of the run itself.
                yield env.demonstration(
                    index, seed=_derive(self.settings.seed, sample) if sample else self.settings.seed
                )

    def _demonstrate(self, prompt_format: PromptFormat, count: int | None, samples: int, purpose: int) -> EpisodeBuffer:
        episodes = [
            encode_episode(
                demonstration_episode(shown, self.settings.env.id),
                prompt_format,
                masked_steps=np.flatnonzero(shown.mistaken).tolist(),
            )
            for shown in self._shown(count, samples, purpose)
        ]
        return EpisodeBuffer(
            episodes,
            tokenizer_fingerprint=prompt_format.fingerprint,
            provenance={
                "source": "demonstrations",
                "success_rate": sum(e.success for e in episodes) / len(episodes),
                **self._provenance(),
            },
        )

    def _collect(self, policy_path: str, prompt_format: PromptFormat) -> EpisodeBuffer:
        settings = self.settings.collect
        purpose = _DEMONSTRATIONS if settings.demonstrated else _COLLECTION
        indices = [index for index in self._indices("train", settings.tasks, purpose) for _ in range(settings.samples)]
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
        """What tells the tasks of all training data there is; asked for once everything has been trained."""
        env = self.make_env(self.settings.evaluate.splits[0])()
        paths = [self.start_folder / "data" / name for name in ("demonstrations", "episodes")]
        paths += [Path(self.settings.data)] if self.settings.data else []
        return frozenset(
            identity(env, episode.task_id, episode.messages)
            for path in paths
            if (path / "metadata.json").exists()
            for episode in EpisodeBuffer.load(path)
        )

    def _indices(self, split: str, count: int | None, purpose: int | None) -> list[int]:
        seed = None if purpose is None else _derive(self.settings.seed, purpose)
        return choose_indices(self.make_env(split)(), count, seed)


def _derive(seed: int, purpose: int) -> int:
    """Return the seed of one purpose."""
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0])


def _items_path(folder: Path, split: str, search: str) -> Path:
    return folder / f"items-{split}-{search}.jsonl"


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _start_key(settings: RunSettings) -> str:
    """Identify what decides the start and the offline episodes, the files they are made from included."""
    facts: list[Any] = [settings.env, settings.policy, settings.sft, settings.collect, settings.seed]
    facts += [settings.trainer.bf16, version("oreo-suite")]
    for path in (settings.policy.path, settings.env.path):
        if path is not None and Path(path).exists():
            files = [Path(path), *sorted(Path(path).rglob("*"))]
            facts += [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def _start_worker() -> None:
    """Set up a process that works beside others, on one core."""
    torch.set_num_threads(1)
    quiet()


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
