"""Shards of one collection, joined to what a single process would have written.

Knows: what a shard says of itself. Does not know: how episodes are drawn.
"""

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any

from oreo_agents.episodes.parts import Shard, Tally
from oreo_algos import EpisodeBuffer


def join(buffers: Mapping[str, EpisodeBuffer]) -> EpisodeBuffer:
    """Join buffers, given by their names: in their order, or shards of a collection in that of their numbers.

    Shards of another count may take the place of one: 3/4 and 4/4 are 2/2.

    Raises:
        ValueError: shards of different collections, with other buffers, one that is missing, or one that is there
            twice; or buffers of different tokenizers.
    """
    said: dict[str, Any] = {name: buffer.provenance.get("shard") for name, buffer in buffers.items()}
    if not any(said.values()):
        return EpisodeBuffer.concatenate(list(buffers.values()))
    if others := [name for name, shard in said.items() if not shard]:
        shard = next(name for name, shard in said.items() if shard)
        raise ValueError(f"{others[0]} is no shard, and {shard} is: join the shards first, then what they become")
    first, *rest = said
    for name in rest:
        if said[name]["collection"] != said[first]["collection"]:
            why = _difference(buffers, first, name)
            raise ValueError(f"{first} and {name} are shards of different collections: {why}")
    shards = {name: Shard(int(shard["number"]), int(shard["of"])) for name, shard in said.items()}
    order = sorted(shards, key=lambda name: _start(shards[name]))
    _require_whole({name: shards[name] for name in order})
    joined = EpisodeBuffer.concatenate([buffers[name] for name in order])
    tally = sum((Tally.of(buffers[name].provenance) for name in order), Tally())
    provenance = {**buffers[order[0]].provenance, **tally.provenance()}
    del provenance["shard"]
    return joined.described(tokenizer_fingerprint=joined.tokenizer_fingerprint, provenance=provenance)


def _start(shard: Shard) -> Fraction:
    return Fraction(shard.number - 1, shard.of)


def _end(shard: Shard) -> Fraction:
    return Fraction(shard.number, shard.of)


def _require_whole(shards: Mapping[str, Shard]) -> None:
    """Refuse shards, in their order, that leave a gap or overlap."""
    for before, after in pairwise(shards):
        if _start(shards[after]) < _end(shards[before]):
            raise ValueError(
                f"{before} is shard {shards[before]} and {after} is shard {shards[after]}: what both hold would be "
                "there twice; leave one of them out"
            )
    of = max(shard.of for shard in shards.values())
    missing = [
        Shard(number, of)
        for number in range(1, of + 1)
        if not any(_start(s) < Fraction(number, of) and Fraction(number - 1, of) < _end(s) for s in shards.values())
    ]
    covered = sum((_end(s) - _start(s) for s in shards.values()), Fraction())
    if covered < 1:
        named = ", ".join(f"shard={shard}" for shard in missing) or f"a share of {1 - covered}"
        raise ValueError(f"of this collection {named} is missing; collect it as the others, or name it")


def _difference(buffers: Mapping[str, EpisodeBuffer], first: str, other: str) -> str:
    """Say in what two collections differ, as far as they tell."""
    mine, theirs = buffers[first].provenance, buffers[other].provenance
    told = [
        f"{key} is {mine[key]} and {theirs.get(key)}"
        for key in ("env", "env_options", "seed", "round")
        if mine.get(key) != theirs.get(key)
    ]
    return "; ".join(told) or "other settings of collect or policy, other weights, other tasks or another release"
