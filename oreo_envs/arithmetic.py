"""Procedural word problems in a world of invented verbs, and the environment that asks them.

Knows: how tasks are drawn for a split, how sloppy solvers write demonstrations.
Does not know: tokens; how solutions are written and checked (``wordproblems``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from oreo_envs.answers import AnswerEnv, Item, index_after, rightness_of_actions
from oreo_envs.base import Scalar
from oreo_envs.checks import choose, closest, pair, positive, share, span, whole
from oreo_envs.grading import end_of_answer
from oreo_envs.orders import Seat
from oreo_envs.splits import SPLITS, split_of
from oreo_envs.wordproblems import (
    PEOPLE,
    THINGS,
    VERBS,
    Problem,
    Reading,
    SolutionCheck,
    StepCheck,
    World,
    check_solution,
    line_rightness,
    solve,
    vocabulary,
)

__all__ = [
    "VERBS",
    "ArithmeticEnv",
    "Problem",
    "Reading",
    "Rules",
    "SolutionCheck",
    "StepCheck",
    "World",
    "check_solution",
    "make_problem",
    "solve",
    "vocabulary",
]

_TASK_STREAM, _SOLVER_STREAM = 0x0E0_2, 0x0E0_3
_MAX_DRAWS = 10_000


@dataclass(frozen=True)
class Rules:
    """What problems look like.

    Attributes:
        world: seed of the meaning of verbs.
        num_verbs: verbs in the world, at most 24.
        verbs_per_problem: least and greatest number of verbs in a problem, all different.
        start_range: least and greatest number at the start.
        amount_range: least and greatest number k said with a verb; k >= 1 keeps the four readings
            apart.
        max_total: every total of the right solution lies in 0..max_total.
        answer: "boxes" asks for full boxes, so that a wrong solution may still be right by luck;
            "exact" for the total.
        box_size: things in a box.
    """

    world: int = 0
    num_verbs: int = 24
    verbs_per_problem: tuple[int, int] = (4, 6)
    start_range: tuple[int, int] = (5, 35)
    amount_range: tuple[int, int] = (1, 5)
    max_total: int = 39
    answer: str = "boxes"
    box_size: int = 8

    def __post_init__(self) -> None:
        """Check the values; raises ValueError."""
        World.from_seed(whole("world", self.world), whole("num_verbs", self.num_verbs))
        choose("answer", self.answer, ("boxes", "exact"))
        positive("box_size", self.box_size)
        positive("max_total", self.max_total)
        for name, least, greatest in (
            ("verbs_per_problem", 1, self.num_verbs),
            ("start_range", 0, self.max_total),
            ("amount_range", 1, None),
        ):
            # A tuple in place of a list: rules are the key of a cache.
            object.__setattr__(self, name, span(name, getattr(self, name), least, greatest))

    @property
    def fingerprint(self) -> str:
        """Six hexadecimal digits that tell these rules from others."""
        return hashlib.blake2b(repr(astuple(self)).encode(), digest_size=3).hexdigest()

    @property
    def number_range(self) -> tuple[int, int]:
        """Least and greatest number that a question or a solution can hold, however it reads."""
        swing = 2 * self.amount_range[1] * self.verbs_per_problem[1]
        top = max(self.start_range[1] + swing, self.box_size, 2 * self.amount_range[1])
        return self.start_range[0] - swing, top


@lru_cache(maxsize=4_096)
def make_problem(rules: Rules, split: str, index: int) -> Problem:
    """Draw problem ``index`` of a split: the same one everywhere.

    Draws are repeated until the right solution keeps to the rules and the text belongs to the
    split.

    Raises:
        ValueError: no such problem was found.
    """
    entropy = [_TASK_STREAM, rules.world, SPLITS.index(split), index]
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    world = World.from_seed(rules.world, rules.num_verbs)
    for _ in range(_MAX_DRAWS):
        num_verbs = int(rng.integers(*rules.verbs_per_problem, endpoint=True))
        problem = Problem(
            world=world,
            person=int(rng.integers(len(PEOPLE))),
            thing=int(rng.integers(len(THINGS))),
            start=int(rng.integers(*rules.start_range, endpoint=True)),
            verbs=tuple(rng.permutation(rules.num_verbs)[:num_verbs].tolist()),
            amounts=tuple(rng.integers(*rules.amount_range, num_verbs, endpoint=True).tolist()),
            box=rules.box_size if rules.answer == "boxes" else None,
        )
        totals = problem.totals(problem.readings)
        if min(totals) >= 0 and max(totals) <= rules.max_total and split_of(problem.question) == split:
            return problem
    raise ValueError(f"found no problem for split {split!r} that keeps to {rules}; widen the rules")


class ArithmeticEnv(AnswerEnv):
    r"""``oreo/Arithmetic-v0``: word problems with invented verbs, drawn without end.

    Action: one chunk of the solution, usually a line; a whole solution may be passed at once.
    Observation: the question at reset ("Tom has 21 marbles. He wugs 5. ... How many full boxes of
        8?"), then "".
    Start: ``options={"index": i}`` for any i >= 0, ``{"task_id": ...}``, or drawn from the seed.
    Reward: 1.0 when the final answer is right, else 0.0; with ``answer="boxes"`` a wrong path may
        be lucky.
    Episode end: terminated by an empty action (by any with ``single_turn``), or with the line of the first ``####
        x``, closed ``\boxed{}`` or closed ``<answer>``; truncated at ``max_steps`` actions or ``max_chars``
        characters, and graded.
    Info: ``messages, task_id, index, split, step, success, answer``; once over also
        ``grade_reason`` and ``sound`` (every verb read right, every sum right, the answer right).
    Source and version: ours; v0. A task id holds a fingerprint of the rules that drew it.
    """

    splits: ClassVar[tuple[str, ...]] = SPLITS
    step_delimiters: ClassVar[tuple[str, ...]] = ("\n",)
    more_options: ClassVar[tuple[str, ...]] = tuple(field.name for field in fields(Rules))

    def __init__(
        self,
        *,
        split: str = "train",
        reliability: Sequence[float] = (0.3, 0.98),
        clean_share: float = 0.0,
        clean_reliability: float = 0.97,
        prompt: str = "question",
        single_turn: bool = False,
        max_steps: int | None = 64,
        max_chars: int = 4_096,
        thoughts: Any = None,
        order: str = "random",
        place: tuple[int, int] | Seat | None = None,
        render_mode: str | None = None,
        **rules: Any,
    ) -> None:
        """Set the rules.

        Args:
            split: "train", "dev" or "test".
            reliability: least and greatest probability that a sloppy solver reads a verb right;
                each verb has one.
            clean_share: share of verbs that sloppy solvers read with ``clean_reliability`` instead.
            clean_reliability: that probability.
            prompt: a template of ``oreo_envs.prompts``; the default is the bare question, for tiny
                models.
            single_turn: an action is a whole response, see ``AnswerEnv``.
            max_steps: actions before truncation; None: no limit.
            max_chars: characters of response before truncation.
            thoughts: marks of thoughts, see ``TextEnv``; None: those in use.
            order, place, render_mode: see ``TextEnv``; tasks without end have no order "shuffled".
            rules: what problems look like, see ``Rules``; a pair may be a list.
        """
        super().__init__(
            split=split,
            prompt=prompt,
            single_turn=single_turn,
            max_steps=max_steps,
            max_chars=max_chars,
            thoughts=thoughts,
            order=order,
            place=place,
            render_mode=render_mode,
        )
        known = [field.name for field in fields(Rules)]
        for name in rules.keys() - set(known):
            raise TypeError(f"ArithmeticEnv has no argument {name!r}{closest(name, known)}; rules: {', '.join(known)}")
        self.rules = Rules(**rules)
        reliability = pair("reliability", reliability)
        for value in reliability:
            share("reliability", value)
        share("clean_share", clean_share)
        share("clean_reliability", clean_reliability)
        self.reliabilities = self.world.reliabilities(*reliability, clean_share=clean_share, clean=clean_reliability)

    @property
    def world(self) -> World:
        """The meaning of the verbs."""
        return World.from_seed(self.rules.world, self.rules.num_verbs)

    @property
    def num_tasks(self) -> None:
        """None: tasks are drawn without end."""
        return None

    def vocabulary(self) -> list[str]:
        """Words, marks and whole numbers of questions and solutions, for a word-level tokenizer."""
        low, high = self.rules.number_range
        numbers = [str(number) for number in range(max(high, -low) + 1)]
        return [*vocabulary(self.rules.num_verbs), *numbers]

    def problem(self, index: int) -> Problem:
        """Problem ``index`` of this split, to check solutions against."""
        return make_problem(self.rules, self.split, index)

    def step_rightness(self, task_id: str, steps: Sequence[str]) -> list[bool]:
        """Say of each action whether it is right, given those before it, see ``wordproblems.line_rightness``.

        An action is right when it holds a part of at least one line, and every such line is right. Lines after the one
        that ends the response are not looked at.
        """
        problem, response = self.problem(self._find_task(task_id)), "".join(steps)
        lines = line_rightness(problem, response[: end_of_answer(response, self.thoughts)])
        return rightness_of_actions(lines, steps)

    @property
    def _prefix(self) -> str:
        return f"arithmetic/w{self.rules.world}-{self.rules.fingerprint}/{self.split}"

    def _make_item(self, index: int) -> Item:
        problem = self.problem(index)
        return Item(f"{self._prefix}/{index}", problem.question, str(problem.answer))

    def _index_of(self, task_id: str) -> int | None:
        return index_after(self._prefix, task_id)

    def _task_ids(self) -> tuple[str, ...]:
        return (f"{self._prefix}/0",)

    def _judge(self, index: int, response: str) -> tuple[bool, dict[str, Any]]:
        success, info = super()._judge(index, response)
        return success, info | {"sound": check_solution(self.problem(index), response).sound}

    def _solution(self, index: int, seed: int) -> tuple[str, dict[str, Scalar]]:
        """A sloppy solver's: a verb is read right with its reliability, else as is tempting."""
        problem, world = self.problem(index), self.world
        entropy = [_SOLVER_STREAM, world.seed, SPLITS.index(self.split), index, seed]
        rolls = np.random.default_rng(np.random.SeedSequence(entropy)).random(len(problem.verbs))
        readings = [
            world.right[verb] if roll < self.reliabilities[verb] else world.tempting[verb]
            for verb, roll in zip(problem.verbs, rolls, strict=True)
        ]
        return solve(problem, readings), {"source": "sloppy_solver"}
