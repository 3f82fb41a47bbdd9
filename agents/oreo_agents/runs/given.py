"""Rows that a run is given as ``data`` in place of a buffer: imported on the way.

Knows: which places hold rows, what they become for a policy. Does not know: layouts, training.
"""

import hashlib
import logging
from pathlib import Path

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.tasks import EnvSettings
from oreo_agents.formats.importing import CHAT, ImportSettings, import_episodes
from oreo_agents.formats.reading import HUB, files_of, minari_folder
from oreo_agents.runs.encoding import encode_buffer
from oreo_algos import EpisodeBuffer
from oreo_algos.storage.atomic import recover_folder

ALLOW = "allow_held_out=true"
"""The setting by which a run learns from held-out tasks."""

_log = logging.getLogger(__name__)


def require_there(place: str) -> None:
    """Find out early that nothing is where data should be.

    Raises:
        FileNotFoundError: it is not.
    """
    if not place.startswith(HUB) and not recover_folder(place).exists():
        raise FileNotFoundError(
            f"data={place}: no such file or folder; collect or import episodes first (`oreo collect`, "
            "`oreo data import`), or give rows of others as data=FILE or data=hub:NAME"
        )


def is_rows(place: str) -> bool:
    """Whether a place is no buffer but a file of rows, a folder of such files, or a data set of the hub."""
    path = Path(place)
    return place.startswith(HUB) or path.is_file() or (path.is_dir() and not _is_buffer(path))


def _is_buffer(path: Path) -> bool:
    """Whether a folder is a buffer, also a damaged one, which says itself what is wrong."""
    if minari_folder(path) is not None:
        return False
    return (path / "metadata.json").exists() or any(path.glob("part-*.parquet")) or not any(path.iterdir())


def imported_name(place: str) -> str:
    """Return the name of the buffer that rows become: another one where a file has changed."""
    named = [file for one in files_of(place) for file in ([one] if one.is_file() else sorted(one.iterdir()))]
    facts = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in named]
    return f"imported-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}"


def import_rows(
    place: str, env: EnvSettings, prompt_format: PromptFormat, *, setting: str = "data", held_out: bool = False
) -> EpisodeBuffer:
    """Import rows as they are, encode them for a policy, and say what was done.

    Args:
        place: see ``is_rows``.
        env: that they are of.
        prompt_format: of the policy.
        setting: that names the place.
        held_out: rows of held-out tasks are welcome.

    Raises:
        ValueError: a row cannot be used, or is of a held-out task.
    """
    of_none = env.id == CHAT
    settings = ImportSettings(env_id=None if of_none else env.id, path=None if of_none else next(iter(env.paths), None))
    try:
        buffer, counts = import_episodes(files_of(place), settings)
    except ValueError as error:
        options = "; options that begin with -- are those of `oreo data import`" if " --" in str(error) else ""
        raise ValueError(f"{setting}={place} is no buffer, and was read as rows: {error}{options}") from None
    if counts.held_out and not held_out:
        raise ValueError(
            f"{setting}={place}: {counts.held_out} of {counts.episodes} rows answer held-out tasks of {env.id}, such "
            f"as {counts.first_held_out}, which nothing may learn from; leave them out, or learn from them all the "
            f"same with {ALLOW}"
        )
    said = "; ".join([f"{counts.episodes} episodes, read as {counts.layout}", *counts.sentences()])
    _log.warning("%s=%s is imported on the way (oreo data import has more to choose): %s", setting, place, said)
    return encode_buffer(buffer, prompt_format)
