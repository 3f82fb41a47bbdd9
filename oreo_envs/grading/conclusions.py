r"""Conclusions: the result that the last sentence of a text states when nothing in it is marked as an answer.

Knows: "So the total is $29.00.", "Therefore $x = 5$.", "The numbers are 2 and 3.", the same in Chinese
(``eastern``), bold text and aligned rows (``shown``), plain sentences (``declared``), and a text that is nothing but
an answer. Does not know: labels and marks. A sentence that asks, hedges, denies, sets a condition, is cut off or
holds several numbers none of which is its result states none. Every scan takes linear time.
"""

from __future__ import annotations

import re

from oreo_envs.grading.declared import in_digits, is_declared, names_a_place, said_in_words, without_intro
from oreo_envs.grading.eastern import eastern_conclusion
from oreo_envs.grading.notation import clean, is_unit
from oreo_envs.grading.rationals import parse_number
from oreo_envs.grading.sentences import MAX_TAIL_CHARS, is_sentence, last_sentence
from oreo_envs.grading.shown import last_bold, last_row
from oreo_envs.grading.words import amount_in_two_units, restated, spoken

MAX_BARE_CHARS = 120
"""A text that is nothing but an answer is no longer than this."""

_ANSWER_START = re.compile(r"[-+−$€£\\(\[{|.\d√π]|[A-Za-z](?:\(\w{1,4}\)|_\{?\w{1,3}\}?)?(?:\s*[=^]|\W*$)")
_PLAIN = re.compile(r"-?\d[\d,]{0,40}(?:\.\d{1,40})?")
_COMMAND = re.compile(r"\\[A-Za-z]+")
ANSWER_LIKE = re.compile(
    r"\d|[¼-¾⅐-⅞]|\$|\\|π|√|∞|^\W*[A-Za-z]\W*$|^\W*[A-Z](?:\s*(?:,|and)\s*[A-Z])+\W*$|^\W*(?:option"
    r"|choice)\s+\W?[A-Za-z]\b|^\W*[A-Za-z](?:\^|\s*[-+=/*<>])"
)
NAME = re.compile(
    r"^\W*(?:[A-Z][a-z]+(?:\s+[A-Z][a-z]+)?|(?i:undefined|dne|does not exist|infinity|all real numbers"
    r"|no (?:real )?solutions?|infinitely many(?: solutions)?"
    r"|yes|no|true|false|even|odd|none|zero|one|two|three|four|five|six|seven"
    r"|eight|nine|ten|eleven|twelve))\W*$"
)
_OPENER = re.compile(
    r"^\W*(?:=>|⇒|→)|∴|^\W*[A-Z][a-z]{1,20}ing\b[^,.]{0,60}\s(?:gives|yields|leads to|results in"
    r"|leaves)\b(?: (?:us|him|her|them))?(?: with)?|^\W*(?:since|because)\b[^,.]{1,120},\s"
    r"|(?:^\W*(?:from (?:this|here),? |and )?|[,;.]\s+(?:and\s+)?|(?<=ing )(?=we ))(?:so(?! (?:far|that"
    r"|many|much|on)\b)|thus|hence|therefore"
    r"|consequently|accordingly|finally|overall|altogether|as a result|as such|all in all|in (?:total|all"
    r"|conclusion|summary|the end)"
    r"|(?:this|which|that) (?:means|gives|leaves|makes)|we (?:can )?(?:get|obtain|conclude|(?:see|find"
    r"|deduce|infer) that)"
    r"|we (?:are left with|end up with|arrive at)|(?<=[,;] )we (?:have|find|see)|I (?:get|obtain|conclude"
    r"|calculated|computed)|it follows that)\b",
    re.IGNORECASE,
)
_QUANTITY = (
    r"(?:(?:grand|new|final)\s)?(?:total|profit|area|volume|perimeter|cost|price|speed|distance"
    r"|difference|probability|average"
    r"|mean|median|remainder|discount|change)\b"
)
_ABOUT_A_RESULT = re.compile(
    rf"^\W*(?:{_QUANTITY}[^.:=]{{0,60}}[:=]\s|\$?-?\d[\d.,]{{0,20}}\$?\s(?:is|are)\s(?:the"
    rf"|our)\s(?:[a-z]+est|only|answer|solution"
    r"|maximum|minimum|correct|desired|required|final)\b|(?:the|his|her|its|their|our|[A-Z][a-z]+'s)\s"
    r"(?![^.]*\bother (?:two|three|four|ones)\b)(?!(?:original|initial|previous|former|old|regular|usual"
    r"|starting|given|first|second|naive)\b)(?:[^.]*\s)?(?:total|result|sum|solution|value"
    r"|cost|price|number|amount|profit|probability|percentage|fraction|area|perimeter|volume|length|distance|difference"
    r"|output|product|average|mean|median|remainder|ratio|age|speed|maximum|minimum|equation|function"
    r"|expression|polynomial|root|coefficient|slope|radius"
    r"|limit|integral|determinant|angle|side|rate|height|width|score|(?:last|units?|ones|final|tens) digit)s?\b"
    r"|(?:the|half|twice|a (?:third|quarter)|\d+%)\s(?:[^.,]*\s)?of\s[^.,]*\d[^.,]*\s(?:is"
    r"|equals)\s\$?-?\d[\d.,]{0,20}\$?(?:\s[a-z]+){0,3}\W*$"
    r"|what(?:'s| is) left (?:is|are)\b"
    r"|(?:I (?:think|believe)\s)?(?:it|this) (?:is|equals)\b)",
    re.IGNORECASE,
)
_HEAD = re.compile(r"^[\s*#_]*(?:conclusion|result|summary)[\s*_]*:[\s*_]*", re.IGNORECASE)
_CLOSER = re.compile(
    r"\b(?:altogether|in total|in all|left|remaining)\W*$|\ba total of \$?\d[\d.,]{0,20}(?: [a-z]+){0,3}\W*$",
    re.IGNORECASE,
)
_COMPUTED = re.compile(r"\d ?[-+*/×÷x] ?\$?\d[\d.,]{0,12} ?= ?\$?\d[\d.,]{0,12}(?: [a-z]+){0,3}[.!]$")
_NOT_ABOVE = re.compile(r"\bnot\b[^.]{0,20}:$")
_CHECK = re.compile(r"\b(?:verif|check|substitut|confirm|indeed|recall|note)", re.IGNORECASE)
_TAIL = re.compile(
    r"(?<!\s),?\s++(?:which (?:occurs|is (?:attained|achieved|reached))|attained|achieved|reached|occurring"
    r"|(?<=left )(?:after|before|when)(?= [^\d$]*$)"
    r"|after(?= (?:the|this|that|his|her|their|tax|taxes|tip)\b(?:(?!\b(?:is|are|was|were|and|but|then"
    r"|which)\b)[^\d$,])*$)|when divided by"
    r"|(?<=\d )more(?= [a-z]{1,20} than [^\d]*$)|(?<=[a-z] )(?:older|younger|taller|shorter|longer|heavier|lighter)"
    r"(?= than [^\d]*$)|(?<=, )(?:since|because)|as (?:desired|required)"
    r"|\((?:rounded|to the nearest)"
    r"|(?:when|at) \$?[A-Za-z] ?= ?[-\d./\\{}a-z]{1,20}\$?(?=\.?$))(?!\w)",
    re.IGNORECASE,
)
"""How it begins to say where a result is found, or how it was rounded."""
_DOUBT = re.compile(
    r"\?|\b(?:not|cannot|never|neither|nor|unknown|unclear|impossible|wrong|incorrect|if|unless|or|either|maybe|perhaps"
    r"|possibly|hop(?:e|es|ed) (?:for|to)|wish(?:es|ed)?|started (?:at|with|from|out)|depends?|exceeds?"
    r"|differs?|close to|follows? from|might|could|may|must(?!\s(?:be|equal|satisfy|buy|sell|pay|spend"
    r"|save|earn|make|bake|work|walk|drive|read|order)\b)|about|around|approximately|roughly|nearly"
    r"|almost|between(?! (?:the|these|those|them|his|her|their|its|\$[A-Z])\b)"
    r"|at (?:least|most)|but|except|(?:more|less|fewer|greater|larger|smaller) than|(?<!add )(?<!adds )(?<!sum )up to"
    r"|suppose|assume|guess|probably|guessed|instead|so far"
    r"|(?:needs?|has|have|wants?) to(?! (?:buy|sell|pay|spend|save|earn|make|bake|use|work|walk|drive|read|order)\b))\b"
    r"|n't\b",
    re.IGNORECASE,
)
_PREMISE = re.compile(
    r"^\W*(?:let|suppose|assume|given(?! (?:this|these|that)\b)|consider|first|next|now|then|step|since"
    r"|because|note|recall"
    r"|we (?:know|are(?! left)|need(?! \$?\d)|can(?! (?:make|form|get|have|buy|fit|fill|build|create|do) \$?\d))"
    r"|it is (?:known|given|assumed|stated|tempting|said|claimed|believed|thought|possible|likely|easy)"
    r"|to (?:find|get|see))\b",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"\b(?:who|which|where|when|while|because|since|as|after|before|than|whereas|excluding|without|ignoring|besides)\b",
    re.IGNORECASE,
)
_WHOLE = re.compile(r"[.!。$)\]*]$")
_UNENDED = re.compile(rf"\W*(?:=>|⇒|→|{_QUANTITY}[^.:=]{{0,60}}[:=]\s|the\s[^.:]{{1,60}}\sis:)", re.IGNORECASE)
_LAST_LINE = re.compile(
    r"\$[^$]+\$\.?$|\\\(.+\\\)\.?$|\$*(?:[A-Za-z]\s*=|[-−$€£\\]*\d[\d,]*(?:\.\d+)?(?:[^\s.)\d,]|$|\.$|\s\S))"
)
_NUMBER = re.compile(
    r"(?<![\w^_.,(\[{\\])[-−–]?(?:\\?[$€£¥]\s?)?(?:\d+:\d\d(?:\s?[AaPp]\.?[Mm]\b)?|\d+\s+\d+/\d+"
    r"|(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:/\d+)?)"
    r"(?:\s?\\?%)?(?![\w^)\]}]|[.,]\d)"
    r"(?:\s(?:hundred|thousand|million|billion|trillion|dozen|percent|lakh|crore)\b)?"
    r"(?!\s(?:\w+ths|thirds|hal(?:f|ves)|quarters|squared|cubed|factorial|divided|plus|minus|over|point"
    r"|mod\w*|out|to)\b|\stimes\s\w)"
)
_VERB = re.compile(
    r"(?:=\s*|:\s+|\b(?:is|are|was|were|be|equals?|costs?|satisfy|has|have|of|to|get|gets|only|just|left with)\s*)$",
    re.IGNORECASE,
)
_IS = re.compile(r"\b(?:is|equals)\s*$", re.IGNORECASE)
_NO_NUMBER = re.compile(
    r".*\b((?:no|infinitely many) (?:(?:real|integer|positive|such) )?solutions?)[.!]?", re.IGNORECASE | re.DOTALL
)
_TOLD = re.compile(r"\b(?:is|are|was|were|equals|has|have|costs?|gets?)\s+\W{0,2}[\d.]", re.IGNORECASE)
_BOTH = re.compile(
    r"(.*\b(?:is|are|equals))\s+(\S*[^\s,](?:, \S*[^\s,])*),?\s+(?:(or|i\.e\.,?|that is,)|and)\s+(\S+?)[.!]?",
    re.IGNORECASE | re.DOTALL,
)
_AFTER_VERB = re.compile(
    r".*(?:\b(?:is|are|equals|must (?:be|equal))|=)\s+(\S.{0,119}?)[.!]?$", re.IGNORECASE | re.DOTALL
)
_NO_RESULT_BEFORE = re.compile(
    r"(?:[-+*/×÷^<>≤≥≠−–]|\b(?:(?:multiple|factor|divisor|power|square|cube|root|fraction|part|one|some"
    r"|most|none|any|each|half|third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth)s? of"
    r"|near|under|over|below|above|beyond|outside|outside of|inside|within|past|equation|period|theorem|lemma"
    r"|(?<!creased )(?<!creases )(?<!dropped )(?<!rose )(?<!fell )(?<!grew )(?<!differ )by|the|these"
    r"|those|all|first|last|next|each|every|day|step|part|case|page|room|figure|chapter|line|row"
    r"|remaining|other|mod|know"
    r"|add|adding|subtract))\s*$",
    re.IGNORECASE,
)
_CONDITIONAL = re.compile(r"\b(?:if|suppose|assume|assuming|unless|supposing|were)\b", re.IGNORECASE)
_MEASURE = re.compile(
    r"\b(?:length|area|volume|radius|perimeter|measure|slope|value|degree|order|height|diameter)\s*$", re.IGNORECASE
)
_LISTED = re.compile(
    r"\W{0,4}(?:the|their|its|our|all)\s(?!(?:first|last|next|other|given|original|initial"
    r"|remaining)\b)(?:[\w$-]+\s){1,8}are\s",
    re.IGNORECASE,
)
_LIST_END = re.compile(r"\bare\s\$?-?\d[\d.]{0,20}\$?(?:,\s\$?-?\d[\d.]{0,20}\$?){1,12}$")
_AFTER_TIME = re.compile(r"\bafter (?=\d[\d.,]* [a-z]+(?: [a-z]+)?[.!]?$)")
_OF_A_NUMBER = re.compile(
    r"\W{0,3}(?:(?:is|are|was|were|does|do|divides|works?|fails?|has|can|gives|satisfies)\b(?! (?:the|our|what)\b)"
    r"|[^.]*\b(?:case|cases|steps?|until|till)\b|\s[KMB]\b|\s?(?:and|then)\s[a-z]+(?:ed|ew|ell|ose)\b)"
)
_GOES_ON = re.compile(r"\b(?:is|are|was|were|has|have|does|did|had)\b(?! (?:the|our|what|left)\b)")
_SHORT_FORM_OF = re.compile(r"\b(that|it|there|he|she|they|you|we)'(s|d|ll)(?= )", re.IGNORECASE)
_LONG_FORM = {"s": " is", "d": " would", "ll": " will"}
_ANSWER_IS = re.compile(r"\W{0,4}(?:the|our|my)\s(?:(?:final|correct)\s)?answer\sis\s", re.IGNORECASE)
_YES_OR_NO = re.compile(r"\W{0,4}(?:yes|no),\s(?:[\w'$-]+\s){0,8}[\w'$-]+[.!]?$", re.IGNORECASE)
_CLAIM = re.compile(r"\W{0,4}[A-Z][a-z]+\s(?:[a-z]+\s){0,3}(?:is|are|was|were|equals)\s")
_NAME_ONLY = re.compile(r"^\s*[A-Za-z]+(?:\([A-Za-z]\))?\s*")
_PREDICATE = re.compile(r"\W?\s?(?:is|are|was|were|has|have|must|can|does|divides|converges|diverges)\b")
_IN_FIGURES = re.compile(r"[\d$\\=]|\*\*|<<")
_HOLDS_NUMBER = re.compile(r"[\d$\\]")
_JOINT = re.compile(r",?\s+(?:and\s+)?", re.IGNORECASE)
_EQUATION = re.compile(r"^\s*[A-Za-z](?:_\{?\w\}?)?(?:\(\w\))?\s*=[^=]+")
_RANGE = re.compile(r"\d\W*\b(?:to|of)\s*$")
_STAYS = re.compile(r"\b(?:is|are|was|were|left|remains?|altogether|in (?:total|all))\b|\d\W*$", re.IGNORECASE)
_UNIT_WORDS = re.compile(r"(?:\s+[A-Za-z'-]+|\s*°[CF]?){0,8}\W*")
_FORMULA = re.compile(
    r"\$\$((?:[^$\\]|\\.)+)\$\$|\$((?:[^$\\\n]|\\.)+)\$|\\\(((?:[^\\]|\\[^()])*)\\\)|\\\[((?:[^\\]|\\[^\[\]])*)\\\]"
)


