r"""Environments that ask a question with one final answer; steps of a text.

Knows: that a response grows chunk by chunk until a line of it holds a final answer, and is graded up to there.
Does not know: where questions come from, how answers are compared (``grading``).
"""

from __future__ import annotations

import itertools
import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

from oreo_envs.base import Opening, Outcome, Scalar, Solution, TextEnv, Turn
from oreo_envs.checks import flag, positive
from oreo_envs.datasets import MAX_UNPACKED_BYTES, Place, Source, load_problems
from oreo_envs.grading import AnswerEnd, Reason, canonical, end_of_answer, grade, has_final_answer
from oreo_envs.grading.thoughts import NO_THOUGHTS
from oreo_envs.orders import Seat
from oreo_envs.prompts import PromptTemplate, prompt_template


@dataclass(frozen=True)
class Item:
    """A question with its reference answer, which never leaves the environment."""

    task_id: str
    question: str
    reference: str


class AnswerEnv(TextEnv):
    r"""A question; the response grows chunk by chunk and is graded once it states its answer.

    Action: one chunk of the response; a whole response may be passed at once. With ``single_turn`` an action is the
        whole response.
    Observation: the question at reset, then always "".
    Start: see ``TextEnv``; the messages are the template ``prompt`` with the question in it.
    Reward: 1.0 when the response is judged right at the end, else 0.0. The response ends with the line of its first
        complete final answer. What was passed after that stays in the messages but is not judged, so that the reward
        of a text does not depend on how it is cut into actions (unless a cut falls inside that line).
    Episode end: terminated by an empty action, or when the response holds a complete final answer (``#### x``, a
        closed ``\boxed{}`` or a closed ``<answer>``; a bare ``####`` or an open box is none, nor is anything inside a
        thought, see ``grading.end_of_answer``), with ``single_turn`` by any action; truncated at ``max_steps``
        actions or ``max_chars`` characters, and then graded on what was written, in prose as well: at the text limit
        on the lines that end within it, since a line over it may be cut inside an answer.
    Info: once over also ``answer`` (extracted, or None), ``success`` and ``grade_reason`` (``grading.Reason``;
        "too_large" where no answer stands within the text limit).
    Source and version: see the subclass.
    """

    default_prompt: ClassVar[str] = "question"
    """Name of a template of ``oreo_envs.prompts``."""

    def __init__(self, *, prompt: str, single_turn: bool = False, **shared: Any) -> None:
        """Check the arguments.

        Args:
            prompt: a template of ``oreo_envs.prompts``.
            single_turn: an action is a whole response, so that one ends the episode, and prose is graded.
            shared: what all environments take, see ``TextEnv``.
        """
        super().__init__(**shared)
        self._template = prompt_template(prompt)
        self.single_turn = flag("single_turn", single_turn)
        self._answer_end = AnswerEnd()

    @classmethod
    def template(cls, prompt: str | None = None) -> PromptTemplate:
        """Return the prompt template of that name, None: the default of this environment."""
        return prompt_template(prompt or cls.default_prompt)

    def reference(self, index: int) -> str | None:
        """Return the answer that answers to question ``index`` are judged by, for readers of judged answers."""
        return self._make_item(index).reference or None

    @abstractmethod
    def _make_item(self, index: int) -> Item:
        """Question number ``index``."""

    def _open(self, index: int) -> Opening:
        item = self._make_item(index)
        return Opening(item.task_id, item.question, self._template.messages(item.question))

    def _respond(self, action: str) -> Outcome:
        text = self._messages[-1]["content"]
        end = self._answer_end.of(text, self.thoughts)
        goes_on = action and end is None and not self.single_turn
        return Outcome() if goes_on else self._graded(text[:end])

    def _overflow(self) -> Outcome:
        """Text over the limit is not judged, but it may follow a line that ended the response within the limit."""
        lines = self._lines_within()
        end = end_of_answer(lines, self.thoughts)
        return Outcome() if end is None else self._graded(lines[:end])

    def _lines_within(self) -> str:
        """The lines of the response that end within the limit on text."""
        return self._messages[-1]["content"][: self.max_chars + 1].rpartition("\n")[0]

    def _graded(self, response: str) -> Outcome:
        success, info = self._judge(self._index, self.thoughts.answer(response) or "")
        return Outcome(reward=float(success), terminated=True, info=info)

    def _judge(self, index: int, response: str) -> tuple[bool, dict[str, Any]]:
        """Grade a response to question ``index``, without its thoughts: is it right, and what info says of it."""
        item = self._make_item(index)
        verdict = grade(response, item.reference, NO_THOUGHTS, question=item.question)
        return verdict.correct, {
            "success": verdict.correct,
            "answer": verdict.extracted,
            "grade_reason": verdict.reason.value,
        }

    def canonical(self, answer: str) -> str:
        """Return what is equal for equal numbers; one that judges in another way says its own, or ``TextEnv``'s."""
        return canonical(answer)

    def _cut_off(self, limit: Literal["steps", "text"]) -> Outcome:
        graded = self._graded(self._messages[-1]["content"] if limit == "steps" else self._lines_within())
        if limit == "text" and graded.info.get("answer") is None:
            return Outcome(info={**graded.info, "grade_reason": Reason.TOO_LARGE.value})
        return graded

    def _demonstrate(self, index: int, seed: int) -> Solution:
        response, info = self._solution(index, seed)
        response = response[: end_of_answer(response, NO_THOUGHTS)]
        success, verdict = self._judge(index, response)
        return Solution((Turn(split_steps(response, self.step_delimiters), reward=float(success)),), info | verdict)

    @abstractmethod
    def _solution(self, index: int, seed: int) -> tuple[str, dict[str, Scalar]]:
        """Text of a worked solution of question ``index``, and where it comes from."""


