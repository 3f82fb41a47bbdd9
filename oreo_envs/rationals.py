r"""Exact rational numbers as answers write them.

Knows: ``70,000``, ``-1.5``, ``3/4``, ``\frac{3}{4}``, ``1\frac12``, ``$5``, ``28%``, ``18 men``.
Does not know: symbols, LaTeX beyond fractions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

_MAX_DIGITS = 300
_SIGNIFICANT_DIGITS = 6

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
# A unit is a word of its own, or a short one that may stick to the number: "5x" is a product.
_WORD = r"(?:(?:[ckm]m|[km]g|ml|lbs?|ft|oz|hrs?|mins?|mph|[ap]\.?m)(?![A-Za-z])|(?<=[\s/])[A-Za-z]{3,})"
_UNIT = rf"(?:\s*/?\s*{_WORD}\.?[²³]?){{0,4}}"
_NUMBER = re.compile(
    rf"""\$?\s*(?P<sign>[+\-−]?)\s*\$?\s*(?:
        (?P<whole>{_INTEGER})?\s*\\frac\s*(?:\{{\s*(?P<top>-?\d+)\s*\}}|(?P<top1>\d))\s*
                                  (?:\{{\s*(?P<low>\d+)\s*\}}|(?P<low1>\d))
      | (?:(?P<mixed>\d+)\s+)?(?P<above>{_INTEGER})\s*/\s*(?P<below>{_INTEGER})
      | (?P<decimal>(?:{_INTEGER})?\.\d+)
      | (?P<integer>{_INTEGER})\.?
    )\s*(?P<percent>%|percent\b|pct\b)?{_UNIT}""",
    re.VERBOSE | re.ASCII,
)
_HEDGE = re.compile(r"\b(?:or|and|not)\b", re.IGNORECASE)


@dataclass(frozen=True)
class RationalAnswer:
    """A rational number, its number of decimals (None: not in decimals), is it in percent."""

    value: Fraction
    decimals: int | None
    percent: bool

    @property
    def significant_digits(self) -> int:
        """Number of significant digits of a decimal."""
        return len(str(abs(self.value.numerator * 10 ** (self.decimals or 0) // self.value.denominator)))


@lru_cache(maxsize=65_536)
def parse_number(text: str) -> RationalAnswer | None:
    """Read ``text`` as one rational number with an optional unit; None when it is anything else."""
    if len(text) > _MAX_DIGITS:
        return None
    match = _NUMBER.fullmatch(text.strip())
    if match is None or _HEDGE.search(text):
        return None
    part = match.groupdict()
    decimals = None
    if part["top"] or part["top1"]:
        top, low = int(part["top"] or part["top1"]), int(part["low"] or part["low1"])
        if low == 0 or (part["whole"] and top < 0):
            return None
        value = _plain(part["whole"] or "0") + Fraction(top, low)
    elif part["above"]:
        if _plain(part["below"]) == 0:
            return None
        value = _plain(part["mixed"] or "0") + _plain(part["above"]) / _plain(part["below"])
    else:
        digits = part["decimal"] or part["integer"]
        decimals = len(digits.partition(".")[2]) if part["decimal"] else None
        value = _plain(digits)
    if part["sign"] in ("-", "−"):
        value = -value
    return RationalAnswer(value, decimals, part["percent"] is not None)


def same_number(answer: RationalAnswer, reference: RationalAnswer) -> bool:
    """Whether two numbers are one under the policy of ``oreo_envs.grading``, which is symmetric."""
    if answer.percent != reference.percent:
        plain, percent = sorted((answer, reference), key=lambda number: number.percent)
        fraction = RationalAnswer(percent.value / 100, (percent.decimals or 0) + 2, False)
        return percent.value == plain.value or _agree(fraction, plain)
    return _agree(answer, reference)


def _agree(a: RationalAnswer, b: RationalAnswer) -> bool:
    if a.value == b.value:
        return True
    if (a.decimals is None) == (b.decimals is None):
        return False
    decimal, exact = (b, a) if a.decimals is None else (a, b)
    enough = decimal.significant_digits >= _SIGNIFICANT_DIGITS
    return enough and abs(decimal.value - exact.value) < Fraction(1, 10 ** (decimal.decimals or 0))


def _plain(digits: str) -> Fraction:
    return Fraction(digits.replace(",", ""))
