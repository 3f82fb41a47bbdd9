"""Countdown: make a target of given numbers, and the environment that asks for it.

Knows: how tasks are drawn for a split, how solvers write demonstrations.
Does not know: tokens; how expressions and lines of work are read and judged (``expressions``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from oreo_envs.answers import AnswerEnv, Item, index_after, rightness_of_actions
from oreo_envs.base import Scalar
from oreo_envs.checks import flag, positive, share, span
from oreo_envs.expressions import MAX_NUMBERS, follow, is_expression, last_expression, reachable, right_expression
from oreo_envs.grading import Reason, end_of_answer, extract_answer, has_final_answer
from oreo_envs.grading.thoughts import NO_THOUGHTS
from oreo_envs.splits import SPLITS, split_of

_TASK_STREAM, _SOLVER_STREAM = 0x0E0_5, 0x0E0_6
_MAX_DRAWS = 10_000


@dataclass(frozen=True)
class Rules:
    """What tasks look like.

    Attributes:
        count_range: least and greatest count of given numbers, 2 to 6.
        number_range: least and greatest given number.
        target_range: least and greatest target.
        max_result: greatest number on the way of a solution that is known to exist.
        use_all: each number is used exactly once, as in TinyZero; else at most once, as in the television game.
    """

    count_range: tuple[int, int] = (3, 4)
    number_range: tuple[int, int] = (1, 99)
    target_range: tuple[int, int] = (10, 100)
    max_result: int = 999
    use_all: bool = True

    def __post_init__(self) -> None:
        """Check the values; raises ValueError."""
        positive("max_result", self.max_result)
        flag("use_all", self.use_all)
        for name, least, greatest in (
            ("count_range", 2, MAX_NUMBERS),
            ("number_range", 1, self.max_result),
            ("target_range", 1, self.max_result),
        ):
            # A tuple in place of a list: rules are the key of a cache.
            object.__setattr__(self, name, span(name, getattr(self, name), least, greatest))

    @property
    def fingerprint(self) -> str:
        """Six hexadecimal digits that tell these rules from others."""
        return hashlib.blake2b(repr(astuple(self)).encode(), digest_size=3).hexdigest()


@dataclass(frozen=True)
class Task:
    """Numbers, what to make of them, and an expression that does."""

    numbers: tuple[int, ...]
    target: int
    use_all: bool
    solution: str = field(default="", compare=False)

    @property
    def question(self) -> str:
        """The task's text."""
        *numbers, last = map(str, self.numbers)
        how = "each exactly once" if self.use_all else "each at most once"
        return f"Make {self.target} of the numbers {', '.join(numbers)} and {last}, {how}."

    @property
    def split(self) -> str:
        """The split that it may be in, whatever the order of its numbers."""
        return split_of(repr((sorted(self.numbers), self.target)))


Move = tuple[int, str, int, int]
"""First operand, operator, second operand, result."""


@lru_cache(maxsize=4_096)
def make_task(rules: Rules, split: str, index: int) -> Task:
    """Draw task ``index`` of a split: the same one everywhere.

    Numbers are combined at random, with whole positive results, until one is left, which is the target. Draws are
    repeated until it is in its range, none of the given numbers, and the task belongs to the split.

    Raises:
        ValueError: no such task was found.
    """
    rng = np.random.default_rng(np.random.SeedSequence([_TASK_STREAM, SPLITS.index(split), index]))
    for _ in range(_MAX_DRAWS):
        count = int(rng.integers(*rules.count_range, endpoint=True))
        numbers = tuple(rng.integers(*rules.number_range, count, endpoint=True).tolist())
        work = _Work(numbers)
        while len(work.left) > 1 and (moves := sorted(_moves(work.left, rules.max_result))):
            work.do(moves[int(rng.integers(len(moves)))])
        task = Task(numbers, work.left[0], rules.use_all, work.expression(work.left[0]))
        low, high = rules.target_range
        if len(work.left) == 1 and low <= task.target <= high and task.target not in numbers and task.split == split:
            return task
    raise ValueError(f"found no task for split {split!r} that keeps to {rules}; widen the rules")


