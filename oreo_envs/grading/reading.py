r"""Reading: which shape a cleaned text has.

Knows: in which order to try the shapes; lists, signs, notes. Everything that is nothing else is a formula.
Does not know: how simple shapes, containers, relations and conditions are written, when two shapes are equal.
"""

from __future__ import annotations

import itertools
import re

from oreo_envs.grading import families, intervals, relations, words
from oreo_envs.grading.containers import all_reals, bracketed, cases, flatten, grid, meet, set_difference, union, vector
from oreo_envs.grading.notation import is_unit, without_units
from oreo_envs.grading.pieces import MAX_DEPTH, OR, SEPARATOR, THOUSANDS, depths, is_balanced, split, unwrapped
from oreo_envs.grading.rationals import RationalAnswer, parse_number, same_number
from oreo_envs.grading.shapes import Directed, Formula, Items, Number, Ordered, Relation, Shape, Words
from oreo_envs.grading.simple import based, choice, ratio, sentence

_CUP = re.compile(r"\s*\\cup(?![a-z])\s*")
_CAP = re.compile(r"\s*\\cap(?![a-z])\s*")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-z])")
_POINT = re.compile(r"([A-Z]'*(?:_\{?\w\}?)?)\s*:?\s*(\(.*\))", re.DOTALL)
_LEAD = re.compile(
    r"(?:(?:the|an?|at|in|on|is|its|coordinates?|points?|vertex|cent(?:er|re)|focus|origin|pair|ordered|triple|tuple"
    r"|interval|set|vector|matrix|value|number|answer|solutions?|equation|line|function|range|domain|roots?|are|of"
    r"|either|both)(?:\s+|:\s*|(?=[(\[\\])))+(?=[(\[\\\d{-])",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"(?:the\s+)?(?:domain|range|solutions?(?:\s+set)?|vertex|cent(?:er|re)|roots?|interval|equation|points?)\s*"
    r"(?::|is\b|are\b)\s*(?=\S)",
    re.IGNORECASE,
)
_ALL = re.compile(r"(?:for\s+)?all\s+(?=[a-z]\s*(?:[<>]|\\(?:le|ge|ne)(?![a-z])))")
_CURVE = re.compile(r"[A-Za-z](?:_\{?\d\}?)?\s*:\s*(?=[^:=]+=[^=]+$)")
_OF_SETS = re.compile(r"[^=<>]*\\c[ua]p(?![a-z])[^=<>]*=(?!.*\\c[ua]p(?![a-z]))")
_SENTENCE = re.compile(
    r"(?:[a-z]+\s+){1,5}?(?:is|are|equals)\s+(?:equal\s+to\s+|exactly\s+)?(?=[-(\[\\\d])",
    re.IGNORECASE,
)
_OF_A_NUMBER = re.compile(r"\b(?:in|of|at|on|to)\s+\d$")
_UNIT_BEHIND = re.compile(
    r"\d\s(?:mm|cm|dm|km|kg|mg|ml|ft|in|inch(?:es)?|feet|yd|yards|mi|miles|(?:centi|kilo)?met(?:er|re)s?|units?|degrees)$"
)
_NOTE = re.compile(r"(.*\S)\s+\(([^()]*|[^()]*\([^()]*\)[^()]*)\)", re.DOTALL)
_NOT = re.compile(r"not\s+(.*)")
_IDLE_NOTE = re.compile(
    r"(?=.*[A-Za-z]{3})(?:(?:[A-Za-z]|and|is|are|can be|free|arbitrary|any|exact(?:ly)?|approx(?:imately)?|rounded"
    r"|total|altogether|in total|simplified|double|repeated|root|unique|value|number|real|answer)\b[\s,]*)+",
    re.IGNORECASE,
)


def read(text: str) -> Shape:
    """Return the shape of a cleaned answer.

    Raises:
        OverflowError: it has more parts, or brackets within brackets, than anybody looks at.
    """
    if max(depths(text), default=0) > MAX_DEPTH:
        raise OverflowError
    return _read(text)


def _read(text: str) -> Shape:
    text = unwrapped(text.strip())
    number = parse_number(text)
    if number is not None:
        return Number(number)
    simple = choice(text) or based(text) or ratio(text) or _spoken(text) or _directed(text)
    if simple is not None:
        return simple
    plain = families.unconditional(_without_note(text))
    if plain != text:
        return _read(plain)
    conditional = families.condition(text)
    if conditional is not None:
        return families.attached(_read(conditional[0]), *conditional)
    return relations.congruence(text) or _list(text) or _single(text)


