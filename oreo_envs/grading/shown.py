"""Results that the layout of a text shows: the last bold text, the last of aligned rows.

Knows: which bold text reads as an answer, where the rows of an equation begin. Does not know: sentences, marks.
Linear in the text.
"""

from __future__ import annotations

import re

from oreo_envs.grading.notation import clean
from oreo_envs.grading.rationals import parse_number
from oreo_envs.grading.sentences import MAX_TAIL_CHARS, is_sentence

_MAX_BOLD_CHARS = 80
_MAX_BOLD = 64
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_BOLD_ANSWER = re.compile(r"^[-+−$€£\\(\[{|.\d√π]|^[A-Za-z](?:\s*=|$)")
_NUMBERED = re.compile(r"\d+[.):]\s*[A-Za-z]|\d+\.?$")
_ALIGNED = re.compile(r"\\end\{((?:align|gather)(?:ed)?\*?|split)\}[\s$.\\\]]*$")
_LAST_ROW = re.compile(r"\s*(?:[A-Za-z](?:_\w)?\s*)?&\s*=(?:[^&=]*=)*([^&=]+)")


def last_row(text: str) -> str:
    """The right side of the last row of the aligned equations that a text ends with, or ""."""
    tail = text[-MAX_TAIL_CHARS:].rstrip()
    end = _ALIGNED.search(tail) if tail.endswith(("]", "$", "}", ".")) else None
    start = tail.rfind(rf"\begin{{{end[1]}}}") if end else -1
    if end is None or start < 0:
        return ""
    rows = [row for row in tail[start : end.start()].split(r"\\") if row.strip()]
    row = _LAST_ROW.fullmatch(rows[-1]) if len(rows) > 1 else None
    return row[1].strip().rstrip(".,") if row else ""


def last_bold(text: str) -> str:
    """The last bold text that reads as an answer."""
    for match in reversed(_BOLD.findall(text)[-_MAX_BOLD:]):
        content = str(match).strip()
        if len(content) > _MAX_BOLD_CHARS or is_sentence(content):
            continue
        if parse_number(clean(content)) or (_BOLD_ANSWER.search(content) and not _NUMBERED.match(content)):
            return content
    return ""
