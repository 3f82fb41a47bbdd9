"""The size guard: which formulas are small enough to be parsed and evaluated.

Knows: the spellings by which a short text asks for endless work. Judges by the text alone, in
linear time. Does not know: sympy. What passes and takes long all the same is killed (``worker``).
"""

from __future__ import annotations

import re
from itertools import accumulate

_MAX_CHARS = 400
_MAX_DIGITS = 60
_MAX_FACTORIAL = 3_000
_MAX_DEPTH = 6
_MAX_HEAVY = 12
_MAX_PIPES = 4
_MAX_LETTERS = 40
_MAX_OPERATORS = 40
# Bounds on the product of the exponents of a text: of plain numbers, and where there is more.
_MAX_POWER, _MAX_SYMBOLIC_POWER = 5_000, 1_000

_HEAVY = re.compile(r"\\(?:sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|arc\w+|frac)|\^")
_UNBOUNDED = re.compile(
    r"\\(?:sum|prod|i*int|oint|lim|bigcup|bigcap|det|nabla|partial|tetration|uparrow|begin\{cases)(?![a-z])"
)
_LONG_NUMBER = re.compile(rf"\d{{{_MAX_DIGITS},}}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
# What is no plain arithmetic of rational numbers: letters, roots, functions, Greek.
_SYMBOL = re.compile(r"\\(?!(?:frac|cdot|times|div)(?![a-z]))[A-Za-z]|(?<![\\A-Za-z])[A-Za-z]")
_POWER = re.compile(r"(?:\^|\*\*)\s*[{(]?\s*-?\s*(\d*)")
_TOWER = re.compile(r"\^\s*(?:\{[^{}]*\^|\{[^{}]*\{[^{}]*\^|(?:\\[A-Za-z]+|\d+|[A-Za-z]|\([^()]*)\s*\^)")
_OPERATORS = re.compile(r"[-+*/]|\\(?:cdot|times|div)(?![a-z])")
_BASE_TWICE = re.compile(r"(?<![\d.])(\d{1,9})(?:\^\{?-?\d{1,9}\}?)?\s*\\(?:cdot|times)\s*\1(?![\d.])")
_CHOICE = re.compile(r"\\binom\{\d+\}\{\d+\}")


def is_too_large(text: str) -> bool:
    """Whether parsing or simplifying ``text`` could take long; judged from the text alone."""
    return (
        len(text) > _MAX_CHARS
        or _depth(text) > _MAX_DEPTH
        or text.count("|") > _MAX_PIPES
        or len(re.findall(r"[A-Za-z]", _COMMAND.sub(" ", text))) > _MAX_LETTERS
        or len(_HEAVY.findall(text)) > _MAX_HEAVY
        or len(_OPERATORS.findall(text)) > _MAX_OPERATORS
        or _UNBOUNDED.search(text) is not None
        or _LONG_NUMBER.search(text) is not None
        or _large_factorial(text)
        or _large_power(text)
    )


def has_tower(text: str) -> bool:
    """Whether an exponent has an exponent: ``2^{3^4}``."""
    return _TOWER.search(text) is not None


def has_more_to_do(left: str, right: str) -> bool:
    """Whether towers, binomial coefficients or products of one base are left to evaluate that ``right`` has not."""
    return (
        has_tower(left) > has_tower(right)
        or left.count(r"\binom") > right.count(r"\binom")
        or len(_BASE_TWICE.findall(left)) > len(_BASE_TWICE.findall(right))
        or (_CHOICE.fullmatch(right) is not None and _CHOICE.fullmatch(left) is None)
    )


def _depth(text: str) -> int:
    return max(accumulate(((char in "({[") - (char in ")}]") for char in text), initial=0))


def _large_factorial(text: str) -> bool:
    """Whether a factorial or a binomial coefficient is large, or the factorial of something else."""
    if "!" in text and re.search(r"!\s*[)}\]]*\s*!|[)}\]]\s*!", re.sub(r"\([a-z0-9+\- ]*\)!", "n!", text)):
        return True
    if any(int(number) > _MAX_FACTORIAL for number in re.findall(r"(\d+)\s*!", text)):
        return True
    return bool(re.search(r"\\d?binom|\\choose", text) and re.search(r"\d{3,}", text))


def _large_power(text: str) -> bool:
    r"""Whether exponents are large, or have exponents themselves: ``2^{3^4}``, ``2^3^4``."""
    if has_tower(text):
        return True
    product = 1
    for number in _POWER.findall(text):
        # A symbol in the exponent counts as 4.
        product *= max(int(number), 2) if number else 4
    return product > (_MAX_SYMBOLIC_POWER if _SYMBOL.search(text) else _MAX_POWER)
