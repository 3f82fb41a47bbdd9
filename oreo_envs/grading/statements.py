r"""Statements: what the words of a text say its answer is.

Knows: labels ("Answer: 42", "### Answer" above it, in other languages too), "the answer is 42", chosen options and
corrections. Does not know: marks, and what an answer means. A statement that hedges or sets a condition is passed on
whole, so that it equals no answer. Every scan takes linear time.
"""

from __future__ import annotations

import re

from oreo_envs.grading.conclusions import NAME, conclusion, is_pure, reads_as_answer, stated_in
from oreo_envs.grading.sentences import GOODBYE

MAX_ANSWER_CHARS = 1_000
"""An extracted answer longer than this is not looked at."""

Found = tuple[int, str]
"""Where an answer starts (-1: nowhere), and its text."""

NOWHERE: Found = (-1, "")

_MAX_STATEMENTS = 64
"""Only so many statements at the end of a response are looked at."""

_PICTURES = " ✅✔✓☑🎉🎯👍😊🙂\ufe0f"
_DECORATION = " \t*_`"
_ENGLISH = (
    r"(?:(?:the|my|our|and)[ \t]+)?(?:(?:final|correct|short|exact|numerical|numeric|overall)[ \t_-]*){0,2}answer"
    r"|(?:final[ \t]+)?ans|final[ \t]+(?:result|solution)"
)
_FOREIGN = (
    r"(?:respuesta|réponse|risposta|resposta)(?:[ \t]+(?:finale?|correcta|correta|corretta|correcte))?"
    r"|antwort|endergebnis|antwoord|svar|ответ|odpowiedź|cevap|yanıt|đáp (?:án|số)|jawaban|उत्तर|(?:ال)?(?:إجابة|جواب)"
)
_EAST = (
    r"(?<!错误)答案|(?:正确)?选项(?=是|为)|(?:最终|最后|所以|因此)结果"
    r"|(?<![\u4e00-\u9fff])结果(?=是|为)|答え|解答|正解|답|(?<![问回应])答"
)
_LABEL = re.compile(
    rf"\n(?P<before>(?:_|[^\w\n\\$(\[{{<\"'])*+)(?:\d+\.[ \t]*)?(?:\\[a-z]+\*?\{{)?"
    rf"(?:(?:{_ENGLISH}|{_FOREIGN})(?![a-z])|(?P<letter>a)(?=[ \t*_]*[:：])"
    r"|(?P<weak>result|solution|conclusion|total))"
    r"[ \t*_`}]*+(?:\([^()\n]{0,60}\)[ \t*_`]*(?=[:：]))?"
    r"(?:=>|->|[:：]-(?=[ \t])|[:：=|→⇒]|[-–—](?=[ \t])|\.(?=[ \t])|(?P<blank>$)|(?P<none>(?<=[ \t])(?=[-$\\\d(])))",
    re.IGNORECASE | re.MULTILINE,
)
_INNER_LABEL = re.compile(
    r"(?:(?<![a-z])(?:final|correct)[ \t]+answer|(?<=[.!?] )answer|(?<=\bthe )answer"
    r"|\b(?:respuesta|réponse|antwort|risposta|resposta|ответ))[ \t*_]*[:：]",
    re.IGNORECASE,
)
_IS = re.compile(
    r"\b(?:answers?|ans|(?:correct|right|best)[ \t]+(?:option|choice|alternative))\b(?:[ \t]+(?!is\b|are\b)[a-z]+){0,5}"
    r"(?:[ \t]+(?:(?:is|are|was|were)(?=n['’]t\b)|(?:is|are|was|be|equals?|(?:comes?|works)[ \t]+(?:out[ \t]+)?to)\b)"
    r"|[ \t]*=)[ \t]*"
    r"(?:(?:therefore|thus|hence|indeed|simply|exactly|actually|really|still|definitely|certainly|clearly"
    r"|precisely)\b,?[ \t]*)?:?[ \t]*",
    re.IGNORECASE,
)
_FOREIGN_IS = re.compile(
    r"\b(?:(?:respuesta|resposta|risposta|réponse)(?:[ \t]+(?:finale?|correcta|correta|corretta|correcte))?"
    r"[ \t]+(?:es|é|è|est)"
    r"|(?:antwort|(?:end)?ergebnis)[ \t]+(?:ist|lautet|beträgt)|ответ[ \t]+(?:равен|—|-))[ \t]*:?[ \t]+",
    re.IGNORECASE,
)
_EASTERN = re.compile(
    rf"(?:{_EAST})[ \t]*(?:(?:应该|应|就|應)?(?:是|为|為|等于)|[はが은이】]|(?=[:：=]))[ \t]*[:：=]?[ \t*_]*"
    r"|(?<![不未可能])选择?(?!项)(?:答案)?[ \t]*+[:：]?[ \t*_]*+(?=[(（]?[A-J](?![a-z]))"
)
_EASTERN_END = re.compile(
    r"[。；！．\n]|\.(?=\s|$)|(?:입니다|이다|です|である)|[，,、](?=\s*(?:因为|所以|因此|故|即|其中|理由|なぜ))"
)
_EASTERN_UNIT = re.compile(
    r"(?<=\d)\s*(?:平方|立方)?(?:个|個|只|本|元|米|厘米|千米|公里|千克|克|人|名|岁|天|小时|分钟|秒|支|张|块|条|斤|页|辆|棵|朵|次|円|개|명|원)$"
)
_EASTERN_NUMBER = re.compile(
    r"[^\d不无可能或如若至约超几.A-Za-z\\=<>≤≥≠±+*/^()（）–-]*("
    r"[$￥¥]?-?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?)(?![\d万亿千百十成折/:^.,])[^\d不可能或如若至约超倍分之A-Za-z\\=<>≤≥≠±+*/^()（）–-]*"
)
_OPTION = re.compile(
    r"(?:\b(?:option|choice|answer)[ \t]+\(?\**(?P<named>[A-J])\b\**+\)?|\((?P<bracketed>[A-J])\))\**"
    r"[ \t]+(?:is|must be)[ \t]+(?:the[ \t]+)?(?:correct|right|best[ \t]+answer)\b"
    r"(?![ \t]+(?:only|if|unless|when)\b|-)",
    re.IGNORECASE,
)
_CHOSEN = re.compile(
    r"\bI(?:'d|'ll|[ \t]+would|[ \t]+will)?[ \t]+(?:choose|pick|select|go[ \t]+with)[ \t]+(?:the[ \t]+)?"
    r"(?:(?:option|choice|answer)[ \t]+)?[(*]{0,3}([A-J])\b(?![\w(])(?!\W{1,4}(?:or|and)\b|/|,|\W{0,3}\?)"
)
_BEFORE = re.compile(
    r"\bis[ \t]+(?:the|our|my)[ \t]+(?:(?:final|correct|required)[ \t]+)?answer\b(?=[ \t*]*(?:[.!\n]|$))",
    re.IGNORECASE,
)
_STATEMENTS = (
    (_INNER_LABEL, ("answer", "respuesta", "resposta", "risposta", "réponse", "antwort", "ответ")),
    (_LABEL, ()),
    (_IS, ("answer", "ans", "option", "choice", "alternative")),
    (_FOREIGN_IS, ("respuesta", "resposta", "risposta", "réponse", "antwort", "ergebnis", "ответ")),
    (_OPTION, ("correct", "right", "best")),
    (_CHOSEN, ("choose", "pick", "select", "go with")),
    (_BEFORE, ("answer",)),
    (_EASTERN, ("答", "选", "结果", "解", "답")),
)
"""How a statement may begin, and the words of which it holds one."""
_MODAL = re.compile(r"\b(?:might|may|could|can|cannot|not)\b", re.IGNORECASE)
_SUPPOSED = re.compile(
    r"\b(?:if|suppose|supposing|assume|assuming|imagine|whether|unless|doubt|wrong|incorrect|mistaken(?:ly)?"
    r"|(?:do|does|did) not|\w+n't|might|claim(?:s|ed)?|said|says|thought|thinks|guess(?:es|ed)|believes"
    r"|argues|suggests|perhaps|maybe|possibly|(?:student|friend)'s)\b[^.!?,;:\n]*$"
    r"|\b(?:first|initial|original|previous|earlier|old)[ \t]+$",
    re.IGNORECASE,
)
_ASKED = re.compile(r"[^.!?\n]{0,200}\?")
_REMARK = re.compile(r"\b(?:is the|is our|is my|equals?|comes?|works)\b", re.IGNORECASE)
"""Words that may speak of an answer that is stated already, and so do not replace it."""
_SENTENCE_BREAK = re.compile(r"[.!?]\s|\n")
_OPENING = re.compile(r"^[\s*]*(?:(?:and|so|thus|hence|therefore)\b[,\s]*){0,2}", re.IGNORECASE)
_CORRECTION = re.compile(
    r"\b(?:(?:correction|corrected(?: answer)?)[ \t]*:"
    r"|(?:it|that|this|which|answer|result|value|total)[ \t]+should(?:[ \t]+(?:actually|really|instead))?"
    r"[ \t]+(?:be|have[ \t]+been|read)"
    r"|(?:actually|in fact|instead|rather)[, \t]+(?:it|that|this|the[ \t]+\w+)(?:'s|[ \t]+is|[ \t]+equals)"
    r"|(?:it|that|this)(?:'s|[ \t]+is)[ \t]+(?:actually|really|in fact)"
    r"|(?:right|correct(?:ed)?)[ \t]+(?:answer|value|result|one|number|total)[ \t]+is|I[ \t]+(?:meant|mean))"
    r"[ \t]*:?[ \t]*",
    re.IGNORECASE,
)
_CUT = re.compile(
    r"[.!?]\$?(?:\s|$)|[;,—](?=\s+(?:[a-z]{3,}|no matter|we|so|as|it)\b)(?!\s+(?:infinity"
    r"|sqrt)\b)(?!\s+(?:and|or)\s+[\d$\\-])"
    r"|\s(?:because|since|which|where|when|if|for|so|thus|that|as|instead|rather|after|in total|not)\b"
)
_LABEL_CUT = re.compile(
    r"[.!。](?=\s|$)|[;,—]?(?<!\s)\s++(?:because|since|as|which)\b|(?<!\s)\s++(?:in total|altogether|in all|overall)\b"
    r"|(?<!\s)\s++\((?=approx|rounded|to the nearest|exact|since|because|as\b)"
)
_CONDITION = re.compile(
    r"[\s,;—.!]*(?:if|unless|provided|assuming|depending|or|otherwise|maybe|perhaps|possibly|alternatively)\b"
    r"|[\s,;—]*(?:when|where|for)\b.*\b(?:otherwise|else|(?:and|but|or)\b.*\b(?:if|when|where|for))\b",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"[\s,;—.!]*(?:(?:no|wait|oops|sorry)\b(?! doubt| matter)|(?:but|and|which|however|actually|,|\s){0,6}"
    r"(?:(?:that|this|it|which|he|she)\s)?(?:is|was|'s)\s(?:not|wrong|incorrect|false|mistaken)\b)",
    re.IGNORECASE,
)
_OPTION_WITH_VALUE = re.compile(r"[A-J]\.[ \t]+(\S.*)")
_CASE = re.compile(
    r"(?:^|[.!?;\n])[ \t*]*(?:if|when|unless|assuming|in case|otherwise)\b[^.!?;\n]*,\s*(?:then\s+)?(?:the\s+)?$",
    re.IGNORECASE,
)
_NAMED = re.compile(r"(?:option|choice)\s+\(?([A-J])\)?\s*[:.)]", re.IGNORECASE)
_DOUBT = re.compile(
    r"\W*(?:\w+(?:'\w+)*\W+){0,5}?(?:or|either|maybe|perhaps|possibly|alternatively|unless|otherwise|if"
    r"|but|not|no|wait|could|might"
    r"|wrong|incorrect|instead|actually)\b",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"^\W*(?:not|n['’]t|wrong|incorrect|unclear|unknown|correct|right)\b", re.IGNORECASE)
