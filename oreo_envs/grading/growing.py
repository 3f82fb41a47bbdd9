"""The end of an answer in a text that grows chunk by chunk.

Knows: which part of a text cannot hold it, whatever follows. Does not know: what an answer is (``extraction``).
"""

from __future__ import annotations

from dataclasses import replace

from oreo_envs.grading.extraction import end_of_answer
from oreo_envs.grading.marks import may_go_on
from oreo_envs.grading.thoughts import Thoughts


class AnswerEnd:
    """Says of a text and then of longer ones what ``end_of_answer`` does, and reads of each only what is new.

    A text that does not continue the one before is read from its beginning.
    """

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._text = ""
        self._given: Thoughts | None = None
        self._thoughts = Thoughts()
        self._place = 0

    def of(self, text: str, thoughts: Thoughts) -> int | None:
        """Return the index after the line of the first complete answer outside a thought; None: there is none."""
        if thoughts != self._given or not text.startswith(self._text):
            self._given, self._thoughts, self._place = thoughts, thoughts, 0
        self._text, rest = text, text[self._place :]
        end = end_of_answer(rest, self._thoughts)
        if end is not None:
            return self._place + end
        read, inside = _read(rest, self._thoughts)
        self._thoughts = replace(thoughts, opened=inside)
        self._place += read
        return None


def _read(text: str, thoughts: Thoughts) -> tuple[int, bool]:
    """Return how much of a text without an answer need not be read again, and whether that ends inside a thought."""
    # A mark that begins later than this may turn out to be a longer one, or none yet.
    sure = len(text) - max((len(mark) for pair in thoughts.marks for mark in pair), default=1)
    place, inside = 0, thoughts.opened
    for mark, closes in thoughts.found(text):
        if mark.start() > sure:
            break
        place, inside = mark.end(), not closes
    if inside:
        return max(place, sure + 1), True
    line = text.rfind("\n", place, max(sure + 1, 0)) + 1
    return (place if line <= place or may_go_on(text[place:line]) else line), False
