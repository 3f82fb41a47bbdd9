"""Rows that keep their places from turn to turn: they say what they did, and what was read is not copied again."""

import weakref
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pytest
import torch
from tiny_models import make_model
from torch import nn

from oreo_agents.episodes.generate import Sampling, generate
from oreo_agents.episodes.sources import row_source
from oreo_agents.networks import kv_cache
from oreo_agents.networks.checkpoints import base_model
from oreo_agents.networks.kv_cache import Prefix, Room
from oreo_agents.networks.policy import CausalPolicy


@pytest.fixture(scope="module")
def policy() -> CausalPolicy:
    policy = CausalPolicy(make_model("llama", context=512))
    assert policy.resumes
    return policy


@pytest.fixture(autouse=True)
def little_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory grows often."""
    monkeypatch.setattr(kv_cache, "_SPARE", 4)


def stop_after(length: int, tokens: Sequence[int]) -> int | None:
    return length if len(tokens) >= length else None


def turns(policy: CausalPolicy, *, games: int, batch_size: int, room: Room | None) -> Iterator[list[list[int]]]:
    """Play games whose turns are of many lengths and that end one by one; yields all transcripts after each turn."""
    random = np.random.default_rng(0)
    transcripts = {game: [5 + game % 7, *range(7, 9 + game % 5)] for game in range(games)}
    caches = {game: Prefix(room=room) for game in transcripts}
    sources = {game: row_source(0, game, 0) for game in transcripts}
    sampling = Sampling(temperature=1.0, max_new_tokens=9, batch_size=batch_size)
    for turn in range(14):
        going = list(transcripts)
        stops = [partial(stop_after, int(length)) for length in random.integers(1, 9, len(going))]
        samples = generate(
            policy,
            [transcripts[game] for game in going],
            (),
            sampling,
            sources=[sources[game] for game in going],
            stops=stops,
            caches=[caches[game] for game in going] if room is not None else None,
        )
        for game, sample in zip(going, samples, strict=True):
            transcripts[game] = [*transcripts[game], *sample.tokens, *random.integers(3, 60, game % 4 + 1).tolist()]
            caches[game] = sample.cache
        yield list(transcripts.values())
        if turn % 3 == 2:
            del transcripts[going[turn % len(going)]]


@pytest.mark.parametrize("batch_size", [64, 3], ids=["one batch", "refilled"])
def test_turns_of_any_length_say_what_whole_transcripts_say(policy: CausalPolicy, batch_size: int):
    kept = turns(policy, games=6, batch_size=batch_size, room=Room())
    for one, other in zip(kept, turns(policy, games=6, batch_size=batch_size, room=None), strict=True):
        assert one == other


def test_of_each_turn_only_what_is_new_is_copied(policy: CausalPolicy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kv_cache, "_SPARE", 64)
    room, before, longest, read = Room(), 0, 0, []
    for transcripts in turns(policy, games=6, batch_size=64, room=room):
        read.append(room.copied - before)
        before, longest = room.copied, max(map(len, transcripts))
    # A game that stood behind one that is over takes its place; all others stay. A turn is of 13 tokens a game at most.
    assert longest > 80 and all(count <= 13 * 6 + longest for count in read)
    assert sum(count > 13 * 6 for count in read[2:]) <= 4


def test_rows_stand_where_they_stood_and_others_take_what_is_free():
    room = Room()
    prefixes = [Prefix((torch.full((2 + k, 2, 1, 1), float(k)),), room) for k in range(4)]
    room.hold(prefixes)
    longer = [prefix.then(torch.full((1, 2, 1, 1), 9.0)) for prefix in prefixes]
    fresh = Prefix((torch.full((3, 2, 1, 1), 7.0),), room)
    asked = [longer[3], fresh, longer[2], longer[0]]
    order = room.order(asked)
    assert [asked[k] for k in order] == [longer[0], fresh, longer[2], longer[3]]
    copied = room.copied
    states = torch.cat(room.hold([asked[k] for k in order]))
    assert room.copied - copied == 3 + 3
    for row, prefix in enumerate(asked[k] for k in order):
        assert torch.equal(states[:, row, :, : len(prefix)], torch.cat(prefix.chunks).permute(1, 2, 0, 3))


def test_of_two_that_go_on_from_one_transcript_neither_gets_what_the_other_said():
    room = Room()
    parent = Prefix((torch.zeros(3, 2, 1, 1),), room)
    room.hold([parent])
    one, other = (parent.then(torch.full((2, 2, 1, 1), float(k))) for k in (1, 2))
    for asked in ([one, other], [other, one], [one], [other], [parent, other]):
        ordered = [asked[k] for k in room.order(asked)]
        for row, prefix in zip(torch.cat(room.hold(ordered)).unbind(1), ordered, strict=True):
            assert row[0, 0, : len(prefix), 0].tolist() == torch.cat(prefix.chunks)[:, 0, 0, 0].tolist()


def test_a_room_is_gone_with_what_was_read(policy: CausalPolicy):
    room = Room()
    gone = weakref.ref(room)
    few = Sampling(temperature=0, max_new_tokens=3)
    samples = generate(policy, [[5, 6], [7]], (), few, caches=[Prefix(room=room)] * 2)
    del room
    assert gone() is not None
    del samples
    assert gone() is None


def test_rows_of_short_turns_stay_where_they_are(policy: CausalPolicy, monkeypatch: pytest.MonkeyPatch):
    moved: list[int] = []
    exchanged = Room.exchanged

    def counted(room: Room, to: list[int], rows: list[int], count: int) -> tuple[list[int], list[int]]:
        moved.append(len(rows))
        return exchanged(room, to, rows, count)

    monkeypatch.setattr(Room, "exchanged", counted)
    played = list(turns(policy, games=6, batch_size=64, room=Room()))
    assert sum(moved) <= len(played), "of six rows that end at different tokens, not one a turn moves"


def test_a_long_turn_goes_on_without_the_rows_that_have_ended(policy: CausalPolicy):
    rows: list[int] = []

    def note(module: nn.Module, arguments: tuple, keywords: dict) -> None:
        tokens = keywords["input_ids"] if "input_ids" in keywords else arguments[0]
        rows.append(len(tokens))

    hook = base_model(policy.model).register_forward_pre_hook(note, with_kwargs=True)
    prompts = [[5 + k] * 4 for k in range(8)]
    stops = [partial(stop_after, length) for length in (2, 3, 2, 3, 2, 3, 2, 100)]
    sampling, room = Sampling(temperature=0, max_new_tokens=100), Room()
    samples = generate(policy, prompts, (), sampling, stops=stops, caches=[Prefix(room=room)] * 8)
    hook.remove()
    assert len(samples[-1].tokens) == 100 and len(rows) == 100
    assert rows[-1] == 1 and sum(rows) < 100 + 8 * 8
