"""A few judged answers for a report: the first right and the first wrong one of each algorithm.

Knows: entries, kept answers, how foreign text is quoted in Markdown. Does not know: reports, terminals.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from oreo_agents.episodes.spoken import asked, spoken_steps, visible
from oreo_agents.evaluation.answer_view import judgement
from oreo_agents.evaluation.budget import contender_label
from oreo_agents.evaluation.kept import ANSWERS, Kept, find_kept
from oreo_agents.evaluation.results import Entry
from oreo_algos.episode import Episode
from oreo_algos.storage.parquet import METADATA

_log = logging.getLogger(__name__)

_LONGEST = 1500  # characters of a question or an answer


def example_section(entries: Sequence[Entry], *, rows: int = 6) -> str:
    """Write the section; "" where no answers are kept.

    Args:
        entries: of the report; of each algorithm and setting the first one that has answers speaks for it.
        rows: how many of them at most.
    """
    shown: dict[str, str] = {}
    for entry in entries:
        if entry.algo in shown or len(shown) == rows:
            continue
        try:
            kept = _kept(entry)
            if kept is not None:
                shown[entry.algo] = _examples(entry, kept)
        except (ValueError, OSError) as error:  # numbers are worth reporting without the answers
            _log.warning("answers of %s are not shown: %s", entry.algo, error)
    if not shown:
        return ""
    folders = dict.fromkeys(str(each.path.parent) for entry in entries for each, _ in entry.evaluations)
    hint = next(iter(folders))
    return "## Answers\n\n" + "\n".join(shown.values()) + f"\nMore: `oreo show {hint}`\n"


def quoted(text: str) -> str:
    """Quote a text so that nothing in it is read as Markdown or HTML, and nothing in it stays unseen."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{visible(text)}\n{fence}\n"


def _kept(entry: Entry) -> Kept | None:
    """Return the answers of an entry's first run that has any."""
    for each, _ in entry.evaluations:
        label = contender_label(each.row["search"], each.row.get("budget"))
        folder: Path = each.path.parent / each.row["algo"] / f"{ANSWERS}-{each.row['split']}-{label}"
        if (folder / METADATA).is_file():
            return find_kept(folder)[0]
    return None


def _examples(entry: Entry, kept: Kept) -> str:
    parts = []
    for right in (True, False):
        episode = next((episode for episode in kept.buffer if episode.success == right), None)
        if episode is not None:
            name = visible(f"{entry.algo}, {entry.search}, {entry.split}").replace("`", "'")
            parts.append(f"`{name}`, {'right' if right else 'wrong'}:\n\n{quoted(_text(episode))}")
    return "\n".join(parts)


def _text(episode: Episode) -> str:
    question = "\n\n".join(message["content"].strip() for message in asked(episode))
    steps = [] if episode.action_spans is None else spoken_steps(episode)
    said = "\n".join(
        part for text, answer in steps for part in (f"> {text}" if _is_game(episode) else text, answer) if part
    )
    return f"{episode.task_id}\n\n{_cut(question)}\n\n{_cut(said)}\n\n({judgement(episode).plain})"


def _is_game(episode: Episode) -> bool:
    spans = episode.action_spans
    return spans is not None and spans[0, 0] != spans[-1, 0]


def _cut(text: str) -> str:
    """Leave out the middle of a long text: an answer stands at its end."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
