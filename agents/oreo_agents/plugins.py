"""What is plugged in from outside: modules that a user names, and what installed packages offer by entry points.

Knows: how a module is named and imported, and which classes it brings. Does not know: Hydra; what an environment, an
algorithm or a search is. Nothing outside the suite is imported here but what was named: by ``--import``, as
``module:id``, or by an entry point that is asked for.
"""

import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

Kind = Literal["envs", "algos", "searches", "configs"]

_KINDS: tuple[Kind, ...] = ("envs", "algos", "searches", "configs")

OURS = frozenset({"oreo_envs", "oreo_algos", "oreo_agents"})

_named: dict[str, ModuleType] = {}
"""Modules that were named, by what they are named."""

_added: set[str] = set()
"""Folders that modules are found in since a file there was named."""

_folders: list[Path] = []
"""Folders of configurations that were named."""


class PluginError(ValueError):
    """Something from outside cannot be used, and why."""


def import_named(name: str) -> str:
    """Import a module by its dotted name, or a ``.py`` file, or a package folder; what lies in the working folder too.

    Returns:
        What names it from every working folder: the name itself, or the path of its file.

    Raises:
        PluginError: there is none, it raises, or another module is called like the file.
    """
    path = _path_of(name)
    module = name if path is None else _module_name(path)
    if path is not None and (folder := str(_top(path).parent)) not in sys.path:
        sys.path.append(folder)  # at the end: a file of the working folder hides nothing that is installed
        _added.add(folder)
    found = _import(module, name)
    if path is not None and path not in [Path(file).resolve() for file in _files(found)]:
        raise PluginError(
            f"{name}: another module is called {module} too ({next(iter(_files(found)), 'built in')}); rename the file"
        )
    _named[module] = found
    return name if path is None else str(path)


def named_roots() -> frozenset[str]:
    """Return the top-level packages that may be asked for a class: ours, those that were named, those of entry points.

    What is none of these has been named by nobody but a file of settings.
    """
    found = {entry.module for kind in _KINDS for _, entry in _entries(kind)}
    return OURS | {module.partition(".")[0] for module in {*_named, *found}}


def is_named(name: str) -> bool:
    """Whether a module, by its name or the path of its file, is of a package of ``named_roots``."""
    module = _module_name(Path(name)) if "/" in name or "\\" in name or name.endswith(".py") else name
    return module.partition(".")[0] in named_roots()


def classes(base: type) -> dict[str, type]:
    """Return the concrete subclasses of ``base`` that modules named by the user define, by the name of the class."""
    roots = {module.partition(".")[0] for module in _named}
    return {
        name: value
        for module in _named.values()
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, base)
        and not inspect.isabstract(value)
        and value.__module__.partition(".")[0] in roots - OURS
    }


def offered(kind: Kind) -> dict[str, str]:
    """Return what entry points of installed packages offer, as ``module:name`` by name; nothing is imported.

    Raises:
        PluginError: two packages offer different things by one name.
    """
    found: dict[str, str] = {}
    for name, entry in _entries(kind):
        if found.setdefault(name, entry.value) != entry.value:
            raise PluginError(
                f"two packages offer an entry point {name!r} of oreo.{kind}: {found[name]} and {entry.value}; "
                "uninstall one of them"
            )
    return found


def load(kind: Kind, name: str) -> Any:
    """Import what an entry point offers.

    Raises:
        PluginError: it cannot be imported, or is not there.
    """
    value = offered(kind)[name]
    module, _, attributes = value.partition(":")
    found: Any = _import(module, f"entry point {name!r} of oreo.{kind}")
    for attribute in filter(None, attributes.split(".")):
        if not hasattr(found, attribute):
            raise PluginError(f"entry point {name!r} of oreo.{kind}: {module} has no {attribute}")
        found = getattr(found, attribute)
    return found


def add_folder(name: str) -> None:
    """Name a folder of configurations, ``GROUP/NAME.yaml``.

    Raises:
        PluginError: it is none.
    """
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        raise PluginError(f"--config-dir {name}: no such folder")
    if folder not in _folders:
        _folders.append(folder)


def folders() -> list[Path]:
    """Return the folders of configurations that were named or that installed packages offer.

    Raises:
        PluginError: one of a package is not there.
    """
    return list(dict.fromkeys([*_folders, *(_offered_folder(*each) for each in offered("configs").items())]))


def _offered_folder(name: str, module: str) -> Path:
    root, *rest = module.partition(":")[0].split(".")
    spec = find_spec(root)
    places = [] if spec is None else [Path(place, *rest) for place in spec.submodule_search_locations or ()]
    if not places or not places[0].is_dir():
        raise PluginError(f"entry point {name!r} of oreo.configs: {module} is no folder of an installed package")
    return places[0].resolve()


def any_named() -> bool:
    """Whether there is anything at all from outside."""
    return bool(_named or _folders or any(map(_entries, _KINDS)))


def forget() -> None:
    """Forget everything that was named; what was imported stays imported."""
    _named.clear()
    _folders.clear()
    _entries.cache_clear()


def where() -> str:
    """Say where what is plugged in was looked for, for the end of a message."""
    packages = sorted({entry.dist.name for kind in _KINDS for _, entry in _entries(kind) if entry.dist is not None})
    places = {
        "the suite": ["its own"],
        "--import": list(_named),
        "--config-dir": list(map(str, _folders)),
        "installed packages with entry points oreo.*": packages,
    }
    return "; ".join(f"{place}: {', '.join(found) or 'none'}" for place, found in places.items())


@cache
def _entries(kind: Kind) -> tuple[tuple[str, EntryPoint], ...]:
    return tuple((entry.name, entry) for entry in entry_points(group=f"oreo.{kind}"))


def _path_of(name: str) -> Path | None:
    """Return the file, or folder of a package, that a name means; None: a module that is found without one.

    Raises:
        PluginError: it is no name of a module, and no such file is there.
    """
    if name.endswith(".py") or "/" in name or "\\" in name:
        path = Path(name).expanduser().resolve()
        if path.is_dir() and (path / "__init__.py").is_file():
            return path
        if path.suffix != ".py" or not path.is_file():
            raise PluginError(f"{name}: no such file; give a .py file, a package's folder, or the name of a module")
        return path
    if not all(part.isidentifier() for part in name.split(".")):
        raise PluginError(f"{name!r} is no name of a module; give one such as my_package.envs, or a .py file")
    root, *rest = name.split(".")
    spec = find_spec(root)
    if spec is not None and (spec.origin is None or str(_top(Path(spec.origin)).parent) not in _added):
        return None
    here = (Path.cwd() if spec is None else _top(Path(str(spec.origin))).parent).joinpath(root, *rest)
    if here.is_dir() and (here / "__init__.py").is_file():
        return here
    if here.with_suffix(".py").is_file():
        return here.with_suffix(".py")
    raise PluginError(
        f"there is no module {name}: neither installed, nor in PYTHONPATH, nor in the working folder {Path.cwd()}"
    )


def _top(path: Path) -> Path:
    """Return the outermost package that a file or folder is of; itself where it is of none."""
    while (path.parent / "__init__.py").is_file():
        path = path.parent
    return path


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").relative_to(_top(path).parent).parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _files(module: ModuleType) -> Iterator[str]:
    file = getattr(module, "__file__", None)
    if file is not None:
        yield file
        if Path(file).name == "__init__.py":
            yield str(Path(file).parent)


def _import(module: str, asked: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a user's module may raise anything, and a script ends with sys.exit
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
        place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
        raise PluginError(f"{asked} cannot be imported: {type(error).__name__}: {error}{place}") from error
