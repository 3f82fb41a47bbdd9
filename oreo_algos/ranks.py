"""The processes that train one run together: which one this is, what all of them tell each other, who waits for whom.

Knows: torch.distributed. Does not know: networks, losses, files.

``torchrun`` starts them, and ``join`` makes a group of them; without it everything here is about one process, which
waits for nobody. What stands here is called by all ranks in the same order, or they would wait for each other for ever.
"""

import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed as dist

Thing = TypeVar("Thing")
Found = TypeVar("Found")

_FOR_EVER = timedelta(days=365)
"""While rank 0 collects or evaluates, the others wait; one that dies ends the waiting at once."""

PATIENCE = "OREO_JOIN_SECONDS"
"""Names the environment variable with the seconds in which those that were started together must have met."""

_PATIENCE_S = 300.0
_TOGETHER = timedelta(minutes=30)
"""How long a process that has met the others waits for them in one exchange."""

_store: dist.Store | None = None
_waiting: tuple[Any, Any] = (None, None)


_alone = False
"""Whether this process does what the others wait for."""


@contextmanager
def _as_one() -> Iterator[None]:
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


class JoinError(ValueError):
    """The processes that were started together have not met."""


class ElsewhereError(ValueError):
    """What rank 0 did alone failed there; the message is what was said there."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
        started: there is a group, perhaps of one.
    """

    rank: int = 0
    size: int = 1
    started: bool = False

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def gather(self, thing: Thing) -> list[Thing]:
        """Return what each rank has, in their order; it must be possible to pickle it."""
        if self.size == 1:
            return [thing]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, thing)
        return found

    def barrier(self) -> None:
        """Go on when all are here."""
        self.gather(None)

    def first(self, work: Callable[[], Found]) -> Found:
        """Do something on rank 0 while the others wait, as long as it takes, and return on all what it returned.

        What is done there is done as if there were one process: ``current`` says so meanwhile.

        Raises:
            ElsewhereError: on the others, with the message of what was raised on rank 0.
        """
        if self.size == 1 or _alone:
            return work()
        told: list[Any] = [None, None]
        if not self.leads:
            dist.broadcast_object_list(told, src=0, group=_group_that_waits())
            if told[1] is not None:
                raise ElsewhereError(told[1])
            return told[0]
        try:
            with _as_one():
                told[0] = work()
        except Exception as error:  # of whatever kind, the others must hear of it
            told[1] = f"{error}" or type(error).__name__
            dist.broadcast_object_list(told, src=0, group=_group_that_waits())
            raise
        dist.broadcast_object_list(told, src=0, group=_group_that_waits())
        return told[0]

    def map(self, work: Callable[[Thing], Found], things: Sequence[Thing], *, together: bool = False) -> list[Found]:
        """Do something with each of many things, number i on rank ``i % size``; return on all what came of each.

        Args:
            work: what it returns can be pickled, and lies on the CPU.
            things: the same on all ranks.
            together: each rank is to do as many, since ``work`` waits for all: who has none left repeats one.
        """
        own = [work(thing) for thing in things[self.rank :: self.size]]
        if together and things and len(own) < -(-len(things) // self.size):
            work(things[-1])
        if self.size == 1:
            return own
        found = self.gather(own)
        return [found[i % self.size][i // self.size] for i in range(len(things))]


def current() -> Ranks:
    """Return this process among those that train together.

    Raises:
        ValueError: ``torchrun`` started several, and none has called ``join``.
    """
    if dist.is_available() and dist.is_initialized() and not _alone:
        return Ranks(dist.get_rank(), dist.get_world_size(), started=True)
    return Ranks()


def join() -> Ranks:
    """Join those that ``torchrun`` started together with this process; started otherwise it is alone.

    A process on a GPU takes the one with its number on this host. One waits for the others for 300 seconds, or as many
    as ``OREO_JOIN_SECONDS`` says.

    Raises:
        JoinError: some did not come in that time, or a variable of the environment is no number.
    """
    global _store
    if not dist.is_available() or dist.is_initialized() or not _started_by_torchrun():
        return current()
    for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"):
        if not os.environ[name].isdecimal():
            raise JoinError(f"{name}={os.environ[name]}: must be a whole number; torchrun sets it")
    patience = _patience()
    cuda = torch.cuda.is_available()
    if cuda and int(os.environ.get("LOCAL_RANK", 0)) < torch.cuda.device_count():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    try:
        _wait_for_store(patience)
        store, rank, size = next(dist.rendezvous("env://", timeout=patience))
        own = dist.PrefixStore("training", store)
        dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=patience)
        _make_group_that_waits(patience)
    except (RuntimeError, OSError) as error:  # of the store a DistError, of gloo a bare RuntimeError
        leave()
        raise JoinError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} has not met the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} within {patience.total_seconds():g} seconds: one "
            f"of them was not started, could not connect or has ended; start all of them again, or, where they only "
            f"start slowly, allow more with {PATIENCE}=N"
        ) from error
    _allow(_TOGETHER)
    store.set_timeout(_TOGETHER)
    _store = store
    return current()


def _wait_for_store(patience: timedelta) -> None:
    """Wait until the process that keeps the store listens; torch's own waiting ends with a page of stack frames."""
    until = time.monotonic() + patience.total_seconds()
    while os.environ["RANK"] != "0":
        try:
            with socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), timeout=10):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def _patience() -> timedelta:
    text = os.environ.get(PATIENCE, "") or f"{_PATIENCE_S:g}"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds <= _FOR_EVER.total_seconds():
        raise JoinError(f"{PATIENCE}={text}: must be a number of seconds from 1 on")
    return timedelta(seconds=seconds)


def require_own_gpu() -> None:
    """Refuse to share a GPU with another process that trains the same run.

    Raises:
        ValueError: this host has fewer GPUs than processes.
    """
    place, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if current().size > 1 and place >= there:
        raise ValueError(
            f"process {place + 1} on this host has no GPU of its own, there are {there}: give torchrun "
            f"--nproc-per-node {there}, or train on the CPU with policy.device=cpu"
        )


def leave() -> None:
    """Leave the group; the end of a process that joined one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def require_joined() -> None:
    """Refuse to train alone what was to be trained together.

    Raises:
        ValueError: ``torchrun`` started several processes, and this one has not joined the others.
    """
    if _started_by_torchrun() and int(os.environ["WORLD_SIZE"]) > 1 and current().size == 1:
        raise ValueError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']}: this process was started as one of several and has not joined "
            "them; call oreo_algos.ranks.join() before train, or start it without torchrun"
        )


def speaks() -> bool:
    """Say, once something has failed here, whether this is the first rank where it did: one is to say what it was."""
    if _store is None:
        return True
    try:
        return _store.add(f"failed-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1
    except RuntimeError:  # whoever keeps the store is gone, after others have failed
        return False


def is_loss_of_another(error: BaseException) -> bool:
    """Say whether an error tells no more than that another process of the group is gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _started_by_torchrun() -> bool:
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def _group_that_waits() -> Any:
    """Return a group of all ranks whose members wait for each other without a limit."""
    if _waiting[0] is not dist.group.WORLD:  # a program of one's own made the first group
        _make_group_that_waits(_TOGETHER)
    return _waiting[1]


def _make_group_that_waits(patience: timedelta) -> None:
    global _waiting
    group = dist.new_group(backend="gloo", timeout=patience)
    _allow(_FOR_EVER, group)
    _waiting = (dist.group.WORLD, group)


def _allow(timeout: timedelta, group: Any = None) -> None:
    """Set how long a group waits in one exchange; before torch 2.15 the function has another name."""
    (getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout)(timeout, group)
