r"""Reading: which shape a cleaned text has.

Knows: separators, brackets, relations, environments; everything that is nothing else is a formula.
Does not know: when two shapes are equal (``equality``).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from fractions import Fraction

from oreo_envs.grading.rationals import parse_number
from oreo_envs.grading.shapes import (
    INFINITY,
    MINUS_INFINITY,
    Based,
    Choice,
    Formula,
    Grid,
    Items,
    Number,
    Ordered,
    Ratio,
    Relation,
    Shape,
    Words,
)

MAX_PARTS = 40
"""A list with more entries is too large."""
MAX_DEPTH = 12
"""So are brackets within more brackets."""

_JOIN = r"(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])"
_SEPARATOR = re.compile(rf"\s*(?:[;,]\s*(?:and|or)(?![A-Za-z])|;|,|{_JOIN}|\\(?:lor|vee)(?![a-z]))\s*")
_OR = re.compile(r"(?<![A-Za-z\\])or(?![A-Za-z])|\\(?:lor|vee)(?![a-z])")
_INEQUALITY = re.compile(r"<|>|\\(?:le|ge|ne)(?![A-Za-z])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_CUP = re.compile(r"\s*\\cup(?![a-z])\s*")
_OPEN, _CLOSE = "([{", ")]}"
_ENVIRONMENT = re.compile(r"\\begin\{([bpvBV]?matrix|array|smallmatrix)\}(?:\s*\{[^{}]*\})?(.*)\\end\{\1\}", re.DOTALL)
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{3,}")
_ARTICLE = re.compile(r"^(?:an?|the)\s+|[\"'.,!]")
_CHOICE = re.compile(
    r"(\()?([A-Z])(\)|[.:](?=\s|$))?(?:\s+(?!.*(?:\b(?:or|and)\b|(?<![A-Za-z\\])[A-Z](?![A-Za-z]))).*)?|(\()([a-z])\)"
)
_CHOICE_WORD = re.compile(r"(?:option|choice|answer)\s*\(?([A-Za-z])\)?", re.IGNORECASE)
_BASES = {
    name: base
    for base, name in enumerate("two three four five six seven eight nine ten eleven twelve".split(), start=2)
} | {"sixteen": 16}
_BASED = re.compile(
    r"\(?\s*([0-9][0-9A-Z ]*|[A-Z]+\d[0-9A-Z]*|[A-Z]{2,})\s*\)?\s*"
    r"(?:_\s*\{?\s*|,?\s*\(?\s*(?:in\s+)?base[\s-]*\{?\s*)(\d+|[a-z]+)\s*\}?\s*\)?",
)
_TIME = re.compile(r"(\d{1,2}(?:\s*:\s*\d{1,2}){0,2})\s*([ap])\.?\s*m\.?", re.IGNORECASE)
_RATIO = re.compile(r"\d+(?:\s*:\s*\d+)+|\d+(?:\s+to\s+\d+)+|\d+(?:\.\d+)?(?:\s*:\s*\d+(?:\.\d+)?)+")
_OPERATOR = re.compile(r"=|<|>|\\(?:le|ge|ne|approx|in)(?![A-Za-z])")
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_GREEK = (
    r"\\(?:alpha|beta|gamma|delta|theta|lambda|mu|phi|rho|sigma|tau|omega|varphi|epsilon|ell|Delta|Omega|Theta|Phi)"
)
_INDEX = r"(?:_(?:\{[^{}]*\}|\w))?'*"
_VARIABLE = re.compile(rf"(?:[A-Za-z]|{_GREEK}){_INDEX}(?:\^\{{?-1\}}?)?(?:\([A-Za-z]\))?")
_NAME = re.compile(
    rf"(?:[A-Za-z]|{_GREEK}){_INDEX}(?:\^\{{?-1\}}?)?(?:\([^()]*\))?"
    r"|(?:m\s*)?\\(?:angle|triangle|overline|vec|hat|mathbf|det|deg)\s*(?:\{[^{}]*\}|[A-Za-z ]+)"
    r"|\|[A-Z]{1,2}\||[A-Z]{2,4}|\\frac\{d[a-z]?\}\{d[a-z]\}|\(\s*[a-z]_?\d?(?:\s*,\s*[a-z]_?\d?)+\s*\)"
    r"|(?:[A-Za-z][A-Za-z']*\s+)*[A-Za-z][a-z']{2,}(?:\s+[A-Za-z]+)*(?:\([A-Za-z]\))?"
)
_ABSOLUTE = re.compile(rf"\|\s*({_VARIABLE.pattern})\s*\|")
_REALS = re.compile(r"\\mathbb\s*\{?R\}?\s*(?:(?:\\setminus|-)\s*\\\{(.*)\\\})?|all real numbers|all reals?")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-z])")


def read(text: str) -> Shape:
    """Return the shape of a cleaned answer.

    Raises:
        OverflowError: it has more parts, or brackets within brackets, than anybody looks at.
    """
    if max(_depths(text), default=0) > MAX_DEPTH:
        raise OverflowError
    return _read(text)


def _read(text: str) -> Shape:
    text = _unwrapped(text.strip())
    number = parse_number(text)
    if number is not None:
        return Number(number)
    simple = _choice(text) or _based(text) or _ratio(text)
    if simple is not None:
        return simple
    parts = split(text, _SEPARATOR)
    if len(parts) > 1:
        shapes = tuple(_read(part) for part in parts)
        if all(_INEQUALITY.search(part) for part in parts):
            joined = _merged(shapes) if _OR.search(text) else _between(shapes)
            if joined is not None:
                return joined
        return Items("list", _flatten(shapes))
    if _PLUS_MINUS.search(text) and not text.startswith((*_OPEN, r"\{", r"\langle")) and not _OPERATOR.search(text):
        return _signs(text)
    parts = split(text, _CUP)
    if len(parts) > 1:
        return _merged(tuple(_read(part) for part in parts))
    relation = _relation(text)
    if relation is not None:
        return relation
    return _bracketed(text) or _grid(text) or _set_difference(text) or _words(text) or Formula(_THOUSANDS.sub("", text))


def split(text: str, separator: re.Pattern[str]) -> list[str]:
    """Cut a text at separators that stand in no bracket; a comma in 1,234 is none."""
    if separator.search(text) is None:
        return [text]
    depths = _depths(text)
    thousands = {match.start() for match in _THOUSANDS.finditer(text)} if separator is _SEPARATOR else set()
    parts, start = [], 0
    for match in separator.finditer(text):
        mark = match.end() - len(match[0].lstrip())
        if depths[mark] == 0 and mark not in thousands:
            parts.append(text[start : match.start()])
            start = match.end()
    parts.append(text[start:])
    if len(parts) > MAX_PARTS:
        raise OverflowError
    return [part.strip() for part in parts if part.strip()]


def _depths(text: str) -> list[int]:
    """How many brackets are open before each character, and at the end."""
    depths, depth = [], 0
    for position, char in enumerate(text):
        depths.append(depth)
        if char == "\\":
            depth += text.startswith((r"\begin", r"\langle"), position)
            depth -= text.startswith((r"\end", r"\rangle"), position)
        else:
            depth += (char in _OPEN) - (char in _CLOSE)
    return [*depths, depth]


def _flatten(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    parts: list[Shape] = []
    for shape in shapes:
        parts.extend(shape.parts if isinstance(shape, Items) and shape.kind == "list" else (shape,))
    return tuple(parts)


def _unwrapped(text: str) -> str:
    """Without parentheses or braces that enclose everything and no comma."""
    while len(text) > 2 and text[0] + text[-1] in ("()", "{}") and not re.fullmatch(r"\([A-Za-z]\)", text):
        inside = text[1:-1]
        if not _is_balanced(inside) or re.search("[,;:]", inside):
            break
        text = inside.strip()
    return text


def _choice(text: str) -> Choice | None:
    if match := _CHOICE_WORD.fullmatch(text):
        return Choice(match[1].upper(), True)
    match = _CHOICE.fullmatch(text)
    if match is None:
        return None
    if match[5]:
        return Choice(match[5].upper(), True)
    marked = match[3] is not None
    return Choice(match[2], marked) if marked or len(text) == 1 else None


def _based(text: str) -> Based | None:
    match = _BASED.fullmatch(text)
    if match is None:
        return None
    base = int(match[2]) if match[2].isdigit() else _BASES.get(match[2], 0)
    digits = match[1].replace(" ", "").lstrip("0") or "0"
    return Based(digits, base) if 2 <= base <= 36 else None


def _ratio(text: str) -> Ratio | None:
    if match := _TIME.fullmatch(text):
        return Ratio(tuple(part.strip() for part in match[1].split(":")), match[2].lower() + "m")
    if _RATIO.fullmatch(text):
        return Ratio(tuple(part.strip() for part in re.split(r":|to", text)))
    return None


def _signs(text: str) -> Items:
    r"""Every reading of ``\pm``; with ``\mp`` among them the signs go together."""
    before, *rest = _PLUS_MINUS.split(text)
    commands, texts = rest[::2], rest[1::2]
    if len(commands) > 4:
        raise OverflowError
    one_choice = [(sign,) * len(commands) for sign in "+-"]
    readings = []
    for signs in one_choice if "mp" in commands else itertools.product("+-", repeat=len(commands)):
        written = (_sign(*part) + after for *part, after in zip(signs, commands, texts, strict=True))
        readings.append(_read(re.sub(r"^\s*\+\s*", "", before + "".join(written))))
    return Items("list", tuple(readings))


def _sign(sign: str, command: str) -> str:
    return sign if command == "pm" else "-" if sign == "+" else "+"


def _relation(text: str) -> Shape | None:
    r"""Equations and inequalities at the top level; ``x \in S`` is S, ``a \approx b`` is a."""
    if _OPERATOR.search(text) is None:
        return None
    depths = _depths(text)
    operators = [match for match in _OPERATOR.finditer(text) if depths[match.start()] == 0]
    if not operators:
        return None
    edges = [0, *(edge for match in operators for edge in match.span()), len(text)]
    sides = [text[start:end].strip() for start, end in zip(edges[::2], edges[1::2], strict=True)]
    names = [match[0] for match in operators]
    if not all(sides):
        return None
    if r"\in" in names:
        return _read(sides[-1]) if names[-1] == r"\in" else None
    if r"\approx" in names:
        keep = names.index(r"\approx")
        if keep == 0:
            return _read(sides[1] if _NAME.fullmatch(sides[0]) else sides[0])
        return _read(text[: operators[keep].start()])
    if set(names) == {"="}:
        return _equation(sides)
    return _inequality(names, sides)


def _equation(sides: list[str]) -> Shape:
    left, right = sides[0], sides[-1]
    if len(sides) > 2 and not _NAME.fullmatch(left):
        # A chain of numbers states its last; a chain of formulas is an equation of its ends.
        last = _read(right)
        return last if isinstance(last, Number) else Relation("=", left, right)
    if _NAME.fullmatch(left):
        return Relation("=", left, right, _read(right))
    if _VARIABLE.fullmatch(right):
        return Relation("=", right, left, _read(left))
    value = _read(right)
    if isinstance(value, Number) and not re.search(r"[A-Za-z]", _COMMAND.sub("", left)):
        return value
    return Relation("=", left, right)


def _inequality(names: list[str], sides: list[str]) -> Shape | None:
    """An interval where it bounds one variable, else a relation."""
    if len(sides) == 2:
        (left, right), name = sides, names[0]
        if _VARIABLE.fullmatch(right) and not _VARIABLE.fullmatch(left) and name != r"\ne":
            left, right, name = right, left, _FLIPPED[name]
        size = _ABSOLUTE.fullmatch(left)
        if size and name in _FLIPPED:
            inside = f"{size[1]} {name} {right}", f"{size[1]} {_FLIPPED[name]} {re.sub('^--', '', '-' + right)}"
            bounds = tuple(_read(part) for part in inside)
            return _merged(bounds) if name in (">", r"\ge") else _between(bounds)
        if not _VARIABLE.fullmatch(left):
            return Relation(name, left, right)
        bound = _read(right)
        if name == r"\ne":
            return Items("union", (Ordered("(", ")", (MINUS_INFINITY, bound)), Ordered("(", ")", (bound, INFINITY))))
        if name in ("<", r"\le"):
            return Ordered("(", ")" if name == "<" else "]", (MINUS_INFINITY, bound))
        return Ordered("(" if name == ">" else "[", ")", (bound, INFINITY))
    if len(sides) == 3 and _VARIABLE.fullmatch(sides[1]):
        low, high = sides[0], sides[2]
        if set(names) <= {">", r"\ge"}:
            low, high, names = high, low, [_FLIPPED[name] for name in reversed(names)]
        if set(names) <= {"<", r"\le"}:
            left, right = "(" if names[0] == "<" else "[", ")" if names[1] == "<" else "]"
            return Ordered(left, right, (_read(low), _read(high)))
    return None


def _between(bounds: tuple[Shape, ...]) -> Shape | None:
    """The interval that two one-sided bounds leave between them."""
    match bounds:
        case (Ordered() as first, Ordered() as second):
            for low, high in ((first, second), (second, first)):
                if low.parts[1] == INFINITY and high.parts[0] == MINUS_INFINITY:
                    return Ordered(low.left, high.right, (low.parts[0], high.parts[1]))
    return None


def _merged(parts: tuple[Shape, ...]) -> Shape:
    """The union of intervals, with those made one that touch; of rational ends only."""
    spans = []
    for part in parts:
        ends = [_end(end) for end in part.parts] if isinstance(part, Ordered) and len(part.parts) == 2 else [None]
        if None in ends:
            return Items("union", parts)
        spans.append((part, *ends))
    spans.sort(key=lambda span: (span[1], span[0].left == "("))
    merged = spans[:1]
    for part, low, high in spans[1:]:
        before, start, end = merged[-1]
        assert isinstance(before, Ordered) and isinstance(part, Ordered)
        if low > end or (low == end and before.right == ")" and part.left == "("):
            merged.append((part, low, high))
        else:
            last = max((before, end), (part, high), key=lambda pair: (pair[1], pair[0].right == "]"))
            merged[-1] = (Ordered(before.left, last[0].right, (before.parts[0], last[0].parts[1])), start, last[1])
    shapes = tuple(part for part, _, _ in merged)
    return Items("union", shapes) if len(shapes) > 1 else shapes[0]


def _end(shape: Shape) -> Fraction | float | None:
    if isinstance(shape, Number):
        return shape.number.value
    infinite = {INFINITY.text: math.inf, "+" + INFINITY.text: math.inf, MINUS_INFINITY.text: -math.inf}
    return infinite.get(shape.text) if isinstance(shape, Formula) else None


def _bracketed(text: str) -> Shape | None:
    """A set, a tuple, an interval or a vector."""
    for left, right in ((r"\{", r"\}"), (r"\langle", r"\rangle"), ("(", ")"), ("(", "]"), ("[", ")"), ("[", "]")):
        if not (text.startswith(left) and text.endswith(right) and len(text) > len(left + right)):
            continue
        inside = text[len(left) : -len(right)]
        if not _is_balanced(inside):
            return None
        parts = split(inside, _SEPARATOR)
        if len(parts) == 1 and _THOUSANDS.search(inside) and left != r"\{":
            parts = [part.strip() for part in inside.split(",")]
        if left == r"\{":
            condition = re.split(r"\\mid|\||:", inside, maxsplit=1)
            if len(condition) == 2 and _OPERATOR.search(condition[1]):
                return _read(condition[1])
            return Items("set", _flatten(_read(part) for part in parts))
        if len(parts) > 1:
            if _PLUS_MINUS.search(text):
                return _signs(text)
            left, right = ("(", ")") if left == r"\langle" else (left, right)
            return Ordered(left, right, tuple(_read(part) for part in parts))
    return None


def _is_balanced(text: str) -> bool:
    depths = _depths(text)
    return min(depths) == depths[-1] == 0


def _grid(text: str) -> Shape | None:
    """A matrix; one of a single column is a tuple, as vectors are written either way."""
    text = text[1:-1].strip() if text[:1] + text[-1:] in ("()", "[]") and r"\begin" in text else text
    match = _ENVIRONMENT.fullmatch(text)
    if match is None or match[1] in ("vmatrix", "Vmatrix") or r"\begin" in match[2]:
        return None
    body = re.sub(r"\\hline|\\\\\s*\[[^\[\]]*\]", lambda found: r"\\" if found[0].startswith(r"\\") else "", match[2])
    rows = [row.strip() for row in re.split(r"\\\\|\\cr(?![a-z])", body) if row.strip()]
    if len(rows) > MAX_PARTS or body.count("&") > MAX_PARTS:
        raise OverflowError
    cells = tuple(tuple(_read(cell.strip()) for cell in row.split("&")) for row in rows)
    if all(len(row) == 1 for row in cells):
        return Ordered("(", ")", tuple(row[0] for row in cells))
    return Grid(cells)


def _set_difference(text: str) -> Shape | None:
    r"""``\mathbb{R} \setminus \{a, b\}`` as the union of intervals that it is; the whole line."""
    match = _REALS.fullmatch(text)
    if match is None:
        return None
    if match[1] is None:
        return Ordered("(", ")", (MINUS_INFINITY, INFINITY))
    holes = [_read(part) for part in split(match[1], _SEPARATOR)]
    numbers = sorted((hole for hole in holes if isinstance(hole, Number)), key=lambda hole: hole.number.value)
    holes = list(numbers) if len(numbers) == len(holes) else holes
    edges: list[Shape] = [MINUS_INFINITY, *(hole for hole in holes for _ in range(2)), INFINITY]
    return Items("union", tuple(Ordered("(", ")", pair) for pair in zip(edges[::2], edges[1::2], strict=True)))


def _words(text: str) -> Words | None:
    r"""Plain words; ``\emptyset`` and its names are one word."""
    if text == r"\emptyset":
        return Words("no solution")
    plain = _COMMAND.sub(" ", text)
    letters = _WORD.findall(plain)
    if not letters or re.search(r"[=^_+*/{}]", plain):
        return None
    words = re.sub(r"\s+", " ", _ARTICLE.sub("", text.casefold())).strip()
    return Words("no solution" if words in ("none", "no solutions", "empty set", "no real solutions") else words)
