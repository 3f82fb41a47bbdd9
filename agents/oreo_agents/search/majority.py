"""Majority vote over final answers (self-consistency). Source: Wang et al. 2022 (arXiv:2203.11171)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oreo_agents.search.samples import SampleSearch
from oreo_algos.episode import Episode


@dataclass(frozen=True, kw_only=True)
class Majority(SampleSearch):
    """The answer that most samples give, equal ones counted together; the first to be given wins a tie.

    Which are equal says the environment, see ``TextEnv.canonical``. Samples without an answer do not vote.
    """

    def choose(self, episodes: Sequence[Episode], values: np.ndarray, answers: Sequence[str | None]) -> int:
        """Return the first sample with the commonest answer."""
        votes = Counter(answer for answer in answers if answer is not None)
        return answers.index(votes.most_common(1)[0][0]) if votes else 0
