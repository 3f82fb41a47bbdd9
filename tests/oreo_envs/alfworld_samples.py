"""A kitchen written by hand, in the form of ALFWorld's game files, with one goal of each task type.

place a: fridge 1 (closed) with apple 2          place b: microwave 1 (closed, empty)
place c: countertop 1 with apple 1, bowl 1, knife 1, mug 1 and sinkbasin 1 with mug 1 (the same mug)
place d: desk 1 with desklamp 1, mug 2           the player starts at no receptacle
"""

import json
from pathlib import Path

from oreo_envs.alfworld.rules import domain_text, grammar_text

_THINGS = {
    "Apple_bar_1": "pickupable heatable coolable cleanable sliceable",
    "Apple_bar_2": "pickupable heatable coolable cleanable sliceable",
    "Bowl_bar_1": "pickupable isReceptacleObject",
    "DeskLamp_bar_1": "toggleable",
    "Knife_bar_1": "pickupable cleanable",
    "Mug_bar_1": "pickupable heatable coolable cleanable",
    "Mug_bar_2": "pickupable heatable coolable cleanable",
    "Spoon_bar_1": "pickupable",
}
_FURNITURE = {
    "CounterTop_bar_1": ("CounterTopType", "c", "Apple_bar_2 Bowl_bar_1 Knife_bar_1 Mug_bar_2"),
    "Desk_bar_1": ("DeskType", "d", "DeskLamp_bar_1 Mug_bar_1"),
    "Fridge_bar_1": ("FridgeType", "a", "Apple_bar_1"),
    "Microwave_bar_1": ("MicrowaveType", "b", ""),
    "Sink_bar_1_bar_SinkBasin": ("SinkBasinType", "c", "Mug_bar_2"),
}
_OPENABLE = ("Fridge_bar_1", "Microwave_bar_1")


def _kind(mangled: str) -> str:
    return mangled.partition("_bar_")[0] + "Type"


def _place_goal(thing: str, furniture: str, *conditions: str) -> str:
    return (
        f"(and (exists (?r - receptacle) (exists (?o - object) (and {' '.join(conditions)} (objectType ?o {thing}Type) "
        f"(receptacleType ?r {furniture}Type) (inReceptacle ?o ?r)))))"
    )


# task type: (the rest of the folder's name, sentence, goal, walkthrough)
GOALS = {
    "pick_and_place_simple": (
        "Mug-None-Desk-1",
        "put a knife in desk.",
        _place_goal("Knife", "Desk"),
        ["go to countertop 1", "take knife 1 from countertop 1", "go to desk 1", "move knife 1 to desk 1"],
    ),
    "look_at_obj_in_light": (
        "Apple-None-DeskLamp-1",
        "look at apple under the desklamp.",
        "(and (exists (?ot - object ?r - receptacle ?a - agent ?l - location) (and (objectType ?ot DeskLampType) "
        "(toggleable ?ot) (isToggled ?ot) (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?ot ?r))) "
        "(exists (?o - object ?a - agent) (and (objectType ?o AppleType) (holds ?a ?o))))",
        ["go to countertop 1", "take apple 1 from countertop 1", "go to desk 1", "use desklamp 1"],
    ),
    "pick_clean_then_place_in_recep": (
        "Mug-None-Desk-1",
        "put a clean apple in desk.",
        _place_goal("Apple", "Desk", "(cleanable ?o)", "(isClean ?o)"),
        [
            "go to sinkbasin 1",
            "take apple 1 from countertop 1",
            "clean apple 1 with sinkbasin 1",
            "go to desk 1",
            "move apple 1 to desk 1",
        ],
    ),
    "pick_heat_then_place_in_recep": (
        "Mug-None-Fridge-1",
        "put a hot mug in fridge.",
        _place_goal("Mug", "Fridge", "(heatable ?o)", "(isHot ?o)"),
        [
            "go to desk 1",
            "take mug 2 from desk 1",
            "go to microwave 1",
            "heat mug 2 with microwave 1",
            "go to fridge 1",
            "open fridge 1",
            "move mug 2 to fridge 1",
        ],
    ),
    "pick_cool_then_place_in_recep": (
        "Apple-None-CounterTop-1",
        "cool some apple and put it in countertop.",
        _place_goal("Apple", "CounterTop", "(coolable ?o)", "(isCool ?o)"),
        [
            "go to fridge 1",
            "open fridge 1",
            "take apple 2 from fridge 1",
            "cool apple 2 with fridge 1",
            "go to countertop 1",
            "move apple 2 to countertop 1",
        ],
    ),
    "pick_two_obj_and_place": (
        "Apple-None-CounterTop-1",
        "put two apple in countertop.",
        "(and (exists (?r - receptacle) (exists (?o1 - object) (and (objectType ?o1 AppleType) (receptacleType ?r "
        "CounterTopType) (inReceptacle ?o1 ?r) (exists (?o2 - object) (and (not (= ?o1 ?o2)) "
        "(objectType ?o2 AppleType) (receptacleType ?r CounterTopType) (inReceptacle ?o2 ?r)))))))",
        [
            "go to fridge 1",
            "open fridge 1",
            "take apple 2 from fridge 1",
            "go to countertop 1",
            "move apple 2 to countertop 1",
        ],
    ),
}