class ProblemSetEnv(AnswerEnv):
    """An ``AnswerEnv`` over a data set: a subclass names it, and says ``_solution``.

    Task ids are ``name/split/index``, in the order of the files.
    """

    source: ClassVar[Source]
    name: ClassVar[str]

    def __init__(
        self,
        *,
        split: str = "train",
        path: Place | None = None,
        fields: Mapping[str, str] | None = None,
        prompt: str | None = None,
        single_turn: bool = False,
        max_steps: int | None = 256,
        max_chars: int = 32_768,
        thoughts: Any = None,
        order: str = "random",
        place: tuple[int, int] | Seat | None = None,
        render_mode: str | None = None,
        max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
        allow_test_problems: bool = False,
    ) -> None:
        """Load the split.

        Args:
            split: one of ``splits``.
            path: a file; a folder that holds files of this split (``.jsonl``, ``.json``, ``.csv``, ``.parquet``,
                ``.arrow``, packed or not), a cloned hub repository, a saved data set; or a list of these, joined.
                Without it ``$OREO_DATA/<name>``, then the hub.
            fields: dotted names of the columns that hold "question", "answer" and "solution", such as
                ``{"question": "prompt.0.content", "answer": "reward_model.ground_truth"}``; None: the data set's own.
            prompt: a template of ``oreo_envs.prompts``; None: ``default_prompt``.
            single_turn: an action is a whole response, see ``AnswerEnv``.
            max_steps: actions before truncation; None: no limit.
            max_chars: characters of response before truncation.
            thoughts: marks of thoughts, see ``TextEnv``; None: those in use.
            order, place, render_mode: see ``TextEnv``.
            max_unpacked_bytes: what the files of the split may unpack to, all together.
            allow_test_problems: load a train split also from a file that is named after a held-out split, or holds
                problems of MATH's.
        """
        super().__init__(
            split=split,
            prompt=self.default_prompt if prompt is None else prompt,
            single_turn=single_turn,
            max_steps=max_steps,
            max_chars=max_chars,
            thoughts=thoughts,
            order=order,
            place=place,
            render_mode=render_mode,
        )
        self.problems = load_problems(
            self.source,
            split,
            path,
            fields=fields,
            held_out=self.held_out_splits,
            max_unpacked_bytes=positive("max_unpacked_bytes", max_unpacked_bytes),
            allow_test_problems=flag("allow_test_problems", allow_test_problems),
        )

    @property
    def num_tasks(self) -> int:
        """Number of problems in the split."""
        return len(self.problems)

    def _make_item(self, index: int) -> Item:
        problem = self.problems[index]
        return Item(f"{self.name}/{self.split}/{index}", problem.question, problem.answer)

    def _worked(self, index: int) -> str:
        """The worked solution of question ``index`` as it stands in the data."""
        solution = self.problems[index].solution
        if not solution.strip():
            raise ValueError(
                f"{self.name}/{self.split}/{index} has no worked solution to show ({self.problems.origin}); name its "
                "column, fields={'solution': ...}, or begin without demonstrations"
            )
        return solution

    def _index_of(self, task_id: str) -> int | None:
        index = index_after(f"{self.name}/{self.split}", task_id)
        return index if index is not None and index < self.num_tasks else None

    def _task_ids(self) -> Iterable[str]:
        return (f"{self.name}/{self.split}/{index}" for index in range(self.num_tasks))


def stated(solution: str, answer: str) -> str:
    """Return a solution that ends in its final answer, which is added where it states none."""
    return solution if has_final_answer(solution) else f"{solution.rstrip()}\n\\boxed{{{answer}}}"