def reads_as_answer(text: str) -> bool:
    """Whether a text may be an answer: it holds a number or a formula, or is an option, a name or a number in words."""
    if ANSWER_LIKE.search(text) or NAME.match(text):
        return True
    number = spoken(text) if len(text) <= MAX_BARE_CHARS else None
    return number is not None and (not number[1] or (is_unit(number[1].split()) and number[1].split()[0] != "of"))


def is_pure(answer: str) -> bool:
    """Whether a text is an answer and nothing else: it begins like one and has no words beside its units."""
    if _PLAIN.fullmatch(answer):
        return True
    if len(answer) > MAX_BARE_CHARS or "?" in answer or r"\boxed" in answer or not _ANSWER_START.match(answer):
        return False
    return re.search("[A-Za-z]{2,}", _COMMAND.sub(" ", clean(answer))) is None


def unmarked(text: str) -> str:
    """The answer of a text in which none is marked, or ""."""
    before, sentence = last_sentence(text)
    sentence = _HEAD.sub("", sentence)
    result = _result_clause(sentence)
    return (
        _concluded(text, before, sentence, result)
        or last_bold(text)
        or _in_words(sentence, result)
        or _side(eastern_conclusion(text))
        or _bare(text)
    )


def conclusion(text: str) -> str:
    """What the last sentence of a text states as its result, or ""."""
    before, sentence = last_sentence(text)
    sentence = _HEAD.sub("", sentence)
    return _concluded(text, before, sentence, _result_clause(sentence))


