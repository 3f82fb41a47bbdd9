"""A text that grows: its answer ends where that of the whole text does, and little is read of it again."""

from random import Random

import pytest

from oreo_envs.grading import AnswerEnd, Thoughts, end_of_answer, growing

PIECES = [
    *("\n", "\n", "\n\n", " ", "so we add", "x = 3", "7", "#", "####", "#### 5", "#### Step 1: add", "##### 4"),
    *("\\boxed", "{", "}", "\\boxed{4}", "\\fbox{\n", "\\boxed\n{", "<answer>", "</answer>", "<answer\n>", "<ans"),
    *("wer>3", "[final", " answer]", "[/final answer]", "<think>", "</think>", "<thi", "nk>", "</", "<|channel|>"),
    *("final<|message|>", "<|channel>", "<channel|>", "<thinking>", "</thinking>", "$x$", "\x08oxed{1}", "\\", "8"),
]
GIVEN = [Thoughts(), Thoughts(opened=True), Thoughts(()), Thoughts((("<<", ">>"), ("<<\n<", ">>>")))]


@pytest.mark.parametrize("thoughts", GIVEN, ids=["default", "opened", "none", "own"])
def test_an_answer_ends_where_that_of_the_whole_text_does_however_it_is_cut(thoughts: Thoughts):
    random = Random(repr(thoughts))
    pieces = [*PIECES, *(mark for pair in thoughts.marks for mark in pair)]
    found = 0
    for _ in range(400):
        reading, text = AnswerEnd(), ""
        for _ in range(random.randint(1, 25)):
            text += "".join(random.choices(pieces, k=random.randint(1, 3)))
            expected = end_of_answer(text, thoughts)
            assert reading.of(text, thoughts) == expected, repr(text)
            if expected is not None:
                found += 1
                break
    assert found > 60


def test_another_text_and_other_thoughts_are_read_from_their_beginning():
    reading = AnswerEnd()
    assert reading.of("<think> a\n" * 50, Thoughts()) is None
    assert reading.of("#### 5", Thoughts()) == 6
    assert reading.of("a\n<think> b\n", Thoughts()) is None
    assert reading.of("a\n<think> b\n#### 5\n", Thoughts()) is None
    assert reading.of("a\n<think> b\n#### 5\n", Thoughts(())) == 19


@pytest.mark.parametrize("start", ["", "<think>\n", "<think>\nso\n</think>\n", "#### Step 1: add\n"])
def test_of_a_long_answer_each_line_is_read_once_or_twice(start: str, monkeypatch: pytest.MonkeyPatch):
    read: list[int] = []

    def counted(text: str, thoughts: Thoughts) -> int | None:
        read.append(len(text))
        return end_of_answer(text, thoughts)

    monkeypatch.setattr(growing, "end_of_answer", counted)
    reading, text = AnswerEnd(), start
    for number in range(300):
        text += f"{number} and one more is {number + 1}\n"
        assert reading.of(text, Thoughts()) is None
    assert max(read) < 100 and sum(read) < 3 * len(text)