def index_after(prefix: str, task_id: str) -> int | None:
    """Return the number i of the task id ``prefix/i``, None if the id is not of this form."""
    match = re.fullmatch(re.escape(prefix) + r"/(0|[1-9]\d{0,17})", task_id, re.ASCII)
    return int(match[1]) if match else None


def rightness_of_actions(lines: Sequence[tuple[int, int, bool]], steps: Sequence[str]) -> list[bool]:
    """Return whether each action is right: it holds a part of at least one line, and every such line is right.

    Args:
        lines: (start, end, right) of each line that is judged, characters of the response, end exclusive.
        steps: texts of the actions, which concatenate to the response.
    """
    found = []
    for start, end in itertools.pairwise(itertools.accumulate(map(len, steps), initial=0)):
        held = [right for first, last, right in lines if first < end and last > start]
        found.append(bool(held) and all(held))
    return found


_FORMULA_MARK = re.compile(r"\\.|\$\$?|\[/?asy\]|\n", re.DOTALL)
_OPENS = {r"\[": r"\]", r"\(": r"\)", "$": "$", "$$": "$$", "[asy]": "[/asy]"}
FORMULA_ENDS = tuple(_OPENS.values())
"""Marks that close a formula or a drawing, see ``split_steps``."""


def split_steps(text: str, delimiters: tuple[str, ...]) -> tuple[str, ...]:
    r"""Cut a text into reasoning steps, which concatenate to it.

    A step ends after a delimiter and the blank space that follows it. Delimiters inside a formula
    (``$...$``, ``\[...\]``, ``\(...\)``) or a drawing (``[asy]``) end nothing; one that closes the
    formula (".$ ") does. The last step has no trailing delimiter if the text has none; blank text
    is one step.
    """
    if not delimiters or not text.strip():
        return (text,)
    formula = _inside_formula(text)
    cuts = [
        match.end()
        for match in _pattern(delimiters).finditer(text)
        if match.end() < len(text) and not formula[match.end() - 1] and text[: match.start()].strip()
    ]
    return tuple(text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True))


@lru_cache(maxsize=64)
def _pattern(delimiters: tuple[str, ...], before: str = "") -> re.Pattern[str]:
    return re.compile(before + "(?:" + "|".join(map(re.escape, delimiters)) + r")\s*")


def step_goes_on(text: str, delimiters: tuple[str, ...]) -> bool:
    """Whether a text is still in its first step, or will have been: a formula that is open yet may be closed later."""
    return any(len(split_steps(f"{text}x{close}", delimiters)) == 1 for close in ("", *FORMULA_ENDS))


def rest_of_step(text: str, delimiters: tuple[str, ...]) -> str:
    """Return a short text that, whatever follows, ends a step where this one does, whose first step goes on.

    What stands before its last characters matters only by whether it is blank, and by the formula that it leaves open.
    """
    if any(delimiter in mark for delimiter in delimiters for mark in _OPENS):
        return text  # what opens a formula ends a step too, or not, by where it stands
    # Marks and delimiters that begin later may not be whole yet.
    last = max(len(text) - max(map(len, (*delimiters, *_OPENS, *FORMULA_ENDS))) + 1, 0)
    awaited, opened = "", 0
    for mark in _FORMULA_MARK.finditer(text):
        if mark.end() > last:
            last = min(last, mark.start())
            break
        if mark[0] == "\n" or mark[0] == awaited:
            awaited = "" if mark[0] == awaited or awaited == "$" else awaited
        elif not awaited and mark[0] in _OPENS:
            awaited, opened = _OPENS[mark[0]], mark.start()
    if awaited == "$":
        last = min(last, opened)  # it may turn out to be money
        awaited = ""
    # A delimiter at the beginning ends nothing, nor do those in the blanks after it.
    lead = _pattern(delimiters, before=r"\s*").match(text)
    if lead is not None and lead[0].strip() and last < lead.end():
        return text
    begun = bool(text[:last].strip())
    return "\0" * begun + next((mark for mark, end in _OPENS.items() if end == awaited), "") + text[last:]


def _inside_formula(text: str) -> bytearray:
    """One flag a character: is it inside a formula that is closed somewhere."""
    inside, awaited, start = bytearray(len(text)), "", 0
    for mark in _FORMULA_MARK.finditer(text):
        if mark[0] == "\n":
            # A lone dollar sign is money: only displayed formulas go over a line break.
            awaited = "" if awaited == "$" else awaited
        elif awaited and mark[0] == awaited:
            inside[start : mark.start()] = b"\1" * (mark.start() - start)
            awaited = ""
        elif not awaited and mark[0] in _OPENS:
            awaited, start = _OPENS[mark[0]], mark.end()
    return inside
