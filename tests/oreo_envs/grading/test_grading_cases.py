"""The case tables: answers of every kind, and text that means harm.

``cases.jsonl`` was written from the policy alone, by people who had not seen the grader; a few cases
state what real models wrote. ``hostile.jsonl`` holds responses as runs of repeated text.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from oreo_envs.grading import grade

FOLDER = Path(__file__).parent
CASES = [json.loads(line) for line in (FOLDER / "cases.jsonl").read_text(encoding="utf-8").splitlines()]
HOSTILE = [
    ("".join(text * times for text, times in row["response"]), row["reference"])
    for row in map(json.loads, (FOLDER / "hostile.jsonl").read_text(encoding="utf-8").splitlines())
]
KINDS = tuple(Counter(case["kind"] for case in CASES))


def test_the_table_has_right_and_wrong_answers_of_every_kind():
    assert len(CASES) >= 1_700 and len(KINDS) == 40
    for kind in KINDS:
        labels = Counter(case["correct"] for case in CASES if case["kind"] == kind)
        assert min(labels[True], labels[False]) >= 5


@pytest.mark.parametrize("kind", KINDS)
def test_answers_of_every_kind(kind):
    cases = [case for case in CASES if case["kind"] == kind]
    wrong = [
        (case["response"][-80:], case["reference"], verdict)
        for case in cases
        if (verdict := grade(case["response"], case["reference"])).correct != case["correct"]
    ]
    assert wrong == []


@pytest.mark.parametrize("number", range(len(HOSTILE)))
@pytest.mark.usefixtures("stops_endless_scans")
def test_hostile_responses_are_wrong_and_end(number):
    response, reference = HOSTILE[number]
    assert grade(response, reference).correct is False
