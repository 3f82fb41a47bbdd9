"""Chat messages that environments say: what can be shared, and by whom.

Knows: single messages and lists of them. Does not know: what an environment says, when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, wraps
from sys import getrefcount
from typing import Any, NoReturn

Message = dict[str, str]
"""One chat message, ``{"role": "system" | "user" | "assistant", "content": text}``."""


class FrozenMessage(dict[str, str]):
    """A message that cannot be changed, so that infos and environments share it; its copies are plain dicts."""

    __slots__ = ()

    def _refuse(self, *arguments: Any, **keywords: Any) -> NoReturn:
        raise TypeError("a message of an episode is read-only: change a copy of it, dict(message)")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as a plain dict."""
        return dict, (dict(self),)


_LONGEST_SHARED = 512


def message(role: str, content: str) -> FrozenMessage:
    """Return the message; short ones, which environments repeat, are shared."""
    return _shared(role, content) if len(content) <= _LONGEST_SHARED else FrozenMessage(role=role, content=content)


@lru_cache(maxsize=8_192)
def _shared(role: str, content: str) -> FrozenMessage:
    return FrozenMessage(role=role, content=content)


def frozen(messages: Iterable[Mapping[str, str]]) -> list[Message]:
    """Return the messages, none of which can be changed."""
    return [one if type(one) is FrozenMessage else FrozenMessage(one) for one in messages]


class MessageList(list[Message]):
    """A list that belongs to whoever got it, and notes whether it was changed; its copies are plain lists."""

    changed = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as a plain list."""
        return list, (list(self),)


def _noted(change: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(change)
    def noted(self: MessageList, *arguments: Any, **keywords: Any) -> Any:
        self.changed = True
        return change(self, *arguments, **keywords)

    return noted


for _name in (
    *("__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "clear", "extend", "insert", "pop", "remove"),
    *("reverse", "sort"),
):
    setattr(MessageList, _name, _noted(getattr(list, _name)))


class Lent:
    """Lists of the messages of a conversation that grows, as they stood at one moment after another.

    Each list is as good as a copy. To copy all messages at each turn would cost more with each turn, so that a list
    which nobody holds any more, and nobody has changed, is brought up to date instead: whoever plays holds the list of
    the turn before as a rule, and no older one.
    """

    def __init__(self) -> None:
        """Nothing has been lent."""
        self._lists: list[MessageList] = []

    def of(self, messages: list[Message]) -> MessageList:
        """Return a list of these; those lent before may differ from it in the last message, and by more of them."""
        for place in range(len(self._lists)):
            if _references(self._lists, place) == _UNHELD and not self._lists[place].changed:
                lent = self._lists[place]
                same = max(len(lent) - 1, 0)
                list.__setitem__(lent, slice(same, None), messages[same:])
                return lent
        self._lists = [*self._lists[-1:], MessageList(messages)]
        return self._lists[-1]


def _references(lists: list[MessageList], place: int) -> int:
    return getrefcount(lists[place])


_UNHELD = _references([MessageList()], 0)
