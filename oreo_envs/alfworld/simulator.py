"""The direct engine: plays a household game without a planner.

Knows: what each command needs and does, what is printed, what is admissible, when the goal is reached.
Does not know: files, PDDL (``problem``), other spellings of commands (``commands``), episodes.
Source: the domain and grammar in ``rules/`` as TextWorld 1.7 interprets them; compared with it command by
command (``benchmarks/alfworld_lockstep.py``). Facts of that engine that the rules do not show at once:
lists are in the order of mangled ids; ``go to`` what shares the player's location changes nothing and so
is not admissible; only the object in hand can be examined, because a comma in the rule makes a type
``location,`` that nothing has; "next to" a receptacle lies what was taken from it and is at its location
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

from oreo_envs.alfworld.problem import PREDICATES, Clause, Fact, Problem

NOTHING_HAPPENS = "Nothing happens."
WELCOME = "-= Welcome to TextWorld, ALFRED! =-"
HELP = """Available commands:
  look:                             look around your current location
  inventory:                        check your current inventory
  go to (receptacle):               move to a receptacle
  open (receptacle):                open a receptacle
  close (receptacle):               close a receptacle
  take (object) from (receptacle):  take an object from a receptacle
  move (object) to (receptacle):  place an object in or on a receptacle
  examine (something):              examine a receptacle or an object
  use (object):                     use an object
  heat (object) with (receptacle):  heat an object using a receptacle
  clean (object) with (receptacle): clean an object using a receptacle
  cool (object) with (receptacle):  cool an object using a receptacle
  slice (object) with (object):     slice an object using a sharp object
"""

_NOBODY = -1
# Where an object can be changed: rtypes, and the property it must have.
_TREATMENTS = {
    "clean": ("cleanable", "isclean", frozenset({"sinktype", "sinkbasintype"})),
    "heat": ("heatable", "ishot", frozenset({"microwavetype"})),
    "cool": ("coolable", "iscool", frozenset({"fridgetype"})),
}
_OPPOSITE = {"ishot": "iscool", "iscool": "ishot"}
_KNIVES = frozenset({"knifetype", "butterknifetype"})
_MARKS = ("isclean", "ishot", "iscool", "istoggled", "issliced")

Mark = tuple[str, int]
Atom = tuple[str, int, int]
"""A fact of the goal: predicate and two numbers, 0 where it has but one argument."""


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
    """

    location: int
    held: int
    contents: tuple[tuple[int, ...], ...]
    opened: frozenset[int]
    places: frozenset[tuple[int, int]]
    removed: frozenset[tuple[int, int]]
    marks: frozenset[Mark]
    won: bool = False


class DirectPlay:
    """A player's way through a game of the direct engine.

    Attributes:
        intro: what the player reads first.
        state: may be kept and set again, here or in another play of the same game.
    """

    def __init__(self, game: Game) -> None:
        """Begin the game."""
        self._game, self.state, self.intro = game, game.start, game.intro

    @property
    def won(self) -> bool:
        """Whether the goal holds now."""
        return self.state.won

    def step(self, command: str) -> str | None:
        """Obey one command and return the text, None where the command is not admissible."""
        self.state, text = self._game.step(self.state, command)
        return text

    def commands(self) -> list[str]:
        """Return the admissible commands, sorted."""
        return self._game.commands(self.state)


