"""From a node of a configuration to the dataclass that it names. YAML is data: nothing but our dataclasses is made.

Knows: ``_target_``, whose classes may be named, types. Does not know: how configurations are composed, what a class is.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from oreo_agents import plugins
from oreo_agents.runs.names_elsewhere import meant
from oreo_algos.typed import hint_of, require_type

TARGET = "_target_"

# What Hydra itself is made of, and those who launch its jobs elsewhere.
_HYDRA = frozenset({"hydra", "hydra_plugins"})

# What its sweeper chooses settings by.
_SAMPLER = re.compile(r"optuna\.samplers\.[A-Z]\w*")

# Where the makers and classes of a configuration of logs may come from.
_LOGS = frozenset({"logging", "colorlog"})


def build(node: Any, missing: Mapping[str, Any] | None = None) -> Any:
    """Make the dataclass that a node of the configuration names.

    Args:
        node: of the configuration.
        missing: settings for what has no value there.

    Raises:
        ValueError: it names what it may not name, lacks a setting, or has one that the class refuses; by its key.
    """
    for key, value in (missing or {}).items():
        if OmegaConf.is_missing(node, key):
            node[key] = value
    place = node._get_full_key(None)
    if lacking := sorted(OmegaConf.missing_keys(node)):
        lacking = [f"{place}.{key}" if place and not key.startswith(place) else key for key in lacking]
        raise ValueError(f"{lacking[0]} has no default: give {lacking[0]}=...")
    try:
        values = OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"{place}: {str(error).splitlines()[0]}") from error
    for key, value in _entries(values, place):
        if key.rpartition(".")[2] == TARGET:
            class_of(value, key)
    return _made(values, place)


def plain_value(config: DictConfig, key: str, hint: Any) -> Any:
    """Return a setting of no dataclass, lists as lists.

    Raises:
        ValueError: it is of another type.
    """
    value = OmegaConf.to_container(config[key], resolve=True) if OmegaConf.is_config(config[key]) else config[key]
    require_type(key, value, hint)
    return value


def class_of(target: object, place: str) -> type:
    """Return the dataclass that a ``_target_`` names; nothing of it is called.

    Raises:
        PluginError: it is none, or of a package that nobody named.
    """
    name = _named(target, place)
    try:
        found = get_object(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise plugins.PluginError(f"{place}: there is no {name} ({str(error).splitlines()[0]})") from None
    ours = isinstance(found, type) and is_dataclass(found) and _root(found.__module__) in plugins.named_roots()
    if not ours:
        raise plugins.PluginError(f"{place}: {name} is refused: it is no class of settings")
    return found


def require_named(values: object, place: str = "") -> None:
    """Refuse a configuration, its references looked up, that names classes of packages that nobody named.

    Raises:
        PluginError: by its key.
    """
    for key, value in _entries(values, place):
        if key.rpartition(".")[2] == TARGET:
            _named(value, key)


def require_safe_hydra(values: object, place: str = "hydra") -> None:
    """Refuse settings of Hydra's own that name anything but what it and its plug-ins are made of.

    Args:
        values: the node ``hydra``, references as they are written.
        place: its key.

    Raises:
        PluginError: by the key.
    """
    ours = _HYDRA | plugins.OURS
    roots = {TARGET: ours, "custom_search_space": ours, "()": _LOGS, "class": _LOGS}
    for key, value in _entries(values, place):
        name = key.rpartition(".")[2]
        allowed = roots.get(name)
        text = value if isinstance(value, str) else ""
        makes = re.search(r"\$\{\s*oc\.(create|decode)|^ext://(?!sys\.std(out|err)$)", text)
        foreign = allowed is not None and _root(text) not in allowed and not _SAMPLER.fullmatch(text)
        if makes or (foreign and value is not None):
            raise plugins.PluginError(
                f"{key}: {value!r:.80} is refused: settings of Hydra name its own classes and those of its plug-ins, "
                "and nothing else"
            )


def _named(target: object, place: str) -> str:
    if not isinstance(target, str) or _root(target) not in plugins.named_roots():
        raise plugins.PluginError(
            f"{place}: {target!r:.80} is refused: settings choose among the classes of the suite, of modules that you "
            "name (--import MODULE_OR_FILE.py) and of installed packages with entry points oreo.*, and nothing else"
        )
    return target


def _root(name: str) -> str:
    return name.partition(".")[0]


def _entries(node: object, place: str) -> Iterator[tuple[str, object]]:
    """Yield all entries of nested mappings and lists by their full keys, parents before children."""
    if not isinstance(node, Mapping | list):
        return
    pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
    for name, value in pairs:
        key = f"{place}.{name}" if place else str(name)
        yield key, value
        yield from _entries(value, key)


def _made(values: Any, place: str) -> Any:
    if isinstance(values, list):
        return [_made(each, f"{place}.{index}") for index, each in enumerate(values)]
    if isinstance(values, str) and values.startswith("~/"):
        return os.path.expanduser(values)
    if not isinstance(values, dict):
        return values
    made = {key: _made(each, f"{place}.{key}") for key, each in values.items() if key != TARGET}
    if TARGET not in values:
        return made
    owner = class_of(values[TARGET], f"{place}.{TARGET}")
    known = {field.name: field for field in fields(owner) if field.init}
    for name, value in made.items():
        if name not in known:
            raise ValueError(f"there is no setting {place}.{name}{meant(str(name), known)}")
        require_type(f"{place}.{name}", value, hint_of(owner, known[name]))
    try:
        return owner(**made)
    except (ValueError, TypeError) as error:
        raise ValueError(_placed(str(error), place, owner, known)) from error


def _placed(message: str, place: str, owner: type, known: Iterable[str]) -> str:
    """Name in what a class says of its settings the place where they were given."""
    for start in (f"{owner.__name__}.", ""):
        if re.match(rf"{re.escape(start)}({'|'.join(known)})\b", message):
            return f"{place}.{message.removeprefix(start)}"
    said = re.match(rf"{re.escape(place.partition('.')[0])}\b", message)
    return message if said else f"{place}: {message}"


def is_target(node: object) -> bool:
    """Whether a node of a configuration names a class."""
    return isinstance(node, DictConfig) and TARGET in node
