"""Episodes in the terminal: question, steps, verdict; one by one, or two side by side.

Knows: lines of styled text. Does not know: where episodes lie, how V was read. Loads no torch.

Foreign text is never markup (it is only ever put into ``rich.text.Text``), and steers no terminal, see ``visible``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from oreo_agents.episodes.spoken import asked, spoken_steps, visible
from oreo_agents.evaluation.kept import reason_of
from oreo_agents.terminal import Terminal
from oreo_algos.episode import Episode
from oreo_envs.limits import read_json

_RAISES, _LOWERS, _NEITHER = (30, 110, 200), (190, 80, 15), (38, 38, 38)
_GAP = "  |  "
_GROUPS = 8  # different answers that a line tells
SIDE_BY_SIDE = 100
"""Columns of a terminal from which on two answers stand beside each other."""


@dataclass(frozen=True)
class Steps:
    """What a value network says of the steps of one answer.

    Attributes:
        values: V before the first step and after each, reward units, float [K + 1].
        advantages: of each step, reward units, float [K].
        scale: the advantage that has the deepest colour, reward units, > 0.
    """

    values: NDArray[np.float64]
    advantages: NDArray[np.float64]
    scale: float


def verdict(episode: Episode) -> Text:
    """Say in a word whether an answer is right."""
    if reason_of(episode) == "not_graded":
        return Text("not graded", "yellow")
    return Text("right", "bold green") if episode.success else Text("wrong", "bold red")


def question_lines(episode: Episode, width: int | None) -> list[Text]:
    """Return what was asked; the roles stand before the messages where there are several."""
    said = asked(episode)
    lines: list[Text] = []
    for message in said:
        role = Text() if len(said) == 1 else Text(f"{visible(message['role'])}: ", "dim")
        lines += _wrapped(Text.assemble(role, visible(message["content"].strip("\n"))), width, Text("  "))
    return lines


def answer_lines(
    episode: Episode,
    width: int | None,
    steps: Steps | None = None,
    candidates: Sequence[Episode] = (),
) -> list[Text]:
    """Return the steps of an answer, what the environment said in between, and how it was judged."""
    lines = []
    if episode.action_spans is not None:
        turns = _turns(episode)
        for k, (text, said) in enumerate(spoken_steps(episode)):
            gutter, style = Text(f"{k + 1:>3}  ", "dim"), Style.null()
            if steps is not None:
                gutter.append(f"{steps.advantages[k]:+.2f} -> {steps.values[k + 1]:.2f}  ")
                style = _shade(float(steps.advantages[k] / steps.scale))
            lines += _wrapped(Text(visible(text), style), width, gutter)
            if k < len(turns) and len(turns[k]) > 1:
                lines += _wrapped(Text(f"chosen from {_proposals(turns[k])}", "dim"), width, Text("     "))
            if said:
                lines += _wrapped(Text(visible(said.strip("\n")), "dim"), width, Text("     "))
    else:
        lines += _wrapped(Text("(this episode does not say where its actions lie)", "dim"), width)
    if steps is not None:
        lines += _wrapped(Text(f"V at the start {steps.values[0]:.2f}; steps: advantage -> V after", "dim"), width)
    if candidates:
        lines += _wrapped(Text(f"chosen from {votes(candidates)}", "dim"), width)
    return lines + _wrapped(judgement(episode), width)


def judgement(episode: Episode) -> Text:
    """Say what was answered, what would be right, why it was judged so, and what it paid."""
    info, parts = episode.info, []
    answer, reason = info.get("answer"), reason_of(episode)
    if answer is not None:
        parts.append(f"answer {visible(str(answer))}")
    if info.get("reference") is not None:
        parts.append(f"reference {visible(str(info['reference']))}")
    if reason is not None:
        parts.append(visible(reason))
    parts.append(f"reward {episode.total_reward:g}")
    if info.get("sound") is not None:
        parts.append("every step is right" if info["sound"] else "not every step is right")
    parts += _worth(info.get("value"), info.get("score"))
    if info.get("invalid_actions"):
        parts.append(f"{info['invalid_actions']} actions refused")
    parts.append(f"{episode.num_steps} step{'s' * (episode.num_steps != 1)}")
    if episode.encoded:
        parts.append(f"{episode.num_action_tokens} tokens")
    if episode.truncated:
        parts.append("cut off by a limit")
    return Text("; ".join(parts), "italic")


def votes(candidates: Sequence[Episode]) -> str:
    """Say which answers a search chose from: the one it gave, then the commonest."""
    groups: dict[str, list[Episode]] = {}
    for candidate in candidates:
        answer = candidate.info.get("answer")
        groups.setdefault("no answer" if answer is None else visible(str(answer)), []).append(candidate)
    told = []
    ordered = sorted(groups.items(), key=lambda item: (-any(one.info.get("chosen") for one in item[1]), -len(item[1])))
    for answer, group in ordered[:_GROUPS]:
        best = "".join(f", {name} up to {max(found):.2f}" for name, found in _told_of(group).items() if found)
        chosen = ", chosen" if any(one.info.get("chosen") for one in group) else ""
        told.append(f"{answer} ({len(group)}x, {'right' if group[0].success else 'wrong'}{best}{chosen})")
    if len(ordered) > _GROUPS:
        told.append(f"and {len(ordered) - _GROUPS} others")
    return f"{len(candidates)} answers: {'; '.join(told)}"


def beside(left: Sequence[Text], right: Sequence[Text], width: int) -> list[Text]:
    """Put two columns of lines beside each other, of which the left one is ``width`` wide."""
    lines = []
    for k in range(max(len(left), len(right))):
        first = left[k].copy() if k < len(left) else Text()
        first.pad_right(max(width - first.cell_len, 0))
        lines.append(Text.assemble(first, (_GAP, "dim"), right[k] if k < len(right) else Text()))
    return lines


def column(console: Console, *, two: bool = False) -> int | None:
    """Return how wide text is written; None: as it comes, where no terminal shows it."""
    if not two:
        return console.width if console.is_terminal else None
    width = console.width if console.is_terminal else max(console.width, 120)
    return (width - len(_GAP)) // 2


def write(console: Console, lines: Sequence[Text]) -> None:
    """Print lines as they are."""
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True, highlight=False)


def _wrapped(text: Text, width: int | None, gutter: Text | None = None) -> list[Text]:
    """Break a text into lines behind a gutter, which is blank from the second one on."""
    gutter = gutter or Text()
    text.expand_tabs(4)
    if width is None:
        lines = list(text.split("\n", allow_blank=True))
    else:
        lines = list(text.wrap(Terminal(width=width), max(width - gutter.cell_len, 20)))
    blank = Text(" " * gutter.cell_len)
    return [Text.assemble(gutter if k == 0 else blank, line) for k, line in enumerate(lines)]


def _turns(episode: Episode) -> list[list[list[object]]]:
    """Return the actions that were proposed at each turn; [] where nobody says, or a turn is no step."""
    told = episode.info.get("turns")
    try:
        found = read_json(told) if isinstance(told, str) else []
    except ValueError:  # an environment of others may call something else so
        return []
    proposed = isinstance(found, list) and all(
        isinstance(turn, list) and all(isinstance(one, list) and len(one) in (3, 4) for one in turn) for turn in found
    )
    return found if proposed and len(found) == episode.num_steps else []


def _proposals(turn: Sequence[Sequence[object]]) -> str:
    told = []
    for text, times, *numbers in turn:
        told.append(f"{visible(' '.join(str(text).split()))} ({', '.join([f'{times}x', *_worth(*numbers)])})")
    return "; ".join(told)


def _worth(value: object, score: object = None) -> list[str]:
    """Say V, and the number that decided where that is another."""
    told = [f"V {value:.2f}"] if isinstance(value, int | float) else []
    return told + ([f"score {score:.2f}"] if isinstance(score, int | float) and score != value else [])


def _told_of(group: Sequence[Episode]) -> dict[str, list[float]]:
    """Return V of candidates, and the numbers that decided where these are others."""
    found = {
        name: [float(number) for one in group if isinstance(number := one.info.get(key), int | float)]
        for name, key in (("V", "value"), ("score", "score"))
    }
    return {"V": found["V"]} if found["V"] == found["score"] else found


def _shade(depth: float) -> Style:
    """Return the colour of a step: orange lowers V, blue raises it, as in ``value.html``."""
    share, target = min(abs(depth), 1.0), _RAISES if depth > 0 else _LOWERS
    mixed = [round(a + (b - a) * share) for a, b in zip(_NEITHER, target, strict=True)]
    return Style(color="white", bgcolor=Color.from_rgb(*mixed))
