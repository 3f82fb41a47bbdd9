r"""Form: whether an answer has more left to do than the reference that it equals.

Knows: what is left to do in a formula as it is written: terms and factors to combine, products to expand, a sum to
factor, fractions to cancel, powers, functions of numbers and complex numbers to evaluate, matrices to multiply out.
Does not know: whether two formulas are equal (``core``), the question (``copied``). Takes sympy expressions that were
parsed and not evaluated, in which the imaginary unit is still the symbol ``i``; imports nothing of this suite.

Left alone, since people leave them so: a fraction of numbers that is not reduced, a root that is not simplified or
stands under a fraction, one factor before one sum (``2(x+1)``, ``n(n-1)``), a fraction before a matrix. An expanded
square equals its square, which itself has something left to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import sympy
from sympy.core.function import AppliedUndef

_LARGEST_POWER, _LARGEST_EXPONENT = 10**12, 40
"""A larger one is an answer as a power."""

_VALUES = {
    "trigonometry": (sympy.functions.elementary.trigonometric.TrigonometricFunction,),
    "arcs": (sympy.functions.elementary.trigonometric.InverseTrigonometricFunction,),
    "logarithm": (sympy.log,),
}
"""Functions whose value at a number is to be found, unless the reference leaves one of the kind."""
_ONCE = {*_VALUES, "division"}
"""What counts once, however often it is left."""


def is_unfinished(answer: Any, reference: Any) -> bool:
    """Whether ``answer`` has more left to do, of any kind, than ``reference``, which it equals."""
    answer, reference = sympy.sympify(answer), sympy.sympify(reference)
    work, given = left_to_do(answer), left_to_do(reference)
    if any(count > given[kind] for kind, count in work.items()):
        return True
    factors = _sum_factors(reference)
    if len(set(factors)) > 1 and len(_sum_factors(answer)) < len(factors):
        return True  # a sum, where the reference is factored
    return work["division"] > 0 and _degree_below(answer) > _degree_below(reference)


def left_to_do(expression: Any) -> Counter[str]:
    """Count what is left to do, by kind; values of functions count once."""
    work = Counter(_work(expression))
    return work & Counter({kind: 1 if kind in _ONCE else count for kind, count in work.items()})


def _work(part: Any, *, below: bool = False, in_product: bool = False) -> Iterator[str]:
    """What is left to do in a part; ``below`` the line of a fraction nothing is to be expanded."""
    if isinstance(part, sympy.MatrixBase):
        for cell in part:
            yield from _work(cell)
        return
    if isinstance(part, sympy.MatrixExpr):
        yield from _matrix_work(part)
    elif isinstance(part, sympy.Add):
        yield from _sum_work(_flat(part))
    elif isinstance(part, sympy.Mul):
        yield from _product_work(_flat(part), below)
    elif isinstance(part, sympy.Pow):
        yield from _power_work(part, below, in_product)
    elif isinstance(part, sympy.Function) and not isinstance(part, sympy.exp | AppliedUndef) and not _letters(part):
        yield next((kind for kind, types in _VALUES.items() if isinstance(part, types)), f"value of {part.func}")
    for arg in _flat(part) if isinstance(part, sympy.Add | sympy.Mul) else part.args:
        is_below = isinstance(part, sympy.Pow) and arg is part.base and _is_negative(part.exp)
        yield from _work(arg, below=below or is_below, in_product=isinstance(part, sympy.Mul))


def _matrix_work(part: Any) -> Iterator[str]:
    if isinstance(part, sympy.MatMul):
        matrices = sum(isinstance(arg, sympy.MatrixBase | sympy.MatrixExpr) for arg in part.args)
        coefficient = part.as_coeff_mmul()[0].doit()
        yield from ["matrices"] * (matrices - 1 + bool(not coefficient.is_Rational or abs(coefficient) > 1))
    elif part.args and not isinstance(part, sympy.MatrixSymbol):
        yield "matrices"


def _sum_work(terms: list[Any]) -> Iterator[str]:
    multiplied = [part for term in terms for part in sympy.Add.make_args(_distributed(term))]
    evaluated = [part.as_coeff_Mul() for part in multiplied]
    yield from ["terms"] * (len(evaluated) - len({rest for coefficient, rest in evaluated if coefficient}))
    logarithms = Counter(
        _without_logarithm(rest) for _, rest in evaluated if rest.has(sympy.log) and not _letters(rest)
    )
    yield from ["terms"] * sum(count - 1 for count in logarithms.values())
    yield from ["terms"] * (sum(1 for term in terms if any(map(_letters, _split(term)[1]))) - 1)


def _distributed(term: Any) -> Any:
    """A term evaluated, and multiplied out where it is a product with one sum."""
    sums = [factor for factor in _flat(term) if factor.is_Add] if term.is_Mul else []
    return sympy.expand_mul(term.doit()) if len(sums) == 1 else term.doit()


def _without_logarithm(product: Any) -> Any:
    """What else is in a product; the logarithm of a base, by which another is divided, stays."""
    return sympy.Mul(*[factor for factor in sympy.Mul.make_args(product) if not isinstance(factor, sympy.log)])


def _product_work(factors: list[Any], below: bool) -> Iterator[str]:
    above, under = _split_factors(factors)
    yield from _more_than_one("numbers", (f for f in above if f.is_Integer and abs(f) > 1))
    yield from _more_than_one(
        "roots", (f for f in above if f.is_Pow and f.exp.doit().is_Rational and not _whole(f.exp))
    )
    yield from _more_than_one("complex", (f for f in above if _is_complex(f)))
    powers = Counter(_base(f) for f in above if _letters(f) and _whole(_exponent(f)))
    yield from ["factors"] * sum(count - 1 for base, count in powers.items() if not base.is_Add)
    yield from ["factors"] * len(powers.keys() & {_base(f) for f in under})
    numbers = Counter(_base(f) for f in above if _base(f).is_Integer and abs(_base(f)) > 1 and _whole(_exponent(f)))
    raised = {f.base for f in above if f.is_Pow}
    yield from ["factors"] * sum(count - 1 for base, count in numbers.items() if base in raised)
    if not below and len(_sum_factors(sympy.Mul(*factors, evaluate=False))) > 1:
        yield "product"
    if any(_is_complex(f) for f in under):
        yield "complex"
    if any(_letters(f) and not f.has(sympy.Function) for f in under):
        yield "division"
    if any(f.is_Add and f.has(sympy.Pow) and not _letters(f) for f in map(_base, under)):
        yield "root below"


def _power_work(part: Any, below: bool, in_product: bool) -> Iterator[str]:
    base, exponent = part.base, part.exp.doit()
    if _is_negative(exponent) and not in_product:
        yield from _product_work([part], below)
    if not exponent.is_Integer or abs(exponent) < 2:
        return
    if base.is_Add and _letters(base):
        yield from ["product"] * (not below and bool(exponent > 0))
    elif base.is_Add or base.is_Pow or _is_complex(base):
        yield "powers"
    elif base.is_Mul:
        yield from ["powers"] * any(f.is_Rational and bool(abs(f) != 1) for f in _flat(base))
    elif base.is_Rational and abs(base) not in (0, 1, 10) and abs(exponent) <= _LARGEST_EXPONENT:
        yield from ["powers"] * bool(abs(base) ** abs(exponent) < _LARGEST_POWER)


def _more_than_one(kind: str, found: Iterable[Any]) -> Iterator[str]:
    yield from [kind] * (sum(1 for _ in found) - 1)


def _flat(part: Any) -> list[Any]:
    """Terms of a sum, or factors of a product, those of sums in the sum and of products in the product too."""
    return [leaf for arg in part.args for leaf in (_flat(arg) if arg.func == part.func else [arg])]


def _split(term: Any) -> tuple[list[Any], list[Any]]:
    return _split_factors(_flat(term) if term.is_Mul else [term])


def _split_factors(factors: list[Any]) -> tuple[list[Any], list[Any]]:
    """Factors above and below the line; those below without their sign of the exponent."""
    above = [f for f in factors if not (f.is_Pow and _is_negative(f.exp))]
    under = [f.base for f in factors if f.is_Pow and _is_negative(f.exp)]
    return above, [leaf for f in under for leaf in (_flat(f) if f.is_Mul else [f])]


def _sum_factors(expression: Any) -> list[Any]:
    """The factors of a product that are sums and no numbers, each as often as it occurs."""
    found = []
    for factor in _flat(expression) if expression.is_Mul else [expression]:
        base, exponent = _base(factor), _exponent(factor)
        if base.is_Add and (_letters(base) or base.has(sympy.Pow)) and _whole(exponent) and exponent > 0:
            found += [base] * int(exponent)
    return found


def _base(factor: Any) -> Any:
    return factor.base if factor.is_Pow else factor


def _exponent(factor: Any) -> Any:
    return factor.exp.doit() if factor.is_Pow else sympy.Integer(1)


def _whole(exponent: Any) -> bool:
    return bool(exponent.doit().is_Integer)


def _is_negative(exponent: Any) -> bool:
    return bool(exponent.doit().is_negative)


def _letters(expression: Any) -> set[Any]:
    return {symbol for symbol in expression.free_symbols if symbol.name != "i"}


def _is_complex(expression: Any) -> bool:
    return bool(expression.has(sympy.I)) or any(symbol.name == "i" for symbol in expression.free_symbols)


def _degree_below(expression: Any) -> int:
    """Degree of what an expression is divided by, once its fractions are added."""
    try:
        below = sympy.fraction(sympy.together(expression.doit()))[1]
        return int(sympy.Poly(below, *sorted(_letters(below), key=str)).total_degree()) if _letters(below) else 0
    except sympy.PolynomialError:
        return 0