class CountdownEnv(AnswerEnv):
    r"""``oreo/Countdown-v0``: make a target of given numbers with ``+ - * /``, drawn without end.

    Action: one chunk of the solution, usually a line; a whole solution may be passed at once.
    Observation: the task at reset ("Make 200 of the numbers 75, 4 and 25, each exactly once."), then "".
    Start: ``options={"index": i}`` for any i >= 0, ``{"task_id": ...}``, or drawn from the seed.
    Reward: 1.0 when the final answer is an expression of the given numbers, ``+ - * /`` and parentheses whose exact
        value is the target, each number used once (``use_all``) or at most once; else 0.0. The target by itself is
        no such expression; ``= 200`` after it may stand. See ``stated_expression`` for what counts as the answer.
    Episode end: terminated by an empty action (by any with ``single_turn``), or with the line of the first ``####
        x``, closed ``\boxed{}`` or closed ``<answer>``; truncated at ``max_steps`` actions or ``max_chars``
        characters, and graded.
    Info: ``messages, task_id, index, split, step, success, answer``; once over also ``grade_reason``
        ("unparsable": no expression) and ``sound`` (every line right, see ``step_rightness``).
    Source and version: the numbers game of Pan et al., TinyZero (2025), tasks ours; v0. A task id holds a fingerprint
        of the rules that drew it.
    """

    default_prompt = "countdown"
    splits: ClassVar[tuple[str, ...]] = SPLITS
    step_delimiters: ClassVar[tuple[str, ...]] = ("\n",)

    def __init__(
        self,
        *,
        split: str = "train",
        count_range: tuple[int, int] = Rules.count_range,
        number_range: tuple[int, int] = Rules.number_range,
        target_range: tuple[int, int] = Rules.target_range,
        max_result: int = Rules.max_result,
        use_all: bool = Rules.use_all,
        mistakes: float = 0.0,
        prompt: str | None = None,
        max_steps: int | None = 64,
        max_chars: int = 4_096,
        **shared: Any,
    ) -> None:
        """Set the rules.

        Args:
            split: "train", "dev" or "test".
            count_range, number_range, target_range, max_result, use_all: what tasks look like, see ``Rules``; a pair
                may be a list.
            mistakes: how often a demonstrator takes any two numbers and operation instead of looking ahead, 0..1; what
                it writes then computes right, and may lead nowhere.
            prompt: a template of ``oreo_envs.prompts``; None: ``default_prompt``, "question": the bare question.
            max_steps: actions before truncation; None: no limit.
            max_chars: characters of response before truncation.
            shared: what all such environments take, see ``AnswerEnv``.
        """
        prompt = self.default_prompt if prompt is None else prompt
        super().__init__(split=split, prompt=prompt, max_steps=max_steps, max_chars=max_chars, **shared)
        self.rules = Rules(count_range, number_range, target_range, max_result, use_all)
        self.mistakes = share("mistakes", mistakes)

    @property
    def num_tasks(self) -> None:
        """None: tasks are drawn without end."""
        return None

    def vocabulary(self) -> list[str]:
        """Words, marks and whole numbers of questions, prompt and solutions, for a word-level tokenizer."""
        prompt = " ".join(message["content"] for message in self._template.messages(""))
        words = re.findall(r"[A-Za-z]+|#+|[^\s\w]", f"{prompt} Make of the numbers and each exactly at most once left")
        return [*dict.fromkeys([*words, *"0123456789+-*/=():,.", "####"]), *map(str, range(self.rules.max_result + 1))]

    def task(self, index: int) -> Task:
        """Task ``index`` of this split."""
        return make_task(self.rules, self.split, index)

    def step_rightness(self, task_id: str, steps: Sequence[str]) -> list[bool]:
        """Say of each action whether it is right, given those before it, see ``line_rightness``.

        An action is right when it holds a part of at least one line, and every such line is right. Lines after the one
        that ends the response are not looked at.
        """
        task, response = self.task(self._find_task(task_id)), "".join(steps)
        return rightness_of_actions(line_rightness(task, response[: end_of_answer(response, self.thoughts)]), steps)

    @property
    def _prefix(self) -> str:
        return f"countdown/{self.rules.fingerprint}/{self.split}"

    def _make_item(self, index: int) -> Item:
        task = self.task(index)
        return Item(f"{self._prefix}/{index}", task.question, task.solution)

    def _index_of(self, task_id: str) -> int | None:
        return index_after(self._prefix, task_id)

    def _task_ids(self) -> tuple[str, ...]:
        return (f"{self._prefix}/0",)

    def _judge(self, index: int, response: str) -> tuple[bool, dict[str, Any]]:
        task, answer = self.task(index), stated_expression(response)
        right = _right(task, answer)
        reasons = {True: Reason.EXACT, False: Reason.DIFFERENT, None: Reason.UNPARSABLE}
        return bool(right), {
            "success": bool(right),
            "answer": answer,
            "grade_reason": (Reason.NO_ANSWER if answer is None else reasons[right]).value,
            "sound": bool(right) and all(line[2] for line in line_rightness(task, response)),
        }

    def canonical(self, answer: str) -> str:
        """Return the expression without blanks."""
        return "".join(answer.split())

    def _solution(self, index: int, seed: int) -> tuple[str, dict[str, Scalar]]:
        entropy = [_SOLVER_STREAM, SPLITS.index(self.split), index, seed]
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        text = solve(self.task(index), rng, mistakes=self.mistakes, max_result=self.rules.max_result)
        return text, {"source": "solver"}


def stated_expression(response: str) -> str | None:
    """Return the final answer of a response without thoughts: what it marks or states as such.

    Where that is no expression and not marked (``####``, a box, ``<answer>``), the last expression that the text holds,
    see ``expressions.last_expression``: "So (75 - 25) * 4 = 200." states one, though 200 is its result.
    """
    answer = extract_answer(response, NO_THOUGHTS)
    if answer is None or not (is_expression(answer) or has_final_answer(response, NO_THOUGHTS)):
        return last_expression(response) or answer
    return answer


