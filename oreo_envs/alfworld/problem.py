"""A game file's PDDL problem, read into names and numbers.

Knows: s-expressions, the predicates of the domain and the types of their arguments, how mangled ids
become the names that players see.
Does not know: what actions do (``simulator``), where files are (``games``).
Source: the names follow ``Demangler`` of ALFWorld (https://github.com/alfworld/alfworld, MIT licence):
the ids of one kind are numbered against their sorted order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

from oreo_envs.alfworld.sexp import Sexp, read_sexp, show
from oreo_envs.checks import closest

# Types of the arguments, in the domain's words, in lower case as PDDL reads them.
PREDICATES: dict[str, tuple[str, ...]] = {
    predicate: tuple(types.split())
    for types, predicates in {
        "agent": "holdsany holdsanyreceptacleobject",
        "agent location": "atlocation",
        "agent object": "holds",
        "location": "examined",
        "object": "isclean cleanable ishot heatable iscool coolable issliced sliceable istoggled toggleable ison "
        "pickupable moveable isreceptacleobject isreceptacleobjectfull",
        "object location": "objectatlocation",
        "object object": "inreceptacleobject",
        "object otype": "objecttype",
        "object receptacle": "inreceptacle wasinreceptacle",
        "receptacle": "openable opened checked full",
        "receptacle location": "receptacleatlocation",
        "receptacle rtype": "receptacletype",
        "rtype otype": "cancontain",
    }.items()
    for predicate in predicates.split()
}
# Facts that could not be true at the start of a game that one agent with empty hands begins.
_NEVER_INITIAL = frozenset({"holds", "holdsany", "holdsanyreceptacleobject"})
_TYPES = frozenset({"agent", "location", "receptacle", "object", "rtype", "otype"})

Fact = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of the goal: there are values of the variables that make all literals true.

    ``variables`` pairs names with types; a literal is (predicate, argument, ...), where an argument is
    a variable or an otype or rtype. The predicate ``!=`` says that two variables differ.
    """

    variables: tuple[tuple[str, str], ...]
    literals: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """A house, its start and its goal.

    Objects, receptacles, locations and types are numbered in the order of their ids, which is the order
    in which the stock engine lists them.

    Attributes:
        task: the sentence, "put some mug in desk.".
        objects: what players call them, "mug 2".
        receptacles: what players call them, "sidetable 1".
        otypes: types of objects, "mugtype".
        rtypes: types of receptacles, "desktype".
        facts: predicate to the facts that hold at the start, as numbers; the agent has none.
        goal: all of these must hold.
    """

    task: str
    objects: tuple[str, ...]
    receptacles: tuple[str, ...]
    otypes: tuple[str, ...]
    rtypes: tuple[str, ...]
    facts: dict[str, tuple[Fact, ...]]
    goal: tuple[Clause, ...]

    def to_json(self) -> str:
        """Return the problem as one line of JSON."""
        return json.dumps(astuple(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str | bytes) -> Problem:
        """Invert ``to_json``."""
        task, *names, facts, goal = json.loads(line)
        objects, receptacles, otypes, rtypes = map(tuple, names)
        return cls(
            task,
            objects,
            receptacles,
            otypes,
            rtypes,
            facts={predicate: tuple(map(tuple, rows)) for predicate, rows in facts.items()},
            goal=tuple(
                Clause(tuple(map(tuple, variables)), tuple(map(tuple, literals))) for variables, literals in goal
            ),
        )


def read_problem(pddl: str, task: str) -> Problem:
    """Read the text of a PDDL problem of the domain ``alfred``; any white space, any letter case.

    Args:
        pddl: the field ``pddl_problem`` of a game file.
        task: the task's sentence.

    Raises:
        ValueError: not a PDDL problem, another domain, an unknown predicate or type, arguments of the
            wrong number or type, or a goal that is not made of ``exists`` and ``and``.
    """
    sections = _sections(read_sexp(pddl))
    types = _object_types(sections[":objects"])
    atoms = _atoms(sections[":init"], types)
    return _numbered(task, types, atoms, _clauses(sections[":goal"]))


def player_names(ids: Iterable[str]) -> dict[str, str]:
    """Map mangled ids to the names that players see, "mug_bar__plus_01..." to "mug 2".

    An id without ``_bar_`` keeps its text and gets no number, but the blank that would precede it.
    """
    left: Counter[str] = Counter()
    kinds = {}
    for mangled in sorted(ids):
        kind, bar, _ = mangled.partition("_bar_")
        if bar:
            kind += "basin" * ("basin" in mangled)
            left[kind] += 1
        kinds[mangled] = (kind, bool(bar))
    names = {}
    for mangled, (kind, numbered) in kinds.items():
        names[mangled] = f"{kind} {left[kind] if numbered else ''}"
        left[kind] -= numbered
    return names


def _sections(problem: Sexp) -> dict[str, list[Any]]:
    """Parts of ``(define (problem p) (:domain d) (:objects ...) ...)`` by their keywords."""
    if len(problem) < 2 or problem[0] != "define" or not isinstance(problem[1], list) or problem[1][:1] != ["problem"]:
        raise ValueError("not a PDDL problem: it does not begin with (define (problem ...)")
    parts = [part for part in problem[2:] if isinstance(part, list) and part and type(part[0]) is str]
    sections = {part[0]: part[1:] for part in parts}
    if len(sections) != len(parts):
        raise ValueError("PDDL problem with a section that is given twice")
    if sections.get(":domain") != ["alfred"]:
        raise ValueError(
            f"PDDL problem of another domain: (:domain {show(sections.get(':domain'))}), not (:domain alfred)"
        )
    for keyword in (":objects", ":init", ":goal"):
        if keyword not in sections:
            raise ValueError(f"PDDL problem without ({keyword} ...)")
    return sections


def _object_types(words: list[Any]) -> dict[str, str]:
    """Types by id, from a typed list ``a b - object c - receptacle``."""
    types: dict[str, str] = {}
    waiting: list[str] = []
    items = iter(words)
    for word in items:
        if not isinstance(word, str):
            raise ValueError(f"(:objects ...): expected words, got {show([word])}")
        if word != "-":
            waiting.append(word)
            continue
        kind = next(items, None)
        if kind not in _TYPES:
            raise ValueError(f"(:objects ...): unknown type {show([kind])}; known: {', '.join(sorted(_TYPES))}")
        types.update(dict.fromkeys(waiting, kind))
        waiting.clear()
    types.update(dict.fromkeys(waiting, "object"))
    declared = [word for word, before in zip(words, [None, *words], strict=False) if "-" not in (word, before)]
    if len(declared) > len(types):
        twice = next(word for word in declared if declared.count(word) > 1)
        raise ValueError(f"(:objects ...): {twice!r} is declared twice")
    return types


def _atoms(init: list[Any], types: dict[str, str]) -> dict[str, list[list[str]]]:
    """Arguments of the facts that hold at the start, by predicate; distances are left out."""
    atoms: dict[str, list[list[str]]] = {}
    for atom in init:
        if not isinstance(atom, list) or not atom:
            raise ValueError(f"(:init ...): expected a fact in brackets, got {show([atom])}")
        predicate, *arguments = atom
        if predicate == "=":
            continue
        expected = _argument_types(predicate)
        try:
            kinds = tuple(map(types.get, arguments))
        except TypeError:  # an argument in brackets
            kinds = ()
        if kinds != expected:
            raise ValueError(
                f"(:init ...): {show([atom])} does not fit ({predicate} {' '.join(expected)}) "
                "or names something that (:objects ...) does not declare"
            )
        if predicate in _NEVER_INITIAL:
            raise ValueError(f"(:init ...): {show([atom])}: a game begins with empty hands")
        atoms.setdefault(predicate, []).append(arguments)
    if len(atoms.get("atlocation", ())) != 1:
        raise ValueError(
            f"(:init ...): one (atLocation agent location) expected, got {len(atoms.get('atlocation', ()))}"
        )
    located = [receptacle for receptacle, _ in atoms.get("receptacleatlocation", ())]
    if len(set(located)) < len(located):
        raise ValueError("(:init ...): a receptacle is at two locations")
    return atoms


def _argument_types(predicate: Any) -> tuple[str, ...]:
    expected = PREDICATES.get(predicate) if isinstance(predicate, str) else None
    if expected is None:
        raise ValueError(
            f"unknown predicate {show([predicate])} in the PDDL problem{closest(show([predicate]), PREDICATES)}"
        )
    return expected


def _clauses(goal: list[Any]) -> tuple[Clause, ...]:
    """Goal as clauses; nested ``exists`` and ``and`` are flattened."""
    if len(goal) != 1:
        raise ValueError("(:goal ...): one formula expected")
    clauses: list[Clause] = []
    waiting = [goal[0]]
    while waiting:
        formula = waiting.pop(0)
        if formula[:1] == ["and"]:
            waiting[:0] = formula[1:]
            continue
        variables: dict[str, str] = {}
        literals: list[tuple[str, ...]] = []
        _flatten(formula, variables, literals)
        clauses.append(Clause(tuple(variables.items()), tuple(literals)))
    if not any(clause.literals for clause in clauses):
        raise ValueError("(:goal ...): nothing is asked for")
    return tuple(clauses)


def _flatten(formula: Any, variables: dict[str, str], literals: list[tuple[str, ...]]) -> None:
    """Add what ``formula`` quantifies and says."""
    match formula:
        case ["and", *parts]:
            for part in parts:
                _flatten(part, variables, literals)
        case ["exists", [*declared], body]:
            new = _object_types(declared)
            if new.keys() & variables.keys():
                raise ValueError(f"(:goal ...): {show(sorted(new.keys() & variables.keys()))} is quantified twice")
            variables.update(new)
            _flatten(body, variables, literals)
        case ["not", ["=", str(one), str(other)]] if one in variables and other in variables:
            literals.append(("!=", one, other))
        case [str(predicate), *arguments] if predicate not in ("or", "not", "forall", "imply", "=", "exists"):
            expected = _argument_types(predicate)
            if len(arguments) != len(expected) or not all(isinstance(argument, str) for argument in arguments):
                raise ValueError(f"(:goal ...): {show([formula])} does not fit ({predicate} {' '.join(expected)})")
            for argument, kind in zip(arguments, expected, strict=True):
                if variables.get(argument, kind if kind in ("otype", "rtype") else None) != kind:
                    raise ValueError(f"(:goal ...): {argument} in {show([formula])} is no {kind}")
            literals.append((predicate, *arguments))
        case _:
            raise ValueError(f"(:goal ...): expected exists, and, not = or a fact, got {show([formula])}")


def _numbered(task: str, types: dict[str, str], atoms: dict[str, list[list[str]]], goal: tuple[Clause, ...]) -> Problem:
    """Replace ids by numbers; only what some fact mentions is part of the game."""
    mentioned = {argument for rows in atoms.values() for row in rows for argument in row}
    names = player_names(mentioned)
    by_type: dict[str, list[str]] = {kind: [] for kind in _TYPES}
    for mangled in sorted(mentioned):
        by_type[types[mangled]].append(mangled)
    # A type that nothing has takes no part in the game, nor does what could contain it.
    for typing, kind in (("objecttype", "otype"), ("receptacletype", "rtype")):
        used = {row[1] for row in atoms.get(typing, ())}
        by_type[kind] = [mangled for mangled in by_type[kind] if mangled in used]
    number = {mangled: index for group in by_type.values() for index, mangled in enumerate(group)}
    facts = {}
    for predicate, rows in atoms.items():
        first = 1 if PREDICATES[predicate][0] == "agent" else 0
        known = [row for row in rows if row[0] in number and row[1] in number] if predicate == "cancontain" else rows
        facts[predicate] = tuple(sorted({tuple(map(number.__getitem__, row[first:])) for row in known}))
    return Problem(
        task=task,
        objects=tuple(names[mangled] for mangled in by_type["object"]),
        receptacles=tuple(names[mangled] for mangled in by_type["receptacle"]),
        otypes=tuple(by_type["otype"]),
        rtypes=tuple(by_type["rtype"]),
        facts=facts,
        goal=goal,
    )
