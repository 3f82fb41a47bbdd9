"""Equality of shapes.

Knows: when two answers of any shape are one; which questions are left for sympy.
Does not know: how sympy is run (``worker``). Assumes that equality is transitive: the first partner
found for an entry of a list is as good as any other.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from itertools import permutations
from typing import Protocol

from oreo_envs.grading import arithmetic, families, relations
from oreo_envs.grading.notation import squash
from oreo_envs.grading.rationals import RationalAnswer, is_precise, same_number
from oreo_envs.grading.ratios import same_ratio
from oreo_envs.grading.reading import read
from oreo_envs.grading.shapes import (
    Based,
    Choice,
    Congruence,
    Directed,
    Family,
    Formula,
    Grid,
    Items,
    Number,
    Ordered,
    Ratio,
    Reaction,
    Relation,
    Shape,
    Words,
)
from oreo_envs.grading.size import has_more_to_do, is_too_large
from oreo_envs.grading.systems import grouped, same_order, same_remainders
from oreo_envs.grading.words import same_property
from oreo_envs.grading.worker import LIMIT_S, Reply


class Core(Protocol):
    """Whoever compares formulas; see ``worker.Worker``."""

    def ask(self, how: str, left: str, right: str, *, below: str = "", limit_s: float = LIMIT_S) -> Reply:
        """Return "same", "different", "unparsable", "too_large" or "timeout", and the CPU seconds spent."""


class Comparison:
    """One comparison of two answers.

    ``how`` says afterwards what it took to see that they are one: "exact", "numeric" or "symbolic";
    ``obstacle`` what kept parts from being decided: "too_large", "unparsable", "timeout" or None. An
    undecided part counts as different.
    """

    def __init__(self, core: Core) -> None:
        """Compare formulas by ``core``."""
        self._core = core
        self.how = "exact"
        self.obstacle: str | None = None
        self._left_s = LIMIT_S

    def same(self, answer: str, reference: str) -> bool:
        """Whether two cleaned answers are one."""
        try:
            if self._same(read(answer), read(reference)) or _same_letters(answer, reference):
                return True
            # A matrix with a factor before it is for sympy to multiply out.
            both = answer.count(r"\begin") == reference.count(r"\begin") == 1
            scaled = both and not (answer.startswith(r"\begin") and reference.startswith(r"\begin"))
            return scaled and self._ask("equal", answer, reference)
        except (OverflowError, RecursionError):
            self.obstacle = "too_large"
            return False

    def _same(self, a: Shape, b: Shape) -> bool:
        """``a`` is the answer, ``b`` the reference."""
        if a == b:
            return True
        a, b = grouped(a), grouped(b)
        if (systems := same_order(a, b)) is not None:
            return self._same_sequence(*systems)
        if isinstance(a, Congruence) or isinstance(b, Congruence):
            return same_remainders(a, b)
        if isinstance(a, Choice) and a.text and isinstance(b, Relation):
            return self._same(read(a.text), b)
        if families.is_restricted(a) or families.is_restricted(b):
            return self._same_restricted(a, b)
        several = isinstance(b, Items) or (isinstance(b, Relation) and isinstance(b.value, Items))
        if (isinstance(a, Relation) or isinstance(b, Relation)) and not (isinstance(a, Items) and not several):
            return self._same_relation(a, b)
        if isinstance(a, Items) and a.kind == "list" and not several:
            # One answer said in two ways; a hedge has another entry, a list of equal ones says nothing.
            named = [part for part in a.parts if isinstance(part, Relation) and part.value is not None]
            one_name = all(relations.same_name(part.left, named[0].left) for part in named)
            new = len(set(a.parts)) == len(a.parts)
            return one_name and new and all(self._same(part, b) for part in a.parts)
        if isinstance(a, Items) or isinstance(b, Items):
            return self._same_items(_parts(a), _parts(b)) if _kinds_agree(a, b) else False
        if isinstance(a, Family) or isinstance(b, Family):
            return self._same_family(a, b)
        if isinstance(a, Choice) or isinstance(b, Choice):
            return self._same_choice(a, b)
        if isinstance(a, Directed) or isinstance(b, Directed):
            return self._same_directed(a, b)
        match a, b:
            case Number(), Number():
                self.how = "numeric" if self.how == "exact" else self.how
                return same_number(a.number, b.number)
            case Ordered(), Ordered():
                return (a.left, a.right) == (b.left, b.right) and self._same_sequence(a.parts, b.parts)
            case Grid(), Grid():
                return len(a.rows) == len(b.rows) and all(map(self._same_sequence, a.rows, b.rows))
            case Words(), Words():
                return same_property(_plain(a.text), _plain(b.text))
            case Words(number=RationalAnswer() as number), Number():
                return same_number(number, b.number)
            case Reaction(), Reaction():
                return False
            case Ratio(), Ratio():
                return same_ratio(a, b)
            case Ratio(), Number() | Formula():
                return not a.half and len(a.parts) == 2 and self._same(_quotient(a), b)
            case Number() | Formula(), Ratio():
                return not b.half and len(b.parts) == 2 and self._same(a, _quotient(b))
            case Based(), Number():
                return a.base == 10 and a.digits == str(b.number.value)
            case Number(), Based():
                return str(a.number.value) == b.digits
        return self._same_formula(a, b)

    def _same_sequence(self, a: tuple[Shape, ...], b: tuple[Shape, ...]) -> bool:
        return len(a) == len(b) and all(map(self._same, a, b))

    def _same_items(self, a: tuple[Shape, ...], b: tuple[Shape, ...]) -> bool:
        """Whether the entries can be paired off."""
        if len(a) != len(b):
            return False
        left = list(a)
        for reference in b:
            partner = next((index for index, part in enumerate(left) if self._same_entry(part, reference)), None)
            if partner is None:
                return False
            del left[partner]
        return True

    def _same_entry(self, a: Shape, b: Shape) -> bool:
        """Among several, ``AB = 4`` is not ``CD = 4``."""
        named = isinstance(a, Relation) and isinstance(b, Relation) and a.value is not None and b.value is not None
        return self._same(a, b) and not (named and not relations.same_letter(a.left, b.left))  # type: ignore[union-attr]

    def _same_choice(self, a: Shape, b: Shape) -> bool:
        """An option is its letter and what stands behind it; where both have both, both are the same."""
        if isinstance(a, Choice) and isinstance(b, Choice):
            values = [read(option.text) for option in (a, b) if option.text]
            differ = len(values) == 2 and all(isinstance(v, Number) for v in values) and not self._same(*values)
            return a.letter == b.letter and not differ
        option = a if isinstance(a, Choice) else b
        assert isinstance(option, Choice)
        if not option.text:
            return self._same_formula(a, b)
        value = read(option.text)
        return self._same(value, b) if option is a else self._same(a, value)

    def _same_directed(self, a: Shape, b: Shape) -> bool:
        """Two directions must agree; a plain amount has any, but a loss is a percentage of something or no amount."""
        if isinstance(a, Directed) and isinstance(b, Directed):
            agree = a.direction == b.direction or {a.direction, b.direction} == {"up", "profit"}
            return agree and self._same(a.amount, b.amount)
        left, right = (shape.amount if isinstance(shape, Directed) else shape for shape in (a, b))
        directed = a if isinstance(a, Directed) else b
        assert isinstance(directed, Directed) and isinstance(directed.amount, Number)
        told = directed.direction not in ("up", "down") or directed.amount.number.percent
        return told and self._same(left, right)

    def _same_restricted(self, a: Shape, b: Shape) -> bool:
        r"""``n \ge 2, n \in \mathbb{Z}`` is ``n \ge 2``, whose letter says so, but ``x \ge 2`` may be any number."""
        left, right = (shape.value if families.is_restricted(shape) else shape for shape in (a, b))
        if isinstance(a, Family) and isinstance(b, Family):
            return families.domains_agree(a.domain, b.domain) and self._same(left, right)
        if not isinstance(left, Relation) or not isinstance(right, Relation):
            return False
        whole = families.is_whole(left.left) and relations.same_name(left.left, right.left)
        return whole and self._same(left, right)

    def _same_family(self, a: Shape, b: Shape) -> bool:
        """Whether two families are one but for what their letters are called, and where the integers begin."""
        ours, theirs = (_family(shape, other) for shape, other in ((a, b), (b, a)))
        if ours is None or theirs is None or not families.domains_agree(ours.domain, theirs.domain):
            return False
        names, others = ours.name.split(","), theirs.name.split(",")
        if len(names) != len(others):
            return False
        values = ours.value, theirs.value
        if len(names) == 1 and {ours.domain, theirs.domain} <= {"", "Z"}:
            match values:
                case Formula(text), Formula(other):
                    if arithmetic.same_progression(text, other, (names[0], others[0])):
                        return True
        for order in permutations(others):
            if self._same(families.renamed(ours.value, dict(zip(names, order, strict=True))), theirs.value):
                return True
        return False

    def _same_multiples(self, a: Shape, b: Shape) -> bool:
        """Whether two formulas are one for all whole numbers, which they call otherwise: ``4k`` and ``4m``."""
        if not isinstance(a, Formula) or not isinstance(b, Formula) or not re.search(r"\d", a.text):
            return False
        name, other = families.whole_letter(a.text), families.whole_letter(b.text)
        if not name or not other or name == other:
            return False
        return self._same_family(Family(a, name, ""), Family(b, other, ""))

    def _same_relation(self, a: Shape, b: Shape) -> bool:
        if not isinstance(b, Relation):
            assert isinstance(a, Relation)
            if a.value is None and a.operator == "=" and _is_constant(b) and relations.is_asked_for(a.left):
                return self._same(read(a.right), b)
            return a.value is not None and self._same(a.value, b)
        if not isinstance(a, Relation):
            value = read(b.right) if b.operator == "=" and relations.is_function_value(b.left) else b.value
            return value is not None and self._same(a, value)
        if a.value is not None and b.value is not None:
            value = a.value
            called = relations.arguments(a, b)
            if called is not None:
                value = families.renamed(value, dict([called]))
            if (called or relations.names_agree(a.left, b.left)) and self._same(value, b.value):
                return True
            if relations.same_name(a.left, b.left) and self._same_multiples(value, b.value):
                return True
        if isinstance(b.value, Number) and a.right != "0":
            return False  # 2x = 10 is left to solve; 2x - 10 = 0 is a line
        left, right = (relations.sides(side) if side.operator == r"\in" else side for side in (a, b))
        return left is not None and right is not None and self._same_sides(left, right)

    def _same_sides(self, a: Relation, b: Relation) -> bool:
        """Whether two equations or inequalities are multiples of each other."""
        flip = {">": "<", r"\ge": r"\le"}
        sides = []
        for relation in (a, b):
            left, right = relation.left, relation.right
            if relation.operator in flip:
                left, right = right, left
            sides.append(f"({left})-({right})")
        if flip.get(a.operator, a.operator) != flip.get(b.operator, b.operator):
            return False
        if not all(re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", side)) for side in sides):
            return False
        return self._ask("multiple" if a.operator in ("=", r"\ne") else "positive_multiple", *sides)

    def _same_formula(self, a: Shape, b: Shape) -> bool:
        if isinstance(b, Number):
            # Left to do is no answer to a number; only a decimal may stand for an exact value.
            return isinstance(a, Formula) and is_precise(b.number) and self._is_near("irrational_between", a, b.number)
        if _is_percent(a) or _is_percent(b):
            return self._same_percentage(a, b)
        left, right = _as_formula(a), _as_formula(b)
        if left is None or right is None:
            return False
        if squash(left) == squash(right) or relations.same_substance(left, right):
            return True
        is_decimal = isinstance(a, Number) and isinstance(b, Formula) and is_precise(a.number)
        if is_decimal and self._is_near("between", b, a.number):  # type: ignore[arg-type, union-attr]
            return True
        if (r"\infty" in left) != (r"\infty" in right):
            return False
        if self._ask("equal", left, right):
            return True
        if (name := families.implied(left)) and (other := families.implied(right)) and name != other:
            return self._same_family(Family(Formula(left), name, ""), Family(Formula(right), other, ""))
        return any(self._ask("equal", text, right) for text in families.constants(left, right))

    def _same_percentage(self, a: Shape, b: Shape) -> bool:
        r"""``2\sqrt{3}\%`` is the bare number, and a hundredth of it; cf. ``rationals.same_number``."""
        plain = [replace(shape, percent=False) if isinstance(shape, Formula) else shape for shape in (a, b)]
        if self._same(*plain) or _is_percent(a) == _is_percent(b):
            return self._same(*plain)
        hundredths = [
            Formula(rf"\frac{{{part.text}}}{{100}}") if _is_percent(shape) and isinstance(part, Formula) else part
            for shape, part in zip((a, b), plain, strict=True)
        ]
        return self._same(*hundredths)

    def _is_near(self, how: str, formula: Formula, decimal: RationalAnswer) -> bool:
        """Whether the decimal is the formula's value, rounded or cut off; cf. ``rationals.agrees``."""
        last_place = decimal.last_place or Fraction(0)
        low, high = abs(decimal.value) - last_place / 2, abs(decimal.value) + last_place
        text = formula.text if decimal.value > 0 else f"-({formula.text})"
        return self._ask(how, text, str(low), below=str(high))

    def _ask(self, how: str, left: str, right: str, *, below: str = "") -> bool:
        if self.obstacle == "timeout":
            return False
        if is_too_large(left) or is_too_large(right):
            numbers = how == "equal" and not relations.letters_of(left + right)
            if numbers and (same := arithmetic.same(left, right)) is not None:
                self.how = "symbolic"
                if same and has_more_to_do(left, right):
                    self.obstacle = "unfinished"
                return same and self.obstacle is None
            self.obstacle = "too_large"
            return False
        left, right = exact_decimals(left), exact_decimals(right)
        verdict, spent_s = self._core.ask(how, left, right, below=below, limit_s=self._left_s)
        self._left_s = max(self._left_s - spent_s, 0)
        self.how = "symbolic"
        if verdict not in ("same", "different"):
            self.obstacle = verdict
        return verdict == "same"


