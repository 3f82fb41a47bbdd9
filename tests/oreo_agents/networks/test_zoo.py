"""Every causal family of transformers, made small: right, or refused with a sentence, and nothing silently wrong."""

import families
import pytest
import zoo

# One of each kind; all of them take minutes.
KINDS = ["qwen3_moe", "gemma4_text", "qwen3_5_text"]


@pytest.mark.parametrize("family", KINDS)
def test_a_family_of_each_kind_works_for_everything(family: str):
    assert zoo.works(zoo.ask(family)), zoo.ask(family)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_no_family_is_silently_wrong(part: int):
    asked = families.names()[part::8]
    found = {family: zoo.ask(family) for family in asked}
    wrong = {family: rows for family, rows in found.items() if any(row.status == "wrong" for row in rows)}
    assert not wrong
    loaded = [family for family, rows in found.items() if len(rows) > 1]
    working = [family for family in loaded if zoo.works(found[family])]
    assert len(working) >= 0.9 * len(loaded) and len(loaded) >= 0.7 * len(asked)
