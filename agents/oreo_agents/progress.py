"""What a terminal shows while something runs; a process beside the first one shows nothing.

Knows: bars, and which libraries draw their own. Does not know: what is running.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process

import torch
from rich.progress import Progress
from transformers.utils import logging as transformers_logging

from oreo_algos.bars import bar_console


def is_shown() -> bool:
    """Whether this process may draw: those beside the first one would draw over each other."""
    return parent_process() is None


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[float], None]]:
    """Show a progress bar; yields the function to call with the number just finished."""
    with Progress(console=bar_console(), disable=not is_shown()) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.advance(task, done)


def quiet() -> None:
    """Silence the bars of transformers: they show files of kilobytes being read."""
    transformers_logging.disable_progress_bar()


def start_worker() -> None:
    """Set up a process that works beside others, on one core."""
    torch.set_num_threads(1)
    quiet()