def exact_decimals(text: str) -> str:
    """Write decimals as fractions, so that no rounding is involved."""
    return re.sub(r"\d*\.\d+", lambda match: r"\frac{{{}}}{{{}}}".format(*Fraction(match[0]).as_integer_ratio()), text)


def _kinds_agree(a: Shape, b: Shape) -> bool:
    """A list may be written as a set; a union may be of one part; nothing else mixes."""
    kinds = {shape.kind if isinstance(shape, Items) else "" for shape in (a, b)}
    if "pieces" in kinds:
        return len(kinds) == 1
    if "" in kinds and any(map(_holds_sets, (a, b))):
        return False
    return kinds <= {"list", "set", ""} if "union" not in kinds else kinds <= {"union", ""}


def _holds_sets(shape: Shape) -> bool:
    """Whether a set has one entry that is a set, as that of the empty one: it is not that entry."""
    if not isinstance(shape, Items) or shape.kind != "set" or len(shape.parts) != 1:
        return False
    [part] = shape.parts
    return part == Words("no solution") or (isinstance(part, Items) and part.kind == "set")


def _parts(shape: Shape) -> tuple[Shape, ...]:
    return shape.parts if isinstance(shape, Items) else (shape,)


def _same_letters(answer: str, reference: str) -> bool:
    """Whether options are named in small letters, ``b`` for ``B``, or in one word: ``ABD`` for ``A, B, D``."""
    if re.fullmatch("[a-e]", answer):
        option = read(reference)
        return option == Choice(answer.upper(), False)  # "(C)" is no plain letter: c may be of the question
    word, other = sorted((answer, reference), key=len)
    if not re.fullmatch("[A-H]{2,8}", word) or len(set(word)) < len(word) or not re.search(r"[^A-Za-z]", other):
        return False
    shape = read(other)
    options = shape.parts if isinstance(shape, Items) else ()
    letters = [option.letter for option in options if isinstance(option, Choice) and not option.text]
    return len(letters) == len(options) and sorted(letters) == sorted(word)