def _concluded(text: str, before: str, sentence: str, result: str) -> str:
    """What the last sentence of a text, whose result clause is known, states as its result, or ""."""
    clause = result
    if not clause:
        shorter = without_intro(sentence)
        clause = ("" if shorter == sentence else _result_clause(shorter)) or _plain_clause(sentence)
    if clause:
        clause = restated(clause)
        if both := amount_in_two_units(clause):
            return both[1] if stated_in(f"{both[0]}7 minutes.") else ""
    elif before and text.count("```") % 2 == 0 and is_pure(sentence) and _LAST_LINE.match(sentence):
        side = "" if _NOT_ABOVE.search(before) else _side(sentence.strip("$"))
        return "" if re.match(r"[^=]{2,}=", side) and not re.match(r"[A-Za-z]\s*=", side) else side
    else:
        leads = _OPENER.match(before) or (before.endswith(":") and _ABOUT_A_RESULT.match(before))
        shown = _FORMULA.fullmatch(sentence.rstrip(".")) if leads and not _DOUBT.search(before) else None
        return _side(next(filter(None, shown.groups()))) if shown else last_row(text)
    return stated_in(clause) if _WHOLE.search(sentence) or _UNENDED.match(sentence) else ""


def _result_clause(sentence: str) -> str:
    """The part of a sentence that concludes, or is about a result, or ""."""
    openers = list(_OPENER.finditer(sentence))
    if openers and _CONDITIONAL.search(sentence, 0, openers[-1].start()):
        return ""
    if openers:
        return _without_tail(sentence[openers[-1].end() :])
    about = _ABOUT_A_RESULT.match(sentence) or _CLOSER.search(sentence) or _is_computed(sentence)
    return _without_tail(sentence) if about else ""