class Game:
    """One game, ready to play; never changed, so that any number of players can share it.

    Attributes:
        problem: the house, its start and its goal.
        start: the state it begins with.
        intro: what the player reads first, with the task.
    """

    def __init__(self, problem: Problem) -> None:
        """Make the tables that playing needs.

        Raises:
            ValueError: the goal needs something that this engine does not follow.
        """
        self.problem = problem
        facts = problem.facts
        self._objects, self._receptacles = problem.objects, problem.receptacles
        self._object_number = {name: number for number, name in enumerate(problem.objects)}
        self._receptacle_number = {name: number for number, name in enumerate(problem.receptacles)}
        self._place_of = {receptacle: location for receptacle, location in facts.get("receptacleatlocation", ())}
        self._at: dict[int, list[int]] = {}
        for receptacle, location in facts.get("receptacleatlocation", ()):
            self._at.setdefault(location, []).append(receptacle)
        self._is = {
            predicate: frozenset(number for (number,) in facts.get(predicate, ()))
            for predicate in ("openable", "pickupable", "toggleable", "sliceable", "isreceptacleobject")
        }
        self._inner: dict[int, list[int]] = {}
        for inner, outer in facts.get("inreceptacleobject", ()):
            self._inner.setdefault(outer, []).append(inner)
        self._fits = self._make_fits()
        self._treatments = {
            verb: (
                frozenset(number for (number,) in facts.get(needed, ())),
                mark,
                self._of_type("receptacletype", problem.rtypes, types),
            )
            for verb, (needed, mark, types) in _TREATMENTS.items()
        }
        self._knives = self._of_type("objecttype", problem.otypes, _KNIVES)
        self._go_to: dict[int, tuple[str, ...]] = {}
        self._goal = [list(_bindings(clause, problem)) for clause in problem.goal]
        self._goal_predicates = {literal[0] for clause in problem.goal for literal in clause.literals}
        self.start = self._with_goal(self._start())
        self.intro = f"{WELCOME}\n\n{self._first_look()}\n\nYour task is to: {problem.task}"

    def step(self, state: State, command: str) -> tuple[State, str | None]:
        """Obey one command, literally; blank space around it does not count.

        Returns:
            The new state and the text, or the same state and None where the command is not admissible
            (the player then reads ``NOTHING_HAPPENS``).
        """
        verb, _, rest = command.strip().partition(" ")
        rule = _RULES.get(verb)
        result = rule(self, state, rest) if rule else None
        return result or (state, None)

    def commands(self, state: State) -> list[str]:
        """Return the admissible commands, sorted."""
        objects, receptacles, held, contents = self._objects, self._receptacles, state.held, state.contents
        here = self._at.get(state.location, ())
        openable, opened = self._is["openable"], state.opened
        within_reach = [number for number in here if number not in openable or number in opened]
        things = [receptacles[number] for number in here]
        if held != _NOBODY:
            things.append(objects[held])
        commands = [f"clean {objects[held]} with {name}" for name in self._treating("clean", state, here)]
        commands += sorted([f"close {receptacles[number]}" for number in here if number in openable & opened])
        commands += [f"cool {objects[held]} with {name}" for name in self._treating("cool", state, here)]
        commands += sorted([f"examine {name}" for name in things])
        commands += self._going_to(state.location)
        commands += [f"heat {objects[held]} with {name}" for name in self._treating("heat", state, here)]
        commands += ("help", "inventory", "look")
        if held != _NOBODY:
            fits = [receptacles[number] for number in within_reach if held in self._fits[number]]
            commands += [f"move {objects[held]} to {name}" for name in sorted(fits)]
        commands += sorted([f"open {receptacles[number]}" for number in here if number in openable - opened])
        if held in self._knives:
            commands += sorted([f"slice {objects[item]} with {objects[held]}" for item in self._sliceable(state)])
        elif held == _NOBODY:
            pickupable = self._is["pickupable"]
            commands += sorted(
                [
                    f"take {objects[item]} from {receptacles[number]}"
                    for number in within_reach
                    for item in contents[number]
                    if item in pickupable
                ]
            )
        if toggleable := self._is["toggleable"]:
            commands += sorted(
                {f"use {objects[item]}" for number in here for item in contents[number] if item in toggleable}
            )
        return commands

    def __deepcopy__(self, memo: dict[int, Any]) -> Game:
        """Return the game itself, which never changes, so that copies of environments are cheap."""
        return self

    # The commands. Each returns None where it is not admissible.

    def _go(self, state: State, rest: str) -> tuple[State, str] | None:
        to, _, name = rest.partition(" ")
        number = self._receptacle_number.get(name)
        location = self._place_of.get(number, state.location) if number is not None else state.location
        if to != "to" or number is None or location == state.location:
            return None
        state = self._with_goal(state._replace(location=location), "atlocation")
        return state, f"You arrive at {name}. {self._describe(state, number)}"

    def _open(self, state: State, name: str) -> tuple[State, str] | None:
        number = self._receptacle_here(state, name)
        if number is None or number not in self._is["openable"] or number in state.opened:
            return None
        state = self._with_goal(state._replace(opened=state.opened | {number}), "opened")
        return state, f"You open the {name}. {self._describe(state, number)}"

    def _close(self, state: State, name: str) -> tuple[State, str] | None:
        number = self._receptacle_here(state, name)
        if number is None or number not in self._is["openable"] or number not in state.opened:
            return None
        return self._with_goal(state._replace(opened=state.opened - {number})), f"You close the {name}."

    def _take(self, state: State, rest: str) -> tuple[State, str] | None:
        thing, _, name = rest.partition(" from ")
        item, number = self._object_number.get(thing), self._receptacle_here(state, name)
        if item is None or number is None or state.held != _NOBODY or item not in self._is["pickupable"]:
            return None
        if item not in state.contents[number] or not self._in_reach(state, number):
            return None
        inside = tuple([other for other in state.contents[number] if other != item])
        state = state._replace(
            held=item,
            contents=(*state.contents[:number], inside, *state.contents[number + 1 :]),
            places=state.places - {(item, state.location)},
            removed=state.removed | {(item, number)},
        )
        return self._with_goal(state, "holds"), f"You pick up the {thing} from the {name}."

    def _move(self, state: State, rest: str) -> tuple[State, str] | None:
        thing, _, name = rest.partition(" to ")
        item, number = self._object_number.get(thing), self._receptacle_here(state, name)
        if item is None or number is None or state.held != item:
            return None
        if item not in self._fits[number] or not self._in_reach(state, number):
            return None
        inside = tuple(sorted({*state.contents[number], item}))
        state = state._replace(
            held=_NOBODY,
            contents=(*state.contents[:number], inside, *state.contents[number + 1 :]),
            places=state.places | {(item, state.location)},
            removed=state.removed - {(item, number)},
        )
        return self._with_goal(state, "inreceptacle", "objectatlocation"), f"You move the {thing} to the {name}."

    def _clean(self, state: State, rest: str) -> tuple[State, str] | None:
        return self._treat("clean", state, rest)

    def _heat(self, state: State, rest: str) -> tuple[State, str] | None:
        return self._treat("heat", state, rest)

    def _cool(self, state: State, rest: str) -> tuple[State, str] | None:
        return self._treat("cool", state, rest)

    def _treat(self, verb: str, state: State, rest: str) -> tuple[State, str] | None:
        thing, _, name = rest.partition(" with ")
        item, number = self._object_number.get(thing), self._receptacle_here(state, name)
        treatable, mark, places = self._treatments[verb]
        if item is None or state.held != item or item not in treatable or number not in places:
            return None
        marks = state.marks - {(_OPPOSITE.get(mark, ""), item)} | {(mark, item)}
        return self._with_goal(state._replace(marks=marks), mark), f"You {verb} the {thing} using the {name}."

    def _use(self, state: State, thing: str) -> tuple[State, str] | None:
        item = self._object_number.get(thing)
        here = self._at.get(state.location, ())
        if item not in self._is["toggleable"] or not any(item in state.contents[number] for number in here):
            return None
        # The second use does not turn it off: the rules only ever set "toggled".
        state = state._replace(marks=state.marks | {("istoggled", item)})
        return self._with_goal(state, "istoggled"), f"You turn on the {thing}."

    def _slice(self, state: State, rest: str) -> tuple[State, str] | None:
        thing, _, tool = rest.partition(" with ")
        item, knife = self._object_number.get(thing), self._object_number.get(tool)
        if item is None or knife is None or knife != state.held or knife not in self._knives:
            return None
        if item not in self._sliceable(state):
            return None
        state = state._replace(marks=state.marks | {("issliced", item)})
        return self._with_goal(state, "issliced"), f"You sliced the {thing} with the {tool}."

    def _examine(self, state: State, name: str) -> tuple[State, str] | None:
        number = self._receptacle_here(state, name)
        if number is not None:
            return state, self._describe(state, number)
        item = self._object_number.get(name)
        if item is None or item != state.held:
            return None
        return state, self._describe_object(state, item)

    def _inventory(self, state: State, rest: str) -> tuple[State, str] | None:
        if rest:
            return None
        if state.held == _NOBODY:
            return state, "You are not carrying anything."
        return state, f"You are carrying: a {self._objects[state.held]}."

    def _help(self, state: State, rest: str) -> tuple[State, str] | None:
        return None if rest else (state, HELP)

    def _look(self, state: State, rest: str) -> tuple[State, str] | None:
        if rest:
            return None
        here = self._at.get(state.location)
        if not here:
            # The engine looks for receptacles where the player is, not in the room.
            return state, _in_the_middle("nothing")
        return state, self._facing(state, here)

    # Texts.

    def _first_look(self) -> str:
        if here := self._at.get(self.start.location):
            return self._facing(self.start, here)
        return _in_the_middle(_listing([self._receptacles[number] for number in self._place_of]))

    def _facing(self, state: State, here: Sequence[int]) -> str:
        lying = {item for item, location in state.places if location == state.location}
        beside = [self._objects[item] for item in sorted(lying) for number in here if (item, number) in state.removed]
        names = _enumeration([self._receptacles[number] for number in here])
        return f"You are facing the {names}. Next to it, you see {_listing(beside)}."

    def _describe(self, state: State, number: int) -> str:
        name = self._receptacles[number]
        listing = _listing([self._objects[item] for item in state.contents[number]])
        if number not in self._is["openable"]:
            return f"On the {name}, you see {listing}."
        if number in state.opened:
            return f"The {name} is open. In it, you see {listing}."
        return f"The {name} is closed."

    def _describe_object(self, state: State, item: int) -> str:
        name = self._objects[item]
        if item in self._is["isreceptacleobject"]:
            inside = [self._objects[inner] for inner in self._inner.get(item, ())]
            return f"This is a normal {name}. In it, you see {_listing(inside)}."
        clean, hot, cool, toggled, sliced = [(mark, item) in state.marks for mark in _MARKS]
        if clean and (hot or cool):
            return f"This is a {'hot' if hot else 'cool'} and clean {'sliced ' * sliced}{name}."
        if sliced and (clean or hot or cool):
            return f"This is a {'clean' if clean else 'hot' if hot else 'cool'} sliced {name}."
        if clean or hot or cool:
            return f"This is a {'hot' if hot else 'clean' if clean else 'cold'} {name}."
        if toggled and item in self._is["toggleable"]:
            return f"This {name} is on."
        if sliced and item in self._is["sliceable"]:
            return f"This is a sliced {name}."
        return f"There's nothing special about {name}."

    # What is where.

    def _receptacle_here(self, state: State, name: str) -> int | None:
        number = self._receptacle_number.get(name)
        return number if number is not None and self._place_of.get(number) == state.location else None

    def _in_reach(self, state: State, number: int) -> bool:
        return number not in self._is["openable"] or number in state.opened

    def _sliceable(self, state: State) -> list[int]:
        return [item for item in self._is["sliceable"] if (item, state.location) in state.places]

    def _treating(self, verb: str, state: State, here: Iterable[int]) -> list[str]:
        """Names of receptacles here in which the held object can be treated so, sorted."""
        treatable, _, places = self._treatments[verb]
        if state.held not in treatable:
            return []
        return sorted([self._receptacles[number] for number in here if number in places])

    def _going_to(self, location: int) -> tuple[str, ...]:
        if location not in self._go_to:
            away = [self._receptacles[number] for number, place in self._place_of.items() if place != location]
            self._go_to[location] = tuple(sorted([f"go to {name}" for name in away]))
        return self._go_to[location]

    # Tables and the goal.

    def _start(self) -> State:
        facts = self.problem.facts
        contents: list[list[int]] = [[] for _ in self._receptacles]
        for item, number in facts.get("inreceptacle", ()):
            contents[number].append(item)
        ((location,),) = facts["atlocation"]
        return State(
            location=location,
            held=_NOBODY,
            contents=tuple(map(tuple, contents)),
            opened=frozenset(number for (number,) in facts.get("opened", ())),
            places=frozenset((item, place) for item, place in facts.get("objectatlocation", ())),
            removed=frozenset(),
            marks=frozenset((mark, item) for mark in _MARKS for (item,) in facts.get(mark, ())),
        )

    def _make_fits(self) -> list[frozenset[int]]:
        """Objects that each receptacle can hold, by their types."""
        facts = self.problem.facts
        of_otype: dict[int, list[int]] = {}
        for item, otype in facts.get("objecttype", ()):
            of_otype.setdefault(otype, []).append(item)
        of_rtype: dict[int, list[int]] = {}
        for rtype, otype in facts.get("cancontain", ()):
            of_rtype.setdefault(rtype, []).extend(of_otype.get(otype, ()))
        fits: list[set[int]] = [set() for _ in self._receptacles]
        for number, rtype in facts.get("receptacletype", ()):
            fits[number].update(of_rtype.get(rtype, ()))
        return [frozenset(items) for items in fits]

    def _of_type(self, typing: str, names: Sequence[str], wanted: frozenset[str]) -> frozenset[int]:
        return frozenset(number for number, kind in self.problem.facts.get(typing, ()) if names[kind] in wanted)

    def _with_goal(self, state: State, *added: str) -> State:
        """``state`` with ``won`` set right; a goal of positive facts is reached only by adding one."""
        if added and not state.won and self._goal_predicates.isdisjoint(added):
            return state
        won = all(any(all(_holds(state, atom) for atom in atoms) for atoms in clause) for clause in self._goal)
        return state if won == state.won else state._replace(won=won)


