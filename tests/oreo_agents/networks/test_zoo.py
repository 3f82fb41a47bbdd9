"""Every causal family of transformers, made small: right, or refused with a sentence, and nothing silently wrong."""

import families
import pytest
import zoo

# One of each kind; all of them take minutes.
KINDS = ["qwen3_moe", "gemma4_text", "qwen3_5_text"]

# Layers that cannot be checkpointed, and half of a model of images.
LACKING = {"ctrl", "gpt_neox_japanese", "openai-gpt", "trocr"}


@pytest.mark.parametrize("family", KINDS)
def test_a_family_of_each_kind_works_for_everything(family: str):
    assert zoo.works(zoo.ask(family)), zoo.ask(family)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_no_family_is_silently_wrong(part: int):
    asked = families.names()[part::8]
    found = {family: zoo.ask(family) for family in asked}
    wrong = {family: [row for row in rows if row.status == "wrong"] for family, rows in found.items()}
    assert not {family: rows for family, rows in wrong.items() if rows}
    loaded = {family for family, rows in found.items() if len(rows) > 1}
    assert {family for family in loaded if not zoo.works(found[family])} <= LACKING
    assert len(loaded) >= 0.7 * len(asked)