def sample_problem(goal: str, *, facts: str = "", objects: str = "") -> str:
    """The kitchen as a PDDL problem, with more ``objects`` or ``facts`` if wanted."""
    things = sorted({_kind(thing) for thing in _THINGS})
    declared = [
        *(f"{name} - location" for name in ("loc_bar_a", "loc_bar_b", "loc_bar_c", "loc_bar_d", "loc_bar_e")),
        *(f"{name} - otype" for name in things),
        *(f"{kind} - rtype" for kind, _, _ in _FURNITURE.values()),
        *(f"{name} - object" for name in _THINGS),
        *(f"{name} - receptacle" for name in _FURNITURE),
    ]
    true = ["(atLocation agent1 loc_bar_e)", "(inReceptacleObject Spoon_bar_1 Bowl_bar_1)", "(= (total-cost) 0)"]
    for name, properties in _THINGS.items():
        true.append(f"(objectType {name} {_kind(name)})")
        true += [f"({word} {name})" for word in properties.split()]
    for name, (kind, place, inside) in _FURNITURE.items():
        true += [f"(receptacleType {name} {kind})", f"(receptacleAtLocation {name} loc_bar_{place})"]
        true += [f"(canContain {kind} {thing})" for thing in things if thing != "KnifeType" or kind != "FridgeType"]
        for thing in inside.split():
            true += [f"(inReceptacle {thing} {name})", f"(objectAtLocation {thing} loc_bar_{place})"]
    true += [f"(openable {name})" for name in _OPENABLE]
    return (
        f"(define (problem kitchen) (:domain alfred)\n(:objects agent1 - agent {' '.join(declared)} {objects})\n"
        f"(:init {' '.join(sorted(set(true)))} {facts})\n(:goal {goal}))"
    )


def sample_game(task_type: str = "pick_and_place_simple", **changes: object) -> dict:
    """The fields of a game file; ``changes`` replace some."""
    _, sentence, goal, walkthrough = GOALS[task_type]
    return {
        "pddl_domain": domain_text(),
        "grammar": grammar_text(sentence),
        "pddl_problem": sample_problem(goal),
        "solvable": True,
        "walkthrough": walkthrough,
        **changes,
    }


def write_games(folder: Path, splits: tuple[str, ...] = ("train", "valid_seen")) -> Path:
    """Write six games a split below ``folder``/json_2.1.1, in alfworld's layout; return ``folder``."""
    for split in splits:
        for number, (task_type, (rest, *_)) in enumerate(GOALS.items(), start=1):
            trial = folder / "json_2.1.1" / split / f"{task_type}-{rest}" / f"trial_{number}"
            trial.mkdir(parents=True)
            (trial / "game.tw-pddl").write_text(json.dumps(sample_game(task_type)), encoding="utf-8")
    return folder
