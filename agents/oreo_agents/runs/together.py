"""A command that ``torchrun`` started several times: one run folder, one voice, one end.

Knows: ranks, and where Hydra writes. Does not know: what a command does. Without ``torchrun`` nothing here does
anything, and torch is not loaded for it.
"""

import logging
import os
from pathlib import Path
from typing import NoReturn

from oreo_agents.runs.overrides import UserError
from oreo_agents.runs.run_folders import hydra_text

_COMMANDS = ("run", "sft", "train")


def started() -> bool:
    """Whether ``torchrun``, or another that sets the same variables, started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def leads() -> bool:
    """Whether this process is the first of those that were started together; known before they meet."""
    return not started() or os.environ["RANK"] == "0"


def require_one_run(*, in_sweep: bool) -> None:
    """Refuse a sweep of several processes.

    Raises:
        ValueError: it is one.
    """
    if in_sweep and started():
        from oreo_algos import ranks

        if ranks.current().size > 1:
            raise ValueError("several processes train one run: start a sweep (-m) without torchrun, see docs/scale.md")


def join(command: str) -> None:
    """Join the others that were started with this process.

    Raises:
        UserError: there are some, and the command is for one process.
    """
    if not started():
        return
    from oreo_algos import ranks

    if ranks.join().size > 1 and command not in _COMMANDS:
        raise UserError(
            f"oreo {command} is for one process: start it without torchrun; together work {', '.join(_COMMANDS)}"
        )


def follow() -> list[str]:
    """Return what Hydra is told on every rank but the first, which chooses the folder: to write there, and no logs."""
    if not started():
        return []
    from oreo_algos import ranks

    us = ranks.current()
    if us.leads:
        return []
    try:
        folder = us.first(str)
    except RuntimeError:  # the first one has ended, and said why
        raise SystemExit(2) from None
    return [f"hydra.run.dir={hydra_text(folder)}", "hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]


def meet(folder: Path, *, in_sweep: bool = False) -> bool:
    """Begin a job: the first rank tells the folder to the others, which wait in ``follow`` and say nothing more.

    Returns:
        Whether this is the first, or the only one.

    Raises:
        ValueError: this is a job of a sweep.
    """
    if not started():
        return True
    from oreo_algos import ranks

    us = ranks.current()
    require_one_run(in_sweep=in_sweep)
    if us.leads:
        us.first(lambda: str(folder))
    else:
        logging.disable(logging.ERROR)
    return us.leads


def speaks() -> bool:
    """Whether this process is to say what failed: one of several does."""
    if not started():
        return True
    from oreo_algos import ranks

    return ranks.speaks()


def end(error: Exception, folder: Path) -> NoReturn:
    """End a job for an error that is no mistake of the user: as it is, unless it tells only that another process ended.

    Raises:
        ValueError: that happened, with what to do.
        SystemExit: another process has said what it was.
    """
    from oreo_algos import ranks

    if ranks.current().size == 1:
        raise error
    if not ranks.speaks():
        raise SystemExit(2) from None
    if not ranks.is_loss_of_another(error):
        raise error
    raise LostError(
        f"{folder}: another process of this run was killed, perhaps for lack of memory; start the same command again "
        "with this hydra.run.dir to go on from its last checkpoint"
    ) from error


class LostError(ValueError):
    """Another process of the run is gone; nobody else has said so."""


def leave() -> None:
    """Leave the others at the end of a command."""
    if started():
        from oreo_algos import ranks

        ranks.leave()
