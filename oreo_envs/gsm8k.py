"""GSM8K: grade-school word problems.

Knows: how the data set writes answers and worked solutions.
Does not know: how answers are compared, tokens.
Source: Cobbe et al. 2021 (arXiv:2110.14168), https://github.com/openai/grade-school-math (MIT). A
reference solution is one step a line, with ``<<16-3=13>>`` calculator annotations, and ends in
``#### <number>``.
"""

from __future__ import annotations

import re
from typing import ClassVar

from oreo_envs.answers import ProblemSetEnv, stated
from oreo_envs.base import Scalar
from oreo_envs.datasets import Problem, Row, Source
from oreo_envs.layouts import question_text, reference, solution_text

_ANNOTATION = re.compile(r"<<[^<>\n]*>>")


_NUMBER = re.compile(r"[-+$]*[0-9][0-9,]*(?:\.[0-9]+)?(?:/[0-9]+)?%?", re.ASCII)


def _read_row(row: Row, split: str) -> Problem:
    question, value = question_text([row["question"]]), row["answer"]
    if isinstance(value, str) and "####" in value:
        answer, solution = reference(value.rpartition("####")[2].strip()), value
    else:
        answer, solution = reference(value), solution_text(row.get("solution"))
        if not _NUMBER.fullmatch(answer.strip()):
            raise ValueError("field 'answer' does not end in '#### <number>', and is no number")
    return Problem(question, answer, solution)


def without_annotations(solution: str) -> str:
    """Return a solution without the calculator's ``<<...>>`` and blank ends of lines."""
    return "\n".join(line.rstrip() for line in _ANNOTATION.sub("", solution).splitlines()).strip()


SOURCE = Source(
    name="gsm8k",
    read_row=_read_row,
    names={"question": "question", "answer": "answer", "solution": "solution"},
    hub={split: ("openai/gsm8k", (f"main/{split}-00000-of-00001.parquet",)) for split in ("train", "test")},
)


class GSM8KEnv(ProblemSetEnv):
    r"""``oreo/GSM8K-v0``: 7,473 train and 1,319 test word problems whose answer is a number.

    Action: one chunk of the solution, usually a line; a whole solution may be passed at once.
    Observation: the question at reset, then always "".
    Start: ``options={"index": i}`` in the authors' order, ``{"task_id": "gsm8k/test/17"}``, or
        drawn from the seed.
    Reward: 1.0 when the final answer is right, else 0.0.
    Episode end: terminated by an empty action (by any with ``single_turn``), or with the line of the first ``####
        x``, closed ``\boxed{}`` or closed ``<answer>``; truncated at ``max_steps`` actions or ``max_chars``
        characters, and graded.
    Info: ``messages, task_id, index, split, step, success, answer``; once over also
        ``grade_reason``.
    Source and version: Cobbe et al. 2021 (arXiv:2110.14168), the authors' splits; v0.
    """

    source = SOURCE
    name = SOURCE.name
    default_prompt = "gsm8k-hash"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    step_delimiters: ClassVar[tuple[str, ...]] = ("\n",)

    def _solution(self, index: int, seed: int) -> tuple[str, dict[str, Scalar]]:
        return stated(without_annotations(self._worked(index)), self.problems[index].answer), {"source": "authors"}