_BUT = re.compile(r"^(?:not|n['’]t)\s.{1,80}?,?\s+but\s+(?:rather\s+|instead\s+)?", re.IGNORECASE)
_BUT_IT_IS = re.compile(
    r"^(?:not|n['’]t)\s.{1,80}?[,;]\s+(?:but\s+)?(?:it|that|they)(?:['’](?:s|re)|\s(?:is|was|are|were))\s+",
    re.IGNORECASE,
)
_IN_OTHER_WORDS = re.compile(
    r"(?<=\d)\s+\((?:\d[\d,.]*\s+(?!if\b|or\b|maybe\b|when\b)[a-z]+|(?:option|choice"
    r"|answer)\s+\(?[A-J]\)?)\)(?=[.!]?$)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[A-Z][a-z]*(?:,|\s+[a-z]+)\s")
_POINTS = re.compile(r"[;,]\s*\**[A-Z]\**\s*:")
_BLOCK_START = re.compile(r"[ \t*_#]*(?:\n[ \t]*){1,3}")
_PROSE = re.compile(r"[A-Za-z]{2,}(?:[ \t]+[A-Za-z']+){2,}|[.!?:](?:\s|$)|.{120}", re.DOTALL)
_COMMAND = re.compile(r"\\[A-Za-z]+")
_FENCE = re.compile(r"```[^\n`]*\n([^`]*)(?:```|$)")
_DISPLAY = re.compile(r"\$\$([^$]*)\$\$|\\\[((?:[^\\]|\\[^\]])*)\\\]")
_BLOCK_END = re.compile(r"\n\s*\n|\n[ \t]*#")
_BULLET = re.compile(r"^\s*[-*•>]\s+")


