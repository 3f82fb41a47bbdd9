r"""Marks: answers that say where they end: ``\boxed{}``, ``#### x``, ``<answer>`` and JSON.

Knows: where each of them starts and ends in a text without thoughts, and what is inside.
Does not know: which of several counts, what a sentence says. Every scan takes linear time.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Marked(NamedTuple):
    """A marked answer: its first character, the one after its last, and its content."""

    start: int
    end: int
    content: str


_BRACE = re.compile(
    r"(?:\\{1,2}(?:boxed|fbox|framebox)|\x08oxed)(?:(?:\s*\[[^\[\]{}\n]{0,20}\]){0,2}\s*\{|\s+(\w))|\\.|[{}]", re.DOTALL
)
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)|\x08oxed")
_JOINT = re.compile(
    r"[\s$.]*(?:\\[()])?(?:,|;|\\text\s*\{\s*,?\s*(?:and|or)\s*\}|,?\s*(?:and|or)\b)+"
    r"\s*(?:\\[()\s])*\$?\s*(?:\\?[A-Za-z](?:_\{?\w\}?)?\s*=\s*)?"
)
_LABEL = r"(?:the\s+)?(?:final\s+)?answer(?:\s+is\b|\s*:)\s*:?\s*"
_LABEL_INSIDE = re.compile(
    r"^\\text\s*\{\s*{label}\s*\}\s*|^(\\text\s*\{\s*|){label}".replace("{label}", _LABEL), re.IGNORECASE
)
_HASHES = re.compile(r"(?<!#)####(?!#)\s*([^\n#]+)")
_ANSWER_WORDS = re.compile(r"^[*_]*(?:the\s+)?(?:final\s+)?answer\b[*_]*(?:\s+is\b)?\s*:?[*_]*\s*", re.IGNORECASE)
_HEADING = re.compile(r"\**(?:\d+[.):]\s+\**)?[A-Za-z]{2,}[\s:]+\S")
_TAG = re.compile(r"[<\[](/?)(answer|final[_ -]?answer|ans|solution|final)(?:\s[^<>\n]{0,200})?[>\]]", re.IGNORECASE)
_ENDING_TAGS = re.compile(_TAG.pattern.replace("|ans|solution|final", ""), re.IGNORECASE)
_BEGUN = re.compile(r"box|\x08|[<\[]/?(?:answer|final[_ -]?answer)", re.IGNORECASE)
_KEY = re.compile(
    r"[{,]\s*([\"'])(?:(?:final|correct|my)[_ -]?)?(?:answer|ans)\1\s*:\s*(?=[\"'\d\[tf.-])", re.IGNORECASE
)
_VALUE = re.compile(
    r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|(-?[\d.]+(?:[eE][+-]?\d+)?|true|false)|\[([^\[\]{}]*)\]", re.DOTALL
)
_AFTER_VALUE = re.compile(r"\s*[,}]")
_JSON_TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"|[{}]", re.DOTALL)
_MAX_VALUE_CHARS = 4_000


def closed_boxes(text: str) -> Iterator[Marked]:
    """Every closed box that holds something, in the order in which they close; one pass."""
    first = _BOX.search(text) if "box" in text or "\x08" in text else None
    if first is None:
        return
    open_braces: list[tuple[int, int]] = []  # where the box starts (-1: a plain brace), its content
    for match in _BRACE.finditer(text, first.start()):
        if match[1]:  # TeX takes the next token: \boxed 9
            yield Marked(match.start(), match.end(), match[1])
        elif match[0].endswith("{") and match[0] != r"\{":
            open_braces.append((match.start() if match[0] != "{" else -1, match.end()))
        elif match[0] == "}" and open_braces:
            box, content = open_braces.pop()
            if box >= 0 and text[content : match.start()].strip():
                yield Marked(box, match.end(), text[content : match.start()])


def last_boxes(text: str) -> Marked | None:
    """The last box that is in no other, with all that are joined to it."""
    boxes: list[Marked] = []
    for box in closed_boxes(text):
        while boxes and boxes[-1].start > box.start:
            boxes.pop()
        boxes.append(box)
    if not boxes:
        return None
    joined = [boxes.pop()]
    while boxes and joined[-1].start - boxes[-1].end <= 40 and _JOINT.fullmatch(text, boxes[-1].end, joined[-1].start):
        joined.append(boxes.pop())
    contents = list(dict.fromkeys(box.content.strip() for box in reversed(joined)))
    return joined[0]._replace(content=_LABEL_INSIDE.sub(r"\1", ", ".join(contents)))


def hashes(text: str) -> Iterator[Marked]:
    """What follows ``####`` on every line where it begins no heading."""
    first = text.find("####")
    for match in _HASHES.finditer(text, first) if first >= 0 else ():
        answer = _ANSWER_WORDS.sub("", match[1])
        if re.search(r"\w", answer) and not _HEADING.match(answer):
            yield Marked(match.start(), match.end(), answer)


