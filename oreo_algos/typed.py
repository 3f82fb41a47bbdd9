"""Whether the values of a dataclass are of the types that it says, in a sentence that names the setting.

Knows: annotations. Does not know: what a setting means, where its value came from.
"""

import difflib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}

_LARGEST = 2**63
"""Whole numbers from here on fit in no array, seed or counter."""


def require_types(settings: Any) -> None:
    """Refuse what another type than its field says was given for; for ``__post_init__``.

    Raises:
        ValueError: by the name of the class and the field.
    """
    for field in fields(settings):
        require_type(f"{type(settings).__name__}.{field.name}", getattr(settings, field.name), hint_of(settings, field))


def require_finite(settings: Any, except_for: Sequence[str] = ()) -> None:
    """Refuse infinite numbers.

    Raises:
        ValueError: by the name of the class and the field.
    """
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, float) and math.isinf(value) and field.name not in except_for:
            raise ValueError(f"{type(settings).__name__}.{field.name} must be finite, got {value}")


def require_type(name: str, value: object, hint: Any) -> None:
    """Refuse a value that is not of a type; NaN is no number, and what no counter holds no whole number.

    Args:
        name: of the setting, for the message.
        value: given for it.
        hint: plain types, ``Literal``, sequences and mappings of them, and their unions; of any other, the class.

    Raises:
        ValueError: it is not.
    """
    if not _fits(value, hint):
        raise ValueError(f"{name} must be {_words(hint)}, got {value!r:.80}{_closest(value, hint)}")
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{name} must be {_words(hint)}, got {value!r}")
    if isinstance(value, Integral) and abs(int(value)) >= _LARGEST:
        raise ValueError(f"{name} is too large: it must be below 2**63, got a number of {len(str(value))} digits")


def hint_of(owner: Any, field: Any) -> Any:
    """Return the type of a field of a dataclass or of an object of one."""
    return _hints(owner if isinstance(owner, type) else type(owner)).get(field.name, Any)


@cache
def _hints(owner: type) -> dict[str, Any]:
    return get_type_hints(owner)


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or (not isinstance(origin or hint, type) and origin not in (Union, Literal)):
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in arguments)
    if hint is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str | os.PathLike)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(each, arguments[1]) for each in value.values())
    if origin is not None and issubclass(origin, Sequence):
        return (
            isinstance(value, Sequence)
            and not isinstance(value, str | bytes)
            and all(_fits(each, arguments[0]) for each in value)
        )
    return isinstance(value, origin or hint)


def _closest(value: object, hint: Any) -> str:
    """Say what was probably meant, "" where nothing is close."""
    for each in (hint, *get_args(hint)):
        if _is_list(each) and _fits(value, get_args(each)[0]):
            return f"; a list of one is [{value}]"
    words = [str(word) for each in (hint, *get_args(hint)) if get_origin(each) is Literal for word in get_args(each)]
    near = difflib.get_close_matches(value, words, n=1) if isinstance(value, str) else []
    return f"; did you mean {near[0]!r}?" if near else ""


def _is_list(hint: Any) -> bool:
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Sequence)


def _words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(_words, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is not None and issubclass(origin, Mapping):
        return "a mapping, {name: value}"
    if origin is not None and issubclass(origin, Sequence):
        return f"a list, each {_words(arguments[0])}"
    return _PLAIN.get(hint, f"a {getattr(origin or hint, '__name__', hint)}")
