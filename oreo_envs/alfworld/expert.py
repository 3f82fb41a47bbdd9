"""An exploring expert: a scripted player that reads what any player reads, and nothing else.

Knows: the six kinds of tasks, how the games' texts tell what is where, and where things usually are
(``whereabouts``). Does not know: a game's state, its walkthrough, what it has not seen.
It looks into one receptacle after another, the likeliest first, and carries out its task with what it finds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from oreo_envs.alfworld.texts import NOTHING_HAPPENS
from oreo_envs.alfworld.whereabouts import probability

_THING = re.compile(r"\ba ([a-z]+ \d+)")
_SEEN = re.compile(r"(?:On the ([a-z]+ \d+)|The ([a-z]+ \d+) is open\. In it), you see ([^.]*)\.")
_CLOSED = re.compile(r"The ([a-z]+ \d+) is closed\.")
_TASK = re.compile(r"Your task is to: (.*)")
_OPENABLE = frozenset({"cabinet", "drawer", "fridge", "microwave", "safe"})
_APPLIANCE = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}
_VERB = {"clean": "clean", "hot": "heat", "cool": "cool"}
_SENTENCES = [
    re.compile(pattern)
    for pattern in (
        r"(?:look at|examine the) (?P<item>\w+) (?:under|with) the (?P<lamp>\w+)",
        r"(?P<verb>clean|heat|cool) some (?P<item>\w+) and put it (?:in|on) (?P<place>\w+)",
        r"put a (?P<mark>clean|hot|cool) (?P<item>\w+) (?:in|on) (?P<place>\w+)",
        r"(?P<two>put two|find two) (?P<item>\w+) (?:and put them )?(?:in|on) (?P<place>\w+)",
        r"put (?:a|some) (?P<item>\w+) (?:in|on) (?P<place>\w+)",
    )
]


@dataclass(frozen=True)
class Errand:
    """What a task asks for.

    Attributes:
        item: type of object.
        place: type of receptacle that it goes to; None: it is to be looked at under ``lamp``.
        lamp: type of lamp.
        verb: "clean", "heat" or "cool" it first.
        count: how many, all to the same receptacle.
    """

    item: str
    place: str | None = None
    lamp: str | None = None
    verb: str | None = None
    count: int = 1


def read_errand(sentence: str) -> Errand:
    """Understand the sentence after "Your task is to: ".

    Raises:
        ValueError: it is none of the sentences of the data release.
    """
    for pattern in _SENTENCES:
        if match := pattern.fullmatch(sentence.strip().removesuffix(".")):
            found = match.groupdict()
            return Errand(
                found["item"],
                found.get("place"),
                found.get("lamp"),
                found.get("verb") or _VERB.get(found.get("mark", "")),
                2 if found.get("two") else 1,
            )
    raise ValueError(f"the expert knows the six tasks of ALFWorld, and not {sentence!r}")


@dataclass
class Memory:
    """What a player has read so far.

    Attributes:
        receptacles: those of the room, in the order of the opening.
        contents: objects of each receptacle that was looked into.
        closed: receptacles that are closed, as far as is known.
        beside: for each receptacle, those at the same location, as far as is known.
        here: the receptacle where the player last arrived.
        held: the object in hand.
        source: where it was taken from.
        treated: (verb, object) pairs: "heat" and the like was done to it.
        unfit: (object, receptacle) pairs: it cannot be put there.
    """

    receptacles: list[str]
    contents: dict[str, list[str]] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    beside: dict[str, set[str]] = field(default_factory=dict)
    here: str | None = None
    held: str | None = None
    source: str | None = None
    treated: set[tuple[str, str]] = field(default_factory=set)
    unfit: set[tuple[str, str]] = field(default_factory=set)

    def at(self, receptacle: str) -> bool:
        """Whether the player stands at a receptacle."""
        return receptacle == self.here or receptacle in self.beside.get(self.here or "", ())

    def update(self, command: str, text: str) -> None:
        """Learn from a command in its native spelling and what was answered, in either text style."""
        words = command.split()
        verb, first, last = words[0] if words else "", " ".join(words[1:3]), " ".join(words[-2:])
        if text == NOTHING_HAPPENS:
            self._learn_from_refusal(verb, first, last)
            return
        if verb == "go":
            self.here = last
        elif verb == "take":
            self.held, self.source = first, last
            self.contents[last] = [name for name in self.contents.get(last, ()) if name != first]
        elif verb == "move":
            self.held = None
            self.contents.setdefault(last, []).append(first)
        elif verb in _APPLIANCE:
            self.treated.add((verb, first))
        elif verb == "close":
            self.closed.add(last)
        for on, within, listing in _SEEN.findall(text):
            self.contents[on or within] = _THING.findall(listing)
            self.closed.discard(on or within)
        self.closed.update(_CLOSED.findall(text))

    def _learn_from_refusal(self, verb: str, first: str, last: str) -> None:
        if verb == "go" and self.here and last in self.receptacles:
            # There is only one reason: it is where the player already is.
            group = {self.here, last, *self.beside.get(self.here, ()), *self.beside.get(last, ())}
            self.beside.update(dict.fromkeys(group, group))
        elif verb == "move" and first == self.held and self.at(last) and last not in self.closed:
            self.unfit.add((first, last))


class Move(NamedTuple):
    """A command in its native spelling, and why: a sentence."""

    command: str
    reason: str


class Expert:
    """Plays one game: ``act`` says what to do next, ``memory.update`` tells what came of it, or of something else."""

    def __init__(self, opening: str) -> None:
        """Read the first text of a game, in either style.

        Raises:
            ValueError: no task in it, or none that the expert knows.
        """
        task = _TASK.search(opening)
        if task is None:
            raise ValueError(f'no "Your task is to: " in the opening {opening!r:.200}')
        self.errand = read_errand(task[1])
        self.memory = Memory(_THING.findall(opening[: task.start()]))

    def act(self) -> Move:
        """Return the next command."""
        errand, memory = self.errand, self.memory
        held = memory.held
        if held is None:
            return self._fetch()
        if _type(held) != errand.item:
            return self._put_away(held, memory.source)
        if errand.verb and (errand.verb, held) not in memory.treated:
            return self._treat(held, errand.verb)
        if errand.lamp:
            lamp = self._find(errand.lamp)
            if lamp is None:
                return self._search(errand.lamp)
            return self._reach(lamp[1]) or Move(f"use {lamp[0]}", f"I have the {held}, now I need light.")
        target = self._target()
        if target is None:
            return Move("look", f"I see no {errand.place}.")
        return self._put(held, target, f"The {held} goes to the {target}.")

    def _fetch(self) -> Move:
        """Get an object in hand, from wherever it is or may be."""
        target = self._target() if self.errand.verb is None else None
        found = self._find(self.errand.item, but=target)
        if found is None:
            return self._search(self.errand.item)
        item, place = found
        return self._reach(place) or Move(f"take {item} from {place}", f"There is the {item}, I take it.")

    def _put_away(self, held: str, source: str | None) -> Move:
        """Get rid of an object: some may not lie where they were found, so that another place must do."""
        places = [name for name in self.memory.receptacles if (held, name) not in self.memory.unfit]
        if not places:
            return Move("look", f"I do not know where to leave the {held}.")
        best = max(places, key=lambda name: (name == source, probability(_type(held), _type(name))))
        return self._put(held, best, f"I do not need the {held}, so I put it away.")

    def _put(self, held: str, place: str, reason: str) -> Move:
        return self._reach(place) or Move(f"move {held} to {place}", reason)

    def _treat(self, held: str, verb: str) -> Move:
        places = [name for name in self.memory.receptacles if _type(name) == _APPLIANCE[verb]]
        if not places:
            return Move("look", f"I see no {_APPLIANCE[verb]}.")
        return self._arrive(places[0]) or Move(f"{verb} {held} with {places[0]}", f"I have to {verb} the {held}.")

    def _target(self) -> str | None:
        """The receptacle to fill: the one that has most of what is asked for."""
        memory, item = self.memory, self.errand.item
        places = [
            name
            for name in memory.receptacles
            if _type(name) == self.errand.place and (memory.held, name) not in memory.unfit
        ]
        return max(places, key=lambda name: self._count(item, name), default=None)

    def _count(self, otype: str, place: str) -> int:
        return sum(_type(name) == otype for name in self.memory.contents.get(place, ()))

    def _find(self, otype: str, *, but: str | None = None) -> tuple[str, str] | None:
        """An object of a type that was seen, and where; those where the player stands first."""
        seen = [
            (name, place)
            for place, names in self.memory.contents.items()
            if place != but
            for name in names
            if _type(name) == otype
        ]
        return min(seen, key=lambda found: not self.memory.at(found[1]), default=None)

    def _search(self, otype: str) -> Move:
        """Look into the likeliest receptacle that was not looked into yet."""
        memory = self.memory
        unknown = [name for name in memory.receptacles if name not in memory.contents]
        if not unknown:
            return Move("look", f"I have looked everywhere and see no {otype}.")
        place = max(unknown, key=lambda name: _promise(otype, _type(name)))
        reason = f"I look for a {otype}."
        return self._reach(place, reason) or Move(f"examine {place}", reason)

    def _reach(self, place: str, reason: str | None = None) -> Move | None:
        """Go to a receptacle and open it; None where that is done."""
        move = self._arrive(place, reason)
        if move is None and place in self.memory.closed:
            return Move(f"open {place}", f"The {place} is closed.")
        return move

    def _arrive(self, place: str, reason: str | None = None) -> Move | None:
        if self.memory.at(place):
            return None
        return Move(f"go to {place}", reason or f"I need the {place}.")


def _promise(otype: str, rtype: str) -> float:
    """How good it is to look there; opening is a command more."""
    return probability(otype, rtype) * (0.5 if rtype in _OPENABLE else 1.0)


def _type(name: str) -> str:
    return name.partition(" ")[0]
