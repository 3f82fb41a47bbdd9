"""How often a policy, with a search, solves the tasks of a split.

Knows: searches, intervals. Does not know: how a search works, training, tables.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import gymnasium as gym

from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.record import INVALID
from oreo_agents.episodes.rollout import RolloutCounts
from oreo_agents.episodes.sampler import Sampler
from oreo_agents.episodes.tasks import is_played
from oreo_agents.episodes.ungraded import WHY, grade_again, is_graded
from oreo_agents.evaluation.preferences import PairSettings
from oreo_agents.evaluation.statistics import standard_error, wilson_interval
from oreo_agents.networks.packed_weights import hold_packed
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import StateValue
from oreo_agents.search import Answer, Player, Search
from oreo_algos.typed import require_types


@dataclass(frozen=True, kw_only=True)
class DevSettings:
    """What is asked while a network is trained, see ``trainer.evaluate_every``: greedy answers, never to test tasks.

    Attributes:
        split: of the environment; None: ``dev``, and where there is none, train tasks that the network does not
            learn from.
        tasks: how many at most, always the same ones.
        examples: how many judged answers TensorBoard shows as text.
    """

    split: str | None = None
    tasks: int = 100
    examples: int = 4

    def __post_init__(self) -> None:
        """Check the settings."""
        require_types(self)
        if self.split is not None and (not isinstance(self.split, str) or not self.split):
            raise ValueError(f"evaluate.dev.split must be the name of a split, or null, got {self.split!r}")
        for name, least in (("tasks", 1), ("examples", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"evaluate.dev.{name} must be a whole number of at least {least}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """What to measure.

    Attributes:
        splits: the authors' names of the held-out splits.
        tasks: at most so many of each, the same ones whatever the seed; None: all of them.
        searches: names among the run's searches.
        value_searches: further ones, for policies that come with a learned value; those that read none are there to be
            compared with.
        budget: generated tokens a task, on average; every search is evaluated in the size that each of them allows,
            see ``budget``. None given: in the size of its own settings.
        tau: tried on dev tasks (see ``dev``) with each search that has a ``tau``, in each size; the held-out tasks are
            answered with the one that solves most of them; of equals with that of the search's own settings, else the
            first. None given: that of its own settings.
        start_value: the algorithm whose value also serves the searches of the start policy; None: no value does.
        dev: what to measure while a network is trained.
        pairs: held-out preference pairs to rank, beside the tasks of an environment or where there are none.
        keep: of how many tasks the judged answers are kept as text beside the results, the same ones for every
            algorithm and search; "all" or "none".
        sampling: limits; each search brings its own temperature.
    """

    splits: Sequence[str] = ("test",)
    tasks: int | None = None
    searches: Sequence[str] = ("greedy",)
    value_searches: Sequence[str] = ()
    budget: Sequence[int] = ()
    tau: Sequence[float] = ()
    start_value: str | None = None
    dev: DevSettings = DevSettings()
    pairs: PairSettings = PairSettings()
    keep: int | Literal["all", "none"] = 200
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        """Check the settings."""
        require_types(self)
        if isinstance(self.splits, str) or not self.splits:
            raise ValueError(f"evaluate.splits must be a list of at least one split, got {self.splits!r}")
        if isinstance(self.searches, str) or not self.searches:
            raise ValueError(
                "evaluate.searches must be a list of at least one search, such as search=[greedy,step_beam], got "
                f"{self.searches!r}"
            )
        if not isinstance(self.budget, Sequence) or any(not isinstance(b, int) or b < 1 for b in self.budget):
            raise ValueError(
                f"evaluate.budget must be a list of tokens a task, such as budget=[100,200], got {self.budget!r}"
            )
        if any(not 0 <= tau < math.inf for tau in self.tau):
            raise ValueError(
                f"evaluate.tau must be a list of numbers of at least 0, such as [0,0.1,0.3], got {self.tau!r}"
            )
        if self.tasks is not None and self.tasks < 1:
            raise ValueError(f"evaluate.tasks must be at least 1, or null for all, got {self.tasks}")
        counted = isinstance(self.keep, int) and not isinstance(self.keep, bool) and self.keep >= 0
        if not counted and self.keep not in ("all", "none"):
            raise ValueError(f"evaluate.keep must be a number of tasks, all or none, got {self.keep!r}")

    @property
    def with_value(self) -> list[str]:
        """Names of all searches of a policy that comes with a learned value, each once."""
        return list(dict.fromkeys([*self.searches, *self.value_searches]))


@dataclass(frozen=True)
class Item:
    """One task, answered.

    Attributes:
        task_id: which task.
        correct: solved.
        sound: every step is right, where the environment can tell; else None.
        tokens: tokens generated for it, those of samples not chosen and those after a final answer included.
        answer: the final answer given, None without one.
        kind: what kind of task it is, where the environment tells kinds apart.
        invalid: actions that the environment did not admit, where it has such.
        invalid_reasons: how many of them for which reason.
        actions: taken, where some may be not admitted.
        grade_reason: why the answer was judged as it was, where one is graded; "not_graded": ``correct`` says nothing.
        value_tokens: tokens that the value network read for it.
    """

    task_id: str
    correct: bool
    sound: bool | None
    tokens: int
    answer: str | None
    kind: str | None = None
    invalid: int | None = None
    grade_reason: str | None = None
    value_tokens: int = 0
    invalid_reasons: Mapping[str, int] | None = None
    actions: int | None = None

    @property
    def graded(self) -> bool:
        """Whether ``correct`` says something."""
        return is_graded({"grade_reason": self.grade_reason})


def evaluate(
    make_env: Callable[[], gym.Env[str, str]],
    policy: CausalPolicy,
    prompt_format: PromptFormat,
    searches: Mapping[str, Search],
    indices: Sequence[int],
    sampling: Sampling,
    *,
    seed: int,
    value: StateValue | None = None,
    sampler: Sampler | None = None,
    counts: RolloutCounts | None = None,
    progress: Callable[[float], None] = lambda done: None,
    keep: Callable[[str, Sequence[Answer | None]], None] = lambda name, answers: None,
) -> Iterator[tuple[str, list[Item]]]:
    """Answer each task with each search, and yield each name with its items as soon as that search is done.

    Answers whose verdict was lost are graded again when the search is done.
    Searches with equal sampling choose among the same samples; of searches that are equal altogether, one is done.

    Args:
        make_env: makes one environment of the split.
        policy: acts.
        prompt_format: of the policy's tokenizer.
        searches: by name.
        indices: the tasks.
        sampling: limits; the temperature is that of each search.
        seed: of the sampling.
        value: for the searches that need one.
        sampler: draws from the policy; None: this process does.
        counts: filled with what went wrong; a task that could not be begun is an unsolved one.
        progress: called with the number of tasks just answered, perhaps in part, each search for itself.
        keep: called with the name of a search and its judged answers, in the order of ``indices``, before they are
            yielded.

    Yields:
        The name of a search, and one item a task in the order of ``indices``.

    Raises:
        ValueError: a search needs a value and there is none, or is not made for tasks of this kind; before anything
            is generated. Or not one answer of a search could be graded.
    """
    for name, search in searches.items():
        if search.needs_value and value is None:
            raise ValueError(f"search {name} needs a value network, and this policy has none")
    require_fit(searches, make_env)
    player = Player(
        make_env,
        policy,
        prompt_format,
        indices,
        sampling,
        seed=seed,
        value=value,
        sampler=sampler,
        counts=counts,
        progress=progress,
    )
    found: dict[Search, tuple[Sequence[Answer | None], list[Item]]] = {}
    for name, search in searches.items():
        if search in found:
            player.progress(len(indices))
        else:
            with hold_packed(policy):
                answers = search.answer(player)
            answers = _graded_again(make_env, prompt_format, answers, indices)
            items = [_item(answer, index) for answer, index in zip(answers, indices, strict=True)]
            found[search] = answers, items
            lost = sum(not item.graded for item in items)
            player.counts.not_graded += lost
            if lost and lost == sum(answer is not None for answer in answers):
                raise ValueError(f"search {name}: not one of {lost} answers could be graded: {WHY}")
        answers, items = found[search]
        keep(name, answers)
        yield name, items


def _graded_again(
    make_env: Callable[[], gym.Env[str, str]],
    prompt_format: PromptFormat,
    answers: Sequence[Answer | None],
    indices: Sequence[int],
) -> list[Answer | None]:
    given = [(index, answer.episode) for answer, index in zip(answers, indices, strict=True) if answer is not None]
    episodes = iter(grade_again(make_env, prompt_format, given))
    return [None if answer is None else replace(answer, episode=next(episodes)) for answer in answers]


def require_fit(searches: Mapping[str, Search], make_env: Callable[[], gym.Env[str, str]]) -> None:
    """Refuse searches that are not made for tasks of this kind.

    Raises:
        ValueError: one of them is not.
    """
    with make_env() as env:
        played = is_played(env)
    for name, search in searches.items():
        if (reason := search.unfit(played=played)) is not None:
            raise ValueError(f"search {name} {reason}")


def _item(answer: Answer | None, index: int) -> Item:
    if answer is None:
        return Item(f"index {index}", False, None, 0, None)
    episode = answer.episode
    names = ("sound", "answer", "task_type", "invalid_actions", "grade_reason")
    sound, given, kind, invalid, reason = map(episode.info.get, names)
    return Item(
        task_id=episode.task_id,
        correct=episode.success,
        sound=None if sound is None else bool(sound),
        tokens=answer.tokens,
        answer=None if given is None else str(given),
        kind=None if kind is None else str(kind),
        invalid=None if invalid is None else int(invalid),
        grade_reason=None if reason is None else str(reason),
        value_tokens=answer.value_tokens,
        invalid_reasons=None if invalid is None else refusals(episode.info),
        actions=None if invalid is None else episode.num_steps,
    )


def refusals(info: Mapping[str, Any]) -> dict[str, int]:
    """Return how many actions of an episode were refused for which reason, from its ``info``."""
    return {key.removeprefix(INVALID): int(count) for key, count in info.items() if key.startswith(INVALID)}


def summarize(items: Sequence[Item]) -> dict[str, Any]:
    """Return n, correct, accuracy, its standard error and Wilson interval, and means a task.

    Those are tokens that the policy generated and that the value read and, where there are such, soundness, invalid
    actions and how many of them for which reason; ``kinds`` holds the same for each kind of task. Answers that were not
    graded are in none of these numbers: ``not_graded`` says how many there are, if there are any.

    Raises:
        ValueError: not one answer was graded.
    """
    graded = [item for item in items if item.graded]
    if not graded:
        raise ValueError(f"nothing to summarise: not one of {len(items)} answers was graded")
    summary = _summarize(graded)
    if len(graded) < len(items):
        summary["not_graded"] = len(items) - len(graded)
    kinds = sorted({item.kind for item in graded if item.kind is not None})
    if kinds:
        summary["kinds"] = {kind: _summarize([item for item in graded if item.kind == kind]) for kind in kinds}
    return summary


def _summarize(items: Sequence[Item]) -> dict[str, Any]:
    n, correct = len(items), sum(item.correct for item in items)
    low, high = wilson_interval(correct, n)
    summary: dict[str, Any] = {
        "n": n,
        "correct": correct,
        "accuracy": correct / n,
        "standard_error": standard_error(correct, n),
        "wilson_low": low,
        "wilson_high": high,
        "tokens_per_task": sum(item.tokens for item in items) / n,
        "value_tokens_per_task": sum(item.value_tokens for item in items) / n,
    }
    if any(item.sound is not None for item in items):
        summary["sound"] = sum(bool(item.sound) for item in items) / n
    counted = [item.invalid for item in items if item.invalid is not None]
    if counted:
        summary["invalid_per_task"] = sum(counted) / len(counted)
        reasons = Counter[str]()
        for item in items:
            reasons.update(item.invalid_reasons or {})
        if reasons:
            summary["invalid_reasons"] = {reason: count / len(counted) for reason, count in sorted(reasons.items())}
    return summary
