"""``oreo data``: text that others collected becomes an episode buffer.

Knows: file formats of solutions, environments' prompts and steps. Does not know: training.
"""

import argparse
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from oreo_agents.episodes.recorded import recorded_episodes
from oreo_agents.episodes.tasks import find_env
from oreo_agents.formats.importing import ImportCounts, ImportSettings, import_each, import_episodes, provenance_of
from oreo_agents.formats.reading import HUB, files_of
from oreo_agents.formats.registry import LAYOUTS
from oreo_agents.runs import data_tools
from oreo_agents.runs.data_arguments import parser
from oreo_agents.runs.encoding import encode_buffer as encode_buffer
from oreo_agents.runs.encoding import encoded
from oreo_agents.terminal import Terminal, say
from oreo_algos import EpisodeBuffer
from oreo_algos.storage.atomic import remove_leftovers
from oreo_algos.storage.writing import write_buffer
from oreo_envs.alfworld.games import LAYOUT_FOLDER, SPLITS
from oreo_envs.alfworld.house_files import write_games
from oreo_envs.recording import is_record

if TYPE_CHECKING:  # what only reads buffers loads neither tokenizers nor torch
    from oreo_agents.episodes.prompts import PromptFormat

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> None:
    """Run ``oreo data``, see ``data_arguments``."""
    options = parser().parse_args(arguments)
    _require_matches([getattr(options, "buffer", None), *getattr(options, "buffers", ())])
    if options.command == "import":
        _import(options)
    elif options.command == "encode":
        _encode(options)
    elif options.command == "export":
        from oreo_agents.runs.data_export import export

        export(options)
    elif options.command == "formats":
        _print_formats()
    elif options.command == "generate-houses":
        remove_leftovers(options.out / LAYOUT_FOLDER)
        for split in dict.fromkeys(options.split or SPLITS):
            say(f"{options.out}: {write_games(options.out, split, options.count, seed=options.seed)} games of {split}")
    else:
        getattr(data_tools, options.command)(options)


def _require_matches(folders: Iterable[Path | None]) -> None:
    """Refuse patterns that the shell has left as they were.

    Raises:
        FileNotFoundError: nothing matches one.
    """
    for folder in folders:
        if folder is not None and re.search("[*?]", str(folder)) and not folder.exists():
            raise FileNotFoundError(
                f"{folder}: no folder matches; `oreo collect` writes outputs/collect/*/data/episodes* where no "
                "hydra.run.dir was given"
            )


def _prompt_format(options: argparse.Namespace) -> "PromptFormat":
    from oreo_agents.episodes.prompts import PromptFormat

    return PromptFormat.from_pretrained(
        options.tokenizer,
        chat_template=options.chat_template,
        chat_template_kwargs=options.chat_template_kwargs,
        system_prompt=options.system_prompt,
        trust_remote_code=options.trust_remote_code,
    )


def import_solutions(
    file: Path,
    file_format: str,
    env: str,
    *,
    path: str | None = None,
    prompt: str | None = None,
    success_threshold: float | None = None,
) -> tuple[EpisodeBuffer, ImportCounts]:
    """Read solutions of an environment's tasks from a file; see ``formats.importing.import_episodes``.

    Args:
        file: of any kind that is read.
        file_format: a layout's name, or "auto".
        env: a registered id or its short name.
        path: where the environment's own data lies, to find the task of a question; without data, tasks are named
            after the prompt.
        prompt: prompt template; None: the environment's default.
        success_threshold: numbers from this one on are successes; None: labels are true or false, 1 or 0, or 1
            or -1, and no number has to be judged.

    Raises:
        ValueError: a row cannot be used; the message names file, row and field. Or not one answer could be graded; or
            the environment asks no questions, and a solution is no episode of it.
    """
    settings = ImportSettings(
        layout=file_format, env_id=find_env(env), path=path, prompt=prompt, success_threshold=success_threshold
    )
    return import_episodes([file], settings)


def _import(options: argparse.Namespace) -> None:
    settings = ImportSettings(
        layout=options.format,
        label=options.label,
        env_id=find_env(options.env) if options.env else None,
        path=options.path,
        prompt=options.prompt,
        success_threshold=options.success_threshold,
        steps=options.steps,
        pay_steps=options.step_rewards,
        skip_bad=options.skip_bad,
    )
    files = [file for place in options.places for file in files_of(place, options.split)]
    prompt_format, counts = _prompt_format(options) if options.tokenizer else None, ImportCounts()
    first = Path(options.places[0].removeprefix(HUB))
    # A folder beside the one it was read from, not in its place.
    out = options.out or Path(first.name.partition(".")[0] if first.is_file() else f"{first.name}-episodes")
    with write_buffer(out, tokenizer_fingerprint=prompt_format.fingerprint if prompt_format else "") as writer:
        episodes = import_each(files, settings, counts)
        for episode in encoded(episodes, prompt_format) if prompt_format else episodes:
            writer.add(episode)
        writer.provenance = provenance_of(files, counts)
    stats = writer.counts.stats()
    say(
        f"{out}: {counts.episodes} episodes of {', '.join(writer.counts.env_ids)}, read as {counts.layout}: "
        f"of {stats['tasks']} tasks, {stats['success_rate']:.3f} successful"
    )
    for sentence in counts.sentences():
        say(sentence)


def _print_formats() -> None:
    table = Table("layout", "columns", "whose", title="Layouts, in the order in which a row is held against them")
    for layout in LAYOUTS:
        table.add_row(layout.name, ", ".join(layout.columns).replace("|", " or "), layout.about)
    Terminal().print(table)


def _encode(options: argparse.Namespace) -> None:
    out, left = options.out or options.buffer, ""
    if is_record(options.buffer):
        if options.out is None or options.out.resolve() == options.buffer.resolve():
            raise ValueError(
                f"{options.buffer} is a record, which stays as it is: say where to write with --out FOLDER"
            )
        buffer, counts = recorded_episodes(options.buffer, held_out=options.allow_held_out)
        left = f"; left out: {counts}" if str(counts) else ""
    else:
        buffer = EpisodeBuffer.load(options.buffer)
    prompt_format = _prompt_format(options)
    with write_buffer(out, tokenizer_fingerprint=prompt_format.fingerprint, provenance=buffer.provenance) as writer:
        for episode in encoded(buffer, prompt_format):
            writer.add(episode)
    say(f"{out}: {len(buffer)} episodes encoded for {options.tokenizer}{left}")
