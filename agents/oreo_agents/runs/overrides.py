"""What is wrong with settings on a command line, in a sentence with the closest right name.

Knows: Hydra, where configurations lie. Does not know: what commands do.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from oreo_agents import plugins
from oreo_agents.episodes.tasks import EnvSettings, option_names
from oreo_agents.runs.building import TARGET, class_of, is_target, require_named, require_safe_hydra
from oreo_agents.runs.choices import compose, config_folder, further, known, unfiled
from oreo_agents.runs.sweeps import what_is_missing


def _first_of(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


# In files: ${first:A,B} is A, and B where A is null.
OmegaConf.register_new_resolver("first", _first_of, replace=True)


class UserError(Exception):
    """A mistake in what the user gave, with a message that says what to do; shown without a traceback."""


def check_overrides(command: str, overrides: Sequence[str]) -> None:
    """Compose once, so that a mistake gets a sentence with the closest right name.

    Raises:
        UserError: an override names a key, a group or a choice that does not exist, or cannot be read.
    """
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        try:
            for chosen in _jobs(overrides):
                _check_targets(config := compose(command, chosen, return_hydra_config=True), chosen)
                _check_keys(command, config)
                if (missing := what_is_missing(config)) is not None:
                    raise UserError(f"{command}: {missing}")
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(_explain(command, error, overrides)) from error


def further_overrides(command: str, overrides: Sequence[str]) -> list[str]:
    """Return overrides that add what others ask for and no file of the command lists, see ``choices.further``.

    What is wrong with them is left to ``check_overrides``.
    """
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        try:
            return further(command, overrides, _jobs(overrides))
        except (HydraException, OmegaConfBaseException):
            return []


def _jobs(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of jobs in which every value of a sweep is seen once, though not every combination."""
    values = [
        [f"{item.get_key_element()}={value}" for value in _values(item)]
        if item.is_sweep_override()
        else [item.input_line or ""]
        for item in OverridesParser.create().parse_overrides(list(overrides))
    ]
    count = max(map(len, values), default=1)
    return [[texts[job % len(texts)] for texts in values] for job in range(count)]


def _values(item: Override) -> list[str]:
    """Return the values of a sweep, those at its ends where they lie between two numbers."""
    swept = item.value()
    return [str(swept.start), str(swept.end)] if isinstance(swept, IntervalSweep) else [*item.sweep_string_iterator()]


def _check_targets(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse classes that nobody named, before Hydra or a command makes anything.

    Raises:
        PluginError: by the setting.
    """
    require_safe_hydra(OmegaConf.to_container(config.hydra))
    given = OverridesParser.create().parse_overrides([text for text in overrides if text.startswith("hydra.")])
    require_safe_hydra({each.get_key_element(): each.value() for each in given}, "")
    others = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    require_named(OmegaConf.to_container(others, resolve=True))


@cache
def _keys_of(command: str) -> tuple[str, ...]:
    """Return the settings at the top of a command's own configuration, composed once; where Hydra is set up."""
    return tuple(str(key) for key in compose(command))


def _check_keys(command: str, config: DictConfig) -> None:
    """Refuse settings that nothing reads, which an experiment file could bring in.

    Raises:
        UserError: the configuration has a key that the command does not know.
    """
    known = _keys_of(command)
    of_run = [key for key in ("algos", "algorithms") if key in config and key not in known]
    if of_run:
        raise UserError(
            f"{command}: this experiment sets {' and '.join(of_run)}, so it is one for `oreo run`, where algos=[NAME] "
            "chooses among its algorithms; here give the groups that it is made of, such as env=NAME, or an experiment "
            "without these"
        )
    for key in config:
        if key not in (*known, "hydra"):
            raise UserError(f"{command}: there is no setting {str(key)!r}{closest(str(key), known)}")


def _explain(command: str, error: Exception, overrides: Sequence[str]) -> str:
    """Add the closest right names to Hydra's message."""
    message = str(error)
    missing = re.search(r"Could not override '([^']+)'|Could not find '([^']+)'|Key '([^']+)' is not in", message)
    name = next((group for group in (missing.groups() if missing else ()) if group), None)
    if name is None:
        return message
    config = _with_choices(command, overrides)
    if _is_field(config, name):
        return f"{command}: no file names {name!r}; add it with +{name}=..."
    names = [key for key in _known_names(config) if not key.endswith("_target_")]
    if name.startswith("env.options."):
        env_id, options = _env_options(command, overrides)
        if name.removeprefix("env.options.") in options:
            return f"{command}: no file names {name!r}, which {env_id} takes; add it with +{name}=..."
        if options:
            near = difflib.get_close_matches(name.removeprefix("env.options."), options, n=1, cutoff=0.6)
            hint = "".join(f"; did you mean 'env.options.{option}'?" for option in near)
            if near and f"env.options.{near[0]}" not in names:
                hint += f" It is added with +env.options.{near[0]}=..."
            return f"{command}: there is no setting {name!r}{hint}\n({env_id} takes {', '.join(options)})"
    text = f"{command}: there is no setting {name!r}{closest(name, names)}\n({message.splitlines()[0]})"
    group, slash, choice = name.partition("/")
    if group == "env" and ":" in choice:
        text += f"\nan environment of a module is given as env.id={choice}"
    if slash and (choices := known(group)):
        text += f"\nknown: {', '.join(choices)}\nlooked in: {plugins.where()}"
    return text


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
    chosen = [text for text in overrides if known(re.split("[@=]", text.lstrip("+"))[0])]
    try:
        return compose(command, _jobs(chosen)[0])
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


def closest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that offers the closest right name; "" when none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def composed(command: str, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration of a command, without running it.

    Raises:
        UserError: see ``check_overrides``; or it is a sweep.
    """
    check_overrides(command, overrides)
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        try:
            return compose(command, overrides)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(str(error)) from error


def composed_values(command: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the same as nested dictionaries, what refers to other settings looked up."""
    values = OmegaConf.to_container(composed(command, overrides), resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


@contextmanager
def beside_others() -> Iterator[None]:
    """Let configurations be composed inside somebody else's application of Hydra, which goes on as it was."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = None
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = before  # by now another object


def readable(overrides: Sequence[str]) -> list[str]:
    """Return overrides as Hydra reads them: ``~`` is the home folder, arguments of a chat template have any name."""
    found = [re.sub(r"^(?=policy\.chat_template_kwargs[.=])", "++", text) for text in overrides]
    home = str(Path.home())
    return [text if "'" in text or '"' in text else re.sub(r"(?<=[=,\[])~(?=/)", home, text) for text in found]
