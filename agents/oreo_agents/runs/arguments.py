"""Arguments of the command: what is plugged in, and in which order Hydra wants them.

Knows: how they are written. Does not know: commands, settings; how modules are found (``plugins``).
"""

import re
from collections.abc import Sequence
from pathlib import Path

from oreo_agents import plugins
from oreo_envs.limits import read_document, read_json


def plugged_in(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take ``--import MODULE`` and ``--config-dir DIR``, which every command knows, out of arguments, and obey them.

    Returns:
        The other arguments, and what names the modules from any folder.

    Raises:
        ValueError: one of them cannot be used, or its name is missing.
    """
    others, imports = [], []
    given = iter(arguments)
    for text in given:
        flag, equals, value = text.partition("=")
        if flag not in ("--import", "--config-dir", "-cd"):
            others.append(text)
            continue
        value = value if equals else next(given, "")
        if not value or value.startswith("-"):
            wanted = "the name of a module, or a .py file" if flag == "--import" else "a folder"
            raise plugins.PluginError(f"{flag} needs {wanted}")
        if flag == "--import":
            imports.append(plugins.import_named(value))
        else:
            plugins.add_folder(value)
    return others, imports


def at_home(arguments: Sequence[str]) -> list[str]:
    """Return arguments in which ``~/`` is the folder of the user wherever a path may begin.

    A shell says so itself where an argument begins with it, and not in ``--out=~/x`` or ``data=[~/a,~/b]``.
    """
    home = str(Path.home())
    if re.search(r"[^\w./+@ -]", home, re.ASCII):  # in Hydra's grammar other characters mean something
        return [re.sub(r"^(--[\w-]+=)?~(?=/)", lambda found: (found[1] or "") + home, text) for text in arguments]
    return [re.sub(r"""(^|[=\[{,:'"])~(?=/)""", lambda found: found[1] + home, text) for text in arguments]


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Return arguments with all settings at the end: Hydra's parser reads them only where they stand together."""
    settings = [text for text in arguments if text.startswith("~") or ("=" in text and not text.startswith("-"))]
    return [*(text for text in arguments if text not in settings), *settings]


def one_search_a_job(match: re.Match[str]) -> str:
    """Write ``search=a,b``, a sweep over single searches, as Hydra reads it."""
    return "search=" + ",".join(f"[{name}]" for name in match[1].split(","))


def modules_of_env(overrides: Sequence[str]) -> list[str]:
    """Import the modules of ``env.id=MODULE:ID``; return what names them from any folder."""
    values = [text.removeprefix("env.id=") for text in overrides if text.startswith("env.id=")]
    named = [one.strip("'\" ").rpartition(":")[0] for value in values for one in value.split(",")]
    return [plugins.import_named(module) for module in named if module]


def with_environment(command: str, overrides: Sequence[str]) -> list[str]:
    """Return overrides in which rows of ``data`` that are given without an environment are of none: ``env=chat``."""
    chosen = any(re.match(r"((env|env\.id|experiment|\+\+env)=|run=)", text) for text in overrides)
    place = next((text.removeprefix("data=") for text in overrides if text.startswith("data=")), "")
    first = re.split(r"[\[,\]]", place.lstrip("[").strip("'\""))[0]
    rows = first.startswith("hub:") or Path(first).is_file() or (Path(first).is_dir() and _of_none(Path(first)))
    reads = command in ("run", "train", "eval")
    return ["env=chat", *overrides] if reads and first and rows and not chosen else [*overrides]


def _of_none(folder: Path) -> bool:
    """Whether a folder is a buffer of no environment, or holds rows."""
    if not (folder / "metadata.json").is_file():
        return any(folder.iterdir()) and not any(folder.glob("part-*.parquet"))
    try:
        return read_json(read_document(folder / "metadata.json")).get("env_ids") == ["oreo/Chat-v0"]
    except (ValueError, OSError):
        return False
