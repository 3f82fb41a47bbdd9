"""Sentences: which one of a text is the last that says something.

Knows: where sentences end, and how texts take leave. Does not know: what a sentence states. Linear in the text.
"""

from __future__ import annotations

import re

MAX_TAIL_CHARS = 2_000
"""Only so much at the end of a text is looked at."""

GOODBYE = re.compile(
    r"[\s✅✔✓☑🎉🎯👍😊🙂\ufe0f*_-]*$"
    r"|\W*(?:I hope|hope (?:this|that)|let me know|please let|feel free|if you (?:have|need)|thank|would you like"
    r"|do you (?:want|have|need)|is there anything)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"(?<=[.?。])(?<!\bi\.e\.)(?<!\be\.g\.)(?<!\bvs\.)(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bapprox\.)\s+"
    r"|(?<=[A-Za-z)*]!)\s+(?=[A-Z*$\\])"
)
_SENTENCE = re.compile(r"[A-Za-z]+(?:[ \t]+[A-Za-z']+){3,}|[.!?:]\s")
_SHOWN = re.compile(r"\\\[\s*+((?:[^\\\n]|\\[^\[\]\n])*+)\s*+\\\]")


def last_sentence(text: str) -> tuple[str, str]:
    """The line before, and the last sentence that is no leave-taking."""
    tail = text[-MAX_TAIL_CHARS:]
    tail = _SHOWN.sub(r"\\[\1\\]", tail) if r"\[" in tail else tail
    lines = [line.strip() for line in tail.split("\n") if line.strip()]
    for _ in range(3):
        sentences = _SENTENCE_END.split(lines[-1]) if lines else [""]
        if not GOODBYE.match(sentences[-1]):
            return ([*lines[-2:-1], ""])[0], sentences[-1]
        lines[-1:] = [" ".join(sentences[:-1])] if sentences[1:] else []
    return "", ""


def is_sentence(text: str) -> bool:
    """Whether a short text holds a sentence, or the end of one."""
    return _SENTENCE.search(text) is not None
