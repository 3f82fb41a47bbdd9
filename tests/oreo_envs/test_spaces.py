"""Free text as a Gymnasium space."""

import copy
import json
import multiprocessing
import pickle

import pytest
from gymnasium.vector.utils import (
    batch_differing_spaces,
    batch_space,
    create_shared_memory,
    read_from_shared_memory,
    write_to_shared_memory,
)

from oreo_envs.spaces import SHARED_TEXT_BYTES, FreeText


@pytest.mark.parametrize("text", ["", "a", "\x00\n", "漢字 é 🎲", "\ud800 lone surrogate", "x" * 10**6])
def test_any_text_is_a_member(text):
    assert text in FreeText()


@pytest.mark.parametrize("thing", [None, 3, b"bytes", ["a"]])
def test_nothing_but_text_is_a_member(thing):
    assert thing not in FreeText()


def test_samples_depend_on_the_seed_alone():
    first, second, other = FreeText(seed=4), FreeText(), FreeText(seed=5)
    second.seed(4)
    samples = [first.sample() for _ in range(20)]
    assert samples == [second.sample() for _ in range(20)]
    assert samples != [other.sample() for _ in range(20)]
    assert all(sample and sample in first for sample in samples)
    assert any(not sample.isascii() for sample in samples)


def test_a_masked_sample_is_refused():
    with pytest.raises(ValueError, match="neither a mask nor a probability"):
        FreeText().sample(mask=object())


def test_equality_json_and_copies():
    space = FreeText(seed=1)
    assert space == pickle.loads(pickle.dumps(space)) == copy.deepcopy(space) == FreeText()
    assert space != 3 and hash(space) == hash(FreeText()) and repr(space) == "FreeText()"
    assert space.is_np_flattenable is False
    texts = ["é", "", "a\nb"]
    assert space.from_jsonable(json.loads(json.dumps(space.to_jsonable(texts)))) == texts


def test_batched_spaces_hold_tuples_of_texts():
    assert ("a", "ü") in batch_space(FreeText(), 2)
    assert ("a", "ü") in batch_differing_spaces([FreeText(), FreeText()])


def test_shared_memory_shows_each_new_text_whatever_its_length():
    space, texts = FreeText(), ["short", "much longer ∑ 漢字 " * 50, "", "\ud800"]
    memory = create_shared_memory(space, n=2, ctx=multiprocessing.get_context("spawn"))
    view = read_from_shared_memory(space, memory, n=2)
    assert copy.deepcopy(view) == ("", "")
    for first in texts:
        for second in texts:
            write_to_shared_memory(space, 0, first, memory)
            write_to_shared_memory(space, 1, second, memory)
            assert copy.deepcopy(view) == (first, second) == tuple(view)
            assert view[-1] == second and view[:1] == (first,) and len(view) == 2


def test_text_beyond_the_shared_memory_names_the_way_out():
    memory = create_shared_memory(FreeText(), n=1)
    write_to_shared_memory(FreeText(), 0, "a" * SHARED_TEXT_BYTES, memory)
    with pytest.raises(ValueError, match=r"65537 bytes does not fit .* pass vector_kwargs=.*shared_memory"):
        write_to_shared_memory(FreeText(), 0, "a" * (SHARED_TEXT_BYTES + 1), memory)
