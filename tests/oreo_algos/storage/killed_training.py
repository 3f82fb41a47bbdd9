"""Train again and again, each time killed (SIGKILL) at another moment of writing the second checkpoint.

Usage: ``python killed_training.py BASE``. Attempt n trains in ``BASE/operation-n`` and dies at file operation n of
that save, give or take those of the threads that log; the last attempt lives. The one in ``BASE/half`` dies when
half of the state is on disk. One process imports torch and forks the attempts.
"""

import io
import itertools
import os
import signal
import sys
from pathlib import Path

import torch
from killed_saves import die_at
from tabular import tiny_models

from oreo_algos import EpisodeBuffer, TrainerConfig, train
from oreo_algos.algos import Oreo
from oreo_algos.storage import checkpoint
from oreo_algos.training import resume

ALGORITHM = Oreo(policy_lr=0.01, value_lr=0.01, batch_size=4, epochs=2, value_warmup_steps=2)
CONFIG = TrainerConfig(checkpoint_every=3)
KILLED_STEP = 6
DROPOUT = 0.3


def train_here(folder: Path, buffer: EpisodeBuffer, *, seed: int) -> None:
    """Train networks with dropout; a run that continues must not depend on the seed."""
    torch.manual_seed(seed)
    train(ALGORITHM, tiny_models(dropout=DROPOUT), buffer, CONFIG, folder)


def die_in_save(operation: int | None) -> None:
    """Kill this process at a file operation of the second save, or (None) when half of its state is written."""
    save_checkpoint, save_state = checkpoint.save_checkpoint, torch.save

    def save_half(state: object, path: Path) -> None:
        memory = io.BytesIO()
        save_state(state, memory)
        path.write_bytes(memory.getvalue()[: memory.tell() // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    def save(folder: Path, step: int, *arguments: object, **options: object) -> None:
        if step == KILLED_STEP and operation is None:
            torch.save = save_half
        elif step == KILLED_STEP:
            die_at(operation)
        save_checkpoint(folder, step, *arguments, **options)
        if step == KILLED_STEP:
            os._exit(0)

    resume.save_checkpoint = save


def attempt(folder: Path, buffer: EpisodeBuffer, operation: int | None) -> bool:
    """Train once; tell whether the process lived through the second save."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(torch.get_num_threads())  # its pool of threads does not live through a fork
        die_in_save(operation)
        train_here(folder, buffer, seed=0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if status == 0:
        return True
    raise SystemExit(f"attempt {operation} failed with status {status}")


def main(base: Path) -> None:
    """Die in the middle of the state, then at each file operation until an attempt lives."""
    torch.set_num_threads(1)
    buffer = EpisodeBuffer.load(base / "buffer")
    torch.optim.AdamW([torch.zeros(1)])  # imports what optimisers import late, so that no child has to
    attempt(base / "half", buffer, None)
    for operation in itertools.count():
        if attempt(base / f"operation-{operation}", buffer, operation):
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]))
