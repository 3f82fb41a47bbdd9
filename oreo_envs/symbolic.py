"""The symbolic core of the grader: math-verify behind a size guard.

Knows: which answers are small enough for sympy, and how to ask math-verify without signals.
Does not know: extraction, numbers (they are decided before).
Limits: there is no time limit here, only the guard; a worker process that can be killed is issue 3.
"""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oreo_envs.grading import Reason

_MAX_CHARS = 300
_MAX_DIGITS = 30
_MAX_FACTORIAL = 50
_MAX_DEPTH = 5
_MAX_HEAVY = 6
_MAX_PIPES = 4
_MAX_LETTERS = 16
# Bounds on the product of the exponents of a text: of numbers alone, where there are symbols or
# roots, and of what stands in brackets beside symbols or roots (a power that may be expanded).
_MAX_POWER, _MAX_SYMBOLIC_POWER, _MAX_EXPANSION = 1_000, 100, 10

_HEAVY = re.compile(r"\\(?:sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|arc\w+|frac)|\^")
_UNBOUNDED = re.compile(r"\\(?:sum|prod|i*int|oint|lim|bigcup|bigcap|det|gcd|lcm|nabla|partial)(?![a-z])")
_LONG_NUMBER = re.compile(rf"\d{{{_MAX_DIGITS},}}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
# What is no plain arithmetic of rational numbers: letters, roots, functions, Greek.
_SYMBOL = re.compile(r"\\(?!(?:frac|cdot|times|div|circ)(?![a-z]))[A-Za-z]|(?<![\\A-Za-z])[A-Za-z]")
_POWER = re.compile(r"([)}\]|])?\s*(?:\^|\*\*)\s*[{(]?\s*-?\s*(\d*)")
_TOWER = re.compile(r"\^\s*(?:\{[^{}]*\^|\{[^{}]*\{[^{}]*\^|(?:\\?\w+|\([^()]*)\s*\^)")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_FUNCTION = re.compile(r"(?:sin|cos|tan|cot|sec|csc|log|ln|exp|pi|sqrt|frac|cdot|times|infty|cm|mm|km|ft)")
_SUBSCRIPT = re.compile(r"^(\w+)_\{?(\w+)\}?$", re.ASCII)
_OPERATOR = re.compile(r"(?<=[\w})])\s*(?:[+*^!-]|\\cdot|\\times|\\pm)|\\(?:sqrt|log|ln|sin|cos|tan|d?binom)")

# sympy's and ANTLR's caches are shared state. A forked child must not inherit a lock that is held.
_lock = threading.Lock()


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def compare_symbolically(answer: str, reference: str, reference_is_number: bool) -> tuple[bool, Reason]:
    """Compare two cleaned answers of which at least one is no plain number."""
    from oreo_envs.grading import Reason

    if is_too_large(answer) or is_too_large(reference):
        return False, Reason.TOO_LARGE
    if not _comparable(answer, reference, reference_is_number):
        return False, Reason.DIFFERENT
    with _lock:
        expressions = _parse(answer), _parse(reference)
        if not all(expressions):
            return False, Reason.UNPARSABLE
        same = _verify(*expressions)
    return same, Reason.SYMBOLIC if same else Reason.DIFFERENT


def is_too_large(text: str) -> bool:
    """Whether parsing or simplifying ``text`` could take long; judged from the text alone."""
    return (
        len(text) > _MAX_CHARS
        or _depth(text) > _MAX_DEPTH
        or text.count("|") > _MAX_PIPES
        or len(re.findall(r"[A-Za-z]", _COMMAND.sub(" ", text))) > _MAX_LETTERS
        or len(_HEAVY.findall(text)) > _MAX_HEAVY
        or _UNBOUNDED.search(text) is not None
        or _LONG_NUMBER.search(text) is not None
        or _large_factorial(text)
        or _large_power(text)
    )


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        depth += (char in "({[") - (char in ")}]")
        deepest = max(deepest, depth)
    return deepest


def _large_factorial(text: str) -> bool:
    """Whether a factorial or a binomial coefficient is large, or the factorial of something else."""
    if "!" in text and re.search(r"[!)}\]]\s*!", text):
        return True
    if any(int(number) > _MAX_FACTORIAL for number in re.findall(r"(\d+)\s*!", text)):
        return True
    return bool(re.search(r"\\d?binom|\\choose", text) and re.search(r"\d{3,}", text))


def _large_power(text: str) -> bool:
    r"""Whether exponents are large, or have exponents themselves: ``2^{3^4}``, ``2^3^4``."""
    if _TOWER.search(text):
        return True
    symbols = _SYMBOL.search(text) is not None
    product = expansion = 1
    for bracket, number in _POWER.findall(text):
        # A symbol in the exponent counts as 4.
        size = max(int(number), 2) if number else 4
        product *= size
        expansion *= size if bracket else 1
    if symbols and expansion > _MAX_EXPANSION:
        return True
    return product > (_MAX_SYMBOLIC_POWER if symbols else _MAX_POWER)


def _comparable(answer: str, reference: str, reference_is_number: bool) -> bool:
    """Whether the two have the same form; closes known holes of the core."""
    if _is_prose(answer) or _is_prose(reference):
        return False
    # The core takes an infinite number for equal to any finite one.
    if any(answer.count(sign) != reference.count(sign) for sign in ("=", r"\infty")):
        return False
    if _commas(answer) != _commas(reference):
        return False
    if reference_is_number and _OPERATOR.search(answer):
        return False
    base, target = _SUBSCRIPT.match(answer), _SUBSCRIPT.match(reference)
    if base and target:
        return False
    return _brackets(answer) == _brackets(reference)


def _is_prose(text: str) -> bool:
    """Whether the text is words rather than a formula."""
    words = [word for word in _WORD.findall(text) if not _FUNCTION.fullmatch(word)]
    return any(len(word) > 3 for word in words) or len(words) > 1


def _commas(text: str) -> int:
    return len(re.findall(r",(?!\d{3}(?!\d))", text))


def _brackets(text: str) -> str:
    """Outer brackets of an interval, a tuple or a set, '' for everything else."""
    match = re.fullmatch(r"(\\\{|[(\[]).*,.*(\\\}|[)\]])", text.strip(), re.DOTALL)
    return match[1] + match[2] if match else ""


def _parse(text: str) -> list[Any]:
    from math_verify import parser

    # Silences its warning that time limits are off: the guard stands in for them.
    parser.TIMEOUT_WARNING_SHOWN = True
    # Only LaTeX: its plain-expression mode ends in sympy's parse_expr, which evaluates Python.
    config = [parser.LatexExtractionConfig(boxed_match_priority=-1)]
    found = parser.parse(f"${text}$", extraction_config=config, fallback_mode="no_fallback", parsing_timeout=None)
    return list(found)


def _verify(answer: list[Any], reference: list[Any]) -> bool:
    from math_verify import grader

    grader.TIMEOUT_WARNING_SHOWN = True
    return bool(grader.verify(reference, answer, timeout_seconds=None))
