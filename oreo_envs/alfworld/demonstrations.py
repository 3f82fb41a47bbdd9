"""Demonstrations of the expert, with mistakes among its commands where they are wanted.

Knows: how to play a game to its end, which wrong commands a player might plausibly give. Does
not know: how the expert decides (``expert``), other numbers (``numbering``), episodes (``env``).
A learner that sees only right commands never sees how to go on after a wrong one. So some commands are wrong
on purpose and marked, for nobody is to imitate them; the expert reads what came of them and goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from oreo_envs.alfworld.commands import Play, obey, show_text
from oreo_envs.alfworld.expert import Expert, Memory, Move
from oreo_envs.alfworld.numbering import Numbering
from oreo_envs.alfworld.texts import NOTHING_HAPPENS
from oreo_envs.base import Demonstration


class Turn(NamedTuple):
    """A command of a demonstration.

    Attributes:
        move: the command in its native spelling, and why.
        mistaken: not to be imitated.
        answer: the game's, in the text style.
    """

    move: Move
    mistaken: bool
    answer: str


def play_game(
    play: Play, opening: str, *, style: str, mistakes: float, max_steps: int, rng: np.random.Generator
) -> Iterator[Turn]:
    """Play until the game is won or the steps are used up.

    Args:
        play: the game, at its start.
        opening: what the player reads first, in the style.
        style: text style of the answers.
        mistakes: probability that a command is a mistake.
        max_steps: commands at most.
        rng: draws the mistakes.

    Raises:
        ValueError: the opening holds no task that the expert knows.
    """
    expert = Expert(opening)
    last: str | None = None
    for _ in range(max_steps):
        move, mistaken = expert.act(), False
        if mistakes and rng.random() < mistakes:
            wrong = _mistake(expert.memory, move.command, last, rng)
            move, mistaken = wrong or move, wrong is not None
        last = move.command
        text = obey(play, last)[1]
        answer = NOTHING_HAPPENS if text is None else show_text(text, style)
        expert.memory.update(last, answer)
        yield Turn(move, mistaken, answer)
        if play.won:
            return


def renumbered(shown: Demonstration, rng: np.random.Generator) -> Demonstration:
    """Return a demonstration in which the things of each type have other numbers, everywhere the same.

    The system's message, which speaks of any game, stays as it is.
    """
    rename = Numbering(rng).show
    steps = tuple(map(rename, shown.steps))
    return replace(
        shown,
        messages=tuple(
            message if message["role"] == "system" else {**message, "content": rename(message["content"])}
            for message in shown.messages
        ),
        steps=steps,
        # Here a step is a whole message.
        spans=tuple((message, 0, len(step)) for (message, _, _), step in zip(shown.spans, steps, strict=True)),
    )


def _mistake(memory: Memory, right: str, last: str | None, rng: np.random.Generator) -> Move | None:
    """Draw a kind of mistake that is possible, then a command of that kind; None where there is none."""
    away = [name for name in memory.receptacles if not memory.at(name)]
    here = [name for name in memory.receptacles if memory.at(name) and name not in memory.closed]
    if memory.held is None:
        wrong_object = _taking(memory, here)
    else:
        wrong_object = [Move(f"move {memory.held} to {name}", f"I leave the {memory.held} here.") for name in here]
    kinds = (
        [Move(f"go to {name}", f"I try the {name}.") for name in away],
        wrong_object,
        [] if last is None else [Move(last, "I try that again.")],
        # Not admissible: what is not at hand.
        [Move(f"open {name}", f"I open the {name}.") for name in away] + _taking(memory, away),
    )
    possible = [moves for kind in kinds if (moves := [move for move in kind if move.command != right])]
    if not possible:
        return None
    moves = possible[rng.integers(len(possible))]
    return moves[rng.integers(len(moves))]


def _taking(memory: Memory, places: Iterable[str]) -> list[Move]:
    return [
        Move(f"take {item} from {name}", f"I take the {item}.")
        for name in places
        for item in memory.contents.get(name, ())
    ]