def tags(text: str, names: re.Pattern[str] = _TAG) -> Iterator[Marked]:
    """Every closed tag of an answer that holds something, in the order in which they close."""
    opened: dict[str, tuple[int, int]] = {}
    for match in names.finditer(text) if "</" in text or "[/" in text else ():
        name = match[2].lower()
        if not match[1]:
            opened[name] = match.span()
        elif name in opened:
            start, content = opened.pop(name)
            if re.search(r"\w", text[content : match.start()]):
                yield Marked(start, match.end(), text[content : match.start()])


def last_hashes(text: str) -> Marked | None:
    """The last of ``hashes``."""
    return _last(hashes(text))


def last_tag(text: str) -> Marked | None:
    """The last of ``tags``."""
    return _last(tags(text))


def unclosed_tag(text: str) -> Marked | None:
    """What follows the last tag of an answer when none closes after it."""
    last = _last(_TAG.finditer(text)) if ">" in text else None
    return None if last is None or last[1] else Marked(last.start(), len(text), text[last.end() :])


def json_answer(text: str) -> Marked | None:
    """The value of the last key "answer" of a JSON object or a Python one; it ends with the object."""
    key = _last(_KEY.finditer(text)) if '":' in text or "':" in text or '" :' in text else None
    value = key and _VALUE.match(text, key.end(), key.end() + _MAX_VALUE_CHARS)
    if key is None or value is None or not _AFTER_VALUE.match(text, value.end()):
        return None
    content = next(group for group in value.groups() if group is not None)
    depth, end = 1, len(text)
    for token in _JSON_TOKEN.finditer(text, value.end()):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if not depth:
            end = token.end()
            break
    return Marked(key.start(), end, content if value[3] else _unescaped(content))


def _last(found: Iterator[T]) -> T | None:
    return next(iter(deque(found, maxlen=1)), None)


def _unescaped(text: str) -> str:
    r"""The text of a JSON string. ``\frac`` may have any number of backslashes; its letters are no escape."""
    try:
        plain = str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        plain = text
    if re.search(r"[\b\f\r\t]", plain):
        plain = text
    escaped_twice = r"\\" in plain and not re.search(r"(?<!\\)\\(?:\\\\)*[A-Za-z]{2}", plain)
    return plain.replace(r"\\", "\\") if escaped_twice and re.search(r"\\[A-Za-z]{2}", plain) else plain


def first_end(text: str) -> int | None:
    r"""Where the first complete answer of a text ends: a closed box, ``#### x`` or a closed ``<answer>``."""
    firsts = (next(marks, None) for marks in (closed_boxes(text), hashes(text), tags(text, _ENDING_TAGS)))
    return min((mark.end for mark in firsts if mark is not None), default=None)


def may_go_on(lines: str) -> bool:
    """Whether what follows some whole lines without a complete answer may make one of what began in them."""
    return _BEGUN.search(lines) is not None or lines.rstrip().endswith("#")
