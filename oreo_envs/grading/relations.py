r"""Relations: equations, inequalities, congruences and reactions, and the names on their left.

Knows: which left sides are names, which could be what was asked for, when two names are one.
Does not know: the shapes of the sides (``reading`` reads them), when two are equal (``equality``).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

from oreo_envs.grading import intervals
from oreo_envs.grading.pieces import SEPARATOR, depths, split
from oreo_envs.grading.rationals import parse_number
from oreo_envs.grading.shapes import (
    INFINITY,
    MINUS_INFINITY,
    Congruence,
    Formula,
    Items,
    Number,
    Ordered,
    Reaction,
    Relation,
    Shape,
)

Read = Callable[[str], Shape]

OPERATOR = re.compile(r"=|<|>|\\(?:le|ge|ne|approx|in|to|Rightarrow|equiv)(?![A-Za-z])")
INEQUALITY = re.compile(r"<|>|\\(?:le|ge|ne)(?![A-Za-z])")
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", r"\ne": r"\ne"}
_GREEK = (
    r"\\(?:alpha|beta|gamma|delta|theta|lambda|mu|phi|rho|sigma|tau|omega|varphi|epsilon|ell|Delta|Omega|Theta|Phi)"
)
_INDEX = r"(?:_(?:\{[^{}]*\}|\w))?'*"
_LETTER = rf"(?:[A-Za-z]|{_GREEK}){_INDEX}"
VARIABLE = re.compile(rf"{_LETTER}(?:\^\{{?-1\}}?)?(?:\([A-Za-z]\))?")
_TUPLE = re.compile(rf"\(\s*{_LETTER}(?:\s*,\s*{_LETTER})+\s*\)")
_CAPITALS = re.compile(
    r"(m?\s*\\?(?:angle|triangle|overline|overrightarrow|vec|hat|mathbf|det|deg)\s*)?"
    r"(\{[A-Z ]+\}|[A-Z]{1,4}|\|[A-Z]{1,2}\|)"
)
NAME = re.compile(
    rf"{_LETTER}(?:\^\{{?-1\}}?)?(?:\([^()]*\))?"
    r"|(?:m\s*)?\\(?:angle|triangle|overline|overrightarrow|vec|hat|mathbf|det|deg)\s*(?:\{[^{}]*\}|[A-Za-z ]+)"
    rf"|\|[A-Z]{{1,2}}\||[A-Z]{{2,4}}|\\frac\{{d[a-z]?\}}\{{d[a-z]\}}|{_TUPLE.pattern}"
    r"|[A-Za-z]{1,2}(?:\s*:\s*[A-Za-z]{1,2})+"
    r"|(?:[A-Za-z][A-Za-z']*\s+)*[A-Za-z][a-z']{2,}(?:\s+[A-Za-z]+)*(?:\([A-Za-z]\))?"
)
_GENERAL = re.compile(
    r"(?:the|final|answer|result|value|total|sum|solution|it|is|of|required|number|function|equation|our)"
    r"(?:\s+(?:the|final|answer|result|value|total|sum|solution|it|is|of|required|number|function|equation))*",
    re.IGNORECASE,
)
_ABSOLUTE = re.compile(rf"\|\s*({_LETTER}(?:\([A-Za-z]\))?)\s*(?:([+-])\s*([^|+-]+))?\s*\|")
_PMOD = re.compile(r"(.*?)\s*\\pmod\{(\d{1,30})\}")
_ASSIGNED = re.compile(rf"({_LETTER})\s*\\equiv\s*(.*)")
_OPERATION = re.compile(
    r"\\(?:lim|sum|prod|int|det|gcd|frac\{d\}\{d[a-z]\})(?![a-z])"
    r"|\\(?:sin|cos|tan|cot|sec|csc)\s*\d?\\?[a-zA-Z]+$"
)
_OF_AN_ANGLE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)\s*\(?\d?\s*(?:\\?angle\s*)?\\?[a-zA-Z]+\s*\)?")
DENIAL = re.compile(
    r"\b(?:not|never|except|excluding|no|none|without|cannot|wrong|false|or|unless|if|when|suppose|assume|let"
    r"|perhaps|maybe|possibly|probably|might|may|could|try|test|check|consider|half|twice|double|triple)\b",
    re.IGNORECASE,
)
_SETTING = re.compile(r"\s*(?:with|for|at|where)\s", re.IGNORECASE)
_COUNTED = re.compile(r"\d[\d.,]*(?:\s[a-z]{3,})?(?:\s*[-+*/]\s*\d[\d.,]*(?:\s[a-z]{3,})?)+")
_SYMMETRIC = re.compile(r"\s*\\(parallel|perp|cong|sim)(?![a-z])\s*")
_LETTERS = re.compile(r"\\[A-Za-z]+|[A-Za-z]")
_SCRIPT = re.compile(r"[_^](?:\{[-\w+]*\}|\w)|(?<=[A-Za-z])\([\w,\s=<>]*\)|(?<=\})\([A-Za-z]\)|\\[A-Za-z]+")

_ELEMENT = r"[A-Z][a-z]?\d*"
_SUBSTANCE = re.compile(rf"\d*(?:{_ELEMENT}|\((?:{_ELEMENT})+\)\d*)+(?:\^\d*[+-])?")


def relation(text: str, read: Read) -> Shape | None:
    r"""Equations and inequalities at the top level; ``a \approx b`` is a, ``a \Rightarrow b`` is b."""
    if (mark := _SYMMETRIC.search(text)) and len(parts := split(text, _SYMMETRIC)) == 2:
        first, second = sorted(re.sub(r"\s", "", part) for part in parts)
        return Relation(mark[1], first, second)
    if OPERATOR.search(text) is None:
        return None
    depths_ = depths(text)
    operators = [match for match in OPERATOR.finditer(text) if depths_[match.start()] == 0]
    if not operators:
        return None
    edges = [0, *(edge for match in operators for edge in match.span()), len(text)]
    sides = [text[start:end].strip() for start, end in zip(edges[::2], edges[1::2], strict=True)]
    names = ["=" if match[0] == r"\equiv" else match[0] for match in operators]
    if not all(sides):
        return None
    if r"\Rightarrow" in names:
        return read(text[[match.end() for match in operators if match[0] == r"\Rightarrow"][-1] :])
    if r"\to" in names:
        return _reaction(sides) if names == [r"\to"] else None
    if r"\in" in names:
        member = names == [r"\in"] and NAME.fullmatch(sides[0])
        value = read(sides[-1])
        return Relation(r"\in", sides[0], sides[1], value) if member else value if names[-1] == r"\in" else None
    if r"\approx" in names:
        keep = names.index(r"\approx")
        if keep == 0:
            return read(sides[1] if NAME.fullmatch(sides[0]) else sides[0])
        return read(text[: operators[keep].start()])
    if set(names) == {"="}:
        return _equation(sides, read)
    return _inequality(names, sides, read)


def congruence(text: str) -> Congruence | None:
    r"""``x \equiv 1, 4 \pmod{5}``, with or without a name."""
    match = _PMOD.fullmatch(text)
    modulus = int(match[2]) if match else 0
    if match is None or modulus < 2:
        return None
    assigned = _ASSIGNED.fullmatch(match[1])
    name, rest = (assigned[1], assigned[2]) if assigned else ("", match[1])
    signed = re.sub(r"\\pm\s*(\d+)", r"\1, -\1", rest)
    numbers = [parse_number(re.sub(r"^.*\\equiv", "", part)) for part in split(signed, SEPARATOR)]
    if any(number is None or number.value.denominator != 1 for number in numbers):
        return None
    return Congruence(name, tuple(int(number.value) for number in numbers if number), modulus)


def joined(shapes: tuple[Shape, ...]) -> Congruence | None:
    """Several congruences of one modulus as one."""
    found = [shape for shape in shapes if isinstance(shape, Congruence)]
    if len(found) < len(shapes) or len({(shape.name, shape.modulus) for shape in found}) != 1:
        return None
    return Congruence(found[0].name, tuple(r for shape in found for r in shape.remainders), found[0].modulus)


def bounds(shapes: tuple[Shape, ...], *, either: bool) -> Shape | None:
    """Several bounds on one variable as one; None where they are of several, or cannot be joined."""
    names = {shape.left for shape in shapes if isinstance(shape, Relation)}
    values = []
    for shape in shapes:
        if isinstance(shape, Relation):
            if shape.value is None or shape.operator not in (r"\in", "=" if either else r"\in"):
                return None
            value = shape.value
            values.append(Items("set", (value,)) if shape.operator == "=" else value)
        elif isinstance(shape, Number | Formula) and values:  # x \ne 1, 2
            values.append(intervals.unequal(shape))
        else:
            return None
    if len(names) != 1:
        return None
    joined = intervals.union(tuple(values)) if either else intervals.intersection(tuple(values))
    return None if joined is None else Relation(r"\in", names.pop(), "", joined)


def is_asked_for(left: str) -> bool:
    r"""Whether a left side that is no name may be what was asked for: ``x^2+y^2``, ``\cos 2A``, no ``3x+2``."""
    if _OPERATION.match(left):
        return True
    if DENIAL.search(left) or _SETTING.match(left):
        return False
    plain = _SCRIPT.sub(lambda match: match[0] if re.fullmatch(_GREEK, match[0]) else " ", left)
    letters = [letter for letter in _LETTERS.findall(plain) if letter in letters_of(letter)]
    alone = len(letters) > 1 and len(set(letters)) == 1
    return not letters_of(left) or not (re.search(r"\d", plain) or alone)


def is_function_value(left: str) -> bool:
    r"""Whether a left side is the value of a function of an angle: ``\tan\theta``."""
    return _OF_AN_ANGLE.fullmatch(left.strip()) is not None


def letters_of(text: str) -> set[str]:
    r"""Letters, Greek ones too, that are no other commands."""
    return {letter for letter in _LETTERS.findall(text) if letter[0] != "\\" or re.fullmatch(_GREEK, letter)}


def tuple_names(left: str) -> list[str]:
    """The names of ``(x, y) = ...``; none for other left sides."""
    return [name.strip() for name in left.strip("() ").split(",")] if _TUPLE.fullmatch(left) else []


def sides(bound: Relation) -> Relation | None:
    r"""A bound on a variable by other letters, ``y > 4 - 2x``, as what stands on its two sides."""
    operator = INEQUALITY.search(bound.right) if bound.operator == r"\in" else None
    if operator is None or not letters_of(bound.right) - letters_of(bound.left):
        return None
    return Relation(operator[0], bound.left, bound.right[operator.end() :].strip())


def same_name(a: str, b: str) -> bool:
    """Whether two left sides are one name, but for fonts and the direction of a segment."""
    return _plain_name(a) == _plain_name(b)


def same_letter(a: str, b: str) -> bool:
    """Whether two left sides are one name, or one letter that only one of them numbers: ``x_1`` and ``x``."""
    short, long = sorted((_plain_name(a), _plain_name(b)), key=len)
    return short == long or (re.fullmatch(r"(.*)_\d+", long) is not None and long.rpartition("_")[0] == short)


def names_agree(a: str, b: str) -> bool:
    """Whether the left sides of two equations may name one thing.

    Two letters, two values of functions, two segments, two indexed letters must be the same; a letter may be any of
    these, and words may name anything but what other words name.
    """
    a, b = _plain_name(a), _plain_name(b)
    if a == b:
        return True
    kinds = {_kind(a), _kind(b)}
    if kinds == {"function"} and a.casefold() == b.casefold():
        return True
    if kinds & {"words", "other"}:
        return kinds != {"words"} or bool(_GENERAL.fullmatch(a) or _GENERAL.fullmatch(b))
    return "letter" in kinds and len(kinds) > 1


def arguments(a: Relation, b: Relation) -> tuple[str, str] | None:
    """What ``a`` and ``b`` call the argument of one function, where that differs: ``f(t)`` and ``f(x)``."""
    first, second = (re.fullmatch(r"(.*)(?:\(([a-z])\)|_\{?([a-z])\}?)", side.left) for side in (a, b))
    if first is None or second is None or first[1].strip() != second[1].strip():
        return None
    ours, theirs = first[2] or first[3], second[2] or second[3]
    if ours == theirs or (first[2] is None) != (second[2] is None) or theirs in letters_of(a.right):
        return None
    return ours, theirs


def _plain_name(name: str) -> str:
    """Without fonts and blanks; segments and angles in alphabetical direction."""
    name = re.sub(r"\\(?:overline|overrightarrow|mathbf|vec|hat)\s*|\s+(?![A-Za-z]{2,})", "", name.strip())
    match = _CAPITALS.fullmatch(name)
    if match is None or len(match[2]) < 2:
        name = re.sub(r"^m(?=\\angle)", "", name)
        return re.sub(r"[{}]", "", name)
    points = re.sub(r"[^A-Z]", "", match[2])
    mark = "angle" if "angle" in (match[1] or "") and "tri" not in match[1] else "tri" if match[1] else ""
    return mark + (points if mark == "tri" else min(points, points[::-1]))


def _kind(name: str) -> str:
    if re.fullmatch(rf"[A-Za-z]|{_GREEK}", name):
        return "letter"
    if re.fullmatch(rf"(?:[A-Za-z]|{_GREEK})(?:\^-1)?'*\([^()]*\)", name):
        return "function"
    if re.fullmatch(rf"(?:[A-Za-z]|{_GREEK})_\w+'*", name):
        return "index"
    if re.fullmatch(r"(?:angle|tri)?[A-Z]{2,4}|angle[A-Z]|m?\\angle[A-Z]", name):
        return "angle" if "angle" in name else "segment"
    if ":" in name:
        return "ratio"
    return "words" if re.fullmatch(r"[A-Za-z' ]{3,}", name) else "other"


def _equation(sides: list[str], read: Read) -> Shape:
    left, right = sides[0], sides[-1]
    if len(sides) > 2 and all(VARIABLE.fullmatch(side) for side in sides[:-1]):
        return Relation("=", left, right, read(right), tuple(sides[1:-1]))
    if len(sides) > 2 and not NAME.fullmatch(left):
        # A chain of numbers states its last; a chain of formulas is an equation of its ends.
        last = read(right)
        evaluated = not any(letters_of(side) for side in sides[1:])
        if isinstance(last, Number) and (evaluated or is_asked_for(left)):
            return last
        if all(map(letters_of, sides)) and len(set.union(*map(letters_of, sides))) > 1:
            return Items("list", tuple(Relation("=", a, b) for a, b in itertools.pairwise(sides)))
        return Relation("=", left, right)
    if NAME.fullmatch(left) and not DENIAL.search(left) and not _SETTING.match(left):
        return Relation("=", left, right, read(right))
    if VARIABLE.fullmatch(right):
        return Relation("=", right, left, read(left))
    value = read(right)
    if isinstance(value, Number) and (not letters_of(left) or _COUNTED.fullmatch(left)):
        return value
    return Relation("=", left, right)


def _inequality(names: list[str], sides: list[str], read: Read) -> Shape | None:
    """An interval where it bounds one variable, else a relation."""
    if len(sides) == 2:
        (left, right), name = sides, names[0]
        if VARIABLE.fullmatch(right) and not (VARIABLE.fullmatch(left) and left > right):
            left, right, name = right, left, _FLIPPED[name]
        size = _ABSOLUTE.fullmatch(left)
        if size and name != r"\ne":
            return _absolute(size, name, right, read)
        if not VARIABLE.fullmatch(left):
            return Relation(name, left, right)
        bound = read(right)
        return Relation(r"\in", left, f"{left} {name} {right}", _half_line(name, bound))
    if len(sides) == 3 and VARIABLE.fullmatch(sides[1]):
        low, high = sides[0], sides[2]
        if set(names) <= {">", r"\ge"}:
            low, high, names = high, low, [_FLIPPED[name] for name in reversed(names)]
        if set(names) <= {"<", r"\le"}:
            left, right = "(" if names[0] == "<" else "[", ")" if names[1] == "<" else "]"
            return Relation(r"\in", sides[1], "", Ordered(left, right, (read(low), read(high))))
    return None


def _half_line(name: str, bound: Shape) -> Shape:
    if name == r"\ne":
        return intervals.all_but(list(bound.parts)) if isinstance(bound, Items) else intervals.unequal(bound)
    if name in ("<", r"\le"):
        return Ordered("(", ")" if name == "<" else "]", (MINUS_INFINITY, bound))
    return Ordered("(" if name == ">" else "[", ")", (bound, INFINITY))


def _absolute(size: re.Match[str], name: str, right: str, read: Read) -> Shape | None:
    r"""``|x - a| < b``; of numbers where there is an ``a``."""
    variable, sign, shift = size[1], size[2], size[3]
    low, high = re.sub("^--", "", "-" + right), right
    if shift:
        center, radius = parse_number(shift), parse_number(right)
        if center is None or radius is None:
            return Relation(name, size[0], right)
        middle = center.value if sign == "-" else -center.value
        low, high = (rf"{end.numerator}/{end.denominator}" for end in (middle - radius.value, middle + radius.value))
    parts = read(f"{variable} {name} {high}"), read(f"{variable} {_FLIPPED[name]} {low}")
    return bounds(parts, either=name in (">", r"\ge"))


def _reaction(sides: list[str]) -> Reaction:
    plus = re.compile(r"\s*(?<![\^{])\+\s*(?!\})")
    return Reaction(r"\to", tuple(tuple(sorted(_formula(term) for term in split(side, plus))) for side in sides))


def _formula(term: str) -> str:
    """A chemical formula without blanks, braces and the marks of indices."""
    return re.sub(r"[\s{}_]", "", term)


def same_substance(a: str, b: str) -> bool:
    """Whether two formulas name one substance, with and without marks of indices: ``H2O``, ``H_2O``."""
    a, b = (re.sub(r"[\s{}_]", "", text) for text in (a, b))
    return a == b and _SUBSTANCE.fullmatch(a) is not None and re.search(r"[A-Za-z]\d", a) is not None