def last_phrase(text: str, other: Found, *, reference: bool = False) -> Found:
    """What the last label or "answer is ..." after another statement states.

    Of a ``reference`` only its lines are read: what stands under a label, or after a weak one, is part of a text.
    """
    text, start = "\n" + text, max(other[0], -1) + 1
    said = text[start:].lower()
    matches: list[re.Match[str]] = []
    for pattern, words in _STATEMENTS:
        if not words or any(word in said for word in words):
            matches += pattern.finditer(text, start)
    matches = sorted(matches, key=lambda m: m.end())[: -_MAX_STATEMENTS - 1 : -1]
    if len(cases := _by_cases(text, matches)) > 1:
        return matches[0].end() - 1, " or ".join(cases)
    for match in matches:
        answer = _of_match(text, match, reference)
        if match.re is _LABEL and (match["letter"] or match["weak"]) and (other != NOWHERE or _POINTS.search(answer)):
            continue  # "A:" may be a point, "Total:" one of several
        if not answer or _NEGATION.match(answer) or r"\boxed" in answer or len(answer) > MAX_ANSWER_CHARS:
            continue
        if other == NOWHERE or (is_pure(answer) and not _REMARK.search(match[0])):
            return match.end() - 1, answer
    return NOWHERE


def _by_cases(text: str, matches: list[re.Match[str]]) -> list[str]:
    """What the last statements state of different cases: "If n is even, the answer is 42. If ..."."""
    answers: list[str] = []
    for match in matches:
        answer = _of_match(text, match, False) if match.re is _IS else ""
        if not answer or not (_CASE.search(text, max(0, match.start() - 200), match.start()) or " if " in answer):
            break
        answers.append(_SENTENCE_BREAK.split(answer)[0].rstrip("."))
    return list(dict.fromkeys(answers))