def line_rightness(task: Task, response: str) -> list[tuple[int, int, bool]]:
    """Say of each line of a response, which ends with its answer if it has one, whether it is right.

    A line of work is right when it computes right (see ``expressions.follow``) and the target can still be reached from
    what is left: after a dead end none is. A line that states the whole expression is right when that is, and so is the
    line of the answer; an ``<answer>`` of several lines counts as one.

    Returns:
        (start, end, right) of each line, characters of ``response``, end exclusive and without the line break. Line
        breaks at the beginning and the end of the response belong to no line.
    """
    left, found = tuple(sorted(map(Fraction, task.numbers))), []
    lines = response.strip("\n").split("\n")
    tagged = next((place for place, line in enumerate(lines) if "<answer>" in line), len(lines))
    start = len(response) - len(response.lstrip("\n"))
    for line in [*lines[:tagged], *(["\n".join(lines[tagged:])] if tagged < len(lines) else [])]:
        if has_final_answer(line, NO_THOUGHTS):
            right = bool(_right(task, extract_answer(line, NO_THOUGHTS)))
        else:
            right, left = follow(line, left)
            right = right and reachable(left, Fraction(task.target), task.use_all)
            right = right or bool(_right(task, last_expression(line)))
        found.append((start, start + len(line), right))
        start += len(line) + 1
    return found


def _right(task: Task, answer: str | None) -> bool | None:
    """Whether an answer is right; None where it is no expression."""
    return None if answer is None else right_expression(answer, task.numbers, task.target, use_all=task.use_all)


def solve(task: Task, rng: np.random.Generator, *, mistakes: float = 0.0, max_result: int) -> str:
    """Write a solution: one operation a line with what is left after it, then the expression.

    All results are whole and positive. With chance ``mistakes`` a move is any; where the target is out of reach moves
    are any too, and the expression that comes out is stated as if it were the answer.
    """
    work, dead = _Work(task.numbers), set[tuple[int, ...]]()
    while len(work.left) > 1 and (task.use_all or task.target not in work.left):
        careless = rng.random() < mistakes
        move = None if careless else _find(work.left, task, max_result, rng, dead)
        if move is None:
            small, large = work.left[:2]
            # No whole result is small enough: the sum is taken all the same.
            moves = sorted(_moves(work.left, max_result)) or [(large, "+", small, large + small)]
            move = moves[int(rng.integers(len(moves)))]
        work.do(move)
    return "\n".join([*work.lines, f"#### {work.expression(task.target)}"])


class _Work:
    """Numbers that are combined step by step.

    Attributes:
        left: the numbers that are left, sorted.
        lines: what was done, a line a step.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self.left = tuple(sorted(numbers))
        self.lines: list[str] = []
        self._made = [(number, str(number)) for number in self.left]

    def do(self, move: Move) -> None:
        """Put the result of a move in the place of its operands."""
        a, operator, b, result = move
        self.left = _after(self.left, move)
        self.lines.append(f"{a} {operator} {b} = {result} (left: {', '.join(map(str, self.left))})")
        parts = [self._take(operand) for operand in (a, b)]
        self._made.append((result, f" {operator} ".join(f"({part})" if " " in part else part for part in parts)))

    def _take(self, number: int) -> str:
        return self._made.pop(next(place for place, (value, _) in enumerate(self._made) if value == number))[1]

    def expression(self, target: int) -> str:
        """How the target was made; how another number was made where it was not."""
        return min(self._made, key=lambda made: (made[0] != target, made[1]))[1]


def _find(
    left: tuple[int, ...], task: Task, max_result: int, rng: np.random.Generator, dead: set[tuple[int, ...]]
) -> Move | None:
    """A random move that leads to the target by whole positive results, None if there is none."""
    moves = sorted(_moves(left, max_result))
    for place in rng.permutation(len(moves)).tolist():
        after = _after(left, moves[place])
        if after in dead:
            continue
        done = after == (task.target,) if task.use_all else task.target in after
        if done or _find(after, task, max_result, rng, dead):
            return moves[place]
        dead.add(after)
    return None


def _moves(left: tuple[int, ...], max_result: int) -> Iterator[Move]:
    """Every move with a whole positive result of at most ``max_result``; ``left`` is sorted."""
    seen = set()
    for place, small in enumerate(left):
        for large in left[place + 1 :]:
            if (small, large) in seen:
                continue
            seen.add((small, large))
            if large + small <= max_result:
                yield large, "+", small, large + small
            if large > small:
                yield large, "-", small, large - small
            if large * small <= max_result:
                yield large, "*", small, large * small
            if large % small == 0:
                yield large, "/", small, large // small


def _after(left: tuple[int, ...], move: Move) -> tuple[int, ...]:
    rest = list(left)
    rest.remove(move[0])
    rest.remove(move[2])
    return tuple(sorted([*rest, move[3]]))
