"""Chinese conclusions: the result that the last Chinese sentence of a text states.

Knows: how such sentences begin, doubt and end. Does not know: labels and marks. Linear in the text.
"""

from __future__ import annotations

import re

_MAX_TAIL_CHARS = 2_000

_EASTERN_OPENER = re.compile(r"所以|因此|因而|故|从而|于是|综上|可得|最终|一共|总共")
_EASTERN_DOUBT = re.compile(r"[不非若无或?？吗]|约(?![分束数])|如果|可能|左右|至少|至多|超过")
_EASTERN_TOLD = re.compile(r"[是为=]\s*\$?-?\d")
_EASTERN_RESULT = re.compile(
    r".*(?:是|为|為|等于|有|共|剩下|得到|得|[走用花卖买跑做写吃喝看赚]了|需要?|=|因此|所以|于是|故)\s*(\$[^$]+\$|-?\d[\d,]*(?:\.\d+)?%?)\s*"
    r"(?:平方|立方)?[\u4e00-\u9fff]{0,3}(?:/[\u4e00-\u9fff]{1,3})?"
)


def eastern_conclusion(text: str) -> str:
    """The number or formula that the last Chinese sentence of a text states as its result, or ""."""
    if text.isascii():
        return ""
    sentence = next((part for part in reversed(re.split(r"[。；！\n]", text[-_MAX_TAIL_CHARS:])) if part.strip()), "")
    openers = list(_EASTERN_OPENER.finditer(sentence))
    clause = sentence[openers[-1].end() :] if openers else ""
    if not openers or _EASTERN_DOUBT.search(clause) or len(_EASTERN_TOLD.findall(clause)) > 1:
        return ""
    result = _EASTERN_RESULT.fullmatch(re.split(r"，|,(?=\s*[\u4e00-\u9fff$])", sentence.strip(" .．*"))[-1].strip())
    return result[1].strip("$") if result else ""
