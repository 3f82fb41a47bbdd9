"""What the steps of a run read of the reference: taken before the first of them, at hand in each.

Knows: which episodes a step reads. Does not know: how they are scored and kept (``reference``), losses.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from oreo_algos.algos.base import Algorithm
from oreo_algos.batch import collate
from oreo_algos.episode import Episode
from oreo_algos.models import Models, Policy
from oreo_algos.training.identity import place
from oreo_algos.training.micro_batches import cut_by_tokens
from oreo_algos.training.reference import Rows, reference_key, reference_logprobs

if TYPE_CHECKING:
    from oreo_algos.training.trainer import _Run


class ReferenceScores:
    """Log-probabilities of the reference for one run; none are known at first.

    It is told the run at each call, and holds it not: the networks of a run that is over would wait for the collector.
    """

    def __init__(self, run: "_Run", models: Models) -> None:
        """Look at the reference while it is whole.

        Args:
            run: whose steps read them.
            models: as they were given.
        """
        self._rows: Rows | None = None  # of the episodes of all examples, by number
        self._now: dict[Episode, NDArray[np.float32]] = {}  # of those of a step
        self._beside: dict[bytes, NDArray[np.float32]] = {}
        self._kept = models.reference is not None and run.algorithm.reference_use == "logprobs"
        self._key: str | None = None
        if self._kept and run.shards and run.buffer.folder is not None:
            assert models.reference is not None
            self._key = reference_key(models.reference, run.buffer, bf16=run.bf16)

    def take(self, run: "_Run") -> None:
        """Take once what the steps to come read, and let the reference go; it stays where they read all of it."""
        reference = run.models.reference
        if reference is None or not self._kept:
            return
        # While the policy is the reference every log-ratio is 0.
        if not (run.models.policy_is_reference and run.schedule.policy_steps == 0):
            self._rows = reference_logprobs(
                reference,
                run.buffer,
                run.examples.episodes,
                bf16=run.bf16,
                key=self._key,
                ranks=run.ranks,
                together=run.holding.in_parts,
                device=run.device,
            )
            if type(run.algorithm).scored_beside is not Algorithm.scored_beside:
                for step in range(run.step, run.total_steps):
                    self._take_beside(run, reference, step)
        run.holding.let_go_of_reference()

    def _take_beside(self, run: "_Run", reference: Policy, step: int) -> None:
        """Take what a step reads beside its examples, in the micro-batches in which it reads it."""
        episodes = run.algorithm.scored_beside([run.examples[i] for i in run.schedule.batch(step)], run.models)

        def score(piece: Sequence[Episode]) -> NDArray[np.float32]:
            with torch.no_grad(), run.autocast():
                return reference.score(collate(piece).to(run.device)).logprobs.float().cpu().numpy()

        pieces = cut_by_tokens(episodes, run.budget(episodes, run.ranks.size))
        for piece, rows in zip(pieces, run.ranks.map(score, pieces, together=run.holding.in_parts), strict=True):
            for episode, row in zip(piece, rows, strict=True):
                self._beside[place(step, episode)] = row[: episode.num_tokens].copy()

    def begin(self, run: "_Run", numbers: Sequence[int]) -> None:
        """Have those of the examples of a step at hand."""
        if (known := self._rows) is not None:
            self._now = {e: known[i] for e, i in run.examples.places(numbers).items()}

    def of(self, episodes: Sequence[Episode], step: int) -> list[NDArray[np.float32]] | None:
        """Return those of episodes of a step that has begun, None unless all of them are known."""
        now, beside = self._now, self._beside
        rows = [now[e] if e in now else beside.get(place(step, e)) for e in episodes]
        return None if any(row is None for row in rows) else rows  # type: ignore[return-value]