def _in_the_middle(listing: str) -> str:
    return f"You are in the middle of a room. Looking quickly around you, you see {listing}."


def _listing(names: Sequence[str]) -> str:
    """'a mug 1, a pen 2, and a pen 1'."""
    return _enumeration([f"a {name}" for name in names]) if names else "nothing"


def _enumeration(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])}, and {texts[-1]}"


def _holds(state: State, atom: Atom) -> bool:
    """Whether a fact of the goal that can change is true."""
    predicate, first, second = atom
    match predicate:
        case "inreceptacle":
            return first in state.contents[second]
        case "holds":
            return state.held == first
        case "atlocation":
            return state.location == first
        case "opened":
            return first in state.opened
        case "objectatlocation":
            return (first, second) in state.places
    return (predicate, first) in state.marks


_CHANGING = frozenset({"inreceptacle", "holds", "atlocation", "opened", "objectatlocation", *_MARKS})
# Facts about things that no command changes.
_STATIC = (
    PREDICATES.keys() - _CHANGING - {"holdsany", "holdsanyreceptacleobject", "checked", "examined", "full", "ison"}
)


def _bindings(clause: Clause, problem: Problem) -> Iterator[list[Atom]]:
    """What must be true for a clause to hold: for each way to fill its variables, the facts that can change."""
    for literal in clause.literals:
        if literal[0] not in _CHANGING | _STATIC and literal[0] != "!=":
            raise ValueError(f"(:goal ...): this engine does not keep track of {literal[0]!r}")
    constants = dict.fromkeys({word for literal in clause.literals for word in literal[1:]}, _NOBODY)
    constants |= {name: number for names in (problem.otypes, problem.rtypes) for number, name in enumerate(names)}
    for name, _ in clause.variables:
        constants.pop(name, None)
    # Those that name a type leave the fewest values, so they come first.
    static = sorted(
        (literal for literal in clause.literals if literal[0] in _STATIC),
        key=lambda literal: not any(word in constants for word in literal[1:]),
    )
    for filled in _matches(static, problem.facts, constants):
        free = [(name, range(_count(kind, problem))) for name, kind in clause.variables if name not in filled]
        for values in product(*[numbers for _, numbers in free]):
            value = filled | dict(zip([name for name, _ in free], values, strict=True))
            if all(value[literal[1]] != value[literal[2]] for literal in clause.literals if literal[0] == "!="):
                yield [_atom(literal, value) for literal in clause.literals if literal[0] in _CHANGING]


