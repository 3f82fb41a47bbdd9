"""What is wrong with settings on a command line, in a sentence with the closest right name.

Knows: Hydra, where configurations lie. Does not know: what commands do.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from oreo_agents.runs.building import require_named, require_safe_hydra
from oreo_agents.runs.choices import compose, config_folder, further, known
from oreo_agents.runs.composing import JOB_NAME, composed_once
from oreo_agents.runs.hints import explained
from oreo_agents.runs.jobs import settings_from_config, settle_policy
from oreo_agents.runs.names_elsewhere import here, meant
from oreo_agents.runs.sweeps import lets_others_go_on, what_is_missing


def _first_of(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


# In files: ${first:A,B} is A, and B where A is null.
OmegaConf.register_new_resolver("first", _first_of, replace=True)


def initialised() -> initialize_config_dir:
    """Return the context in which Hydra finds the suite's configurations, by the name that its main function takes."""
    return initialize_config_dir(str(config_folder()), job_name=JOB_NAME, version_base="1.3")


class UserError(Exception):
    """A mistake in what the user gave, with a message that says what to do; shown without a traceback."""


def check_overrides(command: str, overrides: Sequence[str]) -> None:
    """Compose once, so that a mistake gets a sentence with the closest right name.

    Raises:
        UserError: an override names a key, a group or a choice that does not exist, or cannot be read.
    """
    with initialised():
        try:
            for chosen in _jobs(overrides):
                _check_targets(config := compose(command, chosen, return_hydra_config=True), chosen)
                _check_keys(command, config)
                if (missing := what_is_missing(config, chosen)) is not None:
                    raise UserError(f"{command}: {missing}")
        except (HydraException, OmegaConfBaseException, TypeError) as error:  # of OmegaConf, for lists
            raise UserError(_explain(command, error, overrides)) from error
        except (yaml.YAMLError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{command}: a file of settings cannot be read: {reason:.300}") from error


_NOT_HERE = {"shell_completion": "-sc", "config_name": "-cn", "config_path": "-cp", "experimental_rerun": ""}
"""Flags of Hydra that mean nothing here: configurations are the commands' own. The short form of each."""


def check_flags(command: str, flags: Sequence[str], parsed: argparse.Namespace) -> None:
    """Refuse what is written as a flag and is none, and flags of Hydra that do nothing for these commands.

    Args:
        command: as given.
        flags: what Hydra's parser does not know.
        parsed: what it knows.

    Raises:
        UserError: with what to write.
    """
    for name, short in _NOT_HERE.items():
        if getattr(parsed, name):
            flag = f"--{name.replace('_', '-')}{f' ({short})' if short else ''}"
            raise UserError(
                f"{command}: {flag} of Hydra is not for this command; settings are written KEY=VALUE, files of your "
                f"own are found by --config-dir DIR, and oreo {command} --help lists what there is"
            )
    for flag in flags:
        if flag.startswith("-"):
            name = flag.lstrip("-").partition("=")[0].replace("-", "_")
            hint = here(name)
            raise UserError(
                f"{command}: there is no flag {flag}; settings are written KEY=VALUE"
                + (f", and this one is {hint}" if hint else f"; oreo {command} --help lists them")
            )


def _explain(command: str, error: Exception, overrides: Sequence[str]) -> str:
    chosen = [text for text in overrides if known(re.split("[@=]", text.lstrip("+"))[0])]
    try:
        return explained(command, error, overrides, _jobs(chosen)[0])
    except HydraException:
        return explained(command, error, overrides, [])


def further_overrides(command: str, overrides: Sequence[str]) -> list[str]:
    """Return overrides that add what others ask for and no file of the command lists, see ``choices.further``.

    What is wrong with them is left to ``check_overrides``.
    """
    with initialised():
        try:
            return further(command, overrides, _jobs(overrides))
        except (HydraException, OmegaConfBaseException, TypeError, yaml.YAMLError, RecursionError):
            return []


def composed_settings(command: str, overrides: Sequence[str]) -> Any:
    """Return the ``RunSettings`` that a command line asks for, without running anything.

    Raises:
        UserError: an override names a key, a group or a choice that does not exist, or cannot be read.
        ValueError: a value is refused by the dataclass that it is for.
    """
    with composed_once():
        overrides = [*overrides, *further_overrides(command, overrides)]
        check_overrides(command, overrides)
        with initialised():
            config = compose(command, overrides)
    settle_policy(config)
    return settings_from_config(config, {name: config.algorithms[name] for name in config.algos})


def require_no_sweep(command: str, overrides: Sequence[str]) -> None:
    """Refuse several values of a setting where no sweep is asked for.

    Raises:
        UserError: by the setting.
    """
    if any(text.startswith("hydra.mode=") for text in overrides):
        return
    for text in overrides:
        try:
            swept = OverridesParser.create().parse_overrides([text])[0].is_sweep_override()
        except HydraException:
            continue  # said later, see ``check_overrides``
        if swept:
            key, _, value = text.partition("=")
            value = re.sub(r"\[(\w+)\]", r"\1", value)  # as ``search=a,b`` was read
            written = f" a list is written {key}=[{value}], a text with commas '{key}=\"{value}\"', and"
            raise UserError(
                f"{command}: {key} has several values:{'' if known(key) else written} `oreo {command} -m` runs one job "
                "for each"
            )


def sweeper_overrides(command: str, overrides: Sequence[str]) -> list[str]:
    """Return overrides that a sweeper other than Hydra's own needs, see ``sweeps.lets_others_go_on``."""
    if not any(text.startswith("hydra/sweeper=") for text in overrides):
        return []
    with initialised():
        return lets_others_go_on(compose(command, _jobs(overrides)[0], return_hydra_config=True), overrides)


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


# What experiments for `oreo run` set, and other commands read in part or not at all, see ``jobs.settle_algorithms``.
_OF_RUN = ("algos", "algorithms")


@cache
def keys_of(command: str) -> tuple[str, ...]:
    """Return the settings at the top of a command's own configuration, as its files list them."""
    return tuple(dict.fromkeys(key for key in _keys_in(config_folder() / f"{command}.yaml") if key != "hydra"))


def _keys_in(path: Path) -> Iterator[str]:
    node = yaml.safe_load(path.read_text(encoding="utf-8"))
    for default in node.pop("defaults", ()):
        group, choice = next(iter(default.items())) if isinstance(default, dict) else ("", default)
        name, _, package = (group or choice).split()[-1].partition("@")
        file = path.parent / group / f"{choice}.yaml"
        of_all = not group or (file.is_file() and file.read_text(encoding="utf-8").startswith("# @package _global_"))
        if package:
            yield package.partition(".")[0]
        elif choice not in (None, "_self_"):
            yield from _keys_in(file) if of_all else (name,)
    yield from node


def _check_keys(command: str, config: DictConfig) -> None:
    """Refuse settings that nothing reads, which an experiment file could bring in.

    Raises:
        UserError: the configuration has a key that the command does not know.
    """
    known = keys_of(command)
    for key in config:
        if key not in (*known, *_OF_RUN, "hydra"):
            raise UserError(f"{command}: there is no setting {str(key)!r}{meant(str(key), known)}")


def composed(command: str, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration of a command, without running it.

    Raises:
        UserError: see ``check_overrides``; or it is a sweep.
    """
    with composed_once():
        check_overrides(command, overrides)
        with initialised():
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
