r"""Words: numbers, directions and short sentences as people write them.

Knows: ``twenty-five``, ``5 twelfths``, ``2.5 million dollars``, ``20% increase``, "the number is odd", "there is no
solution". Does not know: LaTeX, shapes. Linear in the text; a number has at most twelve words.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from oreo_envs.grading.rationals import RationalAnswer, parse_number

_MAX_WORDS = 12
_ONES = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
        " seventeen eighteen nineteen".split()
    )
}
_TENS = {
    word: 10 * number
    for number, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
} | {"fourty": 40}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12} | {
    "dozen": 12,
    "lakh": 10**5,
    "lac": 10**5,
    "crore": 10**7,
}
_SCALES |= {word + "s": value for word, value in _SCALES.items()}
_ORDINALS = {
    word: number
    for number, word in enumerate(
        "half third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth"
        " sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        start=2,
    )
} | {"quarter": 4, "thirtieth": 30, "fortieth": 40, "fiftieth": 50, "sixtieth": 60}
_ORDINALS |= {"hundredth": 100, "thousandth": 10**3, "millionth": 10**6, "billionth": 10**9}
_PARTS = {word + "s": value for word, value in _ORDINALS.items() if word != "half"} | {"halves": 2}
_SIGNS = {"minus": -1, "negative": -1}

COUNTING = frozenset({*_ONES, *_TENS, *_SCALES, *_ORDINALS, *_PARTS, *_SIGNS})
"""Words that belong to a number, and are no unit."""

_UP = "increase increased rise growth more higher greater larger markup"
_DOWN = "decrease decreased decline declined reduction drop loss lost less fewer lower smaller below discount off"
_DIRECTIONS = (
    dict.fromkeys(_UP.split(), "up")
    | dict.fromkeys(_DOWN.split(), "down")
    | dict.fromkeys("gain gained profit".split(), "profit")
    | {word: word for word in "north south east west clockwise counterclockwise".split()}
)
_LESSER = {
    ("d", "h"): 24, ("h", "m"): 60, ("m", "s"): 60, ("w", "d"): 7, ("y", "mo"): 12, ("f", "i"): 12, ("l", "o"): 16,
    ("$", "c"): 100,
}  # fmt: skip
"""How many of the second unit are one of the first; units by a letter."""
_UNIT_NAMES = {
    "day": "d", "hour": "h", "hr": "h", "h": "h", "minute": "m", "min": "m", "m": "m", "second": "s", "sec": "s",
    "s": "s", "week": "w", "year": "y", "month": "mo", "feet": "f", "foot": "f", "ft": "f", "inche": "i", "inch": "i",
    "in": "i", "pound": "l", "lb": "l", "ounce": "o", "oz": "o", "dollar": "$", "cent": "c",
}  # fmt: skip
_SIZES = {
    "s": ("time", 1), "m": ("time", 60), "h": ("time", 3_600), "d": ("time", 86_400), "w": ("time", 604_800),
    "mo": ("months", 1), "y": ("months", 12), "i": ("length", 1), "f": ("length", 12), "o": ("weight", 1),
    "l": ("weight", 16), "c": ("money", 1), "$": ("money", 100),
}  # fmt: skip
"""What a unit measures, and how many of the least unit it is."""
_AMOUNT = (
    r"\d{1,9}(?:\.\d{1,9}|\s?/\s?\d{1,4})?\s?[A-Za-z]{1,10}\.?"
    r"(?:,?\s(?:and\s)?\d{1,9}(?:\.\d{1,9})?\s?[A-Za-z]{1,10}\.?)?"
)
_RESTATED = re.compile(
    rf"(?<![\d.,/])({_AMOUNT})(?:,?\s(i\.e\.,?|that\sis,?|which\s(?:is|equals)(?:\sequal\sto)?|or|=)\s|\s\()({_AMOUNT})\)?[.!]?$"
)
_MAX_RESTATED_CHARS = 200
_TWO_NUMBERS = re.compile(r"\d\D+\d")
_TWO_UNITS = re.compile(r"(?<![\d.,/])(\d{1,9}\s[A-Za-z]{1,10},?\s(?:and\s)?\d{1,9}\s[A-Za-z]{1,10})[.!]?$")
_COMPOUND = re.compile(r"(\d{1,9}) ?([a-z]+?)s?,? (?:and )?(\d{1,4})( ?)([a-z]+?)s?\.?")
_TEXT = re.compile(r"\\(?:text|mathrm|rm|mbox)\s*\{([^{}]*)\}")
_DIRECTION_OF = re.compile(rf"^(?:an?\s+|the\s+)?({'|'.join(_DIRECTIONS)})\s+(?:of|by)\s+(\S.*)$", re.IGNORECASE)
DIRECTIONS = frozenset(_DIRECTIONS)

_DIGITS_FIRST = re.compile(r"^([-+]?[\d.,/ ]*\d|[-+]?(?:\d+\s*)?\\frac\{\d+\}\{\d+\})[\s-]+([A-Za-z][A-Za-z \-]*)$")
_NUMBER_WORDS = re.compile(r"^[A-Za-z]+(?:[\s-]+[A-Za-z]+)*\s*%?$")
_PROPERTIES = frozenset(
    """
    odd even prime composite rational irrational increasing decreasing monotonic periodic continuous discontinuous
    differentiable positive negative acute obtuse right isosceles scalene equilateral consistent inconsistent dependent
    independent convergent divergent bounded unbounded linear quadratic cubic exponential arithmetic geometric injective
    surjective bijective finite infinite symmetric reflexive transitive perpendicular parallel skew fair unfair
    hyperbolic elliptic parabolic
    """.split()
)
_BEARERS = frozenset(
    """
    function functions number numbers integer integers triangle triangles angle angles sequence sequences series system
    systems matrix set sets relation relations line lines growth decay event events graph curve map mapping game
    """.split()
)
_DENIAL = re.compile(
    r"\b(?:not|no|never|neither|nor|none|\w+n't|false|wrong|incorrect|impossible|excluded|rejected|unlikely"
    r"|eliminated|except|unless|or|but|if|maybe|perhaps|possibly|invalid|false|untrue|out)\b",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"^(?:(?:the|an?|this|that|these|it|they|its|their|our|there)\s+)?(?:[a-z]+\s+){0,4}?"
    r"(?:is|are|was|will be|equals)\s+(?!not\b|no\b|in\b|never\b)",
    re.IGNORECASE,
)
_YES = re.compile(r"^(yes|no|true|false)\s*[,.;:!\-]+\s*(\S.*)$", re.IGNORECASE)
_NO_SOLUTION = re.compile(
    r"(?:there (?:is|are|exists?) )?(?:no|zero) (?:such )?(?:real |valid |possible |integer )?"
    r"(?:solutions?|roots?|zeros)(?: exists?)?|none|(?:the )?(?:empty|null) set|the empty set"
)
_MANY = re.compile(r"(?:there (?:are|exist) )?(?:infinitely many|infinite)(?: (?:solutions?|such \w+|answers))?")
_NO_LIMIT = re.compile(r"(?:the |this |a |it )?(?:limit |value |sum )?(?:d\.?n\.?e|do(?:es)?(?: not|n'?t) exist)")


def spoken(text: str) -> tuple[RationalAnswer, str] | None:
    """The number that ``text`` begins with in words, or in digits before words of scale, and the words after it.

    None where it begins with none; digits without a word of scale or of parts are none.
    """
    if match := _DIGITS_FIRST.match(text):
        number = parse_number(match[1])
        words = _split(match[2])
        if number is None or words is None:
            return None
        scaled, rest = _scaled(number, words)
        return None if len(rest) == len(words) else (scaled, " ".join(rest))
    if not _NUMBER_WORDS.match(text):
        return None
    words = _split(text.rstrip("% "))
    if words is None:
        return None
    sign = _SIGNS.get(words[0], 1)
    words = words[1:] if words[0] in _SIGNS else words
    whole, rest = _cardinal(words)
    if whole is None:
        if not words or words[0] not in ("half", "quarter"):
            return None
        whole, rest = 1, words
    number, rest = _scaled(RationalAnswer(Fraction(whole)), rest)
    return replace(number, value=sign * number.value, percent=text.endswith("%")), " ".join(rest)


def compound(text: str) -> str:
    """An amount in two units in the smaller one, "2 h 15 min" as "135", dollars in dollars; other text as it is."""
    if len(text) > 80 or not re.match(r"\d+\s?[\\a-z]", text):
        return text
    match = _COMPOUND.fullmatch(" ".join(_TEXT.sub(r" \1 ", text).replace("$", "").split()))
    if match is None:
        return text
    first, second = _UNIT_NAMES.get(match[2], ""), _UNIT_NAMES.get(match[5], "")
    parts = _LESSER.get((first, second))
    if parts is None:
        return text
    whole = int(match[1]) * parts + int(match[3])
    return f"{whole // 100}.{whole % 100:02d}" if first == "$" else str(whole)


def restated(clause: str) -> str:
    """A clause that ends with one amount in two units, "90 minutes, i.e. 1.5 hours", with one of the two."""
    match = _at_end(_RESTATED, clause)
    if match is None or (first := _amount(match[1])) is None or first != _amount(match[3]):
        return clause
    kept, other = (match[3], match[1]) if match[2] and match[2] != "or" else (match[1], match[3])
    if len(re.findall(r"[A-Za-z]+", other)) == 1:
        kept = other if len(re.findall(r"\d+", other)) < len(re.findall(r"\d+", kept)) else kept
    return clause[: match.start()] + kept.rstrip(".") + "."


def amount_in_two_units(clause: str) -> tuple[str, str] | None:
    """What stands before the amount in two units that a clause ends with, and that amount."""
    match = _at_end(_TWO_UNITS, clause)
    return (clause[: match.start()], match[1]) if match and _amount(match[1]) else None


def _at_end(pattern: re.Pattern[str], clause: str) -> re.Match[str] | None:
    """Two amounts that a clause ends with."""
    start = max(0, len(clause) - _MAX_RESTATED_CHARS)
    return pattern.search(clause, start) if _TWO_NUMBERS.search(clause, start) else None


def _amount(text: str) -> tuple[str, Fraction] | None:
    """What an amount in units measures, and how much it is in the least unit."""
    total, kind = Fraction(0), ""
    for number, name in re.findall(r"([\d./ ]*\d)\s?([A-Za-z]+)", text):
        name = name.lower()
        unit = _SIZES.get(_UNIT_NAMES.get(name) or _UNIT_NAMES.get(name.removesuffix("s"), ""))
        value = parse_number(number)
        if unit is None or value is None or (kind and unit[0] != kind):
            return None
        kind, total = unit[0], total + value.value * unit[1]
    return (kind, total) if kind else None


def directed(text: str) -> tuple[str, str] | None:
    """An amount and its direction: ``20% increase`` and "increase of 20%" are ("20%", "up")."""
    if match := _DIRECTION_OF.match(text):
        text = f"{match[2]} {match[1]}"
    rest, _, word = text.rpartition(" ")
    direction = _DIRECTIONS.get(word.lower())
    if direction is None or not re.search(r"\d", rest):
        return None
    return re.sub(r"\s+(?:an?|of|of an?)$", "", rest), direction


def without_subject(text: str) -> str:
    """What a short sentence says of its subject: "the number is odd" says "odd"; other text as it is."""
    match = _SUBJECT.match(text)
    return text[match.end() :] if match and not _DENIAL.search(match[0]) else text


def plain_words(text: str) -> str:
    """Words in lower case, one word for what is said in several ways."""
    text = re.sub(r"\s+", " ", text.casefold()).strip()
    if (match := _YES.match(text)) and _agrees(match[1], match[2]):
        return match[1]
    text = re.sub(r"(?<!\d)[.,]|[.,](?!\d)|[\"'!]", "", text)
    if _NO_SOLUTION.fullmatch(text):
        return "no solution"
    if _NO_LIMIT.fullmatch(text):
        return "does not exist"
    if _MANY.fullmatch(text):
        return "infinitely many"
    return re.sub(r"^(?:an?|the)\s+", "", without_subject(text))


def same_property(a: str, b: str) -> bool:
    """Whether plain words are the same, but for what is called so: "odd function" is "odd"."""
    if a.replace(" ", "") == b.replace(" ", ""):
        return True
    short, long = sorted((a, b), key=len)
    if short == "neither":
        return re.fullmatch(r"neither \w+ nor \w+", long) is not None
    return long.startswith(short + " ") and short in _PROPERTIES and long[len(short) + 1 :] in _BEARERS


def _agrees(word: str, rest: str) -> bool:
    """Whether a sentence after "yes" or "no" says the same."""
    denied = re.search(r"\b(?:not|no|never|\w+n't)\b", rest) is not None
    other = re.search(r"\b(?:yes|or|but|maybe|perhaps|unless|if|true|false)\b", rest)
    return other is None and not (denied and word in ("yes", "true"))


def _split(text: str) -> list[str] | None:
    words = text.lower().replace("-", " ").split()
    return words if 0 < len(words) <= _MAX_WORDS else None


def _cardinal(words: list[str]) -> tuple[int | None, list[str]]:
    """The whole number that ``words`` begin with, and the rest."""
    total, current, last, position = 0, None, "", 0
    while position < len(words):
        word = words[position]
        following = words[position + 1] if position + 1 < len(words) else ""
        if word in _ONES and (last in ("", "and", "scale") or (last == "tens" and 0 < _ONES[word] < 10)):
            current, last = (current or 0) + _ONES[word], "ones"
        elif word in _TENS and last in ("", "and", "scale"):
            current, last = (current or 0) + _TENS[word], "tens"
        elif word in _SCALES and word[:5] != "dozen" and (current or last == "scale"):
            if _SCALES[word] == 100:
                current = (current or 1) * 100
            else:
                total, current = total + (current or 1) * _SCALES[word], None
            last = "scale"
        elif word == "a" and last == "" and (following in _SCALES or following in _ORDINALS):
            current, last = 1, "ones"
        elif word == "and" and last == "scale" and (following in _ONES or following in _TENS):
            last = "and"
        else:
            break
        position += 1
    if last == "":
        return None, words
    return total + (current or 0), words[position:]


def _scaled(number: RationalAnswer, words: list[str]) -> tuple[RationalAnswer, list[str]]:
    """The number with the parts and scales that follow it."""
    value, last_place = number.value, number.last_place
    if words and number.last_place is None and (parts := _parts(words[0], value)):
        return RationalAnswer(value / parts), words[1:]
    if len(words) > 2 and words[0] == "and" and (words[1] == "a" or words[1] in _ONES):
        top = _ONES.get(words[1], 1)
        if parts := _parts(words[2], Fraction(top)):
            value, words = value + Fraction(top, parts), words[3:]
    while words and words[0] in _SCALES:
        value *= _SCALES[words[0]]
        last_place = last_place * _SCALES[words[0]] if last_place else None
        words = words[1:]
    return RationalAnswer(value, last_place, number.percent), words


def _parts(word: str, top: Fraction) -> int | None:
    """What a word of parts divides by; one third, but two thirds."""
    return (_ORDINALS if top in (1, -1) else _PARTS).get(word)
