"""Word problems with invented verbs: worlds, problems, solutions, and a checker of their steps.

Knows: what a verb means in a world, how a solution is written, which of its steps are right.
Does not know: environments, splits, prompts.

In "Tom has 21 marbles. He wugs 5." the verb *wugs* adds or takes away 5 or twice 5, whichever the
world says. Its right reading is one of ``+k, -k, +2k, -2k``; another one is its tempting wrong
reading. A solution has one line a verb, which restates the verb beside the reading it chose, and
ends in the answer::

    21 wugs 5: 21 + 10 = 31
    #### 3

As k >= 1, a line tells its reading without ambiguity. Totals may fall below zero on a wrong path:
they are written with a minus sign, and boxes are counted by floor division (-3 marbles fill -1
boxes of 8), so such an answer is never right by luck.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import numpy as np

# Keeps the random streams of this module apart from each other and from those of other modules.
_WORLD_STREAM = 0x0E0_1

VERBS = (
    "wugs", "blickets", "daxes", "feps", "zorps", "toves", "gorps", "mibs",
    "plims", "snarvs", "quibs", "throms", "glorbs", "vints", "krads", "spoffs",
    "yends", "nurfs", "lorps", "chivs", "drems", "flusks", "jaffs", "pells",
)  # fmt: skip
"""All verbs; a world uses the first ``num_verbs`` of them."""

PEOPLE = (("Tom", "He"), ("Ann", "She"), ("Ben", "He"), ("Eva", "She"))
THINGS = ("marbles", "shells", "coins", "beads")


class Reading(Enum):
    """What a verb does to the total: ``sign * factor * k``."""

    ADD = (1, 1)
    TAKE = (-1, 1)
    ADD_TWICE = (1, 2)
    TAKE_TWICE = (-1, 2)

    def change(self, amount: int) -> int:
        """Return the change of the total when the verb is said with ``amount``."""
        sign, factor = self.value
        return int(sign * factor * amount)


@dataclass(frozen=True)
class World:
    """The meaning of every verb, fixed by a seed.

    ``right`` and ``tempting`` have one reading a verb, never the same one. ``luck`` has one number
    in [0, 1) a verb: how reliable sloppy solvers are with it. ``shuffled`` are the indices of the
    verbs in random order.
    """

    seed: int
    verbs: tuple[str, ...]
    right: tuple[Reading, ...]
    tempting: tuple[Reading, ...]
    luck: tuple[float, ...]
    shuffled: tuple[int, ...]

    @classmethod
    @lru_cache(maxsize=64)
    def from_seed(cls, seed: int, num_verbs: int = len(VERBS)) -> World:
        """Make world ``seed``; a world with fewer verbs gives those it has the same meaning.

        Raises:
            ValueError: negative seed, or more verbs than there are words for.
        """
        if seed < 0:
            raise ValueError(f"world must be a seed >= 0, got {seed}")
        if not 1 <= num_verbs <= len(VERBS):
            raise ValueError(f"num_verbs must be in 1..{len(VERBS)}, got {num_verbs}")
        rng = np.random.default_rng(np.random.SeedSequence([_WORLD_STREAM, seed]))
        readings = list(Reading)
        right = rng.integers(4, size=len(VERBS))
        tempting = (right + rng.integers(1, 4, size=len(VERBS))) % 4
        luck = rng.random(len(VERBS))
        return cls(
            seed,
            VERBS[:num_verbs],
            tuple(readings[i] for i in right[:num_verbs]),
            tuple(readings[i] for i in tempting[:num_verbs]),
            tuple(luck[:num_verbs].tolist()),
            tuple(rng.permutation(num_verbs).tolist()),
        )

    def reliabilities(
        self, low: float, high: float, *, clean_share: float = 0.0, clean: float = 0.97
    ) -> tuple[float, ...]:
        """Probability that a sloppy solver of this world reads each verb right.

        A property of the world, the same in every demonstration: solvers err systematically, so
        that a verb below one half is read wrong by greedy decoding too.

        Args:
            low: least reliability of a sloppily read verb.
            high: greatest one; drawn uniformly between the two.
            clean_share: share of verbs that are read with probability ``clean`` instead (a random
                subset).
            clean: reliability of these.
        """
        values = low + (high - low) * np.asarray(self.luck)
        values[list(self.shuffled[: round(clean_share * len(self.verbs))])] = clean
        return tuple(values.tolist())


@dataclass(frozen=True)
class Problem:
    """One word problem. ``verbs`` are indices into the world; ``box`` is None for exact answers."""

    world: World
    person: int
    thing: int
    start: int
    verbs: tuple[int, ...]
    amounts: tuple[int, ...]
    box: int | None

    @property
    def question(self) -> str:
        """The problem's text."""
        name, pronoun = PEOPLE[self.person]
        thing = THINGS[self.thing]
        told = "".join(
            f" {pronoun} {self.world.verbs[verb]} {amount}."
            for verb, amount in zip(self.verbs, self.amounts, strict=True)
        )
        asked = f"How many {thing}?" if self.box is None else f"How many full boxes of {self.box}?"
        return f"{name} has {self.start} {thing}.{told} {asked}"

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The right reading of each of its verbs."""
        return tuple(self.world.right[verb] for verb in self.verbs)

    @property
    def answer(self) -> int:
        """The right answer."""
        return self.answer_of(self.totals(self.readings)[-1])

    def totals(self, readings: Sequence[Reading]) -> tuple[int, ...]:
        """Totals before the first verb and after each, when the verbs are read so."""
        totals = [self.start]
        for reading, amount in zip(readings, self.amounts, strict=True):
            totals.append(totals[-1] + reading.change(amount))
        return tuple(totals)

    def answer_of(self, total: int) -> int:
        """Answer that a final total leads to."""
        return total if self.box is None else total // self.box


def solve(problem: Problem, readings: Sequence[Reading] | None = None) -> str:
    """Write the solution that reads each verb as ``readings`` say; the right one by default."""
    readings = problem.readings if readings is None else readings
    totals = problem.totals(readings)
    lines = []
    for i, (verb, amount) in enumerate(zip(problem.verbs, problem.amounts, strict=True)):
        change = readings[i].change(amount)
        lines.append(
            f"{totals[i]} {problem.world.verbs[verb]} {amount}: "
            f"{totals[i]} {'+' if change > 0 else '-'} {abs(change)} = {totals[i + 1]}"
        )
    return "\n".join([*lines, f"#### {problem.answer_of(totals[-1])}"])


@dataclass(frozen=True)
class StepCheck:
    """Judgement of one line of a solution.

    ``reading`` is the one that the line states, None if it is not among the four or the line is not
    a step about the verb whose turn it is. ``reads_right``: it is the world's. ``computes_right``:
    the line goes on from the total that the line before ended in, and its sum is right.
    """

    line: str
    reading: Reading | None
    reads_right: bool
    computes_right: bool


@dataclass(frozen=True)
class SolutionCheck:
    """Judgement of a solution. *Sound*: exactly one right step a verb, and the right answer."""

    steps: tuple[StepCheck, ...]
    answer_right: bool
    sound: bool


_STEP = re.compile(r"(-?\d{1,9}) (\w+) (\d{1,9}): (-?\d{1,9}) ([+-]) (\d{1,9}) = (-?\d{1,9})", re.ASCII)
_ANSWER = re.compile(r"#### (-?\d{1,9})", re.ASCII)


def check_solution(problem: Problem, response: str) -> SolutionCheck:
    """Judge every step of a response to ``problem``; a line too many or too few is unsound."""
    steps, _, answer = _read_lines(problem, response)
    answer_right = answer is not None and int(answer[1]) == problem.answer
    sound = (
        answer_right
        and len(steps) == len(problem.verbs)
        and all(step.reads_right and step.computes_right for step in steps)
    )
    return SolutionCheck(tuple(steps), answer_right, sound)


def line_rightness(problem: Problem, response: str) -> list[tuple[int, int, bool]]:
    """Say of each line of a response whether it is right, given the lines before it.

    A step is right when it reads its verb right and computes right; the answer, when every verb has had its line and
    it follows from the total that the last of them states. A response is sound exactly when all its lines are right
    and the last one is an answer.

    Returns:
        (start, end, right) of each line, characters of ``response``, end exclusive and without the line break. Line
        breaks at the beginning and the end of the response belong to no line.
    """
    steps, total, answer = _read_lines(problem, response)
    right = [step.reads_right and step.computes_right for step in steps]
    lines = response.strip("\n").split("\n")
    if len(lines) > len(steps):
        follows = answer is not None and int(answer[1]) == problem.answer_of(total)
        right.append(follows and len(steps) == len(problem.verbs))
    start = len(response) - len(response.lstrip("\n"))
    found = []
    for line, is_right in zip(lines, right, strict=True):
        found.append((start, start + len(line), is_right))
        start += len(line) + 1
    return found


def _read_lines(problem: Problem, response: str) -> tuple[list[StepCheck], int, re.Match[str] | None]:
    """The steps, the total that the last of them states, and the answer on the last line."""
    *lines, last = response.strip("\n").split("\n")
    answer = _ANSWER.fullmatch(last.strip())
    if answer is None and not last.startswith("####"):
        lines.append(last)
    steps, total = [], problem.start
    for position, line in enumerate(lines):
        steps.append(_check_step(problem, position, total, line))
        stated = _STEP.fullmatch(line.strip())
        total = int(stated[7]) if stated else total
    return steps, total, answer


def _check_step(problem: Problem, position: int, total: int, line: str) -> StepCheck:
    match = _STEP.fullmatch(line.strip())
    if match is None:
        return StepCheck(line, None, False, False)
    before, verb, amount, left, sign, change, after = match.groups()
    signed = int(sign + change)
    computes_right = int(before) == int(left) == total and int(left) + signed == int(after)
    reading = None
    if position < len(problem.verbs) and (verb, int(amount)) == (
        problem.world.verbs[problem.verbs[position]],
        problem.amounts[position],
    ):
        reading = next((r for r in Reading if r.change(int(amount)) == signed), None)
    reads_right = reading is not None and reading is problem.readings[position]
    return StepCheck(line, reading, reads_right, computes_right)


def vocabulary(num_verbs: int = len(VERBS)) -> list[str]:
    """Every word, digit and mark that questions and solutions are made of."""
    words = {"has", "How", "many", "full", "boxes", "of"}
    words |= {word for person in PEOPLE for word in person} | set(THINGS) | set(VERBS[:num_verbs])
    return [*sorted(words), *"0123456789", *".?:+-=", "####"]