def _matches(
    literals: Sequence[tuple[str, ...]], facts: dict[str, tuple[Fact, ...]], value: dict[str, int]
) -> Iterator[dict[str, int]]:
    """Ways to fill variables so that all literals are among the facts."""
    if not literals:
        yield value
        return
    predicate, *words = literals[0]
    for fact in facts.get(predicate, ()):
        found = dict(zip(words, fact, strict=True))
        if all(value.get(word, number) == number for word, number in found.items()):
            yield from _matches(literals[1:], facts, value | found)


def _count(kind: str, problem: Problem) -> int:
    """How many things of a type there are."""
    if kind == "location":
        return 1 + max(
            fact[-1] for name, facts in problem.facts.items() if name.endswith("atlocation") for fact in facts
        )
    return {"object": len(problem.objects), "receptacle": len(problem.receptacles), "agent": 1}[kind]


def _atom(literal: tuple[str, ...], value: dict[str, int]) -> Atom:
    """The numbers that ``_holds`` needs; there is one agent, who is not numbered."""
    predicate, *words = literal
    numbers = [value[word] for word in (words[1:] if PREDICATES[predicate][0] == "agent" else words)]
    return (predicate, numbers[0], numbers[1] if len(numbers) > 1 else 0)


_RULES: dict[str, Callable[[Game, State, str], tuple[State, str] | None]] = {
    "go": Game._go,
    "open": Game._open,
    "close": Game._close,
    "take": Game._take,
    "move": Game._move,
    "clean": Game._clean,
    "heat": Game._heat,
    "cool": Game._cool,
    "use": Game._use,
    "slice": Game._slice,
    "examine": Game._examine,
    "inventory": Game._inventory,
    "help": Game._help,
    "look": Game._look,
}
