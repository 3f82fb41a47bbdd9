"""What was meant by a setting that there is not: the closest right names, here and in other choices of a group.

Knows: keys, groups and choices of a command's configuration. Does not know: what commands do with them.
"""

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import gymnasium as gym
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from oreo_agents import plugins
from oreo_agents.episodes.tasks import EnvSettings, known_envs, option_names
from oreo_agents.runs.building import TARGET, class_of, is_target
from oreo_agents.runs.choices import compose, config_folder, known, settings_of, unfiled
from oreo_agents.runs.names_elsewhere import here
from oreo_envs.checks import close_to

# How many names a message offers.
_OFFERED = 4


def explained(command: str, error: Exception, overrides: Sequence[str], chosen: Sequence[str]) -> str:
    """Say what is wrong with settings, with the closest right names; Hydra must be initialised.

    Args:
        command: its configuration's name.
        error: what Hydra made of them.
        overrides: as given.
        chosen: those of one job that choose from groups.
    """
    message = str(error)
    if unread := next((text for text in overrides if not _is_readable(text)), None):
        return (
            f"{command}: {unread!r} is no setting, nor an option of this command: settings are given as KEY=VALUE, "
            "lists as KEY=[A,B], texts with commas, blanks or brackets in quotes within quotes, 'KEY=\"a, b\"'"
        )
    config = _with_choices(command, chosen)
    if within := next(filter(None, (_within_a_value(config, text) for text in overrides)), ""):
        return f"{command}: {within}"
    missing = re.search(r"Could not override '([^']+)'|Could not find '([^']+)'|Key '([^']+)' is not in", message)
    name = next((group for group in (missing.groups() if missing else ()) if group), None)
    if name is None:
        return message
    if _is_field(config, name):
        return f"{command}: no file names {name!r}; add it with +{name}=..."
    names = [key for key in _known_names(config) if not key.endswith("_target_")]
    if name.startswith("env.options."):
        env_id, options = _env_options(command, overrides)
        if name.removeprefix("env.options.") in options:
            return f"{command}: no file names {name!r}, which {env_id} takes; add it with +{name}=..."
        if options:
            near = close_to(name.removeprefix("env.options."), options)[:1]
            hint = "".join(f"; did you mean 'env.options.{option}'?" for option in near)
            if near and f"env.options.{near[0]}" not in names:
                hint += f" It is added with +env.options.{near[0]}=..."
            takes = f"{env_id} takes {', '.join(options)}{_elsewhere(name)}"
            return f"{command}: there is no setting {name!r}{hint}\n({takes})"
    if (elsewhere := here(name)) is not None:
        return f"{command}: there is no setting {name!r}; here it is {elsewhere}"
    owners, place = _elsewhere(name), name.rpartition(".")[0]
    near = [each for each in names if owners and each.rpartition(".")[0] == place] or _asked_for(config, name, names)
    why = f"{message.splitlines()[0].rstrip('.')}{owners}"
    text = f"{command}: there is no setting {name!r}{_closest_settings(name, near)}\n({why})"
    group, slash, choice = name.partition("/")
    if group == "env" and ":" in choice:
        text += f"\nan environment of a module is given as env.id={choice}"
    if slash and (choices := known(group)):
        text += f"\nknown: {', '.join(choices)}\nlooked in: {plugins.where()}"
    return text


def _closest_settings(name: str, names: Sequence[str]) -> str:
    """Return the end of a message that offers choices for a choice, and settings for a setting.

    The same word at another place was meant rather than another word that looks like all of it, see ``close_to``.
    """
    alike = [each for each in names if ("/" in each) == ("/" in name) and each != name]
    found = close_to(name, alike)[:_OFFERED]
    if not found:
        return ""
    return (
        f"; did you mean {found[0]!r}?" if len(found) == 1 else f"; did you mean one of {', '.join(map(repr, found))}?"
    )


def _asked_for(config: DictConfig, name: str, names: Sequence[str]) -> list[str]:
    """Leave out the settings of algorithms that a run is neither asked for nor named with."""
    asked = {*(config.get("algos") or ()), *name.split(".")}
    return [each for each in names if not each.startswith("algorithms.") or each.split(".")[1] in asked]


def _elsewhere(name: str) -> str:
    """Return the end of a message that says which other choices of the group have such a setting."""
    place, _, key = name.rpartition(".")
    if place == "env.options":
        owners = [f"env={short}" for short, env_id in known_envs().items() if key in option_names(env_id)]
    else:
        match = re.fullmatch(r"(algo|search)(?:(?:rithms|es)\..+)?", place)
        group = match[1] if match else ""
        owners = [f"{group}={choice}" for choice in known(group) if key in settings_of(group, choice)] if group else []
    several = f"{', '.join(owners[:_OFFERED])}{', ...' * (len(owners) > _OFFERED)}"
    return f"; {key} is a setting of {several}" if owners else ""


def _is_readable(override: str) -> bool:
    try:
        OverridesParser.create().parse_overrides([override])
    except HydraException:
        return False
    return True


def _within_a_value(config: DictConfig, override: str) -> str:
    """Say that a setting is given within one that holds a plain value or a list; "" where it is not."""
    key = str(OverridesParser.create().parse_overrides([override])[0].key_or_group)
    for dot in re.finditer(r"\.", key):
        place = key[: dot.start()]
        node = OmegaConf.select(config, place)
        if node is not None and not isinstance(node, DictConfig):
            is_a = "a list" if OmegaConf.is_list(node) else f"{node!r}"
            names = [name for name in _known_names(config) if "/" not in name]
            return f"{key}: {place} is {is_a} and has no settings of its own{_closest_settings(key, names)}"
    return ""


def _env_options(command: str, overrides: Sequence[str]) -> tuple[str, list[str]]:
    """Return the id of the environment that is asked for, and the names of the options that it takes."""
    chosen = [text for text in overrides if re.match(r"(env|experiment|env\.id)=", text) and "," not in text]
    try:
        env_id = EnvSettings(id=str(compose(command, chosen).env.id)).id
        return env_id, option_names(env_id)
    except (HydraException, OmegaConfBaseException, gym.error.Error, ValueError):
        return "the environment", []


def _with_choices(command: str, overrides: Sequence[str]) -> DictConfig:
    """Compose a command with what was chosen from groups, or as it is where that is what is wrong."""
    try:
        return compose(command, overrides)
    except (HydraException, OmegaConfBaseException, ValueError):
        return compose(command)


def _is_field(config: DictConfig, name: str) -> bool:
    """Whether a dataclass has a setting that no file names."""
    place, _, key = name.rpartition(".")
    node: Any = OmegaConf.select(config, place) if place else None
    return is_target(node) and key in {field.name for field in fields(class_of(node[TARGET], place))}


def _known_names(config: DictConfig) -> list[str]:
    """Return every settable key, group and choice of a configuration."""

    def keys(node: Any, prefix: str = "") -> list[str]:
        if not isinstance(node, DictConfig):
            return []
        found = []
        for key in node:
            path = f"{prefix}{key!s}"
            child = None if OmegaConf.is_missing(node, key) else node._get_node(key)
            found += [path, *keys(child, f"{path}.")]
        return found

    folders = [config_folder(), *plugins.folders()]
    files = [(folder, path) for folder in folders for path in folder.rglob("*.yaml")]
    choices = [path.relative_to(folder).with_suffix("").as_posix() for folder, path in files]
    choices += [f"{group}/{name}" for group in ("env", "algo", "search") for name in unfiled(group)]
    groups = sorted({choice.partition("/")[0] for choice in choices if "/" in choice})
    return [*keys(config), *choices, *groups]
