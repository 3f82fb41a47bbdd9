"""What a row says of its episode in another type is named."""

import pytest
from layout_rows import ask, say

from oreo_agents.formats.draft import Draft


def draft(**fields) -> Draft:
    return Draft(messages=[ask("2 + 2?"), say("4")], turns=[1], **fields)


@pytest.mark.parametrize(("name", "value"), [("env_id", 5), ("env_id", {"a": 1}), ("task_id", [1]), ("info", 5)])
def test_names_and_infos_of_another_type_are_named(name: str, value: object):
    with pytest.raises(ValueError, match=f"^{name}: expected "):
        draft(**{name: value})


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("action_spans", ([1.0], [["a", 0, 1]])),
        ("action_spans", ([1.0], [[10**12] * 3])),
        ("rewards", (["x"], [[1, 0, 1]])),
    ],
)
def test_numbers_of_another_type_are_named(name: str, exact: tuple):
    with pytest.raises(ValueError, match=f"^{name}: expected lists of numbers, got"):
        draft(exact=exact).episode("a-v0", delimiters=(), cut="turn", reward=1, success=True, pay_steps=False)
