"""Two ways to do the same work, measured side by side in one run.

Knows: CPU and GPU time, memory of fresh processes, the rows that all benchmarks of speed print.
Does not know: what is measured.

A row holds what we need and what the peer needs, lower is better, and ``ratio`` = peer / ours. Times are medians over
repetitions that take turns, ours first; on a CPU they are CPU seconds of one thread, so that other work on the machine
disturbs them little.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

QWEN_1_5B: dict[str, Any] = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
"""Shape of Qwen2.5-1.5B but for its vocabulary."""
QWEN_VOCABULARY = 151_936


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: of what is measured.
        ours, peer: median time, or memory; lower is better.
        unit: of both.
        n: repetitions of each side.
    """

    name: str
    ours: float
    peer: float
    unit: str
    n: int

    @property
    def ratio(self) -> float:
        """How many times better we are."""
        return self.peer / self.ours


def parse(description: str | None, **defaults: int | str) -> argparse.Namespace:
    """Read the command line that all benchmarks of speed share, and set up torch for it.

    Args:
        description: the docstring of the script.
        defaults: further options by name; a whole number or a text, as the default is.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only a list of rows on stdout")
    parser.add_argument("--quick", action="store_true", help="small, within 45 seconds on two cores")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    return options


def take_turns(
    name: str, ours: Callable[[], object], peer: Callable[[], object], *, n: int, device: str = "cpu", warmup: int = 1
) -> Row:
    """Time both sides ``n`` times each, in turns, after ``warmup`` untimed calls of each; seconds, medians."""
    for _ in range(warmup):
        ours()
        peer()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(n):
        for work, seconds in zip((ours, peer), times, strict=True):
            seconds.append(_seconds(work, device))
    row = Row(name, statistics.median(times[0]), statistics.median(times[1]), "s", n)
    say(row)
    return row


def _seconds(work: Callable[[], object], device: str) -> float:
    """CPU seconds of this process, or on a GPU the wall time until it is idle again."""
    if device == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def check_equal(
    name: str, losses: Sequence[Sequence[float]], networks: Sequence[nn.Module], *, tolerance: float
) -> None:
    """Refuse to time two sides that do not compute the same.

    Args:
        name: of what is computed.
        losses: those of our side, and those of the peer.
        networks: ours and the peer's, with their gradients.
        tolerance: of each loss, and of the whole gradient as a vector, relative to the peer's.

    Raises:
        SystemExit: they differ by more, or there is no gradient.
    """
    pairs = [(a.grad, b.grad) for a, b in zip(*(network.parameters() for network in networks), strict=True)]
    missing = sum(gradient is None for pair in pairs for gradient in pair)
    if missing:
        raise SystemExit(f"{name}: {missing} parameters have no gradient")
    size = torch.stack([b.norm() for _, b in pairs]).norm()
    difference = torch.stack([(a - b).norm() for a, b in pairs]).norm()
    close = all(abs(a - b) <= tolerance * abs(b) for a, b in zip(*losses, strict=True))
    if not (size > 0 and difference <= tolerance * size and close):
        raise SystemExit(f"{name}: losses {losses}, gradients of norm {size:.6g} that differ by {difference:.3g}")


def peak_above(ready: Callable[[], Callable[[], object]], *, calls: int = 3, device: str = "cpu") -> float:
    """Return the memory that ``calls`` calls need above what stands before them, MiB; call it in a fresh process.

    Args:
        ready: sets everything up that stays (models, state of optimisers) and returns the work to measure.
        calls: of that work.
        device: ``cpu``: greatest resident size of the process; else what torch holds on the GPU at most.
    """
    work = ready()
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        standing = torch.cuda.memory_allocated()
        for _ in range(calls):
            work()
        return (torch.cuda.max_memory_allocated() - standing) / 2**20
    # The high-water mark starts anew here; ru_maxrss would be that of the process that started this one, if greater.
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    standing = _status("VmRSS")
    for _ in range(calls):
        work()
    return (_status("VmHWM") - standing) / 2**10


def _status(field: str) -> int:
    """Read a number of kB that Linux keeps about this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def in_fresh_processes(*works: Callable[[], Any]) -> Callable[[], list[Any]]:
    """Start to run works, one after another, each in a process of its own; call what is returned for their results.

    They are forks of this process, which should have done nothing but import: importing again takes longer than most
    works. Waiting raises EOFError when a process ended without a result; it has said why on stderr.
    """
    return _forked(lambda: [_forked(work)() for work in works])


def _forked(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start a work in a fork of this process; call what is returned for its result."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(work()))
    process.start()
    sender.close()

    def wait() -> Any:
        result = receiver.recv()
        process.join()
        return result

    return wait


def say(row: Row) -> None:
    """Show a row on stderr as soon as it is there."""
    print(f"{row.name}: {row.ours:.4g} {row.unit}, peer {row.peer:.4g}, {row.ratio:.2f} times", file=sys.stderr)


def report(rows: Sequence[Row], *, as_json: bool) -> None:
    """Print all rows on stdout, as a table or as JSON."""
    if as_json:
        print(json.dumps([asdict(row) | {"ratio": row.ratio} for row in rows], indent=1))
        return
    print("| | n | ours | peer | times |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.name} | {row.n} | {row.ours:.4g} {row.unit} | {row.peer:.4g} {row.unit} | {row.ratio:.2f} |")
