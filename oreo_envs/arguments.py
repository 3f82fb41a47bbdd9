"""The names of what an environment takes.

Knows: the arguments of a class and of those that it passes others on to. Does not know: what they mean, their values.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import lru_cache

from oreo_envs.checks import closest


def arguments_of(env_class: type) -> tuple[str, ...]:
    """Return the names of the arguments of an environment, with those that it takes as ``**others``."""
    return _arguments_of(env_class)


@lru_cache(maxsize=64)
def _arguments_of(env_class: type) -> tuple[str, ...]:
    names: list[str] = list(getattr(env_class, "more_options", ()))
    for base in inspect.getmro(env_class):
        init = vars(base).get("__init__")
        if init is None or base is object:
            continue
        _, *parameters = inspect.signature(init).parameters.values()
        names += [each.name for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)]
        if not any(each.kind == each.VAR_KEYWORD for each in parameters):
            break
    return tuple(dict.fromkeys(names))


def check_arguments(env_class: type, names: Iterable[str]) -> None:
    """Check that an environment has arguments of these names.

    Raises:
        TypeError: it has not; the message offers the closest one, and lists all.
    """
    known = arguments_of(env_class)
    for name in names:
        if name not in known:
            hint = closest(name, known)
            raise TypeError(f"{env_class.__name__} has no argument {name!r}{hint}; it takes: {', '.join(known)}")


def what_is_wrong(error: Exception) -> str:
    """Return the message of an error of ``gymnasium.make``, without the arguments that Gymnasium repeats after it."""
    return str(error).partition(" was raised from the environment creator for ")[0]
