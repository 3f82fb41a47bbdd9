"""Generated rooms: furniture along four walls, and where the player stands to use it.

Knows: which furniture a kind of room has, how it is built, distances, ids of the form that games use.
Does not know: things, tasks.
Lengths are whole centimetres, so that every machine gets the same ids. The player moves on a grid of 25 cm,
faces a wall (0 to 3) and looks down by some degrees; what is reached from one spot in one posture shares a
location, as drawers of one column do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from oreo_envs.alfworld.things import OPENABLE

T = TypeVar("T")

# The numbers of rooms are AI2-THOR's: one hundred for each kind. The last of each are held out.
KINDS = {"kitchen": 0, "living room": 200, "bedroom": 300, "bathroom": 400}
TRAIN_NUMBERS = range(1, 81)
SEEN_NUMBERS = range(1, 31)
UNSEEN_NUMBERS = range(81, 100)


class Draw:
    """Draws from a key, the same for every Python: nothing but ``Random.random`` is promised to stay."""

    def __init__(self, *key: object) -> None:
        """Begin the sequence of draws that belongs to ``key``."""
        self._random = random.Random("/".join(map(str, key))).random

    def below(self, stop: int) -> int:
        """Draw a whole number from 0 to ``stop`` - 1."""
        return int(self._random() * stop)

    def chance(self, probability: float) -> bool:
        """Return True that often."""
        return self._random() < probability

    def pick(self, items: Sequence[T]) -> T:
        """Draw one of ``items``."""
        return items[self.below(len(items))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """Draw one of the keys, in proportion to its value."""
        left = self._random() * sum(weights.values())
        for item, weight in weights.items():
            left -= weight
            if left < 0:
                return item
        return item

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return ``items`` in a random order."""
        rest = list(items)
        return [rest.pop(self.below(len(rest))) for _ in items]


@dataclass(frozen=True, slots=True)
class Receptacle:
    """A piece of furniture that things can lie in or on.

    Attributes:
        kind: "Drawer".
        id: "Drawer_bar__minus_01_dot_20_bar_...".
        location: where the player stands to use it, "loc_bar__minus_2_bar_5_bar_0_bar_60".
        position: x, height, z in cm.
        openable: it has a door.
    """

    kind: str
    id: str
    location: str
    position: tuple[int, int, int]
    openable: bool


@dataclass(frozen=True, slots=True)
class Room:
    """A furnished room.

    Attributes:
        kind: a key of ``KINDS``.
        number: its number, 301 for the first bedroom.
        receptacles: the furniture.
        start: where the player is at first, at no furniture.
    """

    kind: str
    number: int
    receptacles: tuple[Receptacle, ...]
    start: str


def room_kind(number: int) -> str:
    """Return what room ``number`` is, a key of ``KINDS``.

    Raises:
        ValueError: no kind of room has this number.
    """
    for kind, first in KINDS.items():
        if first < number < first + 100:
            return kind
    raise ValueError(f"no room has number {number}; rooms have 1 to 99, 201 to 299, 301 to 399, 401 to 499")


@lru_cache(maxsize=512)
def furniture_of(number: int) -> tuple[str, ...]:
    """Return the kinds of receptacles in room ``number``, sorted, without building it."""
    units = _UNITS[room_kind(number)](Draw("room", number))
    return tuple(sorted({part.kind for unit in units for part in unit.parts}))


@lru_cache(maxsize=512)
def make_room(number: int) -> Room:
    """Return room ``number``, always the same.

    Raises:
        ValueError: no kind of room has this number.
    """
    kind = room_kind(number)
    draw = Draw("room", number)
    walls: list[list[_Unit]] = [[], [], [], []]
    for unit in draw.shuffled(_UNITS[kind](draw)):
        min(walls, key=_length).append(unit)
    half_width = max(_length(walls[0]), _length(walls[2]), 300) // 2 + 60
    half_depth = max(_length(walls[1]), _length(walls[3]), 300) // 2 + 60
    receptacles = []
    for wall, units in enumerate(walls):
        distance = half_depth if wall % 2 == 0 else half_width
        left = -_length(units) // 2
        for unit in units:
            left += unit.width // 2
            receptacles += [_place(part, wall, distance, left, draw) for part in unit.parts]
            left += unit.width - unit.width // 2
    return Room(kind, number, tuple(receptacles), location_id(0, 0, draw.below(4), 30))


