"""A wish to stop, told by a signal: the first ends work at its next safe point, the second at once.

Knows: signals, and whether the work under way has safe points. Does not know: what the work is, what is kept of it.

Commands run ``listening``; in a program of one's own that imports the suite signals stay what they were. A process
beside others is told by the one that started it, for a terminal sends Ctrl-C to all of them and a scheduler may not.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TELL = signal.SIGUSR1
"""What a process sends to those that work beside it, once for each signal that it was sent."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Work was told to end, and has ended.

    Attributes:
        number: of the signal.
        kept: what is kept of it, for the user; "" where nothing more is known.
    """

    def __init__(self, number: int, kept: str = "") -> None:
        """Say which signal it was."""
        super().__init__(number, kept)
        self.number, self.kept = number, kept


class _State:
    """What this process was told, and what it does."""

    def __init__(self, *, beside: bool = False, quiet: bool = False) -> None:
        self.pid, self.beside, self.quiet = os.getpid(), beside, beside or quiet
        self.number: int | None = None
        self.times = 0
        self.under_way: list[str | None] = [None]
        """What ends soon by itself, of all that is under way; None: nothing does, so that a signal ends it at once."""


_state = _State()


@contextmanager
def listening(*, quiet: bool = False) -> Iterator[None]:
    """Have signals end what is done meanwhile as this module says; in another thread than the main one nothing is done.

    A signal that the process was started to ignore, as by ``nohup``, stays ignored. Once one has ended the work, a
    further one ends the process as the system does it.

    Args:
        quiet: another process says that it heard.
    """
    global _state
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    state = _State(quiet=quiet)
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heard = [number for number in _SIGNALS if before[number] is not signal.SIG_IGN]
    outer, _state = _state, state
    for number in heard:
        signal.signal(number, _hear)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number] if state.number is None else signal.SIG_DFL)
        _state = outer


@contextmanager
def not_yet_beside() -> Iterator[None]:
    """Have processes that are started meanwhile hear ``TELL`` no sooner than they listen, where it would end them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {TELL})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {TELL})


def listen_beside() -> None:
    """Have a process that another one started listen to that one alone, by ``TELL``; it works only in ``at_once``."""
    global _state
    _state = _State(beside=True)
    _state.under_way = [""]
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)  # no SIG_IGN, which children would inherit
    signal.signal(TELL, _hear)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {TELL})


def asked() -> int | None:
    """Return the number of the first signal that this process was sent; None: work goes on."""
    return _state.number


def check(kept: str = "") -> None:
    """End work here, if that was asked for.

    Args:
        kept: what is kept of it.

    Raises:
        Interrupted: it was.
    """
    if _state.number is not None:
        raise Interrupted(_state.number, kept)


def forget() -> None:
    """Go on as if no signal had come: a person at a terminal has stopped an answer, not the program."""
    _state.number, _state.times = None, 0


@contextmanager
def at_safe_points(what: str) -> Iterator[None]:
    """Do work that calls ``check`` where all that is done is kept; a first signal does not end it elsewhere.

    Args:
        what: ends next, for the user, such as "the running step".

    Raises:
        Interrupted: at the end, if that was asked for meanwhile; at the begin, if it was before.
    """
    with _doing(what):
        yield
    check()


@contextmanager
def at_once() -> Iterator[None]:
    """Do work that a first signal ends where it is, but for parts of it that are ``at_safe_points``."""
    with _doing(None):
        yield


@contextmanager
def _doing(what: str | None) -> Iterator[None]:
    check()
    state = _state
    state.under_way.append(what)
    try:
        yield
    finally:
        state.under_way.pop()


def _hear(number: int, frame: FrameType | None) -> None:
    state = _state
    if os.getpid() != state.pid:  # a fork, which is no part of this
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    state.times += 1
    state.number = state.number or number
    what = state.under_way[-1]
    if state.times == 1 and what is not None:
        if what and not state.quiet:
            text = f"\noreo: {name_of(number)}: this ends after {what}; once more ends it at once\n"
            os.write(2, text.encode())
        return
    if what == "":  # between two pieces of work
        return
    if state.times > 2:
        os._exit(exit_code(number))
    raise Interrupted(state.number)


def name_of(number: int) -> str:
    """Name a signal as its sender would."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def exit_code(number: int) -> int:
    """Return what shells report of a command that a signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + number
