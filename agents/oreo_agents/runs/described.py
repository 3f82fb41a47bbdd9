"""What a setting is called, which type and default it has, and what its docstring says of it.

Knows: signatures, and docstrings with sections `Attributes` and `Args`. Does not know: files of settings, Hydra, pages.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_args, get_origin

_SECTION = re.compile(r"^(?:Attributes|Args):\n((?:(?: {4}.*)?\n)*)", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}\*{0,2}(\w+)(?: \([^)]*\))?: (.*(?:\n {5,}.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Setting:
    """A field of a dataclass, or an argument of an environment.

    Attributes:
        name: as it is given.
        kind: its type, as one writes it.
        default: as one writes it; "": it has to be given.
        text: what its docstring says, in one line.
    """

    name: str
    kind: str
    default: str
    text: str


def fields_of(settings: type) -> list[Setting]:
    """Return the fields of a dataclass, those of its bases included."""
    texts = _texts(settings)
    return [
        Setting(each.name, _kind(each.annotation), _default(each), texts.get(each.name, ""))
        for each in inspect.signature(settings).parameters.values()
    ]


def options_of(environment: type, hidden: tuple[str, ...] = ("place", "render_mode")) -> list[Setting]:
    """Return what the constructor of an environment takes, with what its bases take where it passes that on.

    Args:
        environment: class; options that it takes as ``**options`` are named by its ``more_options`` and described by a
            dataclass of its module.
        hidden: options that are not meant.
    """
    found: dict[str, Setting] = {}
    module = inspect.getmodule(environment)
    others = [each for each in vars(module).values() if inspect.isclass(each)] if module else []
    texts: dict[str, str] = {}
    for described in [*inspect.getmro(environment)[:-1], *others]:
        texts = _texts(described) | texts
    for base in inspect.getmro(environment):
        init = vars(base).get("__init__")
        if init is None:
            continue
        parameters = list(inspect.signature(init).parameters.values())
        for each in parameters:
            if each.kind == each.KEYWORD_ONLY:
                new = Setting(each.name, _kind(each.annotation), _default(each), texts.get(each.name, ""))
                found.setdefault(each.name, new)
        if not any(each.kind == each.VAR_KEYWORD for each in parameters):
            break
    more = set(getattr(environment, "more_options", ()))
    for other in others:
        if more and more <= set(getattr(other, "__dataclass_fields__", ())):
            found = {field.name: field for field in fields_of(other) if field.name in more} | found
    return [setting for name, setting in found.items() if name not in hidden]


def first_sentence(thing: object) -> str:
    """Return the first paragraph of a docstring, in one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def _texts(described: type) -> dict[str, str]:
    """Return the descriptions in the docstrings of a class, of its constructor and of its bases."""
    texts: dict[str, str] = {}
    for base in reversed(inspect.getmro(described)[:-1]):
        for doc in (vars(base).get("__doc__"), getattr(vars(base).get("__init__"), "__doc__", None)):
            for section in _SECTION.findall(inspect.cleandoc(doc or "") + "\n"):
                texts |= {name: _in_line(text) for name, text in _ENTRY.findall(section)}
    return texts


def _in_line(text: str) -> str:
    """Return a description in one line, in the words of YAML."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split())).replace("``", "`")


def _kind(annotation: Any) -> str:
    """Write a type as one reads it: the values of a Literal, else the type without the names of modules."""
    if isinstance(annotation, str):
        return annotation.replace("None", "null").replace(" | ", " or ")
    if annotation is inspect.Parameter.empty:
        return ""
    return " or ".join(_written(annotation))


def _written(annotation: Any) -> Iterator[str]:
    parts = get_args(annotation)
    if str(get_origin(annotation)) == "typing.Literal":
        yield from map(str, parts)
    elif get_origin(annotation) is not None and str(get_origin(annotation)).endswith(("UnionType'>", "Union")):
        for part in parts:
            yield from _written(part)
    elif annotation is type(None):
        yield "null"
    else:
        yield re.sub(r"\b(?:\w+\.)+(?=\w)", "", inspect.formatannotation(annotation))


def _default(parameter: inspect.Parameter) -> str:
    """Write a default as YAML has it."""
    value = parameter.default
    if value is inspect.Parameter.empty:
        return ""
    return plain(value)


def plain(value: Any) -> str:
    """Write a value as YAML has it; of another dataclass only its name."""
    if hasattr(value, "__dataclass_fields__"):
        return type(value).__name__
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(plain(each) for each in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {plain(each)}" for name, each in value.items()) + "}"
    if "factory" in str(value):
        return "{}"
    names = {None: "null", True: "true", False: "false", "": '""'}
    return names[value] if isinstance(value, str | bool | None) and value in names else str(value)
