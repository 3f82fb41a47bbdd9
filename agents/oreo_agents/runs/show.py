"""The command ``oreo show``: read the answers of runs, and episodes of any buffer, in the terminal.

Knows: the command line, which answers are shown beside which. Does not know: how a line is written. torch is loaded
where V is asked for and nowhere else.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from oreo_agents.episodes.spoken import asked, visible
from oreo_agents.evaluation import answer_view as view
from oreo_agents.evaluation.kept import Kept, choose, find_kept, matching
from oreo_agents.runs.option_types import whole
from oreo_agents.terminal import Terminal
from oreo_algos.episode import Episode


@dataclass(frozen=True)
class _Shown:
    """An episode, and the buffer that it is of."""

    kept: Kept
    episode: Episode


def main(arguments: Sequence[str], console: Console | None = None) -> None:
    """Show what the command line asks for.

    Raises:
        FileNotFoundError: there is nothing to read.
        ValueError: nothing has the name that was given, or two runs have no task in common.
    """
    given = _parser().parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter shows its number
    console = console or Terminal()
    try:
        _show(given, console)
        sys.stdout.flush()
    except BrokenPipeError:  # `oreo show ... | head`: who reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oreo show",
        description="Read the judged answers of a run (RUN, or RUN/NAME for one algorithm), or any buffer of episodes.",
    )
    parser.add_argument("path", type=Path, metavar="RUN|BUFFER", help="a run folder, RUN/NAME, or a buffer")
    outcome = parser.add_mutually_exclusive_group()
    outcome.add_argument("--right", action="store_true", help="only those that solved their task")
    outcome.add_argument("--wrong", action="store_true", help="only those that did not")
    parser.add_argument("--algo", metavar="NAME", help="of one algorithm of the run")
    parser.add_argument("--search", metavar="NAME", help="of one search, such as greedy")
    parser.add_argument("--split", metavar="NAME", help="of one split")
    parser.add_argument("--task", metavar="ID", help="answers to one task")
    parser.add_argument("--reason", metavar="R", help="only those judged so, such as different, no_answer, numeric")
    parser.add_argument("--limit", type=whole(), default=10, metavar="N", help="at most so many; 0: all; default: 10")
    parser.add_argument(
        "--candidates", action="store_true", help="show the answers too that a search chose the one it gave from"
    )
    parser.add_argument(
        "--compare",
        metavar="OTHER",
        help="another algorithm of the run, or another run: tasks that one of the two solved, side by side",
    )
    parser.add_argument(
        "--values",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="colour steps by the advantage that a value network sees; without FOLDER the algorithm's own",
    )
    return parser


def _show(given: argparse.Namespace, console: Console) -> None:
    found = choose(find_kept(given.path), given.path, algo=given.algo, search=given.search, split=given.split)
    if given.compare is not None:
        _compare(given, found, console)
        return
    right = True if given.right else False if given.wrong else None
    matches = matching(found, given.path, right=right, task=given.task, reason=given.reason)
    _print_contents(found, console)
    every = [_Shown(kept, episode) for kept in found for episode in kept.buffer if matches(episode)]
    shown = every[: given.limit or None]
    values = _read_values(shown, given.values, console) if given.values is not None else {}
    width = view.column(console)
    for one in shown:
        _print_answer(one, values.get(one.episode), console, width, candidates=given.candidates)
    _print_rest(len(shown), len(every), "answers", console)


def _print_contents(found: Sequence[Kept], console: Console) -> None:
    """Say what there is, a line for each buffer."""
    names = [kept.title for kept in found]
    for name, kept in zip(names, found, strict=True):
        right = sum(episode.success for episode in kept.buffer)
        evaluated = kept.facts.get("evaluated") if kept.judged else None
        share = f" of {evaluated} evaluated" if evaluated not in (None, len(kept.buffer)) else ""
        counts = f"{len(kept.buffer)} answers{share}, {right} right, {len(kept.buffer) - right} wrong"
        view.write(console, [Text.assemble((visible(name).ljust(max(map(len, names))), "bold"), "  ", counts)])


def _print_answer(
    one: _Shown, steps: view.Steps | None, console: Console, width: int | None, *, candidates: bool
) -> None:
    episode = one.episode
    title = Text.assemble("\n", view.verdict(episode), "  ", (visible(episode.task_id), "bold"))
    title.append(f"  {visible(one.kept.title)}" if one.kept.judged else "", "dim")
    others = one.kept.candidates(episode.task_id)
    view.write(console, [title, *view.question_lines(episode, width), Text()])
    view.write(console, view.answer_lines(episode, width, steps, others))
    for number, other in enumerate(others if candidates else (), start=1):
        chosen = ", chosen" if other.info.get("chosen") else ""
        head = Text.assemble("\n", view.verdict(other), (f"  candidate {number} of {len(others)}{chosen}", "bold"))
        view.write(console, [head, *view.answer_lines(other, width)])


def _print_rest(shown: int, there: int, what: str, console: Console) -> None:
    if not there:
        view.write(console, [Text(f"\nno {what} of that kind")])
    elif shown < there:
        view.write(console, [Text(f"\n{shown} of {there} {what} shown; --limit 0 shows all", "dim")])


# Two beside each other.


def _compare(given: argparse.Namespace, found: Sequence[Kept], console: Console) -> None:
    pairs = _pairs(given, found)
    width = view.column(console, two=True)
    assert width is not None
    narrow = console.is_terminal and console.width < view.SIDE_BY_SIDE
    left = 0 if given.limit == 0 else given.limit
    total = printed = 0
    for first, second in pairs:
        both = _same_tasks(first, second)
        if not both:
            continue
        chosen = [pair for pair in both if _is_asked_for(given, *pair)]
        total += len(chosen)
        if chosen and given.limit and printed == given.limit:
            continue
        counts = [sum((a.success, b.success) == c for a, b in both) for c in [(1, 1), (1, 0), (0, 1), (0, 0)]]
        names = [visible(first.title), visible(second.title)]
        text = (
            f"A: {names[0]}\nB: {names[1]}\n{len(both)} answers to the same tasks: both right {counts[0]}, only A "
            f"right {counts[1]}, only B right {counts[2]}, both wrong {counts[3]}"
        )
        view.write(console, [Text(text, "bold")])
        if first.facts.get("env_options") != second.facts.get("env_options"):
            view.write(console, [Text("the environment's options differ: these may be other tasks", "yellow")])
        chosen = chosen[: left - printed] if given.limit else chosen
        printed += len(chosen)
        shown = [_Shown(kept, one) for pair in chosen for kept, one in zip((first, second), pair, strict=True)]
        values = _read_values(shown, given.values, console) if given.values is not None and shown else {}
        for a, b in chosen:
            _print_pair((first, a), (second, b), values, console, console.width if narrow else width, narrow=narrow)
        view.write(console, [Text()])
    _print_rest(printed, total, "tasks that only one of the two solved" if given.task is None else "tasks", console)


def _pairs(given: argparse.Namespace, found: Sequence[Kept]) -> list[tuple[Kept, Kept]]:
    """Return the buffers of the two sides, of equal searches and splits.

    Raises:
        ValueError: a side is of several algorithms, or they share no search and split.
    """
    other = Path(given.compare)
    if other.exists():
        others = choose(find_kept(other), other, search=given.search, split=given.split)
    else:
        run = given.path if (given.path / "config.yaml").exists() else given.path.parent
        others = choose(find_kept(run), run, algo=given.compare, search=given.search, split=given.split)
    for where, side in ((given.path, found), (other, others)):
        algos = list(dict.fromkeys((kept.folder.parent, kept.facts.get("algo")) for kept in side))
        if len(algos) > 1:
            names = ", ".join(dict.fromkeys(str(name) for _, name in algos))
            raise ValueError(f"{where}: several algorithms ({names}); name one, as {where}/NAME or with --algo NAME")
    pairs = [(a, b) for a in found for b in others if _kind(a) == _kind(b) or not (a.judged and b.judged)]
    if not pairs:
        kinds = [", ".join(sorted({" ".join(map(str, _kind(kept))) for kept in side})) for side in (found, others)]
        raise ValueError(f"{given.path} ({kinds[0]}) and {given.compare} ({kinds[1]}) share no search on one split")
    if not any(_same_tasks(*pair) for pair in pairs):
        raise ValueError(f"{given.path} and {given.compare} answer no task in common")
    return pairs


def _kind(kept: Kept) -> tuple[Any, ...]:
    return tuple(kept.facts[name] for name in ("search", "budget", "split") if kept.facts.get(name) is not None)


def _same_tasks(first: Kept, second: Kept) -> list[tuple[Episode, Episode]]:
    """Return answers to the same tasks; where both hold several of a task, the first with the first and so on."""
    tasks = second.buffer.by_task()
    return [
        (first.buffer[i], second.buffer[j])
        for task, places in first.buffer.by_task().items()
        for i, j in zip(places, tasks.get(task, ()), strict=False)
    ]


def _is_asked_for(given: argparse.Namespace, first: Episode, second: Episode) -> bool:
    if given.task is not None:
        return first.task_id == given.task
    if given.reason is not None and given.reason not in (
        first.info.get("grade_reason"),
        second.info.get("grade_reason"),
    ):
        return False
    return (
        first.success != second.success and not (given.right and second.success) and not (given.wrong and first.success)
    )


def _print_pair(
    first: tuple[Kept, Episode],
    second: tuple[Kept, Episode],
    values: dict[Episode, view.Steps],
    console: Console,
    width: int,
    *,
    narrow: bool,
) -> None:
    sides = [
        view.answer_lines(episode, width, values.get(episode), kept.candidates(episode.task_id))
        for kept, episode in (first, second)
    ]
    heads = [
        Text.assemble((letter, "bold"), "  ", view.verdict(e))
        for letter, (_, e) in zip("AB", (first, second), strict=True)
    ]
    sides = [[head, *lines] for head, lines in zip(heads, sides, strict=True)]
    view.write(console, [Text(f"\n{visible(first[1].task_id)}", "bold")])
    if asked(first[1]) == asked(second[1]):
        view.write(console, [*view.question_lines(first[1], view.column(console)), Text()])
    else:
        questions = [view.question_lines(episode, width) for _, episode in (first, second)]
        sides = [[*question, Text(), *lines] for question, lines in zip(questions, sides, strict=True)]
    view.write(console, [*sides[0], Text(), *sides[1]] if narrow else view.beside(sides[0], sides[1], width))


# V.


def _read_values(shown: Sequence[_Shown], asked_for: str, console: Console) -> dict[Episode, view.Steps]:
    """Read V along the episodes, by the network that was named or by that of each algorithm.

    Raises:
        ValueError: there is no value network, or an episode does not say where its steps lie.
    """
    from oreo_agents.runs.show_values import read_values

    by_network: dict[str, list[_Shown]] = {}
    without = set()
    for one in shown:
        folder = asked_for or own_value(one.kept)
        if folder is None:
            without.add(one.kept.title)
        else:
            by_network.setdefault(folder, []).append(one)
    if shown and not by_network:
        raise ValueError(f"{', '.join(sorted(without))}: no value network was trained there; give --values FOLDER")
    for title in sorted(without):
        view.write(
            console, [Text(f"{title}: no value network was trained there, so its steps have no colour", "yellow")]
        )
    found: dict[Episode, view.Steps] = {}
    for folder, those in by_network.items():
        fingerprints = [one.kept.buffer.tokenizer_fingerprint for one in those]
        run = those[0].kept.folder.parent.parent / "config.yaml"
        found |= read_values(folder, [one.episode for one in those], fingerprints, run)
    return found


def own_value(kept: Kept) -> str | None:
    """Return the folder of the value network beside judged answers, or that they were evaluated with; None: neither."""
    beside = kept.folder.parent / "value"
    if beside.is_dir():
        return str(beside)
    named = kept.facts.get("value")
    if named is None:
        return None
    inside = kept.folder.parent.parent / str(named)
    return str(inside if inside.is_dir() else named)
