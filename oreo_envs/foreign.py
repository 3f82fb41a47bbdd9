"""Checks of an environment of others: its spaces, what it says, what it raises; each says what to do.

Knows: what a plain environment must keep to. Does not know: how it is filled up (``plain``).
"""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gymnasium.spaces import Text

from oreo_envs.spaces import FreeText

_log = logging.getLogger(__name__)


@contextmanager
def foreign(name: str, what: str) -> Iterator[None]:
    """Say where it was that code of others raised."""
    try:
        yield
    except Exception as error:  # an environment may raise anything
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"{name}: {what} raised {type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"
        ) from error


def require_text(name: str, what: str, space: Any) -> None:
    """Raise ValueError for a space, of what is said of it, that holds no text."""
    if isinstance(space, Text | FreeText) or (space is not None and isinstance(_sample(space), str)):
        return
    raise ValueError(
        f"{name}: {what}s are {space}, and a policy reads and says text; make {what}_space a gymnasium.spaces.Text or "
        f"an oreo_envs.FreeText() (any text), or wrap the environment in one that turns {what}s into text"
    )


def _sample(space: Any) -> Any:
    try:
        return space.sample()
    except Exception:  # a space of others
        return None


def require_str(name: str, what: str, observation: Any) -> None:
    """Raise ValueError for an observation that is no text."""
    if not isinstance(observation, str):
        raise ValueError(
            f"{name}: {what} returned an observation of type {type(observation).__name__}, {observation!r:.60}; a "
            "policy reads text, so it must be a str"
        )


def require_reward(name: str, method: str, action: str, reward: Any) -> float:
    """Return the reward that a method of an environment gave for an action, as a number.

    Raises:
        ValueError: it is no finite number.
    """
    try:
        number = float(reward)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"{name}: {method}({action!r:.60}) returned the reward {reward!r:.60}; a reward is a finite number, 0 "
            "where nothing is earned"
        )
    return number


_warned: set[str] = set()


def warn_outside(name: str, action: str, space: Any) -> None:
    """Say once that a policy says what the action space does not hold."""
    if name not in _warned:
        _warned.add(name)
        _log.warning(
            "%s: its action_space %s does not hold the action %.60r, which it is handed all the same; a policy may say "
            "anything: oreo_envs.FreeText() holds any text",
            name,
            space,
            action,
        )


def chat(name: str, messages: Any) -> list[dict[str, str]]:
    """Return messages that an environment says, checked."""
    right = isinstance(messages, list | tuple) and all(
        isinstance(one, Mapping) and all(isinstance(one.get(key), str) for key in ("role", "content"))
        for one in messages
    )
    if not right:
        raise ValueError(
            f'{name}: info["messages"] must be a list of {{"role": ..., "content": ...}}, texts, got {messages!r:.80}'
        )
    return [{"role": one["role"], "content": one["content"]} for one in messages]
