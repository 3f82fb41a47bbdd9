r"""Small exact arithmetic on LaTeX: what needs no sympy, and what is too large for it.

Knows: numbers, sums, products, fractions, whole powers, binomial coefficients, letters, ``\pi``; for ``approximate``
also roots.
Does not know: other functions. Formulas are compared by their values modulo two large primes at points
drawn once and for all, so that ``(2/3)^{2014}`` costs no more than ``(2/3)^2``. Linear in the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from random import Random
from typing import Any

PRIMES = (2**61 - 1, 2**89 - 1)
_MAX_BITS = 64
_MAX_CHOICES = 10_000
_TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|(\\(?:pi|alpha|beta|gamma|delta|theta|lambda|mu|rho|sigma|omega|phi)(?![A-Za-z])"
    r"|[A-Za-z](?:_(?:\{\w+\}|\w))?)|(\\[A-Za-z]+)|([-+*/^(){}]))"
)
_SIGNS = {r"\cdot": "*", r"\times": "*", r"\div": "/", r"\frac": r"\frac", r"\sqrt": r"\sqrt", r"\binom": r"\binom"}


def same(left: str, right: str) -> bool | None:
    """Whether two formulas have the same values; None where one of them is more than this can read."""
    values = [_residues(text) for text in (left, right)]
    return None if None in values else values[0] == values[1]


def same_progression(left: str, right: str, names: tuple[str, str]) -> bool | None:
    """Whether two formulas, linear in a whole number of either name, run through the same values."""
    first, second = (_linear(text, name) for text, name in zip((left, right), names, strict=True))
    if first is None or second is None:
        return None
    for prime, (a, step), (b, other) in zip(PRIMES, first, second, strict=True):
        if step not in (other, -other % prime) or step == 0:
            return False
        shift = (a - b) * pow(step, -1, prime) % prime
        if min(shift, prime - shift) > 10**6:
            return False
    return True


def whole_progression(text: str, name: str) -> tuple[int, int] | None:
    """Start and step of a formula that is linear in ``name`` with whole coefficients."""
    try:
        a, b, c = (_Reader(text, _Exact(), {name: Fraction(value)}).read() for value in range(3))
    except (ValueError, ZeroDivisionError):
        return None
    whole = a.denominator == b.denominator == 1 and b - a == c - b
    return (int(a), int(b - a)) if whole else None


def approximate(text: str) -> float | None:
    """Value of a constant as a float; None where this cannot tell it."""
    try:
        value = float(_Reader(text, _Float(), {r"\pi": math.pi}).read())
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    return value if math.isfinite(value) else None


@lru_cache(maxsize=1_024)
def _residues(text: str) -> tuple[int, int] | None:
    try:
        first, second = (int(_Reader(text, _Modular(prime), None).read()) for prime in PRIMES)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    return first, second


def _linear(text: str, name: str) -> list[tuple[int, int]] | None:
    found = []
    try:
        for prime in PRIMES:
            a, b, c = (_Reader(text, _Modular(prime), None, {name: value}).read() for value in range(3))
            if (a - 2 * b + c) % prime:
                return None
            found.append((a, (b - a) % prime))
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    return found


class _Exact:
    """Fractions, of few digits."""

    def number(self, value: Fraction) -> Any:
        return value

    def divide(self, a: Any, b: Any) -> Any:
        return a / b

    def power(self, base: Any, exponent: Fraction) -> Any:
        if exponent.denominator != 1 or abs(exponent) > _MAX_BITS or abs(exponent) * _bits(base) > _MAX_BITS:
            raise ValueError("a large power")
        return base ** int(exponent)

    def choose(self, n: int, k: int) -> Any:
        raise ValueError("a binomial coefficient")

    def reduce(self, value: Any) -> Any:
        if _bits(value) > 4 * _MAX_BITS:
            raise ValueError("many digits")
        return value


class _Float(_Exact):
    """Floats."""

    def number(self, value: Fraction) -> Any:
        return float(value)

    def power(self, base: Any, exponent: Fraction) -> Any:
        if abs(exponent) > _MAX_BITS or (base < 0 and exponent.denominator != 1):
            raise ValueError("no such power")
        return base ** float(exponent)

    def reduce(self, value: Any) -> Any:
        return value


class _Modular(_Exact):
    """Residues of a prime."""

    def __init__(self, prime: int) -> None:
        self.prime = prime

    def number(self, value: Fraction) -> Any:
        return self.divide(value.numerator % self.prime, value.denominator)

    def divide(self, a: Any, b: Any) -> Any:
        return a * pow(b, -1, self.prime) % self.prime

    def power(self, base: Any, exponent: Fraction) -> Any:
        if exponent.denominator != 1:
            raise ValueError("a root")
        return pow(base, int(exponent), self.prime)

    def choose(self, n: int, k: int) -> Any:
        value = 1
        for step in range(1, min(k, n - k) + 1):
            value = value * (n - step + 1) % self.prime * pow(step, -1, self.prime) % self.prime
        return value

    def reduce(self, value: Any) -> Any:
        return value % self.prime


def _bits(value: Fraction) -> int:
    return max(abs(value.numerator).bit_length(), value.denominator.bit_length())


@lru_cache(maxsize=1_024)
def _point(name: str) -> Fraction:
    """A whole number of 31 bits that stands for a letter."""
    return Fraction(Random(f"point/{name}").randrange(2**30, 2**31))


class _Reader:
    """Recursive descent over one text. ``values``: of letters; None: drawn; ``fixed`` goes before it."""

    def __init__(
        self, text: str, field: _Exact, values: dict[str, Any] | None, fixed: dict[str, int] | None = None
    ) -> None:
        self._field, self._values, self._fixed = field, values, fixed or {}
        self._tokens, position = [], 0
        text = text.strip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or (match[3] and match[3] not in _SIGNS) or match[2] in ("i", "e"):
                raise ValueError(f"{text[position:][:20]!r} is no plain arithmetic")
            self._tokens.append(_SIGNS.get(match[3], match[0].strip()))
            position = match.end()
        self._tokens.append("")
        self._at = 0

    def read(self) -> Any:
        value = self._sum()
        if self._next():
            raise ValueError("more than a formula")
        return value

    def _next(self) -> str:
        return self._tokens[self._at]

    def _take(self, expected: str = "") -> str:
        token = self._next()
        if expected and token != expected:
            raise ValueError(f"no {expected!r}")
        self._at += 1
        return token

    def _sum(self) -> Any:
        sign = self._take() if self._next() in ("+", "-") else "+"
        total = self._product()
        total = -total if sign == "-" else total
        while self._next() in ("+", "-"):
            sign = self._take()
            term = self._product()
            total = total + term if sign == "+" else total - term
        return self._field.reduce(total)

    def _product(self) -> Any:
        value = self._power()
        while (token := self._next()) not in ("", "+", "-", ")", "}"):
            if token == "/":
                self._take()
                value = self._field.divide(value, self._power())
            else:
                if token == "*":
                    self._take()
                elif token == "^" or (token[0].isdigit() and self._tokens[self._at - 1][-1:].isdigit()):
                    raise ValueError("what is raised, or two numbers side by side")
                value = self._field.reduce(value * self._power())
        return value

    def _power(self) -> Any:
        base = self._atom()
        if self._next() == "^":
            self._take()
            base = self._field.power(base, self._exponent())
        return base

    def _exponent(self) -> Fraction:
        if self._next() == "-":
            self._take()
            return -self._exactly(self._atom)
        return self._exactly(self._atom)

    def _exactly(self, part: Callable[[], Any]) -> Fraction:
        """Exponents are whole numbers of few digits, also where the rest is not."""
        field, self._field = self._field, _Exact()
        try:
            return Fraction(part())
        finally:
            self._field = field

    def _choices(self) -> Any:
        n, k = self._exactly(self._group), self._exactly(self._group)
        if n.denominator != 1 or k.denominator != 1 or not 0 <= k <= n <= _MAX_CHOICES:
            raise ValueError("no plain choice")
        return self._field.choose(int(n), int(k))

    def _atom(self) -> Any:
        token = self._take()
        closing = {"(": ")", "{": "}"}.get(token)
        if closing:
            value = self._sum()
            self._take(closing)
            return value
        if token == r"\frac":
            return self._field.divide(self._group(), self._group())
        if token == r"\binom":
            return self._choices()
        if token == r"\sqrt":
            return self._field.power(self._group(), Fraction(1, 2))
        if token[:1].isdigit() or token[:1] == ".":
            return self._field.number(Fraction(token))
        if token[:1].isalpha() or token[:1] == "\\":
            return self._letter(token)
        raise ValueError(f"{token!r} where a number should be")

    def _group(self) -> Any:
        self._take("{")
        value = self._sum()
        self._take("}")
        return value

    def _letter(self, name: str) -> Any:
        if name in self._fixed:
            return self._field.number(Fraction(self._fixed[name]))
        if self._values is None:
            return self._field.number(_point(name))
        if name not in self._values:
            raise ValueError(f"{name} has no value")
        value: Any = self._values[name]
        return value