def last_correction(text: str, other: Found) -> Found:
    """What a correction after the statement ``other`` states."""
    for match in reversed(list(_CORRECTION.finditer(text, other[0]))[-_MAX_STATEMENTS:]):
        answer = _clause(_line(text, match.end()))
        if is_pure(answer):
            return match.end(), answer
    return NOWHERE


def stated_by_block(block: str, *, ends: bool = True) -> str:
    """The answer that a block of lines is, or that its one sentence states, or ""; ``ends``: no text follows it."""
    shown = _DISPLAY.fullmatch(block.strip().rstrip(".,"))
    if shown:
        return " ".join(next(group for group in shown.groups() if group is not None).split())
    lines = [line.strip(_DECORATION) for line in block.strip().split("\n") if line.strip(_DECORATION)][:32]
    if len(lines) == 1:
        return labelled(lines[0], ends=ends)
    lines = [_BULLET.sub("", line) for line in lines]
    if lines and all(map(is_pure, lines)):
        return ", ".join(lines)
    return ""


def labelled(line: str, *, ends: bool = True) -> str:
    """The answer on the line of a label: all of it, or what its first clause or its sentence states.

    A sentence with numbers is no answer when text follows it (not ``ends``): it begins a solution.
    """
    line = _IN_OTHER_WORDS.sub("", line)
    if is_pure(line):
        return line
    cut = _LABEL_CUT.search(line)
    if cut is not None and not _DOUBT.match(line, cut.end(), cut.end() + 100):
        first = line[: cut.start()].strip(_DECORATION)
        if is_pure(first) or NAME.match(first):
            return first
    if not _SENTENCE.match(line):
        return line
    if not ends and re.search(r"\d", line):
        return ""
    return conclusion(line) or stated_in(line) or line


