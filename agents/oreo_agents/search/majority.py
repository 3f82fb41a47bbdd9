"""Majority vote over final answers (self-consistency). Source: Wang et al. 2022 (arXiv:2203.11171)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oreo_agents.search.samples import SampleSearch
from oreo_algos.episode import Episode
from oreo_envs.grading import canonical


@dataclass(frozen=True, kw_only=True)
class Majority(SampleSearch):
    """The answer that most samples give, equal numbers counted together; the first to be given wins a tie.

    Samples without an answer do not vote.
    """

    def choose(self, episodes: Sequence[Episode], values: np.ndarray) -> int:
        """Return the first sample with the commonest answer."""
        answers = [canonical_answer(episode) for episode in episodes]
        votes = Counter(answer for answer in answers if answer is not None)
        if not votes:
            return 0
        return answers.index(votes.most_common(1)[0][0])


def canonical_answer(episode: Episode) -> str | None:
    """Return what is equal for equal answers, None for an episode without an answer."""
    answer = episode.info.get("answer")
    return None if answer is None else canonical(str(answer))
