r"""MATH: competition mathematics.

Knows: how the data set writes answers and worked solutions.
Does not know: how answers are compared, tokens.
Source: Hendrycks et al. 2021 (arXiv:2103.03874), https://github.com/hendrycks/math (MIT); MATH-500
is the test split of Lightman et al. 2023 (arXiv:2305.20050). A reference solution holds its answer
in ``\boxed{}``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from oreo_envs.answers import ProblemSetEnv, split_steps, stated
from oreo_envs.base import Scalar
from oreo_envs.datasets import Problem, Row, Source, WrongSplit, logger
from oreo_envs.grading import has_final_answer
from oreo_envs.grading.extraction import extract_reference
from oreo_envs.layouts import question_text, reference, solution_text
from oreo_envs.math_test import MATH500, MATH500_SIZE, TEST_SIZE, count_test_problems, kind_of

EMPTY_ANSWERS = {
    "For any integer $n>1$, the number of prime numbers greater than $n!+1$": "0",
    "You are given a sequence of $58$ terms; each term has the form $P+n$": "0",
}
"""Two train problems (0-based rows 5341, 5343) have an empty box: how they begin, their answer."""

_SUBJECTS = (
    "algebra counting_and_probability geometry intermediate_algebra number_theory prealgebra precalculus".split()
)
_EMPTY_BOX = re.compile(r"\\boxed\s*\{\s*\}")


def _read_row(row: Row, split: str) -> Problem | None:
    question = question_text([row["problem"]])
    if split == "math500" and not _in_math500(row, question):
        return None
    if "answer" not in row:
        solution = solution_text(row["solution"])
        answer = extract_reference(solution) or ""
    else:
        solution, answer = solution_text(row.get("solution")), row["answer"]
    if isinstance(answer, str) and not answer.strip():
        repaired = next((a for start, a in EMPTY_ANSWERS.items() if question.startswith(start)), "")
        if repaired:
            logger.warning("MATH: empty reference answer repaired to %r: %.60s...", repaired, question)
            answer, solution = repaired, _EMPTY_BOX.sub(lambda _: rf"\boxed{{{repaired}}}", solution)
    return Problem(question, reference(answer), solution)


def _in_math500(row: Row, question: str) -> bool:
    flag = row.get("math500")
    return kind_of(question) == MATH500 if flag is None else str(flag).lower() in ("true", "1")


def _check(problems: Sequence[Problem], split: str, origin: str, allow_test_problems: bool) -> None:
    """Refuse what is named after another split than it holds."""
    if split == "train":
        count = count_test_problems(problem.question for problem in problems)
        if count and not allow_test_problems:
            raise WrongSplit(
                f"{origin}: {count:,} of the {TEST_SIZE:,} test problems of MATH are in it, and nothing may learn from "
                "these; take them out, or pass allow_test_problems=True and evaluate on something else"
            )
        return
    known = {problem.question for problem in problems if kind_of(problem.question) == MATH500}
    if split == "test" and len(known) == len({problem.question for problem in problems}):
        raise WrongSplit(
            f"{origin}: holds {len(known)} problems of math500 and no other; {TEST_SIZE - MATH500_SIZE:,} of the "
            f"{TEST_SIZE:,} of test are not there. Pass split='math500', or give the whole test split"
        )
    if split == "math500" and len(problems) != MATH500_SIZE:
        logger.warning("MATH: %s has %d problems of math500, which are %d", origin, len(problems), MATH500_SIZE)


# EleutherAI's copy has the authors' rows, one file a subject; the original repository is gone.
SOURCE = Source(
    name="math",
    read_row=_read_row,
    hub={
        **{
            split: (
                "EleutherAI/hendrycks_math",
                tuple(f"{subject}/{split}-00000-of-00001.parquet" for subject in _SUBJECTS),
            )
            for split in ("train", "test")
        },
        "math500": ("HuggingFaceH4/MATH-500", ("test.jsonl",)),
    },
    files={"math500": "test"},
    names={"question": "problem", "answer": "answer", "solution": "solution"},
    check=_check,
)


class MATHEnv(ProblemSetEnv):
    r"""``oreo/MATH-v0``: 7,500 train and 5,000 test problems; 500 of the latter are "math500".

    Action: one chunk of the solution, usually a line or a sentence; a whole solution may be passed
        at once.
    Observation: the problem at reset, then always "".
    Start: ``options={"index": i}`` in the file's order, ``{"task_id": "math/math500/17"}``, or
        drawn from the seed.
    Reward: 1.0 when the final answer is right, else 0.0.
    Episode end: terminated by an empty action (by any with ``single_turn``), or with the line of the first closed
        ``\boxed{}``, ``#### x`` or closed ``<answer>``; truncated at ``max_steps`` actions or ``max_chars``
        characters, and graded.
    Info: ``messages, task_id, index, split, step, success, answer``; once over also
        ``grade_reason``.
    Source and version: Hendrycks et al. 2021 (arXiv:2103.03874), the authors' splits, and as "math500" the
        500 rows of Lightman et al. 2023 in the test file, which are told by their flag or their text; v0.
    """

    source = SOURCE
    name = SOURCE.name
    default_prompt = "boxed"
    splits: ClassVar[tuple[str, ...]] = ("train", "test", "math500")
    held_out_splits: ClassVar[tuple[str, ...]] = ("test", "math500")
    step_delimiters: ClassVar[tuple[str, ...]] = ("\n", ". ", ".$ ")

    def _solution(self, index: int, seed: int) -> tuple[str, dict[str, Scalar]]:
        text = up_to_last_box(self._worked(index), self.step_delimiters)
        return stated(text, self.problems[index].answer), {"source": "authors"}


def up_to_last_box(solution: str, delimiters: tuple[str, ...]) -> str:
    """Return a solution up to its last box; earlier ones, which end an episode, go."""
    text = solution.strip()
    boxes = list(re.finditer(r"\\(?:boxed|fbox)", text))
    for box in reversed(boxes[:-1]):
        text = text[: box.start()] + text[box.end() :]
    response = ""
    for step in split_steps(text, delimiters):
        response += step
        if has_final_answer(response):
            break
    return response.rstrip()