def _family(shape: Shape, other: Shape) -> Family | None:
    """A family as it is; a formula with the letter of the other, or one that is used for integers, as one too."""
    if isinstance(shape, Family) or not isinstance(shape, Formula | Ordered) or not isinstance(other, Family):
        return shape if isinstance(shape, Family) else None
    if isinstance(shape, Formula) and other.name not in relations.letters_of(shape.text):
        letter = families.whole_letter(shape.text) if other.domain in ("", "Z", "N", "N0") else None
        return Family(shape, letter, "") if letter else None
    return Family(shape, other.name, "")


def _is_percent(shape: Shape) -> bool:
    return isinstance(shape, Formula) and shape.percent


def _is_constant(shape: Shape) -> bool:
    if isinstance(shape, Formula):
        return not re.search(r"(?<![\\A-Za-z])(?![ie](?![A-Za-z]))[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", shape.text))
    return isinstance(shape, Number | Ratio | Items | Ordered | Grid)


def _as_formula(shape: Shape) -> str | None:
    """LaTeX for sympy, None for what is no formula."""
    match shape:
        case Formula():
            return shape.text
        case Number():
            value = shape.number.value / (100 if shape.number.percent else 1)
            return r"\frac{{{}}}{{{}}}".format(*value.as_integer_ratio()) if value.denominator > 1 else str(value)
        case Choice(marked=False):
            return shape.letter
    return None


def _plain(words: str) -> str:
    return re.sub(r"[^\w+.% -]", "", words)


def _quotient(ratio: Ratio) -> Shape:
    return read(r"\frac{{{}}}{{{}}}".format(*ratio.parts))