def _of_match(text: str, match: re.Match[str], reference: bool) -> str:
    """The answer that a matched statement states, or ""."""
    line = _line(text, match.end())
    if match.re is _OPTION:
        return match["named"] or match["bracketed"]
    if match.re is _CHOSEN:
        return match[1]
    if match.re is _BEFORE:
        answer = _OPENING.sub("", _SENTENCE_BREAK.split(text[max(0, match.start() - 100) : match.start()])[-1])
        return answer if is_pure(answer) else ""
    if match.re is _EASTERN:
        return _eastern(line)
    if match.re is _IS and (
        _MODAL.search(match[0]) or _SUPPOSED.search(text, max(0, match.start() - 100), match.start())
    ):
        return ""
    if match.re is _IS and _ASKED.match(line):
        return ""
    if match.re in (_IS, _FOREIGN_IS) and line:
        answer = _clause(line)
        return answer if reads_as_answer(answer) else ""
    if not line:
        heads = match.re is not _LABEL or match["blank"] is None or re.search("[*_#]|final", match[0], re.IGNORECASE)
        return _block(text, match.end()) if heads and not reference else ""
    ends = _ends(text, match.end())
    if match.re is _LABEL:
        if match["blank"] is not None or (match["weak"] and (reference or not ends or not is_pure(line))):
            return ""
        if match["none"] is not None and (":" in line or not is_pure(line)):
            return ""
        if "|" in match["before"]:
            line = line.rstrip("|" + _DECORATION)
        if "{" in match[0] and line.count("}") > line.count("{"):
            line = line[1:].strip(_DECORATION) if line.startswith("}") else line.removesuffix("}")
    return line if reference else labelled(line.replace("**", ""), ends=ends)


def _block(text: str, start: int) -> str:
    """The answer that stands on the lines under a label."""
    gap = _BLOCK_START.match(text, start)
    if gap is None:
        return ""
    block = text[gap.end() : gap.end() + 2 * MAX_ANSWER_CHARS]
    if fence := _FENCE.match(block):
        return stated_by_block(fence[1])
    if shown := _DISPLAY.match(block):
        return stated_by_block(shown[0])
    block = _BULLET.sub("", _BLOCK_END.split(block, maxsplit=1)[0])
    answer = stated_by_block(block, ends=_ends(text, gap.end() + len(block) - 1))
    return "" if _PROSE.search(_COMMAND.sub("", answer)) else answer


def _ends(text: str, start: int) -> bool:
    """Whether nothing but a leave-taking follows the line."""
    end = text.find("\n", start)
    return end < 0 or not (rest := text[end : end + 2 * MAX_ANSWER_CHARS].strip()) or GOODBYE.match(rest) is not None


def _eastern(line: str) -> str:
    """The answer at the beginning of a Chinese, Japanese or Korean line, or the one number that its sentence holds."""
    sentence = _EASTERN_END.split(line, maxsplit=1)[0].strip(_DECORATION)
    answer = _EASTERN_UNIT.sub("", sentence)
    if is_pure(answer) or not (one := _EASTERN_NUMBER.fullmatch(sentence)):
        return answer if reads_as_answer(answer) or re.fullmatch("[A-H]{2,8}", answer) else ""
    return one[1]


def _line(text: str, start: int) -> str:
    return text[start : start + 2 * MAX_ANSWER_CHARS].partition("\n")[0].rstrip(_PICTURES).strip(_DECORATION)


def _clause(line: str) -> str:
    """The line cut where its clause ends, unless what follows takes it back."""
    if other := _BUT_IT_IS.match(line):
        answer = line[other.end() :].strip(" .!" + _DECORATION)
        return ", ".join(parts) if all(map(is_pure, parts := re.split(r",?\sand\s|,\s", answer))) else line
    line = _IN_OTHER_WORDS.sub("", _BUT.sub("", line))
    cut = _CUT.search(line)
    if (valued := _OPTION_WITH_VALUE.fullmatch(line)) and is_pure(valued[1]):
        return line
    if option := _NAMED.match(line):
        return option[1]
    if cut is None or any(after.match(line, cut.start(), cut.start() + 200) for after in (_CONDITION, _TAKEN_BACK)):
        return line.strip(_DECORATION)
    return re.sub(r"(?<!\s)\s(?:and|but)$", "", line[: cut.start()].strip(_DECORATION))
