"""Tasks for generated houses: which thing must go where, in which room.

Knows: the six types of tasks, which rooms they fit, their sentences and goals.
Does not know: where things lie (``houses``), how furniture stands (``rooms``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from oreo_envs.alfworld.rooms import KINDS, SEEN_NUMBERS, TRAIN_NUMBERS, UNSEEN_NUMBERS, Draw, furniture_of, room_kind
from oreo_envs.alfworld.things import HOLDS, PORTABLE, PROPERTIES, ROOM_FOR, STANDS_ON, STOCK

ROOM_NUMBERS = {"train": TRAIN_NUMBERS, "valid_seen": SEEN_NUMBERS, "valid_unseen": UNSEEN_NUMBERS}
"""Numbers of the rooms of a split, within each kind; some train game is in each of the seen ones."""

_EVERYWHERE = {"kitchen": 1.0, "living room": 2.0, "bedroom": 2.0, "bathroom": 2.0}
_KITCHEN = {"kitchen": 1.0}
# How often each type of task comes and in which rooms, as in the train games of ALFWorld, but rounded; its sentences.
_TYPES: dict[str, tuple[float, dict[str, float], tuple[str, str]]] = {
    "pick_and_place_simple": (23.0, _EVERYWHERE, ("put a {} in {}.", "put some {} on {}.")),
    "look_at_obj_in_light": (
        9.0,
        {"bedroom": 4.0, "living room": 1.0},
        ("look at {} under the {}.", "examine the {} with the {}."),
    ),
    "pick_clean_then_place_in_recep": (
        18.0,
        {"kitchen": 3.0, "bathroom": 1.0},
        ("put a clean {} in {}.", "clean some {} and put it in {}."),
    ),
    "pick_heat_then_place_in_recep": (13.0, _KITCHEN, ("put a hot {} in {}.", "heat some {} and put it in {}.")),
    "pick_cool_then_place_in_recep": (15.0, _KITCHEN, ("put a cool {} in {}.", "cool some {} and put it in {}.")),
    "pick_two_obj_and_place": (22.0, _EVERYWHERE, ("put two {} in {}.", "find two {} and put them in {}.")),
}

TREATMENTS = {
    "pick_clean_then_place_in_recep": ("clean", "cleanable", "isClean", "SinkBasin"),
    "pick_heat_then_place_in_recep": ("heat", "heatable", "isHot", "Microwave"),
    "pick_cool_then_place_in_recep": ("cool", "coolable", "isCool", "Fridge"),
}
"""Task type to the command, the property it needs, what it makes true, and the furniture for it."""

_PLACED = """(and (exists (?place - receptacle ?thing - object) (and
    (objectType ?thing {thing}Type) (receptacleType ?place {target}Type){treated}
    (inReceptacle ?thing ?place))))"""
_TWO_PLACED = """(and (exists (?place - receptacle ?one - object ?other - object) (and
    (receptacleType ?place {target}Type) (not (= ?one ?other))
    (objectType ?one {thing}Type) (inReceptacle ?one ?place)
    (objectType ?other {thing}Type) (inReceptacle ?other ?place))))"""
_LIT = """(and
    (exists (?lamp - object ?place - receptacle ?me - agent ?here - location) (and
      (objectType ?lamp {target}Type) (toggleable ?lamp) (isToggled ?lamp) (inReceptacle ?lamp ?place)
      (receptacleAtLocation ?place ?here) (atLocation ?me ?here)))
    (exists (?thing - object ?me - agent) (and (objectType ?thing {thing}Type) (holds ?me ?thing))))"""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done in one game.

    Attributes:
        type: "pick_and_place_simple" or another of ``env.TASK_TYPES``.
        thing: type of thing, "Mug".
        target: type of furniture that it must go to, or "DeskLamp".
        room: number of the room.
        sentence: what the player is told.
    """

    type: str
    thing: str
    target: str
    room: int
    sentence: str

    @property
    def name(self) -> str:
        """The task's folder, "pick_and_place_simple-Mug-None-Desk-301"."""
        return f"{self.type}-{self.thing}-None-{self.target}-{self.room}"

    @property
    def copies(self) -> int:
        """How many such things are needed."""
        return 2 if self.type == "pick_two_obj_and_place" else 1

    @property
    def goal(self) -> str:
        """The goal in PDDL."""
        if self.type == "look_at_obj_in_light":
            return _LIT.format(thing=self.thing, target=self.target)
        if self.copies == 2:
            return _TWO_PLACED.format(thing=self.thing, target=self.target)
        treated = ""
        if self.type in TREATMENTS:
            _, possible, done, _ = TREATMENTS[self.type]
            treated = f"\n    ({possible} ?thing) ({done} ?thing)"
        return _PLACED.format(thing=self.thing, target=self.target, treated=treated)


def draw_task(split: str, number: int) -> Task:
    """Return task ``number`` of a split, always the same."""
    draw = Draw("task", split, number)
    task_type = draw.weighted({name: often for name, (often, _, _) in _TYPES.items()})
    _, rooms, sentences = _TYPES[task_type]
    possible: tuple[tuple[str, tuple[str, ...]], ...] = ()
    while not possible:
        room = KINDS[draw.weighted(rooms)] + draw.pick(ROOM_NUMBERS[split])
        possible = _possible(task_type, room_kind(room), furniture_of(room))
    thing, targets = draw.pick(possible)
    target = draw.pick(targets)
    sentence = draw.pick(sentences).format(thing.lower(), target.lower())
    return Task(task_type, thing, target, room, sentence)


@lru_cache(maxsize=2_048)
def _possible(task_type: str, kind: str, furniture: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Types of things in such a room and what each can be taken to, so that it need not be there already."""
    always, sometimes, _ = STOCK[kind]
    things = sorted(PORTABLE.intersection(f"{always} {sometimes}".split()))
    lit = bool(STANDS_ON["DeskLamp"].intersection(furniture))
    excluded: set[str] = set()
    if task_type in TREATMENTS:
        _, possible, _, appliance = TREATMENTS[task_type]
        things = [thing for thing in things if thing in PROPERTIES[possible]]
        excluded = {appliance}
    elif task_type == "pick_two_obj_and_place":
        excluded = {place for place in furniture if ROOM_FOR.get(place) == 1}
    pairs = []
    for thing in things:
        places = [place for place in furniture if thing in HOLDS[place]]
        targets = tuple(place for place in places if place not in excluded)
        if task_type == "look_at_obj_in_light":
            targets = ("DeskLamp",) if lit else ()
        if len(places) > 1 and targets:
            pairs.append((thing, targets))
    return tuple(pairs)
