"""Held-out preference pairs of a run: which they are, rows of results, and a point of the curve on the way.

Knows: settings, checkpoints, files of items. Does not know: how pairs are scored (``evaluation.preferences``), tables.
"""

import json
import logging
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from oreo_agents.evaluation.pair_tables import POLICY, VALUE
from oreo_agents.evaluation.preferences import (
    MEASURE,
    DevPairs,
    HeldOut,
    Ranking,
    answer_logprobs,
    answer_values,
)
from oreo_agents.evaluation.round_names import split_round
from oreo_agents.evaluation.run_settings import read_config
from oreo_agents.formats.importing import CHAT
from oreo_agents.networks.checkpoints import load_config, max_length, weights_digest
from oreo_agents.runs.loading import Loader
from oreo_agents.runs.run_data import RunData
from oreo_agents.runs.run_folders import at
from oreo_agents.runs.settings import RunSettings
from oreo_agents.runs.trained_from import learned_from, reference_of
from oreo_algos import EpisodeBuffer, Models
from oreo_algos.algos import Algorithm
from oreo_algos.storage.atomic import write_text

_log = logging.getLogger(__name__)


class PairBook:
    """Rankings of held-out pairs, ``<name>/items-<pairs>-<judge>.jsonl`` in a folder, and their summaries."""

    def __init__(self, settings: RunSettings, folder: Path, load: Loader, data: RunData) -> None:
        """Open the book of a run folder; nothing is read yet."""
        self.settings, self.folder, self.load, self.data = settings, folder, load, data

    @property
    def given(self) -> bool:
        """Whether there are pairs to rank."""
        return self.settings.evaluate.pairs.given

    @property
    def on_the_way(self) -> bool:
        """Whether pairs are what is measured while a network is trained: there is no environment to play.

        Raises:
            ValueError: something is to be measured on the way, and there are neither tasks nor pairs.
        """
        if not self.settings.trainer.evaluate_every or self.settings.env.id != CHAT:
            return False
        if not self.given:
            raise ValueError(
                f"trainer.evaluate_every needs something to measure on, and {CHAT} judges no answer: hold pairs back "
                "with evaluate.pairs.share=0.1, or give held-out ones with evaluate.pairs.data=FILE"
            )
        return True

    @property
    def name(self) -> str:
        """What the pairs are called where other rows name a split: after the file, or ``pairs-held-back``."""
        places = self.settings.evaluate.pairs.places
        if not places:
            return "pairs-held-back"
        more = f"-and-{len(places) - 1}-more" if len(places) > 1 else ""
        return "pairs-" + re.sub(r"[^-.\w]", "_", Path(places[0]).name.partition(".")[0]) + more

    def require(self, start: str) -> None:
        """Find out before anything is trained whether there are pairs.

        Raises:
            ValueError: some are asked for, and there is none.
        """
        if self.given:
            trusted = self.settings.policy.trust_remote_code
            HeldOut.of(self._buffer(start), max_length(load_config(start, trust_remote_code=trusted)))

    def dev(self, algorithm: Algorithm[Any], models: Models, policy_path: str) -> DevPairs:
        """Return what is ranked on the way, at most as many pairs as ``evaluate.dev.tasks``."""
        held = HeldOut.of(self._buffer(policy_path), models.policy.max_length, most=self.settings.evaluate.dev.tasks)
        if self.settings.trainer.chooses:
            _log.warning(
                "networks are chosen by %s, which the results are of too: they are better than on other pairs",
                self.name,
            )
        env_name = re.sub(r"[^-.\w]", "_", self.settings.env.id.rpartition("/")[2])
        tokens = self.settings.trainer.micro_batch_tokens
        return DevPairs(held, f"{env_name}/{self.name}", models, self.beta(getattr(algorithm, "beta", None)), tokens)

    def beta(self, trained_with: float | None) -> float:
        """Return the temperature of the implicit reward, see ``PairSettings``; what the algorithm has, if any."""
        asked = self.settings.evaluate.pairs.beta
        return float(trained_with or 1.0) if asked is None else asked

    def rows(
        self,
        name: str,
        policy_path: str,
        value_path: str | None,
        reference_path: str | None,
        beta: float,
        trained_on: Callable[[], Collection[str] | None],
    ) -> list[dict[str, Any]]:
        """Rank the pairs with one policy, and its value; networks are loaded one after the other.

        Args:
            name: of the algorithm, in the results.
            policy_path: its checkpoint.
            value_path: its value network; None: V does not rank.
            reference_path: what the policy began with; None, or the policy itself: it ranks nothing.
            beta: of the implicit reward.
            trained_on: returns names of the tasks of the training data; None: nothing tells.

        Returns:
            One row a judge; none where no pairs are asked for.

        Raises:
            ValueError: there is no pair that can be read, or a network reads other tokens.
        """
        if not self.given:
            return []
        buffer, tokens = self._buffer(policy_path), self.settings.trainer.micro_batch_tokens
        policy = self.load.policy(policy_path)
        held = HeldOut.of(buffer, policy.max_length)
        rankings: dict[str, Ranking] = {}
        if reference_path is not None and weights_digest(reference_path) != weights_digest(policy_path):
            self.load.require_same_tokens("reference.path", reference_path, policy_path)
            scores = answer_logprobs(policy, held, tokens)
            del policy  # one network at a time
            scores = beta * (scores - answer_logprobs(self.load.policy(reference_path), held, tokens))
            rankings[POLICY] = held.compare(scores)
        elif reference_path is not None:
            _log.warning("%s is what its training began with: its implicit rewards are all 0 and rank nothing", name)
        if value_path is not None:
            rankings[VALUE] = held.compare(answer_values(self.load.value(value_path, policy_path), held, tokens))
        learned = trained_on()
        seen = len(set(held.task_ids()).intersection(learned or ()))
        if learned is None:
            _log.warning("%s: nothing tells what it learned from, and so whether these pairs are held out", name)
        if seen:
            _log.warning("%s: %d prompts of %s are also in the training data", name, seen, self.name)
        facts = {
            "measure": MEASURE,
            "algo": name,
            "env": ", ".join(buffer.env_ids),
            "env_options": {},
            "split": self.name,
            "seed": self.settings.seed,
            "pairs": {"content_hash": buffer.content_hash, "too_long": held.too_long},
            "checkpoint": weights_digest(policy_path),
            **({"seen_in_training": seen} if seen else {}),
            **({"training_unknown": True} if learned is None else {}),
        }
        rows = []
        for judge, ranking in rankings.items():
            own: dict[str, Any] = {"search": judge, **ranking.summary()}
            if judge == VALUE and value_path is not None:
                own |= {"value": Path(value_path).parent.name, "value_checkpoint": weights_digest(value_path)}
            else:
                own |= {"beta": beta, "reference": reference_path}
            self._write_items(name, judge, held, ranking)
            rows.append(facts | own)
        return rows

    def _write_items(self, name: str, judge: str, held: HeldOut, ranking: Ranking) -> None:
        """Write what each pair came to, so that runs can be compared on the same prompts."""
        columns = ("task_id", "correct", "chosen", "rejected")
        numbers = (ranking.correct.tolist(), ranking.chosen.tolist(), ranking.rejected.tolist())
        rows = zip(held.task_ids(), *numbers, strict=True)
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        write_text(self.folder / name / f"items-{self.name}-{judge}.jsonl", "\n".join(lines) + "\n")

    def _buffer(self, policy_path: str) -> EpisodeBuffer:
        buffer = self.data.held_out_pairs(policy_path)
        assert buffer is not None
        if not np.all(buffer.columns.num_tokens):
            raise ValueError("held-out pairs that are not encoded: `oreo data encode BUFFER --tokenizer PATH`")
        return buffer


