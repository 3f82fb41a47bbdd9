"""How a server answers.

Knows: names and defaults. Does not know: networks, HTTP.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from oreo_agents.search import (
    Admissible,
    BestOfKActions,
    BestOfN,
    Greedy,
    Majority,
    MajorityOfKActions,
    Resample,
    ResampleActions,
    Sampled,
    Search,
    StepBeam,
    TokenGuide,
    WeightedVote,
)
from oreo_agents.search.actions import ActionSearch
from oreo_agents.search.samples import SampleSearch
from oreo_algos.typed import require_finite, require_types


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How a server answers.

    Attributes:
        host: address to listen on; 127.0.0.1 is heard by this machine alone.
        port: to listen on; 0: any that is free.
        token: that requests have to carry, ``Authorization: Bearer TOKEN``; None: none, or that of the environment
            variable ``OREO_SERVE_TOKEN``.
        name: of the model in requests and answers; None: made of the checkpoint's path.
        search: that answers requests that name none.
        steps: texts that end a step of an answer; None: those of the environment that the policy was trained in, else
            a line break.
        ends_at_answer: the line of a final answer, such as ``#### 5``, ends an answer; None: if it does in the
            environment that the policy was trained in.
        max_tokens: of an answer, at most, and where a request does not say.
        max_candidates: answers that one request may have drawn, over all its choices.
        batch_size: rows generated together.
        queue: requests that may wait, each choice of ``n`` by itself.
        wait_s: how long to wait for company before a batch begins, seconds.
        max_body_bytes: of a request.
        shutdown_s: how long running answers may go on once the server is told to end, seconds.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    name: str | None = None
    search: str | None = None
    steps: Sequence[str] | None = None
    ends_at_answer: bool | None = None
    max_tokens: int = 1024
    max_candidates: int = 64
    batch_size: int = 64
    queue: int = 64
    wait_s: float = 0.005
    max_body_bytes: int = 1_048_576
    shutdown_s: int = 5

    def __post_init__(self) -> None:
        """Check the settings."""
        require_types(self)
        require_finite(self)
        for name in ("max_tokens", "max_candidates", "batch_size", "queue", "max_body_bytes"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"serve.{name} must be a whole number of at least 1, got {value!r}")
        if not isinstance(self.port, int) or not 0 <= self.port < 65_536:
            raise ValueError(f"serve.port must be from 0 (any) to 65535, got {self.port!r}")
        if self.wait_s < 0 or self.shutdown_s < 0:
            raise ValueError("serve.wait_s and serve.shutdown_s must not be negative")
        if self.token is not None and (not self.token.strip() or not self.token.isprintable()):
            raise ValueError("serve.token must be a text of printable characters")
        if self.steps is not None and (isinstance(self.steps, str) or not self.steps or not all(self.steps)):
            raise ValueError(f"serve.steps must be a list of texts that end a step, got {self.steps!r}")


def rows_of(search: Search) -> int:
    """Return how many answers a search draws side by side for one question."""
    if isinstance(search, SampleSearch):
        return search.samples
    if isinstance(search, ActionSearch):
        return search.actions
    if isinstance(search, TokenGuide):
        return search.proposals
    return search.keep * search.expand if isinstance(search, StepBeam) else 1


def default_search(searches: Mapping[str, Search], *, has_value: bool) -> str:
    """Return the name of the search that answers where nothing is said: best of n with a value, else greedy."""
    wanted: type[Search] = BestOfN if has_value else Greedy
    return next((name for name, search in searches.items() if type(search) is wanted), next(iter(searches)))


def able(searches: Mapping[str, Search], unfit: Callable[[Search], str | None]) -> dict[str, Search]:
    """Return the searches that can answer, by name; ``unfit`` says why one cannot, see ``Engine.unfit``."""
    return {name: search for name, search in searches.items() if unfit(search) is None}


def of_commands(searches: Mapping[str, Search]) -> list[str]:
    """Return the names of those that say nothing but one of the commands that come with a question."""
    return [name for name, search in searches.items() if getattr(search, "constrained", False)]


def known_searches() -> dict[str, Search]:
    """Return the searches of the suite by the names that the command line has for them, in their default sizes."""
    return {
        "greedy": Greedy(),
        "sampled": Sampled(),
        "majority": Majority(),
        "best_of_n": BestOfN(),
        "weighted_vote": WeightedVote(),
        "resample": Resample(),
        "step_beam": StepBeam(),
        "token_guide": TokenGuide(),
        "best_of_k_actions": BestOfKActions(),
        "majority_of_k_actions": MajorityOfKActions(),
        "resample_actions": ResampleActions(),
        "admissible": Admissible(),
    }
