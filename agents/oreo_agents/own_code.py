"""Errors that come out of code from outside the suite: a sentence that says where, and the traceback in the log.

Knows: tracebacks, which packages were named (``plugins``), where logs go. Does not know: what the code was called for.
"""

import logging
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from oreo_agents import plugins

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class OwnCodeError(Exception):
    """Code from outside raised in another process; its frames stay there, this says where it was."""


def explained(error: BaseException) -> str | None:
    """Say which function of which file raised; None: no code from outside was running."""
    if isinstance(error, OwnCodeError):
        return str(error)
    roots = plugins.named_roots() - plugins.OURS
    frames = [
        (frame.f_code, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] in roots
    ]
    if not frames:
        return None
    code, line = frames[-1]
    return f"{code.co_qualname} ({code.co_filename}, line {line}) raised {type(error).__name__}: {error}"


def sent_home(work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """Call in another process what may run code from outside.

    Raises:
        OwnCodeError: that code raised; anything else as it is.
    """
    try:
        return work(*args, **kwargs)
    except Exception as error:  # code from outside may raise anything
        if (said := explained(error)) is not None:
            raise OwnCodeError(said) from error
        raise


def told(error: BaseException) -> str | None:
    """Say the same, and where the traceback is, which is written into the log of the job or else to the terminal."""
    said = explained(error)
    return None if said is None else f"{said}; its traceback is {_keep(error)}"


def _keep(error: BaseException) -> str:
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler)]
    if not handlers:
        traceback.print_exception(error, file=sys.stderr)
        return "above"
    given = (type(error), error, error.__traceback__)
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, "what ended the job", None, given)
    for handler in handlers:
        handler.handle(record)
    return f"in {handlers[0].baseFilename}"
