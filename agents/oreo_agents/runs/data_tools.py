"""``oreo data stats | validate | merge | split | balance | dedup``: what one does with buffers.

Knows: buffers, their columns. Does not know: where they come from, training.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from oreo_agents.episodes.recorded import recorded_episodes
from oreo_agents.runs.shards import join as join_shards
from oreo_agents.terminal import Terminal, say
from oreo_algos import EpisodeBuffer
from oreo_envs.recording import is_record

_BARS = " ▁▂▃▄▅▆▇█"
_BINS = 12


def merge(options: argparse.Namespace) -> None:
    """Join buffers of one tokenizer; shards of a collection to what one process would have written.

    Raises:
        ValueError: a buffer is named twice; see ``shards.join``.
    """
    places: dict[Path, Path] = {}
    for folder in options.buffers:
        if (same := places.setdefault(folder.resolve(), folder)) is not folder:
            raise ValueError(f"{folder} is named twice" if same == folder else f"{same} and {folder} are one buffer")
    _save(join_shards({str(folder): EpisodeBuffer.load(folder) for folder in options.buffers}), options.out)


def split(options: argparse.Namespace) -> None:
    """Divide a buffer by tasks, so that no task is in both parts.

    Raises:
        ValueError: a share that leaves a part empty.
    """
    buffer = EpisodeBuffer.load(options.buffer)
    columns = buffer.columns
    order = np.random.default_rng(options.seed).permutation(len(columns.task_ids))
    count = round(options.share * len(order)) if 0 < options.share < 1 else 0
    if not 0 < count < len(order):
        raise ValueError(
            f"--share {options.share:g} of the {len(order)} tasks of {options.buffer} leaves a part empty; tasks stay "
            "whole"
        )
    second = np.isin(columns.task, order[:count])
    for suffix, chosen in (("train", ~second), ("held", second)):
        _save(buffer[chosen], Path(f"{options.out or options.buffer}-{suffix}"))


def balance(options: argparse.Namespace) -> None:
    """Keep at most so many successful and so many other episodes of each task, or what the paper kept.

    Raises:
        ValueError: a protocol is named, and a number too.
    """
    from oreo_algos.algos.selection import PROTOCOLS, by_protocol  # loads torch
    from oreo_algos.algos.selection import balance as balanced

    if options.protocol and options.per_outcome is not None:
        raise ValueError(f"--protocol {options.protocol} says itself how many are kept; leave out --per-outcome")
    buffer, rng = EpisodeBuffer.load(options.buffer), np.random.default_rng(options.seed)
    if options.protocol is None:
        most = 4 if options.per_outcome is None else options.per_outcome
        kept = balanced(buffer, most, rng)
    else:
        kept = by_protocol(buffer, options.protocol, rng)
    _save(kept, options.out)
    if lost := len(buffer.pairs) - len(kept.pairs):
        say(f"{lost} of {len(buffer.pairs)} preference pairs are whole no more: pairs are best left as they are")
    if options.protocol:
        say(f"DPO by this protocol: algo.max_pairs={PROTOCOLS[options.protocol].max_pairs}")


def dedup(options: argparse.Namespace) -> None:
    """Keep the first of the episodes that say the same in the same task, and in the same pair if they are of one."""
    buffer = EpisodeBuffer.load(options.buffer)
    first, success = buffer.first_of_copies, buffer.columns.success
    kept = first == np.arange(len(buffer))
    differing = int((success[first] != success).sum())
    _save(buffer[kept], options.out)
    say(f"{len(buffer) - int(kept.sum())} of {len(buffer)} episodes were copies")
    if differing:
        say(f"{differing} of these had another outcome than the one that is kept, which was the first")


def validate(options: argparse.Namespace) -> None:
    """Read every episode of buffers, and say what would keep one from being learned from.

    Raises:
        ValueError: a buffer is damaged: a shard, a count or the hash of its content is not what its metadata say.
    """
    for folder in options.buffers:
        buffer = EpisodeBuffer.load(folder)
        buffer.verify()
        columns = buffer.columns
        told = {
            "episodes are not encoded (oreo data encode)": int((columns.num_tokens == 0).sum()),
            "have no text to be encoded again": int((~columns.located).sum()),
            "were cut off by a limit": int(columns.truncated.sum()),
            "tasks have one outcome only: no pairs, no contrast": _one_outcome(buffer),
        }
        say(f"{folder}: whole, {len(buffer)} episodes, content {buffer.content_hash[:12]}")
        for what, count in told.items():
            if count:
                say(f"  {count} {what}")


def _one_outcome(buffer: EpisodeBuffer) -> int:
    stats = buffer.stats()
    return int(stats["tasks"] - stats["mixed_tasks"])


def _save(buffer: EpisodeBuffer, out: Path) -> None:
    buffer.save(out)
    say(held(out, buffer.stats()))


def held(place: Path | None, stats: Mapping[str, float]) -> str:
    """Say what a buffer holds, by its ``stats``."""
    return f"{place}: {stats['episodes']} episodes of {stats['tasks']} tasks, {stats['success_rate']:.3f} successful"


def stats(options: argparse.Namespace) -> None:
    """Print what buffers hold, as a whole, by outcome and by task, and how long their episodes are."""
    console = Terminal()
    buffers = [
        recorded_episodes(folder, held_out=True)[0] if is_record(folder) else EpisodeBuffer.load(folder)
        for folder in options.buffers
    ]
    console.print(_overview(options.buffers, buffers))
    for folder, buffer in zip(options.buffers, buffers, strict=True):
        if len(buffer):
            console.print(_outcomes(str(folder), buffer))
            if options.tasks:
                console.print(_tasks(str(folder), buffer, options.tasks))


def _overview(folders: Sequence[Path], buffers: Sequence[EpisodeBuffer]) -> Table:
    table = Table(title="Episode buffers")
    table.add_column("")
    for folder in folders:
        table.add_column(str(folder), justify="right")
    stats = [buffer.stats() for buffer in buffers]
    for name in stats[0]:
        table.add_row(name, *(f"{s[name]:.3f}" if isinstance(s[name], float) else str(s[name]) for s in stats))
    table.add_row("pairs", *(str(len(buffer.pairs)) for buffer in buffers))
    table.add_row("environments", *(", ".join(buffer.env_ids) for buffer in buffers))
    table.add_row("tokenizer", *(buffer.tokenizer_fingerprint or "not encoded" for buffer in buffers))
    table.add_row("content", *(buffer.content_hash[:12] for buffer in buffers))
    for key in dict.fromkeys(key for buffer in buffers for key in buffer.provenance):
        table.add_row(key, *(str(buffer.provenance.get(key, "")) for buffer in buffers))
    return table


def _outcomes(name: str, buffer: EpisodeBuffer) -> Table:
    columns = buffer.columns
    groups = {
        "successful": columns.success,
        "not": ~columns.success & ~columns.truncated,
        "cut off": ~columns.success & columns.truncated,
    }
    encoded = bool((columns.num_tokens > 0).any())
    lengths = {"action tokens": columns.num_action_tokens, "tokens": columns.num_tokens} if encoded else {}
    lengths |= {"actions": columns.num_steps}
    table = Table("outcome", "episodes", "of", "median", "95%", "most", title=name)
    table.add_column("0 ... most", no_wrap=True)
    for what, values in lengths.items():
        for outcome, chosen in groups.items():
            if chosen.any():
                own = values[chosen]
                middle, high = (f"{np.quantile(own, q):.0f}" for q in (0.5, 0.95))
                bars = histogram(own, int(values.max()))
                table.add_row(outcome, str(len(own)), what, middle, high, str(int(own.max())), bars)
    return table


def histogram(values: NDArray[np.int64], top: int) -> str:
    """Return how often values lie in each of some parts of 0 to ``top``, as a line of bars, the commonest full."""
    bins = min(_BINS, top + 1)
    counts, _ = np.histogram(values, bins=bins, range=(-0.5, top + 0.5))
    heights = np.ceil(counts * (len(_BARS) - 1) / max(1, counts.max())).astype(int)
    return "".join(_BARS[height] for height in heights)


def _tasks(name: str, buffer: EpisodeBuffer, most: int) -> Table:
    columns = buffer.columns
    count = np.bincount(columns.task, minlength=len(columns.task_ids))
    right = np.bincount(columns.task, columns.success, minlength=len(columns.task_ids))
    actions = np.bincount(columns.task, columns.num_steps, minlength=len(columns.task_ids)) / count
    order = np.argsort(right / count, kind="stable")[:most]
    table = Table("task", "episodes", "successful", "actions", title=f"{name}: the hardest of {len(count)} tasks")
    for task in order.tolist():
        table.add_row(
            columns.task_ids[task], str(count[task]), f"{right[task] / count[task]:.2f}", f"{actions[task]:.1f}"
        )
    return table
