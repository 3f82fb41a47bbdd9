"""One OREO update by two processes that hold the same networks, against one single-threaded process.

    python benchmarks/ranks.py                 # two processes, each on a core of its own where there are two
    python benchmarks/ranks.py --sharding full

The update is that of ``update_step.py`` (a tiny Llama with 32,000 kinds of token, 16 episodes of 50 to 400 tokens),
taken by the trainer itself: batches, exact KL, sums of gradients, metrics, AdamW. Both sides take turns in one run:
the first process alone while the other sleeps, then both. ``wall`` is what a user waits for, and suffers twice where
others use the machine; ``CPU`` compares the CPU seconds of the one process with those of the busier of the two, which
says what is to be had on idle cores (of waiting and sending only what costs CPU is in it).
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from side_by_side import Row, parse, report
from torch import distributed as dist
from update_step import draw_episodes, draw_lengths, make_side

from oreo_algos import EpisodeBuffer, Models, TrainerConfig, ranks
from oreo_algos.algos import Oreo
from oreo_algos.training.trainer import _Run

VOCABULARY = 32_000
RANKS = 2


def make_run(folder: Path, sharding: str, episodes: int) -> _Run:
    """Return a training that has begun: all of its steps are of the same kind."""
    drawn = draw_episodes(draw_lengths(episodes, 50, 400), VOCABULARY)
    side = make_side(drawn, VOCABULARY, "cpu")
    config = TrainerConfig(micro_batch_tokens=1024, tracker="none", sharding=sharding)  # type: ignore[arg-type]
    algorithm = Oreo(policy_lr=1e-6, value_lr=1e-6, batch_size=episodes, epochs=10_000)
    models = Models(side.policy, side.reference, side.value)
    return _Run(algorithm, models, EpisodeBuffer(drawn), config, folder, {}, None)


def step(run: _Run) -> None:
    """Take one step."""
    run._train_step()
    run.step += 1


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def work(rank: int, folder: str, sharding: str, episodes: int, repeats: int) -> None:
    """Be one of the processes; the first one leaves what was measured."""
    torch.set_num_threads(1)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) >= RANKS:
        os.sched_setaffinity(0, {cores[rank]})
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    us, mine, found = ranks.current(), [], []
    us.first(lambda: mine.append(make_run(Path(folder, "alone"), "replicated", episodes)))
    both = make_run(Path(folder, "both"), sharding, episodes)
    for _ in range(repeats + 1):  # the first is not counted
        one = us.first(lambda: timed(partial(step, mine[0])))
        us.barrier()
        several = us.gather(timed(partial(step, both)))
        found.append([*one, max(wall for wall, _ in several), max(cpu for _, cpu in several)])
    if us.leads:
        torch.save(found[1:], f"{folder}/found.pt")
    dist.destroy_process_group()


def rows_of(name: str, found: Sequence[Sequence[float]]) -> list[Row]:
    """Return medians; ``ours`` is several processes."""
    one_wall, one_cpu, wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
    pairs = statistics.median(row[0] / row[2] for row in found)
    return [
        Row(f"{name}, wall", wall, one_wall, "s", len(found)),
        Row(f"{name}, wall, median ratio of pairs", 1.0, pairs, "", len(found)),
        Row(f"{name}, CPU of the busier process", cpu, one_cpu, "s", len(found)),
    ]


def main() -> None:
    """Print the rows."""
    options = parse(__doc__, sharding="replicated", repeats=15)
    episodes, repeats = (4, 3) if options.quick else (16, options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (folder, options.sharding, episodes, repeats), nprocs=RANKS)
        found = torch.load(f"{folder}/found.pt")
    report(rows_of(f"OREO update on {RANKS} ranks ({options.sharding})", found), as_json=options.json)


if __name__ == "__main__":
    main()
