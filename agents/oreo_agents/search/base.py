"""What a search is: it answers tasks, and says what that took.

Knows: nothing of how. Does not know: policies, values, whether an answer is right.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from oreo_algos.episode import Episode
from oreo_algos.typed import require_finite, require_types

if TYPE_CHECKING:
    from oreo_agents.search.player import Player


@dataclass(frozen=True)
class Candidate:
    """A whole answer that might have been given.

    Attributes:
        episode: the answer; whether it is right was not looked at.
        value: V just before its end token, reward units; None: it was not read.
        answer: its final answer in the form that equal ones share, see ``TextEnv.canonical``; None: it has none.
        score: the number that it was chosen by, such as V + tau log pi, or the weight of its vote; None: there is none.
    """

    episode: Episode
    value: float | None = None
    answer: str | None = None
    score: float | None = None


@dataclass(frozen=True)
class Proposal:
    """An action that might have been taken at one turn.

    Attributes:
        text: of the action.
        votes: how often it came up, as the same text or as another one that gives the same command.
        value: V of the state after it, reward units; None: it was not read.
        logprob: log pi at temperature 1 of its tokens, nats; None: it was not read.
        score: the number that it was chosen by, such as V + tau log pi; None: there is none.
    """

    text: str
    votes: int
    value: float | None = None
    logprob: float | None = None
    score: float | None = None


@dataclass(frozen=True)
class Answer:
    """How a task was answered.

    Attributes:
        episode: the answer given.
        tokens: tokens generated for it, with those of samples and beams not chosen.
        value_tokens: tokens that the value network read for it: what its samples or beams share is read once as a
            rule, and one that is read twice counts twice.
        candidates: whole answers that it was chosen from, itself among them; none: there was nothing to choose.
        turns: of each turn of a game the actions that one was chosen from; none: there was nothing to choose.
    """

    episode: Episode
    tokens: int
    value_tokens: int = 0
    candidates: Sequence[Candidate] = ()
    turns: Sequence[Sequence[Proposal]] = ()


@dataclass(frozen=True, kw_only=True)
class Search(ABC):
    """Base class: a frozen dataclass of settings. No search may look at a reward or at success."""

    needs_value: ClassVar[bool] = False
    """Whether it reads the learned value."""

    def __post_init__(self) -> None:
        """Check the settings."""
        require_types(self)
        require_finite(self)

    @abstractmethod
    def answer(self, player: "Player") -> Sequence[Answer | None]:
        """Answer each task of the player; None: its opening fills the policy's context."""

    @property
    def reads_policy(self) -> bool:
        """Whether it asks for log pi at temperature 1 of what it chooses from."""
        return False

    @property
    @abstractmethod
    def size(self) -> str | None:
        """What decides how much it generates, for a table; None: it has no size."""

    @abstractmethod
    def sized(self, answers: int) -> "Search":
        """Return this search in the size that generates about as much as ``answers`` >= 1 answers; itself without one.

        Raises:
            ValueError: its other settings do not allow that size.
        """

    def unfit(self, *, played: bool) -> str | None:
        """Say why it cannot answer tasks that are (not) played turn by turn; None when it can."""
        return None
