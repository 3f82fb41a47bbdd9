"""The held-out answers of a run folder: which are missing, where they lie, what they come to.

Knows: searches and their sizes, files of items, rows of results. Does not know: training, tables.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from oreo_agents.episodes.rollout import RolloutCounts
from oreo_agents.episodes.tasks import Purpose, choose_indices, derive, identities, is_played
from oreo_agents.evaluation.answers import keep_answers, kept_places
from oreo_agents.evaluation.budget import Contender, TauChoice, at_budgets, report_excess, resize
from oreo_agents.evaluation.evaluate import Item, evaluate, require_fit, summarize
from oreo_agents.evaluation.round_names import split_round
from oreo_agents.networks.checkpoints import weights_digest
from oreo_agents.networks.value import StateValue
from oreo_agents.progress import progress
from oreo_agents.runs.dev_tasks import dev_indices, dev_split
from oreo_agents.runs.loading import Loader
from oreo_agents.runs.settings import RunSettings
from oreo_agents.search import Answer, Greedy, Search
from oreo_agents.search.scoring import Tempered
from oreo_algos import stopping
from oreo_algos.storage.atomic import write_text

_log = logging.getLogger(__name__)


class ScoreBook:
    """Answers to held-out tasks, ``<name>/items-<split>-<search>.jsonl`` in a folder, and their summaries."""

    def __init__(self, settings: RunSettings, folder: Path, load: Loader) -> None:
        """Open the book of a run folder; nothing is read yet."""
        self.settings, self.folder, self.load = settings, folder, load

    def rows(
        self,
        name: str,
        policy_path: str,
        value_path: str | None,
        trained_on: Callable[[], frozenset[str]],
        *,
        searches: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Evaluate one policy; items already on disk are not computed again.

        Args:
            name: of the algorithm, in the results.
            policy_path: its checkpoint.
            value_path: its value network, None without one.
            trained_on: returns what tells the tasks of all training data, see ``tasks.identity``.
            searches: which to use; None: all of the settings that this policy can serve.

        Returns:
            The rows of the results, one a split, search and budget.

        Raises:
            ValueError: one of ``searches`` reads a value, and there is none; or a search is not made for tasks of this
                kind, or for a budget.
        """
        settings, known = self.settings.evaluate, self.settings.searches
        guided = [s for s in searches or () if known[s].needs_value]
        if guided and value_path is None:
            raise ValueError(
                f"{', '.join(guided)}: these searches read a value network, and {name} has none; give "
                "value.path=FOLDER, or leave them out"
            )
        if searches is None:
            searches = settings.with_value
            if value_path is None:
                searches = [s for s in settings.searches if not known[s].needs_value]
            if not searches:
                _log.warning("%s has no value that %s could use: not evaluated", name, ", ".join(settings.searches))
        rows = []
        # What tells evaluations of one checkpoint from those of another, wherever it lies.
        weights = {path: weights_digest(path) for path in (policy_path, value_path) if path is not None and searches}
        for split in settings.splits if searches else ():
            with self.settings.env_maker(split)() as env:
                indices = choose_indices(env, settings.tasks, None)
            if not indices:
                _log.warning("%s: %s has no task of split %s: not evaluated", name, self.settings.env.id, split)
                continue
            contenders = self._contenders(name, policy_path, split, indices, searches)
            contenders = self.choose_tau(name, policy_path, value_path, contenders, trained_on)
            self._answer(name, policy_path, value_path, split, indices, contenders)
            shared = self._shared(name, split, indices, trained_on())
            for row in self._rows(name, value_path, split, contenders, shared):
                row["checkpoint"] = weights[policy_path]
                if "value" in row and value_path is not None:
                    row["value_checkpoint"] = weights[value_path]
                rows.append(row)
        return rows

    def _contenders(
        self, name: str, policy_path: str, split: str, indices: Sequence[int], searches: Sequence[str]
    ) -> list[Contender]:
        """Return the searches in the sizes of the settings, or in those that the budgets allow this policy."""
        chosen = {search: self.settings.searches[search] for search in searches}
        budgets = self.settings.evaluate.budget
        if not budgets:
            return [Contender(search, settings) for search, settings in chosen.items()]
        # What cannot be sized, or not answer such tasks then, is refused before a token is generated.
        sized = {search: resize(search, settings, 2) for search, settings in chosen.items()}
        require_fit(sized, self.settings.env_maker(split))
        length = self._answer_length(name, policy_path, split, indices)
        return at_budgets(chosen, budgets, length, f"{name} on {split}")

    def choose_tau(
        self,
        name: str,
        policy_path: str,
        value_path: str | None,
        contenders: Sequence[Contender],
        trained_on: Callable[[], frozenset[str]],
    ) -> list[Contender]:
        """Return the searches with the tau of those of the settings that solves most dev tasks."""
        asked = self.settings.evaluate.tau
        tempered = [c for c in contenders if asked and isinstance(c.search, Tempered)]
        if not tempered:
            return list(contenders)
        split = dev_split(self.settings, "evaluate.tau")
        require_fit({c.name: c.search for c in tempered}, self.settings.env_maker(split))
        _, indices = dev_indices(self.settings, split, trained_on)
        tries = {
            c.label: {
                tau: Contender(f"{c.label}-tau-{tau:g}", dataclasses.replace(cast(Any, c.search), tau=tau))
                for tau in asked
            }
            for c in tempered
        }
        tried = [one for own in tries.values() for one in own.values()]
        self._answer(name, policy_path, value_path, split, indices, tried, keep=False)
        found = []
        for contender in contenders:
            own = tries.get(contender.label, {})
            solved = {tau: summarize(self._items(name, split, one.label))["accuracy"] for tau, one in own.items()}
            if solved:
                given = getattr(contender.search, "tau", None)
                best = max(solved, key=lambda tau: (solved[tau], tau == given))
                shares = ", ".join(f"{100 * share:.1f}% with {tau:g}" for tau, share in solved.items())
                _log.info("%s, %s: tau=%g, of %s on %s", name, contender.label, best, shares, split)
                choice = TauChoice(best, tuple(asked), f"{len(indices)} tasks of {split}")
                contender = dataclasses.replace(contender, search=own[best].search, tau=choice)
            found.append(contender)
        return found

    def _answer_length(self, name: str, policy_path: str, split: str, indices: Sequence[int]) -> float:
        """Return how many tokens a greedy answer has on average; the answers serve a search that is greedy too."""
        known = self.settings.searches.items()
        label = next((search for search, settings in known if settings == Greedy()), "answer-length")
        self._answer(name, policy_path, None, split, indices, [Contender(label, Greedy())])
        lengths = [item.tokens for item in self._items(name, split, label) if item.tokens]
        return float(np.mean(lengths)) if lengths else 1.0

    def _answer(
        self,
        name: str,
        policy_path: str,
        value_path: str | None,
        split: str,
        indices: Sequence[int],
        contenders: Sequence[Contender],
        *,
        keep: bool = True,
    ) -> None:
        """Write down the items of those searches that have none yet, each search as soon as it is done."""
        folder = self.folder / name
        missing = {c.label: c.search for c in contenders if not _items_path(folder, split, c.label).exists()}
        if not missing:
            return
        counts = RolloutCounts()
        policy = self.load.policy(policy_path)
        folder.mkdir(parents=True, exist_ok=True)
        networks = {"policy": policy_path, "value": value_path}
        kept = partial(self._keep, name, split, indices, networks, contenders) if keep else _forget
        with (
            stopping.at_safe_points("the running search"),
            progress(f"evaluate {name}, {split}", len(indices) * len(missing)) as advance,
        ):
            for label, items in evaluate(
                self.settings.env_maker(split),
                policy,
                self.load.prompt_format(policy_path),
                missing,
                indices,
                self.settings.evaluate.sampling,
                seed=derive(self.settings.seed, Purpose.EVALUATION),
                value=None if value_path is None else self._judge(missing.values(), value_path, policy_path),
                sampler=self.load.sampler(policy, policy_path),
                counts=counts,
                progress=advance,
                keep=kept,
            ):
                lines = [json.dumps(dataclasses.asdict(item)) for item in items]
                write_text(_items_path(folder, split, label), "\n".join(lines) + "\n")
                stopping.check(f"the answers of {name} by {label} are in {folder}")
        counts.report(f"evaluation of {name} on {split}")
        if keep:
            self._say_what_is_kept(name, split, len(indices))

    def _judge(self, searches: Iterable[Search], value_path: str, policy_path: str) -> StateValue:
        """Return what reads V; where nothing does, no server is asked whether it would."""
        if any(search.needs_value for search in searches):
            return self.load.judge(value_path, policy_path)
        return self.load.value(value_path, policy_path)

    def _keep(
        self,
        name: str,
        split: str,
        indices: Sequence[int],
        networks: Mapping[str, str | None],
        contenders: Sequence[Contender],
        label: str,
        answers: Sequence[Answer | None],
    ) -> None:
        """Keep judged answers of one search, as many as the settings say; the items, which follow, say it is done."""
        places = kept_places(len(indices), self.settings.evaluate.keep)
        contender = next(c for c in contenders if c.label == label)
        with self.settings.env_maker(split)() as env:
            keep_answers(
                self.folder / name,
                f"{split}-{label}",
                [answers[place] for place in places],
                env,
                [indices[place] for place in places],
                tokenizer_fingerprint=self.load.prompt_format(str(networks["policy"])).fingerprint,
                provenance={
                    "algo": name,
                    "search": contender.name,
                    "budget": contender.budget,
                    "split": split,
                    "held_out": split in getattr(env.unwrapped, "held_out_splits", ()),
                    "env": self.settings.env.id,
                    "env_options": dict(self.settings.env.options),
                    "seed": self.settings.seed,
                    "evaluated": len(indices),
                    **{part: self._name(path) for part, path in networks.items() if path is not None},
                },
            )

    def _name(self, path: str) -> str:
        """Name a folder within the run as seen from there, so that the run may be moved."""
        inside = Path(path).is_relative_to(self.folder)
        return Path(path).relative_to(self.folder).as_posix() if inside else path

    def _say_what_is_kept(self, name: str, split: str, tasks: int) -> None:
        kept = len(kept_places(tasks, self.settings.evaluate.keep))
        folder = self.folder / name
        if kept:
            _log.info("%s on %s: answers to %d of %d tasks are kept: oreo show %s", name, split, kept, tasks, folder)
        else:
            _log.info("%s on %s: no answers are kept (evaluate.keep=none)", name, split)

    def _items(self, name: str, split: str, label: str) -> list[Item]:
        lines = _items_path(self.folder / name, split, label).read_text(encoding="utf-8").splitlines()
        return [Item(**json.loads(line)) for line in lines]

    def _shared(self, name: str, split: str, indices: Sequence[int], trained_on: frozenset[str]) -> dict[str, int]:
        """Count the tasks that are in the training data too, and warn of them; and those that ask what another asks."""
        with self.settings.env_maker(split)() as env:
            if is_played(env) and not trained_on:
                return {}
            asked = identities(env, indices)
        seen = len(trained_on & asked)
        if seen:
            _log.warning("%s: %d of %d evaluated tasks are also in the training data", name, seen, len(indices))
        counts = {"seen_in_training": seen, "repeated": len(indices) - len(asked)}
        return {key: count for key, count in counts.items() if count}

    def _rows(
        self, name: str, value_path: str | None, split: str, contenders: Sequence[Contender], shared: Mapping[str, int]
    ) -> list[dict[str, Any]]:
        """Summarise the items of one split."""
        rows = []
        for contender in contenders:
            row = {
                "algo": name,
                "search": contender.name,
                "env": self.settings.env.id,
                "env_options": dict(self.settings.env.options),
                "split": split,
                "seed": self.settings.seed,
                **summarize(self._items(name, split, contender.label)),
            }
            report_excess(contender, row["tokens_per_task"], f"{name} on {split}")
            if contender.search.size is not None:
                row["size"] = contender.search.size
            if contender.tau is not None:
                row |= {"tau": contender.tau.chosen, "tau_of": list(contender.tau.tried), "tau_on": contender.tau.where}
            if contender.budget is not None:
                row["budget"] = contender.budget
            algorithm = self.settings.algorithms.get(split_round(name)[0])
            if algorithm is not None:
                row["settings"] = dataclasses.asdict(algorithm)
            if contender.search.needs_value and value_path is not None:
                row["value"] = Path(value_path).parent.name
            rows.append(row | dict(shared))
        return rows


def _forget(label: str, answers: Sequence[Answer | None]) -> None:
    """Keep no answers."""


def _items_path(folder: Path, split: str, label: str) -> Path:
    return folder / f"items-{split}-{label}.jsonl"
