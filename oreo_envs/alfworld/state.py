"""What changes in a game.

Knows: the form of a state. Does not know: how it changes (``simulator``), which states win (``goal``).
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

NOTHING = -1
"""The number of no object."""

MARKS = ("isclean", "ishot", "iscool", "istoggled", "issliced")
"""What can be done to objects, in the domain's words."""


class State(NamedTuple):
    """All that changes in a game. Never changed in place, so a state is its own copy.

    Attributes:
        location: the player's.
        held: the object in the player's hand, -1: none.
        contents: objects in each receptacle, sorted; an object may be in several.
        opened: receptacles that are open.
        places: (object, location) pairs.
        removed: (object, receptacle) pairs: was taken from there and not put back.
        marks: what was done to objects, ("isclean", object) and the like.
        won: the goal holds now.
        progress: the share of the goal's parts that are reached, see ``goal.Goal.progress``.
    """

    location: int
    held: int
    contents: tuple[tuple[int, ...], ...]
    opened: frozenset[int]
    places: frozenset[tuple[int, int]]
    removed: frozenset[tuple[int, int]]
    marks: frozenset[tuple[str, int]]
    won: bool = False
    progress: float = 0.0

    @property
    def name(self) -> str:
        """A word: the same for equal states of one game, in every process."""
        sets = sorted(self.opened), sorted(self.places), sorted(self.removed), sorted(self.marks)
        said = repr((self.location, self.held, self.contents, *sets))
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()
