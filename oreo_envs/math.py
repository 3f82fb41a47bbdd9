r"""MATH: competition mathematics.

Knows: how the data set writes answers and worked solutions.
Does not know: how answers are compared, tokens.
Source: Hendrycks et al. 2021 (arXiv:2103.03874), https://github.com/hendrycks/math (MIT); MATH-500
is the test split of Lightman et al. 2023 (arXiv:2305.20050). A reference solution holds its answer
in ``\boxed{}``.
"""

from __future__ import annotations

import re
from typing import ClassVar

from oreo_envs.answers import ProblemSetEnv, split_steps
from oreo_envs.base import Scalar
from oreo_envs.datasets import Problem, Row, Source, logger, text_field
from oreo_envs.grading import extract_answer, has_final_answer

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
    if split == "math500" and not row.get("math500", "unique_id" in row):
        return None
    question, solution = text_field(row, "problem"), text_field(row, "solution")
    answer = text_field(row, "answer") if "answer" in row else extract_answer(solution) or ""
    if not answer.strip():
        answer = next((a for start, a in EMPTY_ANSWERS.items() if question.startswith(start)), "")
        if not answer:
            raise ValueError("the reference answer is empty")
        logger.warning("MATH: empty reference answer repaired to %r: %.60s...", answer, question)
        solution = _EMPTY_BOX.sub(lambda _: rf"\boxed{{{answer}}}", solution)
    return Problem(question, answer, solution)


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
)


class MATHEnv(ProblemSetEnv):
    r"""``oreo/MATH-v0``: 7,500 train and 5,000 test problems; 500 of the latter are "math500".

    Action: one chunk of the solution, usually a line or a sentence; a whole solution may be passed
        at once.
    Observation: the problem at reset, then always "".
    Start: ``options={"index": i}`` in the file's order, ``{"task_id": "math/math500/17"}``, or
        drawn from the seed.
    Reward: 1.0 when the final answer is right, else 0.0.
    Episode end: terminated by an empty action, or once the response holds a closed ``\boxed{}`` or
        ``#### x``; truncated at ``max_steps`` actions or ``max_chars`` characters.
    Info: ``messages, task_id, index, split, step, success, answer``; once over also
        ``grade_reason``.
    Source and version: Hendrycks et al. 2021 (arXiv:2103.03874), the authors' splits, and as "math500" the
        rows flagged so in the test file; v0.
    """

    source = SOURCE
    name = SOURCE.name
    default_prompt = "boxed"
    splits: ClassVar[tuple[str, ...]] = ("train", "test", "math500")
    held_out_splits: ClassVar[tuple[str, ...]] = ("test", "math500")
    step_delimiters: ClassVar[tuple[str, ...]] = ("\n", ". ", ".$ ")

    def _solution(self, index: int, seed: int) -> tuple[str, dict[str, Scalar]]:
        """The authors' solution up to its last box; earlier ones, which end an episode, go."""
        text = self.problems[index].solution.strip()
        boxes = list(re.finditer(r"\\(?:boxed|fbox)", text))
        for box in reversed(boxes[:-1]):
            text = text[: box.start()] + text[box.end() :]
        steps, response = split_steps(text, self.step_delimiters), ""
        for step in steps:
            response += step
            if has_final_answer(response):
                break
        return response.rstrip(), {"source": "authors"}
