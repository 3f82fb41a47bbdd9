"""The stock engine: TextWorld's planner plays the game; slow, and the measure of the direct engine.

Knows: how to drive TextWorld's ``PddlEnv`` without the marks that it leaves on a process.
Does not know: alfworld's own wrapper, which is never imported (it writes to the home folder and needs
files that players do not have).
Facts of textworld 1.7: each ``PddlEnv`` maps a copy of a 34 MB library and keeps it, so there is one a
process; translating a problem would set ``sys.argv`` and ``sys.stdout`` of the whole process, so the
translator gets a ``sys`` of its own (only its first import sees ``sys.argv`` changed); it draws from numpy's
global generator, whose state is put back; on Python 3.13 ``EvalSymbol.derive`` fails, because ``locals()``
is a copy there (PEP 667).
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import os
import sys
import threading
import types
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from oreo_envs.alfworld.problem import player_names
from oreo_envs.alfworld.texts import NOTHING_HAPPENS

_LOCK = threading.RLock()


@dataclass(frozen=True, slots=True)
class ReplayState:
    """A moment of a game: the commands that led to it, and what held then."""

    history: tuple[str, ...]
    commands: tuple[str, ...]
    won: bool


class TextWorldPlay:
    """A player's way through a game of the stock engine.

    Plays take turns on the one engine of the process: the engine begins the game again and repeats the
    commands when another play, or another state of this one, was there last.

    Attributes:
        intro: what the player reads first.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        """Begin the game of a ``game.tw-pddl`` file, given as the mapping that its JSON holds.

        Raises:
            ImportError: textworld or its planner is not installed.
        """
        self._data = data
        with _LOCK:
            stock = stock_engine()
            self.intro, commands, won = stock.begin(data)
            self.state = ReplayState((), commands, won)
            stock.shown = (self, self.state)

    @property
    def won(self) -> bool:
        """Whether the goal holds now."""
        return self.state.won

    def commands(self) -> list[str]:
        """Return the admissible commands, sorted."""
        return list(self.state.commands)

    def step(self, command: str) -> str | None:
        """Obey one command and return the text, None where the command is not admissible."""
        # The engine strips, and so do we, before the command becomes part of the history.
        command = command.strip()
        if command not in self.state.commands:
            return None
        with _LOCK:
            stock = stock_engine()
            if stock.shown[0] is not self or stock.shown[1] is not self.state:
                stock.begin(self._data)
                for earlier in self.state.history:
                    stock.step(earlier)
            text, commands, won = stock.step(command)
            self.state = ReplayState((*self.state.history, command), commands, won)
            stock.shown = (self, self.state)
        return text


class StockEngine:
    """The one ``PddlEnv`` of the process. ``shown`` says which play it is at."""

    def __init__(self) -> None:
        """Load the planner's library."""
        textworld_pddl, fast_downward = _import_textworld()
        with _undisturbed():
            self._env = textworld_pddl.PddlEnv()
        atexit.register(fast_downward.close_lib, self._env.downward_lib)
        self._loaded: Mapping[str, Any] | None = None
        self.shown: tuple[TextWorldPlay, ReplayState] | tuple[None, None] = (None, None)

    def begin(self, data: Mapping[str, Any]) -> tuple[str, tuple[str, ...], bool]:
        """Start the game; return text, admissible commands, won."""
        if data is not self._loaded:
            self.load(data)
        return self.restart()

    def load(self, data: Mapping[str, Any]) -> None:
        """Take up another game."""
        self.shown, self._loaded = (None, None), None
        with _undisturbed():
            self._env.load(dict(data))
        names = player_names(info.id for info in self._env._entity_infos.values())
        for info in self._env._entity_infos.values():
            info.name = names[info.id]
        self._loaded = data

    def restart(self) -> tuple[str, tuple[str, ...], bool]:
        """Start the game that is loaded; return text, admissible commands, won."""
        self.shown = (None, None)
        with _undisturbed():
            state = self._env.reset()
        return state.feedback, tuple(state.admissible_commands), bool(state["won"])

    def step(self, command: str) -> tuple[str, tuple[str, ...], bool]:
        """Obey; return text, admissible commands, won."""
        with _undisturbed():
            state, _, _ = self._env.step(command)
        assert state.feedback != NOTHING_HAPPENS, f"{command!r} was admissible"
        return state.feedback, tuple(state.admissible_commands), bool(state["won"])


@cache
def stock_engine() -> StockEngine:
    """Return the stock engine of this process.

    Raises:
        ImportError: textworld or its planner is not installed.
    """
    return StockEngine()


def _import_textworld() -> tuple[Any, Any]:
    """The modules that hold ``PddlEnv`` and the planner, quiet and fit for this Python."""
    try:
        with _undisturbed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The translator takes its options from here when it is imported.
            sys.argv = ["translate.py", "domain", "task"]
            import fast_downward
            from fast_downward import interface
            from fast_downward.translate import normalize, translate  # noqa: F401
            from textworld.envs.pddl import pddl, textgen
    except ImportError as error:
        raise ImportError(
            "engine='textworld' needs TextWorld and its planner, which is compiled at installation (gcc, g++, make "
            f'and cmake): pip install "oreo-suite[alfworld]" ({error}); engine="direct" needs nothing'
        ) from error
    # To replace ``sys.stdout`` while another thread prints crashes Python 3.11, so the translator must not try:
    # its own modules print to files only.
    interface.CapturingStdout = lambda: contextlib.nullcontext([])
    interface.pddl2sas = fast_downward.pddl2sas = _with_own_sys(interface.pddl2sas)
    for name, module in list(sys.modules.items()):
        if name.startswith("fast_downward.translate"):
            module.print = _print_to_files  # type: ignore[attr-defined]
    if sys.version_info >= (3, 13):
        textgen.EvalSymbol.derive = _derive
    return pddl, fast_downward


def _with_own_sys(translate: Any) -> Any:
    """The translator's entry with a ``sys`` of its own: it sets ``sys.argv``, which other threads would see."""

    def import_module(name: str, *arguments: Any, **options: Any) -> Any:
        return own if name == "sys" else builtins.__import__(name, *arguments, **options)

    own = types.SimpleNamespace(argv=[])
    scope = {**translate.__globals__, "__builtins__": {**vars(builtins), "__import__": import_module}}
    return types.FunctionType(
        translate.__code__, scope, translate.__name__, translate.__defaults__, translate.__closure__
    )


def _derive(symbol: Any, context: dict[str, Any] | None = None) -> list[Any]:
    """``EvalSymbol.derive`` for Python 3.13: names are looked up in a mapping, not in ``locals()``."""
    from textworld.envs.pddl.textgen import TerminalSymbol

    variables = (context or symbol.context)["variables"]
    return [TerminalSymbol(eval(symbol.expression, {}, dict(variables)))]


def _print_to_files(*texts: Any, file: Any = None, **options: Any) -> None:
    """Stand in for ``print``: nothing to stdout."""
    if file is not None:
        print(*texts, file=file, **options)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Put back what the stock engine changes in the process."""
    argv, folder, environment, draws = sys.argv, os.getcwd(), dict(os.environ), np.random.get_state()
    try:
        yield
    finally:
        sys.argv = argv
        np.random.set_state(draws)
        if os.getcwd() != folder:
            os.chdir(folder)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
