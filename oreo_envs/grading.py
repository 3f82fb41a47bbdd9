r"""Final answers: where a response states one, and whether it equals the reference.

Knows: how answers are written in text and LaTeX, and when two of them are the same.
Does not know: prompts, rewards, episodes.

``grade`` goes through stages and stops at the first that decides: extraction; equal text; exact
rational numbers; a size guard; math-verify as the symbolic core. Only the last imports sympy, so
that integer answers cost microseconds. Nothing is evaluated as code, no signal is used (any thread
may grade), and nothing raises on hostile text: what the guard refuses is reason ``too_large``, what
cannot be read is ``unparsable``.

Policy: the last statement of an answer wins. A decimal equals an exact value when it agrees with it
in all the digits it gives, at least six significant ones, or exactly: 4.5 is 9/2, 0.33 is not 1/3.
A percentage equals both its bare number and its fraction. Units, currency and degree signs are
ignored unless they are all there is. An unevaluated expression is no answer to a reference that is
a number. A list has as many entries as its reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from oreo_envs.rationals import parse_number, same_number

MAX_ANSWER_CHARS = 1_000
"""An extracted answer longer than this is not looked at."""


class Reason(StrEnum):
    """Why a response was judged as it was."""

    EXACT = "exact"
    NUMERIC = "numeric"
    SYMBOLIC = "symbolic"
    DIFFERENT = "different"
    NO_ANSWER = "no_answer"
    UNPARSABLE = "unparsable"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Grade:
    """A verdict: is the response right, which answer was read in it, and why."""

    correct: bool
    extracted: str | None
    reason: Reason


def is_correct(response: str, reference: str) -> bool:
    """Whether the final answer of ``response`` equals ``reference``."""
    return grade(response, reference).correct


def grade(response: str, reference: str) -> Grade:
    r"""Judge the final answer of ``response`` against ``reference``.

    Args:
        response: a whole response, or a bare answer.
        reference: a bare answer ("70,000", ``\frac{1}{2}``), or a solution that states one.
    """
    extracted = extract_answer(response)
    if extracted is None:
        return Grade(False, None, Reason.NO_ANSWER)
    target = extract_answer(reference)
    correct, reason = _compare(extracted, reference.strip() if target is None else target)
    return Grade(correct, extracted, reason)


def extract_answer(response: str) -> str | None:
    r"""Return the final answer that ``response`` states, or None.

    An answer is stated by a closed ``\boxed{}`` or ``\fbox{}`` or by ``#### x``; without these by
    "A: x" or "Answer: x" at the start of a line, or by "answer is x". Of several the last counts;
    only the text after ``</think>`` is read. A response that is nothing but a number, or one
    formula in dollar signs, is an answer too.
    """
    response = response.rpartition("</think>")[2]
    found = max(_last_box(response), _last_hashes(response))
    if found == _NOWHERE:
        found = _last_phrase(response)
    answer = _bare(response) if found == _NOWHERE else found[1]
    return answer.strip() or None


def has_final_answer(response: str) -> bool:
    r"""Whether ``response`` holds a complete final answer: ``#### x``, or a closed ``\boxed{}``.

    A bare ``####``, an open box and a markdown heading (``#### Step 1: ...``) are none.
    """
    return _last_box(response)[0] >= 0 or _last_hashes(response)[0] >= 0


def canonical(answer: str) -> str:
    """Return a form of an extracted answer that is equal for equal numbers ("$18", "18.0"), to count votes by."""
    number = parse_number(clean(answer))
    return _squash(clean(answer)) if number is None else str(number.value)


_Found = tuple[int, str]  # where the answer starts (-1: nowhere), and its text
_NOWHERE: _Found = (-1, "")

_BRACE = re.compile(r"\\(?:boxed|fbox)(?:\s*\{|\s+(\w))|\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"(?<!#)####(?!#)\s*([^\n]+)")
_ANSWER_WORDS = re.compile(r"^[*_]*(?:the\s+)?(?:final\s+)?answer\b[*_]*(?:\s+is\b)?\s*:?[*_]*\s*", re.IGNORECASE)
_HEADING = re.compile(r"\**(?:\d+[.):]\s+)?\**[A-Za-z]{2,}[\s:]+\S")
_PHRASE = re.compile(
    r"^[ \t*_]*(?:final[ \t]+)?(?:answer|a)[ \t*_]*:[ \t*_]*([^\n]+)"
    r"|\banswer[ \t]+is[ \t]*:?[ \t]*([^\n]+)",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE_END = re.compile(r"\.(?:\s|$)")
_ANSWER_LIKE = re.compile(r"\d|\$|\\|^\(?[A-Za-z]\)?$")
_FORMULA = re.compile(r"\$[^$\n]+\$")


def _last_box(text: str) -> _Found:
    """Content of the last box that is closed; one pass, whatever is left open."""
    found = _NOWHERE
    open_braces: list[tuple[int, int]] = []  # where the box starts (-1: a plain brace), its content
    for match in _BRACE.finditer(text):
        if match[1]:  # TeX takes the next token: \boxed 9
            found = max(found, (match.start(), match[1]))
        elif match[0].endswith("{") and match[0] != r"\{":
            open_braces.append((match.start() if match[0] != "{" else -1, match.end()))
        elif match[0] == "}" and open_braces:
            box, content = open_braces.pop()
            if box > found[0]:
                found = box, text[content : match.start()]
    return found


def _last_hashes(text: str) -> _Found:
    """What follows the last ``####`` that is not a heading."""
    for match in reversed(list(_HASHES.finditer(text))):
        answer = _ANSWER_WORDS.sub("", match[1])
        if re.search(r"\w", answer) and not _HEADING.match(answer):
            return match.start(), answer
    return _NOWHERE


