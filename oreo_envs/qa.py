r"""One's own questions and answers.

Knows: what to make of a row of any known layout, or of columns that are named.
Does not know: files, how answers are compared, tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from oreo_envs.answers import ProblemSetEnv, stated
from oreo_envs.base import Scalar
from oreo_envs.datasets import NoReference, Problem, Row, Source, logger
from oreo_envs.grading.extraction import extract_reference
from oreo_envs.gsm8k import without_annotations
from oreo_envs.layouts import question_text, recognise, reference, solution_text
from oreo_envs.math import up_to_last_box
from oreo_envs.math_test import count_test_problems

_STATED = re.compile(r"(?:^|\s)(?:The answer is:|####)[ \t]*(\S[^\n]*?)\s*\Z")


def _read_row(row: Row, split: str) -> Problem:
    layout, question, answer, solution = recognise(row)
    solution = solution_text(solution)
    if layout.answer is None:
        match = _STATED.search(solution)
        answer = match[1] if match else extract_reference(solution)
        if answer is None:
            raise NoReference("no answer in the solution")
    elif isinstance(answer, str) and (match := _STATED.search(answer)):
        answer, solution = match[1], solution or answer
    return Problem(question_text(question), reference(answer), solution)


def _check(problems: Sequence[Problem], split: str, origin: str, allow_test_problems: bool) -> None:
    count = count_test_problems(problem.question for problem in problems) if split == "train" else 0
    if count and not allow_test_problems:
        logger.warning(
            "qa: %s holds %d test problems of MATH: a policy that learns from it is not to be evaluated on these "
            "(allow_test_problems=True says that this is known)",
            origin,
            count,
        )


SOURCE = Source(
    name="qa",
    read_row=_read_row,
    hub={},
    names={"question": "question", "answer": "answer", "solution": "solution"},
    check=_check,
)


class QAEnv(ProblemSetEnv):
    r"""``oreo/QA-v0``: questions of one's own with one final answer each, from ``path`` or ``$OREO_DATA/qa``.

    Action: one chunk of the solution, usually a line or a sentence; a whole solution may be passed at once.
    Observation: the question at reset, then always "".
    Start: ``options={"index": i}`` in the files' order, ``{"task_id": "qa/train/17"}``, or drawn from the seed.
    Reward: 1.0 when the final answer is right, else 0.0.
    Episode end: terminated by an empty action (by any with ``single_turn``), or with the line of the first closed
        ``\boxed{}``, ``#### x`` or closed ``<answer>``; truncated at ``max_steps`` actions or ``max_chars``
        characters, and graded.
    Info: ``messages, task_id, index, split, step, success, answer``; once over also ``grade_reason``.
    Source and version: the user's files; v0.

    Columns are those named by ``fields``, else those of a known layout (``layouts.LAYOUTS``). Numbers are answers as
    one would write them, a list of several answers is the one answer ``a, b``; a solution is optional, and shown by
    ``demonstration`` up to its last box. Rows without a reference answer ("proof", "notfound", null, ...) are left out
    and listed in ``problems.skipped``.
    """

    source = SOURCE
    name = SOURCE.name
    default_prompt = "boxed"
    splits: ClassVar[tuple[str, ...]] = ("train", "dev", "test")
    step_delimiters: ClassVar[tuple[str, ...]] = ("\n", ". ", ".$ ")

    def _solution(self, index: int, seed: int) -> tuple[str, dict[str, Scalar]]:
        text = up_to_last_box(without_annotations(self._worked(index)), self.step_delimiters)
        return stated(text, self.problems[index].answer), {"source": "authors"}
