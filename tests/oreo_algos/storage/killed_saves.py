"""Save a buffer again and again, each time killed (SIGKILL) one file operation later.

Usage: ``python killed_saves.py BASE``. ``BASE/new`` is the buffer to save. Attempt n happens twice,
in ``BASE/earlier/n/buffer``, where a copy of ``BASE/old`` lies already, and in
``BASE/nothing/n/buffer``. It dies at file operation n; the last attempt lives. One process imports
torch and forks the attempts.
"""

import itertools
import os
import shutil
import signal
import sys
from pathlib import Path

from oreo_algos.storage.buffer import EpisodeBuffer

OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir"}


def die_at(operation: int) -> None:
    """Kill this process when it is about to do its n-th file operation from here on."""
    remaining = itertools.count(operation, -1)

    def hook(event: str, _: tuple[object, ...]) -> None:
        if event in OPERATIONS and next(remaining) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def attempt(buffer: EpisodeBuffer, target: Path, operation: int) -> bool:
    """Save once; tell whether the process lived."""
    child = os.fork()
    if child == 0:
        die_at(operation)
        buffer.save(target, episodes_per_shard=2)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if status == 0:
        return True
    raise SystemExit(f"attempt {operation} failed with status {status}")


def main(base: Path) -> None:
    """Save over an earlier buffer and over nothing until an attempt lives."""
    buffer = EpisodeBuffer.load(base / "new")
    buffer.save(base / "new")  # loads what pyarrow imports late, so that no child has to
    for case in ("earlier", "nothing"):
        for operation in itertools.count():
            target = base / case / str(operation) / "buffer"
            target.parent.mkdir(parents=True)
            if case == "earlier":
                shutil.copytree(base / "old", target)
            if attempt(buffer, target, operation):
                break


if __name__ == "__main__":
    main(Path(sys.argv[1]))