def _plain_clause(sentence: str) -> str:
    """A plain sentence that tells one number, or ""."""
    if len(sentence) > MAX_TAIL_CHARS or "\n" in sentence or not _HOLDS_NUMBER.search(sentence):
        return ""
    if _LISTED.match(sentence) and (_BOTH.fullmatch(sentence) or _LIST_END.search(sentence)):
        return sentence
    sentence = _without_tail(sentence)
    if "'" in sentence:
        sentence = _SHORT_FORM_OF.sub(lambda m: m[1] + _LONG_FORM[m[2]], sentence)
    sentence = without_intro(sentence)
    clause = restated(_FORMULA.sub(_one_number, sentence))
    if both := amount_in_two_units(clause):
        clause = f"{both[0]}7 minutes."
    numbers = list(_NUMBER.finditer(clause))
    if len(numbers) != 1 or len(re.findall(r"\d+", clause)) != len(re.findall(r"\d+", numbers[0][0])):
        return ""
    return sentence if is_declared(clause, numbers[0]) else ""


def _one_number(formula: re.Match[str]) -> str:
    """A formula as a number, where it is no name."""
    content = next(filter(None, formula.groups()))
    return content if _NAME_ONLY.fullmatch(content) else "7"


def _in_words(sentence: str, result: str) -> str:
    """What a sentence, whose result clause is known, concludes in words, or ""."""
    if not _WHOLE.search(sentence):
        return ""
    answers = _ANSWER_IS.match(sentence) or _YES_OR_NO.match(sentence)
    clause = _without_formulas(result or sentence)
    if not clause or _IN_FIGURES.search(clause):
        return ""
    if not result and not answers:
        counted = in_digits(sentence)
        if counted == sentence or not _plain_clause(counted):
            return ""
    if answer := _YES_OR_NO.match(clause):
        return answer[0].strip()
    return "" if _DOUBT.search(clause) or _PREMISE.match(clause) else said_in_words(clause)


