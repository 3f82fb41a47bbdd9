r"""One notation: what an answer looks like once everything without meaning is taken off.

Knows: LaTeX spellings, Unicode, plain-text math, units, currency, punctuation.
Does not know: what the answer is (``shapes``), where it stood (``extraction``).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from oreo_envs.grading.pieces import aligned_as_system
from oreo_envs.grading.words import COUNTING, DIRECTIONS, compound

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SIGNS = str.maketrans({
    "−": "-", "–": "-", "‐": "-", "‑": "-", "×": r"\times ", "÷": r"\div ", "·": r"\cdot ", "⋅": r"\cdot ",
    "∗": r"\cdot ", "π": r"\pi ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "∞": r"\infty ",
    "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ",
    "∪": r"\cup ", "∩": r"\cap ", "∖": r"\setminus ", "∅": r"\emptyset ", "∈": r"\in ", "ℝ": r"\mathbb{R}",
    "√": r"\sqrt ", "∛": r"\sqrt[3]", "°": r"^\circ ", "º": r"^\circ ", "⟨": r"\langle ", "⟩": r"\rangle ",
    "→": r"\to ", "⟶": r"\to ", "⇒": r"\Rightarrow ", "∴": r"\Rightarrow ", "≡": r"\equiv ", "ℤ": r"\mathbb{Z}",
    "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "∣": "|", "λ": r"\lambda ", "γ": r"\gamma ",
    "φ": r"\phi ", "ρ": r"\rho ", "σ": r"\sigma ", "δ": r"\delta ", "ω": r"\omega ", "Ω": r"\Omega ",
    "μ": r"\mu ", "µ": r"\mu ", "∀": r"\forall ", "…": r"\ldots ", "⋯": r"\ldots ",
    "∠": r"\angle ", "△": r"\triangle ",
    "或": " or ", "和": " and ", "、": ", ", "’": "'", "‘": "'", "“": '"', "”": '"', "⁄": "/",
})  # fmt: skip
_VULGAR = re.compile("[¼-¾⅐-⅞]")

# Commands that choose a font or a size, and change no meaning.
_FONT = (
    r"(?:text(?:bf|it|rm|sf|tt|normal|up)?|math(?:rm|bf|it|sf|tt|bb|cal)?|mbox|hbox|fbox|boxed|operatorname\*?"
    r"|bold(?:symbol|math)|bm|emph|underline|displaystyle)"
)
_WRAPPER = re.compile(rf"\\{_FONT}\s*\{{([^{{}}]*)\}}")

_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\phantom\s*(?:\{[^{}]*\}|-)?", " "),
        (r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?", ""),
        (r"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|rm|bf|it)(?![A-Za-z])", " "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        (r"\\lbrace(?![A-Za-z])", r"\\{"),
        (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\\(?:[lr]?vert|mid)(?![A-Za-z])", "|"),
        (r"\\(?:leq?slant|leqq?|le|=<|<=)(?![A-Za-z])|<=|=<", r"\\le "),
        (r"\\(?:geq?slant|geqq?|ge)(?![A-Za-z])|>=|=>", r"\\ge "),
        (r"\\(?:neq|ne)(?![A-Za-z])|(?<!\d)!=|\\not\s*=", r"\\ne "),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\(?:simeq|thickapprox|doteq)(?![A-Za-z])", r"\\approx "),
        (r"\\(?:varnothing|emptyset)(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset "),
        (r"\\(?:setminus|backslash)(?![A-Za-z])", r"\\setminus "),
        (r"\\(?:ast|star)(?![A-Za-z])|(?<=[\w)}])\s*\*\s*(?=[\w(\\])", r"\\cdot "),
        (r"\\(?:Bbb|mathbb)\s*\{?\s*([RZNQC])\s*\}?", r"\\mathbb{\1}"),
        (r"(?<![A-Za-z])\{([.,:])\}", r"\1"),
        (r"(?<![\w}\]^_\s])\{(\d+)\}", r"\1"),
        (r"\\colon(?![A-Za-z])|\\text\s*\{\s*:\s*\}", ":"),
        (r"\\bigcup(?![A-Za-z])", r"\\cup"),
        (r"\\(?:begin|end)\{(?:aligned|align\*?|gathered|split|equation\*?)\}", " "),
        (r"\{([^{}]*)\\over(?![A-Za-z])([^{}]*)\}", r"\\frac{\1}{\2}"),
        (r"\{([^{}]*)\\choose(?![A-Za-z])([^{}]*)\}", r"\\binom{\1}{\2}"),
        (r"(?<!\\)\\!", ""),
        (r"(?<!\\)\\[,;:> ]|~|\\(?:quad|qquad|enspace|thinspace|medspace|thickspace)(?![A-Za-z])|\s+", " "),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\(?:degrees?|circ)(?![A-Za-z])", "^\\\\circ "),
        (r"\\%|(?<![A-Za-z])(?:percent(?:age)?|per cent|pct\.?)(?![A-Za-z])", "%"),
        (r"\\?\$|(?<!\\)\\[()]|(?<!\\)\\[\[\]]|[€£¥₹]|\\(?:pounds|euro|textdollar)(?![A-Za-z])", ""),
        (r"\b(?:US|USD|Rs\.?|EUR)\s*(?=\d)|\\#", ""),
    )
)  # fmt: skip
# Spellings that are seldom written; looked at together.
_SELDOM = re.compile(
    r"\\(?:[cl]?dots|textellipsis|Rightarrow|implies|Long|therefore|rightarrow|long|to(?![a-z])|xrightarrow|triangleq"
    r"|coloneqq|hat|vec|mathbf|bm|boldsymbol|ce|Omega|mu|text|var[eprt]|color|l(?:o?g|n)\s*_|lg)|\.\.\.|->|:=|\+/-"
    r"|\^\s*\{?\\circ"
)
_SELDOM_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:[cl]?dots[bcmio]?|textellipsis)(?![A-Za-z])|\.\.\.+", r"\\ldots "),
        (r"\\(?:Rightarrow|implies|Longrightarrow|therefore)(?![A-Za-z])", r"\\Rightarrow "),
        (r"\\(?:rightarrow|longrightarrow|to)(?![A-Za-z])|\\xrightarrow\s*\{[^{}]*\}|-+>", r"\\to "),
        (r"\\(?:triangleq|coloneqq)(?![A-Za-z])|:=", "="),
        (r"\\(?:mathbf|bm|boldsymbol)\s*\{\s*([ijk])\s*\}", r"\\unit_\1 "),
        (r"\\(?:mathbf|bm|boldsymbol)\s+([ijk])(?![A-Za-z])", r"\\unit_\1 "),
        (r"\\(?:hat|vec)\s*\{\s*(?:\\unit_)?\\?([ijk])(?:math)?\s*\}", r"\\unit_\1 "),
        (r"\\(?:hat|vec)\s*\\?([ijk])(?:math)?(?![A-Za-z])", r"\\unit_\1 "),
        (r"\{\s*\}\s*(?=\^)", ""),
        (r"\\ce\s*\{([^{}]*)\}", r"\1"),
        (r"\\var(epsilon|phi|rho|theta)(?![A-Za-z])", r"\\\1 "),
        (r"\\(?:text)?color\s*\{(?!white)[A-Za-z]+\}", ""),
        (r"\\l(?:og|n)\s*_\s*(?:\{\s*(?:\\mathrm\s*\{)?e\s*\}{1,2}|e(?![A-Za-z]))", r"\\ln "),
        (r"\\log\s*_\s*(\d)\s*(?=\d)", r"\\log_{\1} "),
        (r"\\lg(?![A-Za-z])", r"\\log_{10} "),
        (r"\+/-", r"\\pm "),
        (r"(\^\s*\{?\s*\\circ\s*\}?)\s*(?:\\(?:text|mathrm)\s*\{\s*[CFK]\s*\}|[CFK](?![A-Za-z]))\s*$", r"\1"),
        (
            r"(?<=[\d}])(?:\s|\\[,;: ]|~)*(?:(?:\\(?:text|mathrm)\s*\{)?[kMm]?\}?\s*\\Omega"
            r"|\\mu\s*(?:\\(?:text|mathrm|rm)\s*\{?\s*)?(?:m|g|s|L|A|V|F|C|H|W|N|J|mol|Pa)\}?)\s*$",
            "",
        ),
    )
)
_FUNCTIONS = (
    r"sqrt|sinh?|cosh?|tanh?|cot|sec|csc|arc(?:sin|cos|tan)|ln|log|exp|pi|theta|alpha|beta|gamma|lambda|infty|cup|cap"
    r"|pm(?!\W*$)"
)
_PLAIN = (
    (re.compile(r"(?<![\\A-Za-z])(?:infinity|inf|oo)(?![A-Za-z])", re.IGNORECASE), r"\\infty "),
    (re.compile(r"(?<=[)\]}])\s*(?:U|union)\s*(?=[(\[\\])"), r" \\cup "),
    (re.compile(r"^\s*(?:US|USD|Rs\.?|INR|EUR|GBP)\s*(?=[-\d.])"), ""),
    (re.compile(r"\*\*"), "^"),
    (re.compile(rf"(?<![\\A-Za-z])({_FUNCTIONS})(?=[\s\d()\[\]{{}}^_+*/,.\\|-]|$)"), r"\\\1 "),
    (re.compile(r"(?<=\d)(pi|sqrt|sin|cos|tan|log|ln)(?![A-Za-z])"), r"\\\1 "),
    (re.compile(r"(?<=[0-9.])[eE]([+-]?\d+)(?![\w.])"), r"\\times 10^{\1}"),
    (re.compile(r"\^\s*\(([^()]*)\)"), r"^{\1}"),
    (re.compile(r"\^\s*(-?\d{2,}|-\d)"), r"^{\1}"),
)
_ANGLE = re.compile(r"((?<!\d)\d++(?:\.\d++)?)\s*\^\\circ ?")
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")

_EXPONENT = r"(?:\^\{?-?\d\}?)?"
_TEXT_TAIL = re.compile(
    rf"(?:(?<=[\w)}}%!])|(?<=\}}/))\s*\\(?:text(?:bf|it|rm|sf|normal)?|mbox|hbox|mathrm)\s*\{{([^{{}}%]*)\}}\s*{_EXPONENT}[\s./]*$"
)
_WORD_TAIL = re.compile(rf"(?<!\s)(\s*)(/\s*)?(?<![A-Za-z])([A-Za-z]+)\.?{_EXPONENT}$")
_NOTE = re.compile(r"(?<=[\d%}])\s*\(([A-Za-z]|[A-Za-z]{2,}(?: [A-Za-z]+|-[A-Za-z]{2,})*)\)$")
_MAX_UNIT_WORDS = 8
# Short units, which may stick to their number: 5cm. Every other word needs a blank: 5xy is a product.
_SHORT_UNITS = frozenset(
    """
    mm cm dm km nm mg kg ml cl lb lbs oz ft yd mi hr hrs min mins sec secs ms mph kph kmh sq cu rad deg gal qt
    pt hz khz mhz ghz kw mw kwh kj kpa mpa kev mev gev rpm mmol cc usd eur cent cents
    """.split()
)
_LETTER_UNITS = frozenset("mgshLNJWV")
_STICKING_LETTERS = frozenset("gL")
# Words after a number that change it, deny it, or belong to an expression.
_NO_UNIT = (
    frozenset(
        """
        or and not but maybe perhaps possibly wrong incorrect false right except is was if when mod modulo base in
        to from pm am plus minus times over divided multiplied by squared cubed factorial percent point
        pi phi theta alpha beta sqrt sin cos tan log exp infinity choose than between about root
        impossible possible excluded rejected extraneous invalid untrue never no none nothing neither nor unless
        at most least unknown undefined unlikely otherwise without only where for with
        mil bn mn tn score gross
        """.split()
    )
    | COUNTING
    | DIRECTIONS
)
_MULTIPLES = frozenset("kMB")
_LINKS = frozenset({"per", "of", "a", "an", "the"})
_FILLER = re.compile(
    r"^(?:(?:is|equals|be|therefore|thus|then|hence|now|clearly|approximately|about|roughly|around|exactly|simply|just"
    r"|only|a total of|\\approx)(?![A-Za-z])\s*)+:?\s*",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_MODULO = re.compile(
    r"(?:\(\s*)?(?:\\[pb]?mod|(?<![A-Za-z])mod(?:ulo)?)(?![A-Za-z])\s*\{?\s*(\d+|[a-zA-Z])\s*\}?\s*\)?(?=\s*(?:$|[,;]|or\b|and\b))"
)
_SPLIT_DIGITS = re.compile(r"(?:\d|\{\d+\})+")
_MARKS = re.compile(r"^[\s*_`\"]+|(?<![\s*_`\"])[\s*_`\"]+$")
_END = re.compile(r"(?:(?<![\\\s.,;:])|(?<=\\[\s.,;:]))[\s.,;:]+$")


@lru_cache(maxsize=65_536)
def clean(answer: str) -> str:
    """Write an answer in one notation: plain LaTeX on one line, without what has no meaning."""
    if answer.isascii() and answer.isdigit():
        return answer
    text = _unicode(answer)
    text = _strip_ends(_listed(text))
    if "&" in text:
        text = aligned_as_system(text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    if _SELDOM.search(text):
        text = _seldom(text)
    text = _drop_text_units(compound(text.strip()))
    for _ in range(4):
        text, found = _WRAPPER.subn(_unwrap, text)
        if not found:
            break
    for pattern, replacement in _PLAIN:
        text = pattern.sub(replacement, text)
    if "mod" in text:
        text = _MODULO.sub(r" \\pmod{\1}", text)
    if "{" in text and _SPLIT_DIGITS.fullmatch(text):  # 4{2}
        text = re.sub("[{}]", "", text)
    text = _factorials(_arguments(_angles(text)))
    text = re.sub(r"\s+", " ", re.sub(r"\s+(?=[_^])", "", text)).strip()
    text = _FILLER.sub("", _strip_ends(text))
    text = _NOTE.sub(lambda match: "" if is_unit(match[1].split()) else match[0], text)
    return _strip_ends(without_units(text))


def squash(text: str) -> str:
    """Text for comparison: no blanks but between numbers, words in lower case, choices without parentheses."""
    text = re.sub(r"(?<![\d,])\s+|\s+(?!\d)", "", text)
    if re.fullmatch(r"\([A-Za-z]\)", text):
        return text[1:-1]
    return text.casefold() if re.fullmatch(r"[A-Za-z]{3,}|[Nn][Oo]", text) else text


def _unicode(text: str) -> str:
    if text.isascii():
        return text
    text = re.sub(r"(?<=[^\s,])…$", "", text.replace("无解", "no solution"))
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda match: "^{" + match[0].translate(_SUPERSCRIPTS) + "}", text)
    text = re.sub("[₀-₉]+", lambda match: "_{" + match[0].translate(_SUBSCRIPTS) + "}", text)
    text = _VULGAR.sub(lambda match: " " + unicodedata.normalize("NFKC", match[0]), text)
    return unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS)


def _strip_ends(text: str) -> str:
    """Take off bold marks, quotes, final punctuation, math delimiters around everything."""
    before = None
    while text != before:
        before = text
        text = _MARKS.sub("", text)
        if not text.endswith(("\\,", "\\;", "\\!", "\\:")):
            text = _END.sub("", text)
        for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
            if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
                text = text[len(left) : -len(right)].strip()
                break
        text = text.lstrip("=: ")
    return text


def _listed(text: str) -> str:
    """A list as Python prints it, ``['2', '3']``, as its entries."""
    if text[:2] in ("['", '["') and text[-2:] in ("']", '"]'):
        return ", ".join(first or second for first, second in _QUOTED.findall(text)).replace("\\\\", "\\")
    return text


def _seldom(text: str) -> str:
    """Spellings that few answers have: arrows, ellipses, unit vectors, remainders, Greek units."""
    for pattern, replacement in _SELDOM_REWRITES:
        text = pattern.sub(replacement, text)
    if len(set(re.findall(r"\\unit_([ijk])", text))) < 2:
        text = re.sub(r"\\unit_([ijk])", r"\1", text)
    return text


def _unwrap(match: re.Match[str]) -> str:
    command, content = match[0].split("{", 1)[0], match[1]
    if command.startswith(r"\mathbb"):
        return rf"\mathbb {content}"
    return f" {content} " if command.startswith((r"\text", r"\mbox", r"\hbox")) else content


def _drop_text_units(text: str) -> str:
    r"""Take off ``\text{ cm}^2`` and the like behind a formula."""
    product = _UNIT_PRODUCT.search(text) if text.endswith("}") and "^" in text else None
    if product and _SI_UNITS.issuperset(re.findall("[A-Za-z]+", product[1].replace(r"\cdot", ""))):
        return text[: product.start()]
    for _ in range(_MAX_UNIT_WORDS):
        text = _UNIT_JOINT.sub("", text)
        match = _TEXT_TAIL.search(text)
        if match is None or _OPTION.fullmatch(text[: match.start()]):
            break
        words = re.findall(r"[A-Za-z]+|\d", match[1])
        before = text[: match.start()]
        counted = before[-1].isdigit() or _COUNTS.search(before) is not None
        letter = (len(words) == 1 and len(words[0]) == 1 and (words[0] in "aeinxyz" or not counted)) or (
            match[1][:1].isupper() and _INDEXED.search(before) is not None
        )
        letter = letter or (before[-1].isalpha() and not _DOMAINS.isdisjoint(words))
        denied = words != ["in"] and any(word.isdigit() or _is_no_unit(word) for word in words)
        if letter or denied or _DAYTIME.search(match[1]):
            break
        text = before
    return text


_OPTION = re.compile(r"[\s$]*(?:\\\w+\s*\{)?\s*\(?[A-Z]\)\s*\}?(?:\\[ ,;:]|[\s~$])*")
_UNIT_PRODUCT = re.compile(r"(?<=[\d}])(?<!\s)\s*+\\(?:mathrm|text|rm)\s*\{((?:[^{}]|\{-?\d\})+)\}$")
_SI_UNITS = frozenset("m cm mm km nm s ms min h kg g mg mol K J kJ N kN W kW V A C Pa kPa Hz L mL eV T F H rad".split())
_UNIT_JOINT = re.compile(r"(?<=\})\s*(?:\\cdot|\\times|/)\s*$")
_COUNTS = re.compile(rf"10\s*\^\s*(?:\{{-?\d+\}}|\d)$|{_UNIT_JOINT.pattern}")
_INDEXED = re.compile(r"[A-Za-z}]_\{?\d+\}?$")
_DOMAINS = frozenset({"integer", "integers", "real", "natural", "constant", "arbitrary"})
_DAYTIME = re.compile(r"(?<![A-Za-z])[ap]\.?\s*m\.?\s*$", re.IGNORECASE)


def without_units(text: str) -> str:
    """Take off words of a unit behind a number or a formula; all of them or none."""
    rest, sticks = text, False
    words: list[str] = []
    while words[_MAX_UNIT_WORDS:] == [] and (match := _WORD_TAIL.search(rest)) is not None:
        if rest[: match.start(3)].endswith("\\"):
            break
        words.insert(0, match[3])
        sticks = not match[1] and not match[2]
        rest = rest[: match.start()].rstrip(" .-")
    is_value = re.search(r"[\d)}%]$|\\pi$|\\infty$", rest) is not None
    if not words or not is_value or _DAYTIME.search(text) or _OPTION.fullmatch(rest):
        return text
    first_sticks = sticks and words[0].lower() not in _SHORT_UNITS and words[0] not in _STICKING_LETTERS
    return text if first_sticks or not is_unit(words) else rest


def is_unit(words: list[str]) -> bool:
    """Whether words name a unit or what was counted."""
    lower = [word.lower() for word in words]
    if lower in (["times"], ["in"]):
        return True
    if any(map(_is_no_unit, words)):
        return False
    named = [w for w, low in zip(words, lower, strict=True) if low not in _LINKS]
    return bool(named) and all(
        word in _LETTER_UNITS
        or word.lower() in _SHORT_UNITS
        or (len(word) >= 3 and re.search("[aeiouy]", word.lower()))
        for word in named
    )


def _is_no_unit(word: str) -> bool:
    return word in _MULTIPLES or word.lower() in _NO_UNIT


_COMMAND = re.compile(r"\\(frac|sqrt|binom)(?![A-Za-z])")
_INDEX = re.compile(r"\s*\[[^\[\]]*\]")
_DIGITS = re.compile(r"\s*(\d+)")
_TOKEN = re.compile(r"\s*(\\[A-Za-z]+|[^\s{])")


def _arguments(text: str) -> str:
    r"""Put braces around arguments: ``\frac12``, ``\sqrt 3``, ``\sqrt(x)``, ``3^\frac12``."""
    position = 0
    while (match := _COMMAND.search(text, position)) is not None:
        end = match.end()
        pieces = [match[0]]
        if match[1] == "sqrt" and (index := _INDEX.match(text, end)):
            pieces.append(index[0].strip())
            end = index.end()
        for _ in range(1 if match[1] == "sqrt" else 2):
            piece, end = _argument(text, end, match[1])
            pieces.append(piece)
        text = text[: match.start()] + "".join(pieces) + text[end:]
        position = match.start() + len(match[0])
    return re.sub(r"\^\s*(\\frac\{[^{}]*\}\{[^{}]*\}|\\[a-z]+(?![a-z{]))", r"^{\1}", text) if "^" in text else text


def _argument(text: str, start: int, command: str) -> tuple[str, int]:
    """The argument that starts at ``start``, in braces, and where it ends."""
    rest = text[start:]
    blanks = len(rest) - len(rest.lstrip())
    opening = rest[blanks : blanks + 1]
    if opening == "{" or (opening == "(" and command == "sqrt"):
        end = _closing(text, start + blanks)
        if end < 0:
            return "", start
        return "{" + text[start + blanks + 1 : end] + "}", end + 1
    if command == "sqrt" and (number := _DIGITS.match(text, start)):
        # TeX would take one digit; who writes \sqrt 12 without braces means twelve.
        return "{" + number[1] + "}", number.end()
    if match := _TOKEN.match(text, start):
        return "{" + match[1] + "}", match.end()
    return "", start


def _closing(text: str, start: int) -> int:
    """Where the bracket at ``start`` closes, -1 when it does not."""
    opening, closing = text[start], {"{": "}", "(": ")"}[text[start]]
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] == opening) - (text[position] == closing)
        if depth == 0:
            return position
    return -1


def _factorials(text: str) -> str:
    """Put parentheses around factorials: the parser reads ``2n!`` as the factorial of 2n."""
    if "!" not in text:
        return text
    text = re.sub(r"\((\d+|[A-Za-z])\)\s*!", r"\1!", text)
    return re.sub(r"(\d+|[A-Za-z]|\([^()]*\))\s*!(?!!)", r"(\1!)", text)


def _angles(text: str) -> str:
    """Degrees: radians under a sine, nothing elsewhere."""
    if _TRIGONOMETRY.search(text):
        text = _ANGLE.sub(r"(\\frac{\1\\pi}{180})", text)
    return text.replace(r"^\circ", "")
