"""Plug-ins as Hydra sees them: folders of settings, choices that no file names, recipes wherever an algorithm is named.

Knows: Hydra's search path, its store, defaults lists. Does not know: commands; how modules are found (``plugins``).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from oreo_agents import plugins
from oreo_agents.evaluation.run_settings import MOST_CONFIG_BYTES
from oreo_agents.runs.building import class_of
from oreo_agents.runs.composing import quickly
from oreo_envs.checks import closest
from oreo_envs.limits import files_below, require_small_yaml


@cache
def _kinds() -> dict[str, tuple[plugins.Kind, type]]:
    """Return what each group of settings is of; read when it is first asked for, so that a help loads no torch."""
    from oreo_agents.search import Search
    from oreo_algos.algos import Algorithm

    return {"algo": ("algos", Algorithm), "search": ("searches", Search)}


def config_folder() -> Path:
    """Return the folder of configurations: in the package of a wheel, at the top of an editable checkout."""
    installed = Path(str(resources.files("oreo_agents"))) / "configs"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[3] / "configs"


def with_folders(overrides: Sequence[str]) -> list[str]:
    """Return overrides that let Hydra look into the folders that are plugged in, ``hydra.searchpath`` among them.

    Raises:
        PluginError: a folder is not there, or holds a file that another one hides.
    """
    others = [text for text in overrides if not text.startswith("hydra.searchpath=")]
    for override in OverridesParser.create().parse_overrides([text for text in overrides if text not in others]):
        for place in override.value():  # type: ignore[union-attr]
            plugins.add_folder(str(place).removeprefix("file://"))
    found = plugins.folders()
    if found:
        _require_no_hiding(found)
    quoted = ",".join(f'"{folder}"' for folder in found)
    return [f"hydra.searchpath=[{quoted}]", *others] if found else others


def compose(command: str, overrides: Sequence[str] = (), **how: Any) -> DictConfig:
    """Compose the configuration of a command, with what is plugged in; Hydra must be initialised.

    Args:
        command: its configuration's name.
        overrides: those of Hydra itself are left out, but where a run lies.
        how: see ``hydra.compose``.
    """
    offer(overrides)
    plain = [text for text in overrides if text and not re.match(r"hydra\.(?!(searchpath|(run|sweep)\.dir)=)", text)]
    with quickly():
        return hydra_compose(command, with_folders(plain), **how)


def offer(overrides: Iterable[str]) -> None:
    """Store, as choices of their groups, those classes and environments outside all files that overrides mention."""
    mentioned = {word for text in overrides for word in re.split(r"[^\w.\-/]+", text)}
    for group in ("env", *_kinds()):
        for name in mentioned & set(unfiled(group)):
            store(group, name)


def _offer_of_experiment(command: str, overrides: Sequence[str]) -> None:
    """Store, as choices of ``algo``, algorithms that an experiment makes up under names of its own."""
    if not any(text.startswith("experiment=") for text in overrides):
        return
    others = [text for text in overrides if not re.match(r"\+*algo[.=]", text)]
    for name, node in (compose(command, others).get("algorithms") or {}).items():
        if "_target_" in node and name not in known("algo"):
            ConfigStore.instance().store(group="algo", name=str(name), node=node)


def store(group: str, name: str) -> None:
    """Store a choice that no file names.

    Raises:
        PluginError: it cannot be imported, or is no class of this group.
    """
    if group == "env":
        node: dict[str, Any] = {"id": unfiled(group)[name]}
    else:
        kind, base = _kinds()[group]
        found = _classes(group).get(name) or plugins.load(kind, name)
        if not (isinstance(found, type) and issubclass(found, base) and is_dataclass(found)):
            raise plugins.PluginError(
                f"{name}: {unfiled(group)[name]} is no dataclass derived from {base.__module__}.{base.__name__}"
            )
        own = {key for key, hint in vars(found).get("__annotations__", {}).items() if "ClassVar" not in str(hint)}
        if lost := own - {each.name for each in fields(found)}:
            raise plugins.PluginError(
                f"{name}: {', '.join(sorted(lost))} would be no setting of {found.__name__}: write "
                "@dataclass(frozen=True, kw_only=True) above the class"
            )
        node = {"_target_": f"{found.__module__}.{found.__qualname__}"} | _defaults(found)
    ConfigStore.instance().store(group=group, name=name, node=node)


def settings_of(group: str, name: str) -> set[str]:
    """Return the settings of an algorithm or a search that a file names; of one that none does, nothing."""
    for folder in (config_folder(), *plugins.folders()):
        path = folder / group / f"{name}.yaml"
        if path.is_file():
            node: Any = OmegaConf.load(path)
            found: Any = class_of(node["_target_"], f"{group}={name}") if "_target_" in node else None
            return {str(key) for key in node} | {each.name for each in (fields(found) if found else ()) if each.init}
    return set()


def known(group: str) -> list[str]:
    """Return all choices of a group: files, and what is plugged in."""
    return sorted({*_files(group), *unfiled(group)})


def unfiled(group: str) -> dict[str, str]:
    """Return the choices of a group that no file names, and what each means."""
    if group == "env":
        from oreo_agents.episodes.tasks import known_envs

        named = {re.sub("[-_]", "", name) for name in _files(group)}
        found = {
            name: env_id
            for name, env_id in known_envs().items()
            if not env_id.startswith("oreo/") and re.sub("[-_]", "", name) not in named
        }
    elif group in _kinds():
        classes = {name: f"{each.__module__}:{each.__qualname__}" for name, each in _classes(group).items()}
        found = plugins.offered(_kinds()[group][0]) | classes
        # The suite's own file would be read in its place, and nothing would say so.
        for name in classes.keys() & {*_files_in(group, (config_folder(),))}:
            raise plugins.PluginError(
                f"{classes[name]} is {group}={name}, which the suite has of its own: rename the class"
            )
    else:
        return {}
    return {name: meant for name, meant in found.items() if name not in _files(group)}


def further(command: str, overrides: Sequence[str], jobs: Sequence[Sequence[str]]) -> list[str]:
    """Return what is to be added to overrides: algorithms and searches that they ask for, and recipes.

    Args:
        command: its configuration's name.
        overrides: as given.
        jobs: those of each job of a sweep; of one, where there is none.

    Raises:
        PluginError: an algorithm is swept under one name, though each has a recipe of its own.
        ValueError: an unknown search.
    """
    with_folders(overrides)
    if command == "train":
        for job in jobs:
            _offer_of_experiment(command, job)
    asked = [re.match(r"\+?algo@algorithms\.([^=]+)=(.*)", text) for text in overrides]
    names = {match[1]: match[2] for match in asked if match}
    if not names and not plugins.any_named():
        return []  # every algorithm and search of ours is listed
    added: dict[str, None] = {}
    policies = set()
    for job in jobs:
        # Settings of algorithms and searches that are still to be added cannot be set yet.
        config = compose(
            command,
            [text for text in job if not re.match(r"(searches|algorithms)\.", text)],
            return_hydra_config=True,
        )
        policies.add(str(config.hydra.runtime.choices.policy))
        for name in {*config.get("algos", ()), *names} - {*config.get("algorithms", ()), "sft"} & {*known("algo")}:
            names[name] = name
            added[f"+algo@algorithms.{name}={name}"] = None
        wanted = [*config.evaluate.searches, *config.evaluate.value_searches]
        for name in [name for name in wanted if name not in config.searches]:
            if name not in known("search"):
                names_there = dict.fromkeys([*config.searches, *known("search")])
                raise plugins.PluginError(
                    f"unknown search {name!r}{closest(name, names_there)}; known: {', '.join(names_there)}\n"
                    f"looked in: {plugins.where()}"
                )
            added[f"+search@searches.{name}={name}"] = None
    offer(added)
    for name, choice in names.items():
        if any(re.match(rf"[+~]*recipe@algorithms\.{re.escape(name)}(=|$)", text) for text in overrides):
            continue
        recipes = {f"{policy}-{one}" for policy in policies for one in choice.split(",")} & set(_files("recipe"))
        if recipes and (len(policies) > 1 or "," in choice):
            raise plugins.PluginError(
                f"algo@algorithms.{name}={choice}: an algorithm of a small model has settings of its own (recipe), so "
                "one name is one algorithm; add each under a name of its own and sweep algos=[NAME],[OTHER]"
            )
        added |= dict.fromkeys(f"+recipe@algorithms.{name}={recipe}" for recipe in recipes)
    return list(added)


def _classes(group: str) -> dict[str, type]:
    """Return the algorithms, or searches, of modules that were named, by the choice that each is.

    The algorithm ``MyBest`` is my-best, the search my_best, as ours are spelt.
    """
    mark = "_" if group == "search" else "-"
    found = plugins.classes(_kinds()[group][1])
    return {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", mark, name).lower(): each for name, each in found.items()}


def _defaults(found: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that a file could hold, so that each can be set without a plus."""
    plain = (str, int, float, bool, type(None), list, tuple, Mapping)
    values = {}
    for each in fields(found):
        value = each.default
        if value is MISSING:
            value = "???" if each.default_factory is MISSING else each.default_factory()
        if each.init and isinstance(value, plain):
            values[each.name] = list(value) if isinstance(value, tuple) else value
    return values


