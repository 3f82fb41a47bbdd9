"""How often the exploring expert wins ALFWorld's games, by task type.

    python benchmarks/alfworld_expert.py [--path FOLDER] [--split train valid_seen] [--every 1]

Prints a Markdown table for each split: games, the share won within 50 and within 40 commands, the mean number
of commands, and that of the planner's walkthroughs, which are made with the whole state in view.
"""

import argparse
import time
from collections import defaultdict

import numpy as np

from oreo_envs.alfworld.demonstrations import play_game
from oreo_envs.alfworld.games import TASK_TYPES, open_games, task_type
from oreo_envs.alfworld.simulator import DirectPlay

MAX_STEPS = 50


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", help="where the games are; default: where the environment looks; or generated")
    parser.add_argument("--split", nargs="+", default=["train", "valid_seen"])
    parser.add_argument("--every", type=int, default=1, help="play every n-th game")
    options = parser.parse_args()
    for split in options.split:
        started = time.perf_counter()
        games = open_games(split, options.path)
        played = defaultdict(list)
        for index in range(0, len(games), options.every):
            play = DirectPlay(games[index])
            turns = play_game(
                play, play.intro, style="native", mistakes=0.0, max_steps=MAX_STEPS, rng=np.random.default_rng(0)
            )
            row = (len(list(turns)), play.won, len(games.walkthrough(index)))
            played[task_type(games.task_ids[index])].append(row)
        print(f"\n{split}, {time.perf_counter() - started:.1f} s\n")
        print(f"| task type | games | won in {MAX_STEPS} | won in 40 | commands | walkthrough |")
        print("|---|---:|---:|---:|---:|---:|")
        for name in TASK_TYPES:
            if name in played:
                print(_row(name, played[name]))
        print(_row("all", [row for rows in played.values() for row in rows]))


def _row(name: str, rows: list[tuple[int, bool, int]]) -> str:
    commands, won, walkthrough = (np.array(column) for column in zip(*rows, strict=True))
    shares = f"{100 * won.mean():.1f}% | {100 * (won & (commands <= 40)).mean():.1f}%"
    return f"| {name} | {len(rows)} | {shares} | {commands.mean():.1f} | {walkthrough.mean():.1f} |"


if __name__ == "__main__":
    main()