def _last_phrase(text: str) -> _Found:
    """What the last "Answer: ..." or "answer is ..." states."""
    for match in reversed(list(_PHRASE.finditer(text))):
        answer = (match[1] or match[2]).strip(" *_")
        if match[2]:
            answer = _SENTENCE_END.split(answer)[0]
        if _ANSWER_LIKE.search(answer.strip()):
            return match.start(), answer
    return _NOWHERE


def _bare(text: str) -> str:
    """The whole text when it is an answer and nothing else."""
    text = text.strip()
    short = len(text) <= MAX_ANSWER_CHARS
    return text if short and (_FORMULA.fullmatch(text) or parse_number(clean(text))) else ""


_WRAPPER = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|hbox)\s*\{([^{}]*)\}")
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|bigl|bigr|Bigl|Bigr|big|Big)(?![A-Za-z])", ""),
        (r"\\[dt]frac", r"\\frac"),
        (r"\\displaystyle|(?<!\\)\\[!,;:]", ""),
        (r"\{,\}", ","),
        (r"(?<!\\)\\ |~|\s+", " "),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree|°", ""),
        (r"\\%", "%"),
        (r"\\\$|\\?[€£]|^\$|(?<=\s)\$(?=\d)", ""),
    )
)
_ASSIGNMENT = re.compile(r"^\\?[A-Za-z]+(?:_\{?\w\}?)?(?:\([a-z]\))?\s*=\s*(?!.*=)")
_MEMBERSHIP = re.compile(r"^[A-Za-z]\s*\\in(?![A-Za-z])\s*")
_UNITS = re.compile(r"(?<=[\d}%)])\s*(?:\\text\s*\{[^{}]*\}|\\mathrm\s*\{[^{}]*\})(?:\^\{?[23]\}?)?$")
_MARKS = re.compile(r"^[\s*_`]+|[\s*_`]+$")


@lru_cache(maxsize=65_536)
def clean(answer: str) -> str:
    """Take off what has no meaning: math mode, spacing, bold, units, currency, ``x =``."""
    answer = _MARKS.sub("", answer)
    while len(answer) > 1:
        for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
            if answer.startswith(left) and answer.endswith(right) and len(answer) > len(left + right):
                answer = answer[len(left) : -len(right)].strip()
                break
        else:
            if not answer.endswith("."):
                break
            answer = _MARKS.sub("", answer[:-1])
    for pattern, replacement in _REWRITES:
        answer = pattern.sub(replacement, answer)
    answer = _MEMBERSHIP.sub("", _ASSIGNMENT.sub("", answer.strip()))
    answer = _WRAPPER.sub(r"\1", _UNITS.sub("", answer))
    return answer.strip().rstrip(".")


@lru_cache(maxsize=65_536)
def _compare(answer: str, reference: str) -> tuple[bool, Reason]:
    """The stages after extraction."""
    if len(answer) > MAX_ANSWER_CHARS or len(reference) > MAX_ANSWER_CHARS:
        return False, Reason.TOO_LARGE
    answer, reference = clean(answer), clean(reference)
    if not answer or not reference:
        return False, Reason.UNPARSABLE
    if _squash(answer) == _squash(reference):
        return True, Reason.EXACT
    number, target = parse_number(answer), parse_number(reference)
    if number is not None and target is not None:
        same = same_number(number, target)
        return same, Reason.NUMERIC if same else Reason.DIFFERENT
    # Imported late: symbolic.py is the only way to sympy, and sympy takes seconds to import.
    from oreo_envs.symbolic import compare_symbolically

    return compare_symbolically(answer, reference, target is not None)


def _squash(answer: str) -> str:
    """Text for comparison: no blanks, words in lower case, choices without parentheses."""
    answer = re.sub(r"\s+", "", answer)
    if re.fullmatch(r"\([A-Za-z]\)", answer):
        return answer[1:-1]
    return answer.casefold() if re.fullmatch(r"[A-Za-z]{2,}", answer) else answer
