"""The direct engine: plays a household game without a planner.

Knows: what each command needs and does, what is printed, what is admissible, when the goal is reached.
Does not know: files, PDDL (``problem``), other spellings of commands (``commands``), episodes.
Source: the rules of ALFWorld's data release as TextWorld 1.7 interprets them; compared with it command by
command (``benchmarks/alfworld_lockstep.py``); ours, in ``rules/``, play alike. Facts that the release's do not
show at once: lists are in the order of mangled ids; ``go to`` what shares the player's location changes
nothing and so is not admissible; only the object in hand can be examined, because a comma in the rule makes a
type ``location,`` that nothing has; "next to" a receptacle lies what was taken from it and is at its location
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from oreo_envs.alfworld import texts
from oreo_envs.alfworld.goal import Goal
from oreo_envs.alfworld.problem import Problem
from oreo_envs.alfworld.state import MARKS, NOTHING, State

# Where an object can be changed: rtypes, and the property it must have.
_TREATMENTS = {
    "clean": ("cleanable", "isclean", frozenset({"sinktype", "sinkbasintype"})),
    "heat": ("heatable", "ishot", frozenset({"microwavetype"})),
    "cool": ("coolable", "iscool", frozenset({"fridgetype"})),
}
_OPPOSITE = {"ishot": "iscool", "iscool": "ishot"}
_KNIVES = frozenset({"knifetype", "butterknifetype"})


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
        self._goal = Goal(problem)
        start = self._start()
        self.start = start._replace(won=self._goal.holds(start))
        self.intro = f"{texts.WELCOME}\n\n{self._first_look()}\n\nYour task is to: {problem.task}"

    def step(self, state: State, command: str) -> tuple[State, str | None]:
        """Obey one command, literally; blank space around it does not count.

        Returns:
            The new state and the text, or the same state and None where the command is not admissible
            (the player then reads ``texts.NOTHING_HAPPENS``).
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
        if held != NOTHING:
            things.append(objects[held])
        commands = [f"clean {objects[held]} with {name}" for name in self._treating("clean", state, here)]
        commands += sorted([f"close {receptacles[number]}" for number in here if number in openable & opened])
        commands += [f"cool {objects[held]} with {name}" for name in self._treating("cool", state, here)]
        commands += sorted([f"examine {name}" for name in things])
        commands += self._going_to(state.location)
        commands += [f"heat {objects[held]} with {name}" for name in self._treating("heat", state, here)]
        commands += ("help", "inventory", "look")
        if held != NOTHING:
            fits = [receptacles[number] for number in within_reach if held in self._fits[number]]
            commands += [f"move {objects[held]} to {name}" for name in sorted(fits)]
        commands += sorted([f"open {receptacles[number]}" for number in here if number in openable - opened])
        if held in self._knives:
            commands += sorted([f"slice {objects[item]} with {objects[held]}" for item in self._sliceable(state)])
        elif held == NOTHING:
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
        if item is None or number is None or state.held != NOTHING or item not in self._is["pickupable"]:
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
            held=NOTHING,
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
        if state.held == NOTHING:
            return state, "You are not carrying anything."
        return state, f"You are carrying: a {self._objects[state.held]}."

    def _help(self, state: State, rest: str) -> tuple[State, str] | None:
        return None if rest else (state, texts.HELP)

    def _look(self, state: State, rest: str) -> tuple[State, str] | None:
        if rest:
            return None
        here = self._at.get(state.location)
        if not here:
            # The engine looks for receptacles where the player is, not in the room.
            return state, texts.in_the_middle([])
        return state, self._facing(state, here)

    # Texts.

    def _first_look(self) -> str:
        if here := self._at.get(self.start.location):
            return self._facing(self.start, here)
        return texts.in_the_middle([self._receptacles[number] for number in self._place_of])

    def _facing(self, state: State, here: Sequence[int]) -> str:
        lying = {item for item, location in state.places if location == state.location}
        beside = [self._objects[item] for item in sorted(lying) for number in here if (item, number) in state.removed]
        return texts.facing([self._receptacles[number] for number in here], beside)

    def _describe(self, state: State, number: int) -> str:
        inside = [self._objects[item] for item in state.contents[number]]
        is_open = number in state.opened if number in self._is["openable"] else None
        return texts.receptacle(self._receptacles[number], inside, is_open=is_open)

    def _describe_object(self, state: State, item: int) -> str:
        if item in self._is["isreceptacleobject"]:
            return texts.container(self._objects[item], [self._objects[inner] for inner in self._inner.get(item, ())])
        done = {mark for mark in MARKS if (mark, item) in state.marks}
        return texts.thing(
            self._objects[item],
            done,
            toggleable=item in self._is["toggleable"],
            sliceable=item in self._is["sliceable"],
        )

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
            held=NOTHING,
            contents=tuple(map(tuple, contents)),
            opened=frozenset(number for (number,) in facts.get("opened", ())),
            places=frozenset((item, place) for item, place in facts.get("objectatlocation", ())),
            removed=frozenset(),
            marks=frozenset((mark, item) for mark in MARKS for (item,) in facts.get(mark, ())),
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
        """``state`` with ``won`` set right, after an action that added facts with these predicates."""
        if not state.won and self._goal.predicates.isdisjoint(added):
            return state
        won = self._goal.holds(state)
        return state if won == state.won else state._replace(won=won)


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