def _without_formulas(clause: str) -> str:
    """Without the number that a clause speaks of, and with formulas that are names as names."""
    return re.sub(r"^\W*-?\d+\s(?=is\s)", "It ", _FORMULA.sub(_one_number, clause))


def _is_computed(sentence: str) -> bool:
    """Whether a sentence ends with a sum or product and its value, and checks nothing."""
    return _COMPUTED.search(sentence) is not None and _CHECK.search(sentence) is None


def _without_tail(clause: str) -> str:
    """Without the words at its end that say where a result is found, or how it was rounded."""
    tail = _TAIL.search(clause)
    return clause if tail is None or _DOUBT.search(clause, tail.end()) else clause[: tail.start()]


def stated_in(clause: str) -> str:
    """The one number or formula that a clause states, or all that it lists, or ""."""
    both = _BOTH.fullmatch(clause) if len(clause) <= MAX_TAIL_CHARS else None
    if both and not _DOUBT.search(both[1]) and not _PREMISE.match(clause):
        entries = [*re.split(r",\s", both[2]), both[4]]
        if all(map(is_pure, entries)) and (both[3] is None or len(entries) == 2):
            return ", ".join(entries)
    if _DOUBT.search(clause) or _PREMISE.match(clause) or "**" in clause or "<<" in clause:
        return ""
    formulas = list(_FORMULA.finditer(clause))
    if len(formulas) > 1 and _MEASURE.search(clause, 0, formulas[-1].start()):
        formulas = [formula for formula in formulas if _one_number(formula) == "7"] or formulas
    if formulas and _PREDICATE.match(clause, formulas[-1].end()) and _one_number(formulas[-1]) != "7":
        return ""
    if formulas and _UNIT_WORDS.fullmatch(clause, formulas[-1].end()):
        last = formulas[-1]
        formula = next(filter(None, last.groups()))
        if sum(1 for formula in formulas if _IS.search(clause, 0, formula.start())) > 1:
            return ""
        if len(formulas) > 1 and (named := _named(clause, formulas)):
            return named
        verb, alone = _VERB.search(clause, 0, last.start()), not clause[: last.start()].strip(" ,:")
        return _side(formula) if verb or alone or (len(formulas) == 1 and is_pure(formula)) else ""
    if none := _NO_NUMBER.fullmatch(clause):
        return none[1]
    if len(_TOLD.findall(clause)) > 1:
        return ""
    value = _AFTER_VERB.match(clause)
    if value and "$" not in value[1] and is_pure(value[1]):
        return value[1]
    numbers = list(_NUMBER.finditer(clause, formulas[-1].end() if formulas else 0))
    if (
        not numbers
        or _ASIDE.search(_AFTER_TIME.sub("", clause))
        or not _UNIT_WORDS.fullmatch(clause, numbers[-1].end())
    ):
        return ""
    last, before = numbers[-1], clause[: numbers[-1].start()]
    told_of = re.sub(r"\b(?:only|exactly|just|that)\b", "", before, flags=re.IGNORECASE).strip(" *,:$")
    inside = (
        told_of
        and not told_of.endswith("a total of")
        and not _IS.search(before)
        and _GOES_ON.search(clause, last.end())
    )
    placed = last[0].strip().isdigit() and names_a_place(before, clause[last.end() :])
    if _OF_A_NUMBER.match(clause, last.end()) or inside or placed:
        return ""
    told = before.strip(" *,:") or _STAYS.search(clause) or is_declared(clause, last)
    if _NO_RESULT_BEFORE.search(before) or not (told or is_unit(clause[last.end() :].strip(" .!*").split())):
        return ""
    alone = len(re.findall(r"\d+", clause)) == len(re.findall(r"\d+", last[0]))
    return last[0].strip() if alone or (_VERB.search(before) and not _RANGE.search(before)) else ""