def pairs_of_run(config: Any, trained: Path) -> None:
    """Say, in the configuration of an evaluation, which pairs to rank: those given, else those of the run.

    Args:
        config: changed: ``data`` becomes ``evaluate.pairs.data``.
        trained: ``config.yaml`` of the run; it may not be there.

    Raises:
        ValueError: none are given, and the run has none.
    """
    pairs = config.evaluate.pairs
    if config.data is not None:
        pairs.data, pairs.share, config.data = config.data, None, None
    elif pairs.share is not None and trained.exists():
        config.data = read_config(trained).get("data")
    if pairs.data is None and config.data is None:
        raise ValueError("what=pairs ranks held-out preference pairs: give them as data=FILE, a folder, or hub:NAME")


def rank(run: Any, name: str, network: Any, reference: str | None, trained: Path) -> list[dict[str, Any]]:
    """Return the rows of one network that a run trained, or that lies anywhere.

    Args:
        run: of the evaluation.
        name: in the results.
        network: see ``run_folders.Network``.
        reference: checkpoint; None: what the summary of its training names.
        trained: ``config.yaml`` of the run that trained it; it may not be there.

    Raises:
        ValueError: see ``PairBook.rows``.
    """
    beta = None
    if trained.exists():
        config = read_config(trained)
        own = split_round(Path(network.policy).parent.name)[0]
        beta = at(config, f"algorithms.{own}.beta") or at(config, "algo.beta")
    reference = reference or reference_of(network.policy)

    def learned() -> frozenset[str] | None:
        found = [learned_from(path) for path in (network.policy, network.value) if path is not None]
        return None if None in found else frozenset[str]().union(*filter(None, found))

    return run.pairs.rows(name, network.policy, network.value, reference, run.pairs.beta(beta), learned)
