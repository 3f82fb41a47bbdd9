r"""Extraction: where a response states its final answer.

Knows: which of the marked answers (``marks``), statements (``statements``) and last sentences (``conclusions``)
counts, where a response ends and another's text begins.
Does not know: what the answer means, or whether it is right. Every scan takes linear time.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from oreo_envs.grading.conclusions import conclusion, is_pure, unmarked
from oreo_envs.grading.marks import first_end, json_answer, last_boxes, last_hashes, last_tag, unclosed_tag
from oreo_envs.grading.statements import (
    MAX_ANSWER_CHARS,
    NOWHERE,
    Found,
    labelled,
    last_correction,
    last_phrase,
    stated_by_block,
)
from oreo_envs.grading.thoughts import MARKED, Thoughts

__all__ = ["MAX_ANSWER_CHARS", "end_of_answer", "extract_answer", "extract_reference", "has_final_answer"]

_MAX_TURNS = 8
_START_OF_TURN = re.compile(
    r"(?:\s|<s>|<bos>|<\|begin_of_text\|>|<\|im_start\|>(?:assistant)?|<\|start_header_id\|>assistant<\|end_header_id\|>"
    r"|<start_of_turn>model|<\|assistant\|>)*"
)
_END_OF_TURN = re.compile(
    r"<(?:\|(?:im_end|eot_id|eom_id|endoftext|end_of_text|end|return|eos)\|>|end_of_turn>|｜end▁of▁sentence｜>"
    r"|/s>(?=\s*(?:$|\[INST\]|<s>|\n)))"
)
_HTML = re.compile(r"</?(?:b|strong|i|em|u|p|br)\s?/?>", re.IGNORECASE)
_NEXT_TURN = re.compile(
    r"<(?:\|(?:im_start\|>[ \t]*user|start_header_id\|>[ \t]*user|user\|>)|start_of_turn>[ \t]*user)|\[INST\]"
)
_NEXT_QUESTION = re.compile(
    r"\n[ \t]*(?=[*#qpehutin问])"
    r"(?:(?:\*\*)?(?:(?:(?:next[ \t]+)?question|q|problem|exercise|example|task)[ \t]*\d*(?:\*\*)?|human|user"
    r"|instruction|问题)[ \t]*[:：]"
    r"|#{2,4}[ \t]*(?:instruction|question|problem|exercise|input|user|human)\b[ \t]*\d*[ \t]*[:：]?[ \t]*\n)",
    re.IGNORECASE,
)

_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORDS = re.compile(r"[A-Za-z]{3}|[^\x00-\x7f]")


def extract_answer(response: str, thoughts: Thoughts = MARKED) -> str | None:
    r"""Return the final answer that ``response`` states, or None.

    An answer is stated by a closed ``\boxed{}`` or ``\fbox{}``, by ``#### x``, by ``<answer>x</answer>``, by the key
    "answer" of a JSON object, by a label ("Answer: x", "A: x", "### Answer" above x; in other languages too), by "the
    answer is x", or, when it corrects one before, by "it should be x", "actually it is x", "correction: x". Of several
    the last counts, but boxes that commas, "and" or "or" join are one list. Without any of these the result that the
    last sentence states is one, then the last bold text that reads as an answer, then a response that is nothing but
    an answer. Only the text after the last thought is read, and of a response that runs on into another question or
    another turn only what comes before.
    """
    response = _without_drawings(_own_turn(thoughts.answer(response) or ""))
    for number, end in enumerate(_ends_before_others(response)):
        # A text that begins with "Question 1: ..." has questions of its own: what is said of one is no conclusion.
        answer = _statement(response[:end])[1] or ("" if number else conclusion(response[:end]))
        if answer:
            return answer.strip()
    return (_statement(response)[1] or unmarked(response)).strip() or None


def extract_reference(reference: str) -> str | None:
    r"""Return the answer that a worked solution states by a mark or a statement; None: it states none."""
    return _statement(_without_drawings(reference), reference=True)[1].strip() or None


def end_of_answer(response: str, thoughts: Thoughts = MARKED) -> int | None:
    r"""Return the index after the line of the first complete answer outside a thought; None: there is none.

    Complete are a closed ``\boxed{}`` or ``\fbox{}``, ``#### x`` and a closed ``<answer>``: they show where they end.
    A bare ``####``, an open box and a markdown heading (``#### Step 1: ...``) are none. The text is read from its
    beginning: what follows the line changes nothing.
    """
    for start, stop in thoughts.answers(response):
        end = first_end(response[start:stop])
        if end is None:
            continue
        line = response.find("\n", start + end)
        end = len(response) if line < 0 else line + 1
        if end <= stop:
            return end
    return None


def has_final_answer(response: str, thoughts: Thoughts = MARKED) -> bool:
    """Whether ``response`` holds a complete final answer outside a thought, see ``end_of_answer``."""
    return end_of_answer(response, thoughts) is not None


def _statement(text: str, *, reference: bool = False) -> Found:
    """Where the last mark or statement is, and what it states."""
    box, line = last_boxes(text), last_hashes(text)
    found = max(
        NOWHERE if box is None else (box.start, box.content),
        NOWHERE if line is None else (line.start, labelled(line.content.strip(" *_"))),
    )
    if not reference:
        found = max(found, *_enclosed(text))
    if found != NOWHERE and not _WORDS.search(_COMMAND.sub("", text[found[0] :])):
        return found  # nothing is said after it
    found = max(found, last_phrase(text, found, reference=reference))
    return found if found == NOWHERE else max(found, last_correction(text, found))


def _enclosed(text: str) -> Iterator[Found]:
    """What the last tag and the last JSON object state: what is stated inside, else all of it; counted at their end."""
    yield NOWHERE
    if not any(name in text.lower() for name in ("answer", "ans>", 'ans"', "solution>", "<final>")):
        return
    for mark in (last_tag(text), json_answer(text)):
        answer = mark and (_statement(mark.content)[1] or stated_by_block(mark.content) or unmarked(mark.content))
        if mark and answer:
            yield mark.end, answer
    unclosed = unclosed_tag(text)
    if unclosed is not None and is_pure(unclosed.content.strip()):
        yield unclosed.start, unclosed.content


def _own_turn(text: str) -> str:
    """Without the tokens around a turn, and what follows the one that ends it."""
    start = _START_OF_TURN.match(text)
    text = text[start.end() if start else 0 :]
    if "</s>" in text and "<s>" not in text:
        text = text.partition("</s>")[0]
    end = _END_OF_TURN.search(text)
    text = text if end is None else text[: end.start()]
    return _HTML.sub("", text) if "</" in text or "<br" in text else text


def _ends_before_others(text: str) -> Iterator[int]:
    """Where the text may run on into another question or another's turn."""
    patterns = [_NEXT_QUESTION, _NEXT_TURN] if "<" in text or "[INST]" in text else [_NEXT_QUESTION]
    ends = [match.start() for pattern in patterns for match in itertools.islice(pattern.finditer(text), _MAX_TURNS)]
    yield from sorted(ends)


def _without_drawings(text: str) -> str:
    """Without ``[asy] ... [/asy]``, whose programs are full of what looks like answers."""
    parts, position = [], 0
    while (start := text.find("[asy]", position)) >= 0 and (end := text.find("[/asy]", start)) >= 0:
        parts.append(text[position:start])
        position = end + len("[/asy]")
    return "".join([*parts, text[position:]])
