"""Coroutines and code that is none.

Knows: that a loop may be running already. Does not know: what is run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")


def aside(function: Callable[[], _T]) -> _T:
    """Call a function where no loop is running: here, or in a thread of its own (in a notebook)."""
    if not _is_running():
        return function()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def _is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine, wherever this is called."""
    return aside(lambda: asyncio.run(coroutine))


def finish(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Return the result of a coroutine that waits for nothing, without a loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine that was to wait for nothing waits")