def _list(text: str) -> Shape | None:
    """Entries between commas, "and", "or"; bounds on one variable are what they leave."""
    if (point := _POINT.fullmatch(text)) and is_balanced(point[2][1:-1]):
        place = _read(point[2])
        return Relation("=", point[1], point[2], place) if isinstance(place, Ordered) else None
    parts = split(text, SEPARATOR)
    if len(parts) < 2:
        return None
    if parts[0].lower() in ("yes", "no", "true", "false"):
        return sentence(text)
    shapes = tuple(map(_part, parts))
    if relations.INEQUALITY.search(text):
        joined = relations.bounds(shapes, either=OR.search(text) is not None)
        if joined is not None:
            return joined
    if all(isinstance(shape, Ordered) for shape in shapes) and any(map(intervals.is_unbounded, shapes)):
        return intervals.union(shapes)
    return relations.joined(shapes) or Items("list", flatten(shapes))


def _part(text: str) -> Shape:
    """The shape of an entry, whose unit stands behind it."""
    return _read(without_units(text) if _UNIT_BEHIND.search(text) else text)


def _single(text: str) -> Shape:
    related = relations.OPERATOR.search(text) is not None
    if _PLUS_MINUS.search(text) and not related and not text.startswith((r"\{", r"\langle")):
        return _signs(text)
    if label := _LABEL.match(text) or _ALL.match(text) or _CURVE.match(text):
        return _read(text[label.end() :])
    if "real" in text and (line := all_reals(text, _read)):
        return line
    shape = None if _OF_SETS.match(text) else union(text, _CUP, _read) or meet(text, _CAP, _read)
    shape = shape or relations.relation(text, _read)
    if shape is not None:
        return shape
    lead = _LEAD.match(text) or _SENTENCE.match(text)
    if lead and not relations.DENIAL.search(lead[0]) and not _OF_A_NUMBER.search(text, 0, lead.end() + 1):
        return _read(text[lead.end() :])
    shape = bracketed(text, _part) or grid(text, _read) or cases(text, _read) or set_difference(text, _read)
    shape = shape or vector(text, _read) or sentence(text)
    if shape is not None:
        return shape
    text = THOUSANDS.sub("", text)
    return Formula(text[:-1].rstrip(), percent=True) if text.endswith("%") else Formula(text)


def _spoken(text: str) -> Shape | None:
    """A number in words, or with a word of scale or of parts; with words behind it that may be a unit."""
    found = words.spoken(text) if re.search(r"[A-Za-z]{3}", text) else None
    if found is None:
        return None
    number, rest = found
    in_words = text[0].isalpha()
    if not rest:
        return Number(number)
    if not is_unit(rest.split()):
        return None
    return Words(words.plain_words(text), number) if in_words else Number(number)


def _directed(text: str) -> Shape | None:
    found = words.directed(text)
    if found is None:
        return None
    amount = _read(without_units(found[0]))
    return Directed(amount, found[1]) if isinstance(amount, Number) else None


def _without_note(text: str) -> str:
    r"""Without a note behind it that says the same, or nothing: ``144 (12 dozen)``, ``x = 3 (y is free)``."""
    match = _NOTE.fullmatch(text) if text.endswith(")") else None
    if match is None:
        return text
    if _IDLE_NOTE.fullmatch(match[2]):
        return match[1]
    first, second = _number(match[1]), _number(match[2])
    if (denied := _NOT.fullmatch(match[2])) and first and (second := _number(denied[1])):
        return text if same_number(second, first) else match[1]
    other = second is not None and re.fullmatch(r"-?\d+", match[2]) is None
    return match[1] if first and second and other and same_number(second, first) else text


def _number(text: str) -> RationalAnswer | None:
    text = text.rpartition("=")[2].strip()
    if number := parse_number(text):
        return number
    shape = _spoken(text)
    return shape.number if isinstance(shape, Number | Words) else None


def _signs(text: str) -> Shape:
    r"""Every reading of ``\pm``; with ``\mp`` among them the signs go together."""
    before, *rest = _PLUS_MINUS.split(text)
    commands, texts = rest[::2], rest[1::2]
    if len(commands) > 4:
        raise OverflowError
    one_choice = [(sign,) * len(commands) for sign in "+-"]
    readings = []
    for signs in one_choice if "mp" in commands else itertools.product("+-", repeat=len(commands)):
        written = (_sign(*part) + after for *part, after in zip(signs, commands, texts, strict=True))
        readings.append(_read(re.sub(r"(^|[(\[,=])\s*\+\s*", r"\1", before + "".join(written))))
    return Items("list", tuple(readings))


def _sign(sign: str, command: str) -> str:
    return sign if command == "pm" else "-" if sign == "+" else "+"