def _named(clause: str, formulas: list[re.Match[str]]) -> str:
    """The equations that a clause joins, or "": "$x = 2$, $y = 3$ and $z = 4$"."""
    ends = [formula.end() for formula in formulas]
    starts = [formula.start() for formula in formulas[1:]]
    joined = all(_JOINT.fullmatch(clause, a, b) for a, b in zip(ends, starts, strict=False))
    contents = [next(filter(None, formula.groups())) for formula in formulas]
    return ", ".join(contents) if joined and all(map(_EQUATION.fullmatch, contents)) else ""


def _side(formula: str) -> str:
    """The last side of an equation between numbers, else the formula."""
    *before, last = formula.split("=")
    plain = re.search("[A-Za-z,;<>]", _COMMAND.sub("", "".join(before))) is None and re.search(r"[\d\\]", last)
    return re.sub(r"(?<!\\)[.,\s]+$", "", last if plain else formula).strip()


def _bare(text: str) -> str:
    """The whole text when it is an answer and nothing else."""
    text = text.strip().lstrip("# ")
    if not text or len(text) > MAX_BARE_CHARS or "\n" in text:
        return ""
    if is_sentence(text) or _CLAIM.match(text) or "####" in text or "boxed" in text:
        return ""
    return text if ANSWER_LIKE.search(text) or NAME.match(text) or parse_number(clean(text)) else ""