def _files(group: str) -> tuple[str, ...]:
    return _files_in(group, (config_folder(), *plugins.folders()))


@cache
def _files_in(group: str, folders: Sequence[Path]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path.stem for folder in folders for path in sorted((folder / group).glob("*.yaml"))))


def _require_no_hiding(folders: Sequence[Path]) -> None:
    """Refuse a file that Hydra would not read because another folder has one of its name."""
    holder: dict[str, Path] = {}
    for folder in (config_folder(), *folders):
        for path in files_below(folder, "*.yaml"):
            if folder != config_folder():
                _require_small(path, path.stat().st_size, path.stat().st_mtime_ns)
            name = path.relative_to(folder).as_posix()
            if name in holder:
                other = "the suite's own" if holder[name] == config_folder() else str(holder[name] / name)
                raise plugins.PluginError(f"{path} would be hidden by {other} {name}; give it another name")
            holder[name] = folder


@cache
def _require_small(file: Path, size: int, _: int) -> None:
    """Refuse a file that Hydra would take hours or all memory for, by its size and when it was written."""
    if size > MOST_CONFIG_BYTES:
        raise plugins.PluginError(f"{file}: {size:,} bytes are no file of settings (at most {MOST_CONFIG_BYTES:,})")
    try:
        require_small_yaml(file.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise plugins.PluginError(f"{file}: {error}") from None
