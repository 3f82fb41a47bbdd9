"""Expressions over given numbers: read and computed exactly, what can be reached, which lines of work are right.

Knows: ``+ - * /``, parentheses and fractions, how they are written in LaTeX, Markdown and prose. Does not know:
environments, how tasks are drawn.
No text is evaluated as code: expressions are read by a grammar of their own, in linear time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import combinations
from operator import add, mul, sub

MAX_NUMBERS = 6
"""More given numbers have too many combinations to look at."""

_SIGNS = str.maketrans(dict.fromkeys("×·∗⋅∙•✕✖", "*") | dict.fromkeys("÷∕⁄", "/") | dict.fromkeys("−–", "-"))
_NAMED = (
    *((name, " ") for name in (r"\left", r"\right", r"\(", r"\)", r"\[", r"\]", r"\,", r"\;", r"\!", "$", "`")),
    *((r"\times", "*"), (r"\cdot", "*"), (r"\ast", "*"), (r"\div", "/")),
)
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))", re.ASCII)
_STYLED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boxed|fbox)\s*\{([^{}]*)\}")
_CROSS = re.compile(r"(?<=[\d)\]])(\s*)[xX](?=\s*[-(\[\d])")
_TOKEN = re.compile(r"\s*(?:(\d{1,9}(?![\d.,_]))|([-+*/()\[\]]))\s*", re.ASCII)
_OPENING = {")": "(", "]": "["}
_RANK = {"(": 0, "[": 0, "+": 1, "-": 1, "*": 2, "/": 2, "negative": 3}

_NUMBER = r"-?\d{1,9}(?:/[1-9]\d{0,8})?"
_STEP = re.compile(
    rf"({_NUMBER})\s*([-+*/])\s*({_NUMBER})\s*=\s*({_NUMBER})(?:\s*(?:\(left:([-\d\s,/]*)\)|\[left:([-\d\s,/]*)\]))?\.?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True)
class Expression:
    """What was read: the numbers in it, sorted, and its value; None where it divides by zero or is of too many."""

    numbers: tuple[int, ...]
    value: Fraction | None


def plain(text: str) -> str:
    r"""Write LaTeX and other signs (``×``, ``÷``, ``\times``, ``\frac{}{}``, ...) as ``* / + -`` and parentheses."""
    for _ in range(MAX_NUMBERS if "\\" in text else 0):
        text = _FRACTION.sub(lambda found: f"(({found[1] or found[2]})/({found[3] or found[4]}))", text)
        text = _STYLED.sub(r"\1", text)
    for name, sign in _NAMED:
        text = text.replace(name, sign)
    return _CROSS.sub(r"\1*", text.translate(_SIGNS))


def read_expression(text: str) -> Expression | None:
    """Read an expression of whole numbers, ``+ - * /`` and parentheses; None: it is none."""
    output: list[Fraction] = []
    numbers: list[int] = []
    waiting: list[str] = []
    defined, after_operand, place = True, False, 0
    text = plain(text)

    def apply() -> None:
        nonlocal defined
        operator, right = waiting.pop(), output.pop()
        if operator == "negative":
            output.append(-right)
            return
        left = output.pop()
        defined = defined and not (operator == "/" and right == 0)
        output.append(compute(left, operator, right) if defined else Fraction(0))

    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            return None
        place, number, sign = token.end(), token[1], token[2]
        if number or sign in ("(", "["):
            if after_operand:
                return None
            if number:
                numbers.append(int(number))
                output.append(Fraction(numbers[-1]))
                after_operand = True
                defined = defined and len(numbers) <= MAX_NUMBERS
            else:
                waiting.append(sign)
        elif sign in _OPENING:
            if not after_operand:
                return None
            while waiting and _RANK[waiting[-1]]:
                apply()
            if not waiting or waiting.pop() != _OPENING[sign]:
                return None
        elif after_operand:
            while waiting and _RANK[waiting[-1]] >= _RANK[sign]:
                apply()
            waiting.append(sign)
            after_operand = False
        elif sign == "-" and not (waiting and waiting[-1] == "negative"):
            waiting.append("negative")
        else:
            return None
    if not after_operand or not all(_RANK[sign] for sign in waiting):
        return None
    while waiting:
        apply()
    return Expression(tuple(sorted(numbers)), output[0] if defined else None)


def compute(left: Fraction, operator: str, right: Fraction) -> Fraction:
    """Return ``left operator right``; raises ZeroDivisionError."""
    return left / right if operator == "/" else {"+": add, "-": sub, "*": mul}[operator](left, right)


def right_expression(text: str, numbers: Sequence[int], target: int, *, use_all: bool) -> bool | None:
    """Whether ``text`` makes the target of the numbers, each used once (``use_all``) or at most once.

    Of an equation one side does, and the others have the target's value. Bold text and a full stop at the end do not
    count. None: no expression can be read.
    """
    first, *others = _sides(text)
    if first is None:
        return None
    sides = [side for side in (first, *others) if side is not None]
    if len(sides) <= len(others) or any(side.value != target for side in sides):
        return False
    return any(_fits(side.numbers, numbers, use_all) for side in sides)


_AROUND = " \t\r\n*_"
_NAME = re.compile(r"\A[A-Za-z]+\s*=(?!=)")


def _sides(text: str) -> list[Expression | None]:
    """The sides of an equation, without a name before the first one; of an expression one."""
    text = plain(text).strip(_AROUND).removesuffix(".").rstrip(_AROUND).replace(" equals ", "=")
    return [read_expression(side) for side in _NAME.sub("", text).replace("==", "=").split("=")]


def _fits(used: Sequence[int], numbers: Sequence[int], use_all: bool) -> bool:
    spare = Counter(numbers)
    spare.subtract(used)
    return all(count == 0 if use_all else count >= 0 for count in spare.values())


def is_expression(text: str) -> bool:
    """Whether ``text`` is an expression of several numbers, or an equation with one."""
    return any(side is not None and len(side.numbers) > 1 for side in _sides(text))


# A number is none of a longer one, such as 2.5 or 1,000, and a word is none of an expression.
_RUN = re.compile(r"(?<![-\w.,+*/])[-(\[\d][-+*/()\[\]\d= \t]*+", re.ASCII)
_GOES_ON = re.compile(r"[ \t]*[+*/]|\w|[.,]\d", re.ASCII)
_MAX_AFTER = 2_000
_BULLET = re.compile(r"\s*(?:[-*•>]\s+|\d+[.)]\s+)?")
_SENTENCE_END = re.compile(r"[.!?:;]\s")
_DENIED = re.compile(
    r"\?|\b(?:not|never|cannot|wrong|incorrect|if|or|maybe|perhaps|possibly|try|trying|close|almost)\b|n't\b",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"\?|\b(?:wrong|incorrect|mistake|wait|instead|actually|fails?|failed)\b"
    r"|(?:\bnot|n't) (?:work|equal|right|correct|valid|enough|the (?:target|answer)|\d)",
    re.IGNORECASE,
)


def last_expression(text: str) -> str | None:
    """Return the last expression of several numbers in a text, as prose states it; None: none, or it is denied.

    A sentence with it that asks, denies, sets a condition or names an alternative states none, nor does one that is
    taken back after it. The scan takes linear time.
    """
    after = ""
    for line in reversed(text.split("\n")):
        shown = plain(line.replace("**", " ")).replace(" equals ", " = ")
        shown = shown[_BULLET.match(shown).end() :]  # type: ignore[union-attr]
        for run in reversed(list(_RUN.finditer(shown))):
            found = _balanced(run[0]).rstrip("-+*/= \t")
            goes_on = _GOES_ON.match(shown, run.start() + len(found)) or (
                found[:1] == "-" and shown[max(0, run.start() - 4) : run.start()].rstrip()[-1:].isdigit()
            )
            found = found.removeprefix("- ").strip()
            if not goes_on and is_expression(found):
                begin = max((end.end() for end in _SENTENCE_END.finditer(shown, 0, run.start())), default=0)
                rest = shown[run.end() :]
                sentence, _, later = rest.partition(". ")
                said = f"{shown[begin : run.start()]} {sentence}"
                return None if _DENIED.search(said) or _TAKEN_BACK.search(f"{later}\n{after}") else found
        after = f"{shown}\n{after}" if len(after) < _MAX_AFTER else after
    return None


def _balanced(text: str) -> str:
    """The beginning of a text up to a parenthesis that closes none."""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if depth < 0:
            return text[:place]
    return text


Numbers = tuple[Fraction, ...]
"""Some numbers, sorted."""


@lru_cache(maxsize=1 << 16)
def reachable(numbers: Numbers, target: Fraction, use_all: bool) -> bool:
    """Whether an expression of all the numbers (or, without ``use_all``, of some of them) has the value ``target``."""
    if not use_all:
        return any(
            reachable(part, target, True) for size in range(1, len(numbers) + 1) for part in _parts(numbers, size)
        )
    if len(numbers) <= 4:
        return target in _values(numbers)
    for part, rest in _splits(numbers):
        for value in _values(part):
            if value == target == 0 or any(reachable(rest, needed, True) for needed in _needed(value, target)):
                return True
    return False


def _needed(value: Fraction, target: Fraction) -> Iterator[Fraction]:
    """The values that make the target with this one; 0 with 0 is not looked at: any value does."""
    yield from (target - value, value - target, target + value)
    if value:
        yield from (target * value, target / value)
        if target:
            yield value / target


@lru_cache(maxsize=1 << 14)
def _values(numbers: Numbers) -> frozenset[Fraction]:
    """All values of expressions that use each of the numbers once."""
    if len(numbers) == 1:
        return frozenset(numbers)
    found: set[Fraction] = set()
    for part, rest in _splits(numbers):
        for a in _values(part):
            for b in _values(rest):
                found.update((a + b, a - b, b - a, a * b))
                if b:
                    found.add(a / b)
                if a:
                    found.add(b / a)
    return frozenset(found)


def _parts(numbers: Numbers, size: int) -> set[Numbers]:
    return set(combinations(numbers, size))


def _splits(numbers: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """The ways to cut the numbers in two, the smaller part first."""
    for size in range(1, len(numbers) // 2 + 1):
        for part in _parts(numbers, size):
            rest = list(numbers)
            for number in part:
                rest.remove(number)
            yield part, tuple(rest)


def follow(line: str, left: Numbers) -> tuple[bool, Numbers]:
    """Say whether a line of work computes right, and which numbers are left after it.

    A line is ``75 - 25 = 50 (left: 4, 50)``: two of the numbers that were left, the result in their place, and all
    that is left then, in any order; that part may be missing. The result that a line states is what the next lines go
    on from, also where it is wrong; a line of another form, or with numbers that are not there, leaves all as it was.
    """
    step = _STEP.fullmatch(plain(line).strip())
    if step is None:
        return False, left
    a, b, result = (Fraction(step[group]) for group in (1, 3, 4))
    after = list(left)
    for operand in (a, b):
        if operand not in after:
            return False, left
        after.remove(operand)
    after = sorted([*after, result])
    right = not (step[2] == "/" and b == 0) and compute(a, step[2], b) == result
    if (said := step[5] or step[6]) is not None:
        stated = re.findall(_NUMBER, said, re.ASCII)
        right = right and sorted(map(Fraction, stated)) == after
    return right, tuple(after)