def thing_id(kind: str, x: int, height: int, z: int) -> str:
    """Return the id of something at a position in cm."""
    coordinates = "_bar_".join(map(_metres, (x, height, z)))
    if kind.endswith("Basin"):
        return f"{kind.removesuffix('Basin')}_bar_{coordinates}_bar_{kind}"
    return f"{kind}_bar_{coordinates}"


def _metres(value: int) -> str:
    """A length in cm as ids have it, "_minus_01_dot_25"."""
    metres, rest = divmod(abs(value), 100)
    return f"_{'minus' if value < 0 else 'plus'}_{metres:02}_dot_{rest:02}"


def location_id(x: int, z: int, wall: int, degrees: int) -> str:
    """Return the id of a posture: a spot in cm, the wall that is faced, and how far down the player looks."""
    numbers = ((x + 12) // 25, (z + 12) // 25, wall, degrees)
    return "loc_bar_" + "_bar_".join(str(number) if number >= 0 else f"_minus_{-number}" for number in numbers)


@dataclass(frozen=True, slots=True)
class _Part:
    """A receptacle in a unit: its kind, cm to the right of the middle, height in cm."""

    kind: str
    right: int
    height: int


@dataclass(frozen=True, slots=True)
class _Unit:
    """Furniture that stands together; ``width`` in cm, with the gap to the next."""

    width: int
    parts: tuple[_Part, ...]


def _length(units: Sequence[_Unit]) -> int:
    return sum(unit.width for unit in units)


def _place(part: _Part, wall: int, distance: int, middle: int, draw: Draw) -> Receptacle:
    along = middle + part.right

    def point(from_middle: int) -> tuple[int, int]:
        return [(along, from_middle), (from_middle, -along), (-along, -from_middle), (-from_middle, along)][wall]

    x, z = point(distance - 30)
    return Receptacle(
        kind=part.kind,
        id=thing_id(part.kind, x, part.height, z),
        location=location_id(*point(distance - 100), wall, _looking_down(part.height)),
        position=(x, part.height, z),
        openable=draw.chance(OPENABLE.get(part.kind, 0.0)),
    )


def _looking_down(height: int) -> int:
    """Degrees at which something at ``height`` cm is looked at."""
    return next((degrees for limit, degrees in ((65, 60), (110, 45), (150, 30), (190, 0)) if height < limit), -15)


def _single(kind: str, width: int, height: int) -> _Unit:
    return _Unit(width, (_Part(kind, 0, height),))


def _column(kind: str, right: int, heights: Sequence[int]) -> list[_Part]:
    return [_Part(kind, right, height) for height in heights]


def _drawers(right: int, number: int) -> list[_Part]:
    return _column("Drawer", right, (75, 50, 25)[3 - number :])


def _shelves(draw: Draw) -> _Unit:
    return _Unit(110, tuple(_column("Shelf", 0, (40, 80, 120, 160, 200)[: 2 + draw.below(4)])))


def _chest(draw: Draw) -> _Unit:
    number = 1 + draw.below(3)
    return _Unit(160, (_Part("Dresser", 0, 95), *_drawers(-40, number), *_drawers(40, number)))


def _counter(draw: Draw, appliances: Sequence[str] = ()) -> _Unit:
    parts = [_Part("CounterTop", 0, 92)]
    parts += [_Part(appliance, draw.pick((-50, 0, 50)), 97) for appliance in appliances]
    for right in (-60, 60):
        parts += _drawers(right, 1 + draw.below(3)) if draw.chance(0.5) else [_Part("Cabinet", right, 40)]
    parts += [_Part("Cabinet", right, 180) for right in (-75, -25, 25, 75)[: 2 + draw.below(3)]]
    return _Unit(200, tuple(parts))


def _kitchen(draw: Draw) -> list[_Unit]:
    stove = [_Part("StoveBurner", right, height) for right in (-15, 15) for height in (92, 93)]
    stove += _column("Cabinet", 0, (30, 185)[: 1 + draw.below(2)])
    sink = (_Part("SinkBasin", 0, 82), _Part("Cabinet", -30, 40), _Part("Cabinet", 30, 40))
    counters = [_counter(draw, ["CoffeeMachine", "Toaster"]), _counter(draw, ["Microwave"])]
    return [
        *counters,
        _Unit(90, tuple(stove)),
        _Unit(120, sink),
        _single("Fridge", 100, 100),
        _single("GarbageCan", 60, 20),
        *[_counter(draw)] * draw.chance(0.4),
        *[_single("DiningTable", 180, 75)] * draw.chance(0.6),
        *[_single("SideTable", 80, 70)] * draw.chance(0.1),
        *[_shelves(draw)] * draw.chance(0.2),
    ]


def _living_room(draw: Draw) -> list[_Unit]:
    return [
        _single("GarbageCan", 60, 20),
        _chest(draw) if draw.chance(0.5) else _Unit(150, (_Part("TVStand", 0, 60), *_drawers(-40, draw.below(3)))),
        *[_single("Sofa", 220, 45)] * (1 + draw.chance(0.2)),
        *[_single("ArmChair", 110, 45)] * draw.below(3),
        *[_single("CoffeeTable", 140, 40)] * (1 + draw.chance(0.2)),
        *[_Unit(80, (_Part("SideTable", 0, 70), *_drawers(0, draw.below(2)))) for _ in range(draw.below(4))],
        *[_single("DiningTable", 180, 75)] * draw.chance(0.5),
        *[_shelves(draw)] * draw.chance(0.4),
        *[_single("Ottoman", 80, 40)] * draw.chance(0.1),
    ]


def _bedroom(draw: Draw) -> list[_Unit]:
    desk = _Unit(170, (_Part("Desk", 0, 75), *_drawers(50, 1 + draw.below(3))))
    return [
        _single("GarbageCan", 60, 20),
        *[_single("Bed", 240, 55)] * (1 + draw.chance(0.15)),
        desk if draw.chance(0.7) else _chest(draw),
        _shelves(draw) if draw.chance(0.6) else _chest(draw),
        *[_Unit(80, (_Part("SideTable", 0, 70), *_drawers(0, 1 + draw.below(2)))) for _ in range(1 + draw.below(2))],
        *[_single("ArmChair", 110, 45)] * draw.chance(0.2),
        *[_single("LaundryHamper", 70, 50)] * draw.chance(0.3),
        *[_single("Safe", 70, 45)] * draw.chance(0.2),
    ]


def _bathroom(draw: Draw) -> list[_Unit]:
    basins = (-50, 50) if draw.chance(0.5) else (0,)
    below = _drawers(-50, 2) + _drawers(50, 2) if draw.chance(0.5) else [_Part("Cabinet", x, 40) for x in (-50, 50)]
    sink = [_Part("CounterTop", 0, 88), *[_Part("SinkBasin", right, 82) for right in basins], *below]
    return [
        _Unit(190, tuple(sink)),
        _single("GarbageCan", 60, 20),
        _Unit(110, (_Part("Toilet", 0, 55), _Part("ToiletPaperHanger", 40, 70))),
        *[_single("TowelHolder", 80, 140)] * (1 + draw.chance(0.3)),
        *[_single("HandTowelHolder", 60, 150)] * (1 + draw.chance(0.4)),
        _single("BathtubBasin", 180, 30) if draw.chance(0.7) else _shelves(draw),
        *[_single("Cart", 70, 60)] * draw.chance(0.1),
        *[_Unit(70, tuple(_column("Cabinet", 0, (40, 120, 170))))] * draw.chance(0.2),
    ]


_UNITS: dict[str, Callable[[Draw], list[_Unit]]] = {
    "kitchen": _kitchen,
    "living room": _living_room,
    "bedroom": _bedroom,
    "bathroom": _bathroom,
}
