"""Speed of the direct engine against the stock one, measured side by side in one process.

    python benchmarks/alfworld_speed.py [--json] [--quick] [--vector] [--path GAMES]

Needs the extra ``alfworld`` and the games (``--path``, or $OREO_DATA/alfworld). The stock engine is
TextWorld's ``PddlEnv``, driven by ``oreo_envs.alfworld.textworld_engine``; both engines play the same games and
commands and list the admissible commands at each turn. Times are CPU times of the process, so that what else the
machine does counts little: the median over games of the mean within a game.
``--json`` prints a list of rows on stdout; ``ratio`` is greater than 1 where the direct engine is better. Two rows have
another peer: turn 200 of an episode stands beside turn 20 of it (with all messages in ``info``, it must cost no more),
and the memory of 1,000 environments in one vector beside none. ``--vector`` prints only the mean time of a turn in the
vector: with ``PYTHONPATH`` another checkout, whose benchmark need not know it, is timed by this file.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_envs.alfworld.games import GameSource, open_games, read_game_file
from oreo_envs.alfworld.simulator import DirectPlay, Game
from oreo_envs.alfworld.textworld_engine import TextWorldPlay, stock_engine

_SPLIT = "valid_seen"
Row = dict[str, Any]


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Mean CPU time of ``work``."""
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def draw_commands(game: Game, count: int, rng: random.Random) -> list[str]:
    """Admissible commands of a random walk that does not win."""
    play, commands = DirectPlay(game), []
    while len(commands) < count:
        command, before = rng.choice(play.commands()), play.state
        play.step(command)
        if play.won:
            play.state = before
        else:
            commands.append(command)
    return commands


def follow(play: DirectPlay | TextWorldPlay, commands: Sequence[str]) -> None:
    """Give the commands, and list what is admissible after each."""
    for command in commands:
        play.step(command)
        play.commands()


def row(name: str, unit: str, ours: Sequence[float], peer: Sequence[float], *, rate: bool, n: int) -> Row:
    """A row of the table from seconds; ``rate``: show per second."""
    mine, theirs = statistics.median(ours), statistics.median(peer)
    return {
        "name": name,
        "ours": 1 / mine if rate else mine,
        "peer": 1 / theirs if rate else theirs,
        "ratio": theirs / mine,
        "unit": unit,
        "n": n,
    }


def measure(source: GameSource, path: str | None, num_games: int, num_commands: int) -> list[Row]:
    """Time both engines on ``num_games`` games."""
    rng = random.Random(0)
    picked = rng.sample(range(len(source)), num_games)
    env = gym.make("oreo/ALFWorld-v0", split=_SPLIT, path=path).unwrapped
    stock = stock_engine()
    loads, resets, steps, turns = ([], []), ([], []), ([], []), ([], [])
    for index in picked:
        data, game = source.data(index), source[index]
        content = json.dumps(data).encode()
        commands = draw_commands(game, num_commands, rng)
        print(f"game {len(loads[0]) + 1} of {num_games}", file=sys.stderr)

        loads[0].append(seconds(lambda content=content: Game(read_game_file(content, "game").problem), 20))
        loads[1].append(seconds(lambda data=data: stock.load(data)))
        env.reset(options={"index": index})
        resets[0].append(seconds(lambda index=index: env.reset(options={"index": index}), 200))
        resets[1].append(seconds(stock.restart))
        steps[0].append(
            seconds(lambda game=game, commands=commands: follow(DirectPlay(game), commands), 50) / num_commands
        )
        play = TextWorldPlay(data)
        steps[1].append(seconds(lambda play=play, commands=commands: follow(play, commands)) / num_commands)

        def episode(index: int = index, commands: Sequence[str] = commands) -> None:
            env.reset(options={"index": index})
            for command in commands:
                env.step(command)

        turns[0].append(seconds(episode, 10) / num_commands)
    side_by_side = vector_turns(path, num_commands)
    count = num_games * num_commands
    return [
        row("warm step, with admissible commands", "steps/s", *steps, rate=True, n=count),
        row("reset (Gymnasium's, with info)", "s", *resets, rate=False, n=num_games),
        row("load a game file", "s", *loads, rate=False, n=num_games),
        row("turn of a Gymnasium episode, with messages", "turns/s", turns[0], steps[1], rate=True, n=count),
        row("turn in a vector of 256 games", "turns/s", side_by_side, steps[1], rate=True, n=256 * num_commands),
        growth(path),
        memory(path),
    ]


def vector_turns(path: str | None, count: int, num_envs: int = 256) -> list[float]:
    """Seconds of a turn of one environment of a vector, at each turn."""
    vector = gym.make_vec("oreo/ALFWorld-v0", num_envs=num_envs, split=_SPLIT, path=path)
    rng, times = random.Random(0), []
    _, infos = vector.reset(seed=0)
    for _ in range(count):
        actions = [rng.choice(commands) for commands in infos["admissible_commands"]]
        start = time.process_time()
        *_, infos = vector.step(actions)
        times.append((time.process_time() - start) / num_envs)
    vector.close()
    return times


def growth(path: str | None, episodes: int = 40, width: int = 10) -> Row:
    """Time turns 200 and later of long episodes (ours) beside turns 20 and later of the same ones (peer)."""
    env = gym.make("oreo/ALFWorld-v0", split=_SPLIT, path=path, max_steps=None, max_chars=10**9).unwrapped
    late, early = [], []
    for index in range(episodes):
        env.reset(options={"index": index})
        times = [
            seconds(lambda turn=turn: env.step("look" if turn % 2 else "inventory")) for turn in range(200 + width)
        ]
        early.append(statistics.median(times[20 : 20 + width]))
        late.append(statistics.median(times[200:]))
    return row("turn 200 of an episode, beside turn 20", "s", late, early, rate=False, n=episodes * width)


def memory(path: str | None, num_envs: int = 1_000, turns: int = 20) -> Row:
    """Measure what environments take in one vector after some turns, the games themselves apart, in MB."""
    gym.make_vec("oreo/ALFWorld-v0", num_envs=140, split=_SPLIT, path=path, order="sequential").reset(seed=0)
    tracemalloc.start()
    vector = gym.make_vec("oreo/ALFWorld-v0", num_envs=num_envs, split=_SPLIT, path=path, order="sequential")
    rng, (_, infos) = random.Random(0), vector.reset(seed=0)
    for _ in range(turns):
        *_, infos = vector.step([rng.choice(commands) for commands in infos["admissible_commands"]])
    taken = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    name = f"{num_envs:,} environments at turn {turns}"
    return {"name": name, "ours": taken, "peer": None, "ratio": None, "unit": "MB", "n": num_envs}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--quick", action="store_true", help="two games instead of ten, 20 commands instead of 40")
    parser.add_argument("--vector", action="store_true", help="only the mean time of a turn in a vector of 256 games")
    parser.add_argument("--path", default=None, help="where the games are")
    arguments = parser.parse_args()
    if arguments.vector:
        print(f"turn in a vector of 256 games: {statistics.mean(vector_turns(arguments.path, 49)) * 1e6:.1f} µs")
        return 0
    games, commands = (2, 20) if arguments.quick else (10, 40)
    rows = measure(open_games(_SPLIT, arguments.path), arguments.path, games, commands)
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'':44} {'direct':>12} {'stock':>12} {'ratio':>9}")
    for line in rows:
        numbers = f"{line['ours']:12.6g}"
        numbers += " " * 23 if line["peer"] is None else f" {line['peer']:12.6g} {line['ratio']:8.3g}x"
        print(f"{line['name']:44} {numbers}  {line['unit']}, n={line['n']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
