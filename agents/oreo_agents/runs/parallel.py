"""Several jobs side by side, one process each: small models leave a second core idle otherwise.

Knows: processes and a table of progress. Does not know: what a job does.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import TypeVar

from rich.progress import Progress, TextColumn, TimeElapsedColumn

from oreo_agents import own_code
from oreo_algos import stopping

_log = logging.getLogger(__name__)

Result = TypeVar("Result")


def _start(initializer: Callable[[], None]) -> None:
    """Set up a worker; it ends when its parent does, or a restarted run would find it writing in the same folder."""
    parent = parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    stopping.listen_beside()
    initializer()


def _do(work: Callable[[str], Result], name: str) -> Result:
    """Do a job in a worker."""
    with stopping.at_once():
        return own_code.sent_home(work, name)


def _require(name: str, job: Future[Result]) -> None:
    """Raise what a job raised that has ended."""
    try:
        job.result()
    except BrokenProcessPool as error:
        raise _killed(name) from error


def _killed(name: str) -> ValueError:
    return ValueError(
        f"the process that worked on {name} was killed, perhaps for lack of memory; run the same "
        "command again to go on, with workers=1 to need less"
    )


def _failure(name: str, job: Future[Result]) -> Exception | None:
    """Return what a job raised of itself, and say so at once: the others take their time to end."""
    try:
        _require(name, job)
    except Exception as error:  # whatever a job may raise
        if isinstance(error.__cause__, BrokenProcessPool):
            raise
        why = own_code.explained(error) or (str(error) if isinstance(error, ValueError) else repr(error))
        _log.error("%s failed, so the others end after their running steps: %s", name, why)
        return error
    return None


def _processes(pool: ProcessPoolExecutor) -> list[BaseProcess]:
    """Return the workers, which a pool that was shut down has forgotten."""
    return list((pool._processes or {}).values())  # Python has no public name for them


def _tell(processes: Sequence[BaseProcess]) -> None:
    """Tell the workers to end, as this process was told."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid or 0, stopping.TELL)


def _end(processes: Sequence[BaseProcess]) -> None:
    """End the workers at once; what they were writing is removed by whoever writes there next."""
    for process in processes:
        process.kill()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(
    work: Callable[[str], Result],
    names: Sequence[str],
    workers: int,
    *,
    initializer: Callable[[], None],
    steps_of: Callable[[str], int],
) -> list[Result]:
    """Run ``work`` on each name in processes of their own, and show how far they are.

    Args:
        work: can be pickled.
        names: of the jobs, in the order in which they should begin.
        workers: processes.
        initializer: called once in each.
        steps_of: how many steps a running job has made, for the display.

    Returns:
        The results in the order of ``names``.

    Raises:
        ValueError: a process was killed from outside; what a job itself raised is logged at once and raised as it is
            when the others have ended, at their next safe points.
        OwnCodeError: code from outside raised in a job.
    """
    columns = (TextColumn("{task.description}"), TextColumn("{task.fields[doing]}"), TimeElapsedColumn())
    with (
        stopping.at_safe_points("the running steps"),
        ProcessPoolExecutor(workers, get_context("spawn"), _start, (initializer,)) as pool,
        Progress(*columns) as display,
    ):
        with stopping.not_yet_beside():
            jobs = {name: pool.submit(_do, work, name) for name in names}
        processes = _processes(pool)
        rows = {name: display.add_task(name, total=1, doing="waiting", start=False) for name in names}
        running, told, failure = list(names), 0, None
        try:
            while running:
                if told < (stopping.asked() is not None) + (failure is not None):
                    told += 1
                    _tell(processes)
                wait([jobs[name] for name in running], timeout=1, return_when=FIRST_COMPLETED)
                if any(process.exitcode for process in processes):
                    # A pool does not watch a process that it starts while it waits for others (Python 3.11).
                    lost = [name for name in running if not jobs[name].done()]
                    if lost and not wait([jobs[name] for name in lost], timeout=1).done:
                        raise _killed(" or ".join(lost)) from BrokenProcessPool()
                for name in list(running):
                    if jobs[name].done():
                        if not told and failure is None:  # else the others end too, and are waited for
                            failure = _failure(name, jobs[name])
                            if failure is not None:
                                pool.shutdown(wait=False, cancel_futures=True)
                        display.update(rows[name], completed=1, doing="done")
                        running.remove(name)
                    elif jobs[name].running():
                        display.start_task(rows[name])
                        steps = steps_of(name)
                        display.update(rows[name], doing=f"trained {steps} steps" if steps else "started")
            if failure is not None:
                raise failure
            for name in names:
                _require(name, jobs[name])
        except BaseException as error:
            # Do not wait for jobs that have not begun.
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, stopping.Interrupted) and error.number == stopping.TELL:
                raise stopping.Interrupted(stopping.asked() or stopping.TELL, error.kept) from None
            if isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, BrokenProcessPool):
                _end(processes)
            raise
        return [jobs[name].result() for name in names]
