"""Searches in the sizes that budgets of generated tokens allow.

Knows: sizes of searches, how long an answer is. Does not know: policies, files.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever only names contenders loads no search
    from oreo_agents.search import Search

_log = logging.getLogger(__name__)

# Of the tokens that a search generates over those of its budget, so much is left unsaid.
_TOLERANCE = 0.05


@dataclass(frozen=True)
class TauChoice:
    """A tau that dev tasks have chosen.

    Attributes:
        chosen: with which a search solves most of them.
        tried: all of them.
        where: how many tasks of which split.
    """

    chosen: float
    tried: Sequence[float]
    where: str


@dataclass(frozen=True)
class Contender:
    """A search as it is evaluated.

    Attributes:
        name: of the search in the settings.
        search: in the size that is evaluated.
        budget: tokens a task that decided the size; None: the search has the size of the settings, or none.
        tau: how its ``tau`` was chosen; None: it is that of the settings.
    """

    name: str
    search: "Search"
    budget: int | None = None
    tau: TauChoice | None = None

    @property
    def label(self) -> str:
        """What tells it from other sizes of the same search."""
        return contender_label(self.name, self.budget)


def contender_label(name: str, budget: int | None) -> str:
    """Name a search at a budget."""
    return name if budget is None else f"{name}@{budget}"


def at_budgets(
    searches: "Mapping[str, Search]", budgets: Sequence[int], answer_tokens: float, where: str
) -> list[Contender]:
    """Choose the size of every search for every budget, so that it can be expected to generate no more tokens.

    A search of size n is expected to generate n answers, each as long as a greedy one on average; what it did generate
    is for ``report_excess``. One without a size is a contender once; one for which a budget is too small has its
    smallest size.

    Args:
        searches: by name.
        budgets: generated tokens a task.
        answer_tokens: mean length of a greedy answer.
        where: what to call the policy and its tasks in a warning.

    Raises:
        ValueError: see ``resize``.
    """
    for budget in budgets:
        if budget < answer_tokens:
            _log.warning(
                "%s: a budget of %d tokens is too small, a greedy answer has %.0f on average; every search runs in its "
                "smallest size",
                where,
                budget,
                answer_tokens,
            )
    contenders = []
    for name, search in searches.items():
        if search.size is None:
            contenders.append(Contender(name, search))
        else:
            sizes = {budget: max(int(budget / answer_tokens), 1) for budget in budgets}
            contenders += [Contender(name, resize(name, search, size), budget) for budget, size in sizes.items()]
    return contenders


def resize(name: str, search: "Search", answers: int) -> "Search":
    """Return the search of a name in a size, see ``Search.sized``.

    Raises:
        ValueError: its other settings do not allow that size.
    """
    try:
        return search.sized(answers)
    except ValueError as error:
        raise ValueError(f"search {name} cannot have a size that a budget decides: {error}") from error


def report_excess(contender: Contender, tokens: float, where: str) -> None:
    """Warn of a search that generated clearly more tokens a task than its budget.

    Args:
        contender: the search.
        tokens: generated a task, on average.
        where: what to call the policy and its tasks.
    """
    if contender.budget is not None and tokens > (1 + _TOLERANCE) * contender.budget:
        _log.warning(
            "%s: %s generated %.0f tokens a task, %.0f%% more than its budget of %d; compare it by its tokens",
            where,
            contender.name,
            tokens,
            100 * (tokens / contender.budget - 1),
            contender.budget,
        )
