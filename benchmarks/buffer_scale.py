"""What a large buffer costs: to open, to draw batches from, to select and count; memory of a process; growth.

    python benchmarks/buffer_scale.py [--sizes 10000 100000 1000000] [--folder FOLDER] [--peer CHECKOUT]

Synthetic episodes of 280 tokens, eight a task, are written once for each size. Then a process of its own opens the
buffer a first time, which makes the mapped file, and another opens it again and works. "plain" is what reading the same
columns of the file takes with pyarrow and numpy alone. The last column is the exponent of the growth between the last
two sizes: 1 is linear. ``--peer`` is a checkout of an earlier release, such as e63c6d2, the last that loaded a buffer
whole: it does the same work.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from oreo_algos import Episode, EpisodeBuffer, collate
from oreo_algos.algos import Dpo, Kto

try:
    from oreo_algos.algos.selection import balance
    from oreo_algos.training.schedule import Schedule
except ModuleNotFoundError:  # an earlier release
    from oreo_algos.schedule import Schedule
    from oreo_algos.selection import balance

TOKENS, PROMPT, SAMPLES, BATCH = 280, 80, 8, 128


def make(number: int) -> Iterator[Episode]:
    """Make ``number`` episodes of two messages and eight steps."""
    rng = np.random.default_rng(0)
    step_id = np.full(TOKENS, -1, np.int32)
    step_id[PROMPT:] = np.arange(TOKENS - PROMPT) * 8 // (TOKENS - PROMPT)
    text = "".join(rng.choice(list("abcdefgh ")) for _ in range(4 * TOKENS))
    for i in range(number):
        success = bool(rng.random() < 0.5)
        rewards = np.zeros(8, np.float32)
        rewards[-1] = success
        yield Episode(
            tokens=rng.integers(0, 32000, TOKENS),
            step_id=step_id,
            rewards=rewards,
            behavior_logprobs=np.where(step_id < 0, 0, -0.5),
            terminated=True,
            truncated=False,
            task_id=f"train/{i // SAMPLES}",
            env_id="oreo/GSM8K-v0",
            messages=[
                {"role": "user", "content": text[: 4 * PROMPT]},
                {"role": "assistant", "content": f"{i} " + text[4 * PROMPT :]},
            ],
            info={"success": success, "seed": i},
        )


def write(number: int, folder: Path) -> None:
    """Write so many of them as a buffer; here, for an earlier release cannot."""
    from oreo_algos.storage.writing import write_buffer

    with write_buffer(folder, tokenizer_fingerprint="synthetic") as writer:
        for episode in make(number):
            writer.add(episode)


class Clock:
    """CPU seconds by name."""

    def __init__(self) -> None:
        """Start."""
        self.seconds: dict[str, float] = {}
        self._since = time.process_time()

    def lap(self, name: str) -> None:
        """Name what was done since the last lap."""
        now = time.process_time()
        self.seconds[name], self._since = now - self._since, now


def private_mib() -> float:
    """Memory of this process that neither another process nor a file holds, MiB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    return int(fields["Anonymous"].split()[0]) / 1024


def measure(folder: Path) -> dict[str, float]:
    """Open a buffer and work with it, in this process."""
    before, clock = private_mib(), Clock()
    buffer = EpisodeBuffer.load(folder)
    clock.lap("open (s)")
    collate([buffer[i] for i in range(BATCH)])
    clock.lap("first batch (s)")
    memory = {"private memory after it (MiB)": private_mib() - before}
    rng = np.random.default_rng(0)
    clock.lap("")
    buffer.stats()
    clock.lap("stats (s)")
    balance(buffer, 2, rng)
    clock.lap("balance (s)")
    pairs = Dpo().select(buffer, rng)
    clock.lap("DPO's pairs (s)")
    del pairs
    examples = Kto().select(buffer, rng)
    clock.lap("KTO's episodes (s)")
    schedule = Schedule(examples=len(examples), batch_size=BATCH, epochs=1, seed=0)
    clock.lap("")
    for step in range(schedule.total_steps):
        collate([examples[i] for i in schedule.batch(step)])
    clock.lap("an epoch of batches (s)")
    memory["private memory at the end (MiB)"] = private_mib() - before
    memory["peak of resident memory (MiB)"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = clock.seconds
    seconds.pop("", None)
    return seconds | memory


def read_plainly(folder: Path) -> dict[str, float]:
    """Read the columns of the mapped file that statistics, and those that pairs need, without our code."""
    [file] = folder.glob("mapped-*.arrow")
    pa.chunked_array([[1]]).to_numpy()  # imports what it needs
    clock = Clock()
    table = pa.ipc.open_stream(pa.memory_map(str(file))).read_all()
    for name in ("task_id", "env_id"):
        table[name].dictionary_encode().combine_chunks()
    for name in ("success", "truncated", "num_action_tokens", "total_reward"):
        table[name].to_numpy()
    for name in ("tokens", "rewards"):
        np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in table[name].chunks])
    clock.lap("stats, plain (s)")
    table["task_id"].dictionary_encode().combine_chunks()
    table["success"].to_numpy()
    pc.match_substring(table["info"], '"pair": ').to_numpy()
    clock.lap("pairs, plain (s)")
    return clock.seconds


def run(option: str, folder: Path, peer: Path | None = None) -> dict[str, float]:
    """Do something in a process of its own."""
    environment = os.environ | ({} if peer is None else {"PYTHONPATH": str(peer)})
    command = [sys.executable, __file__, option, folder]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(found.stdout)


def main() -> None:
    """Write, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--peer", type=Path)
    tasks = {"--measure": measure, "--plain": read_plainly}
    for option in tasks:
        parser.add_argument(option, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for option, task in tasks.items():
        if folder := getattr(arguments, option.lstrip("-")):
            print(json.dumps(task(folder)))
            return
    root = arguments.folder or Path(tempfile.mkdtemp())
    table: dict[str, list[float]] = {}
    for size in arguments.sizes:
        folder = root / str(size)
        if not folder.exists():
            write(size, folder)
        if arguments.peer:
            found = run("--measure", folder, arguments.peer)
        else:
            for file in folder.glob("mapped-*.arrow"):
                file.unlink()
            first = run("--measure", folder)["open (s)"]
            plain = run("--plain", folder)
            found = {"the first open, which makes the map (s)": first, **run("--measure", folder), **plain}
        for name, value in found.items():
            table.setdefault(name, []).append(value)
    print("| | " + " | ".join(f"{size:,}" for size in arguments.sizes) + " | exponent |")
    print("|---|" + "---:|" * (len(arguments.sizes) + 1))
    for name, values in table.items():
        growth = ""
        if len(values) > 1 and values[-2] > 0 and values[-1] > 0:
            growth = f"{math.log(values[-1] / values[-2]) / math.log(arguments.sizes[-1] / arguments.sizes[-2]):.2f}"
        print(f"| {name} | " + " | ".join(f"{value:.3g}" for value in values) + f" | {growth} |")


if __name__ == "__main__":
    main()
