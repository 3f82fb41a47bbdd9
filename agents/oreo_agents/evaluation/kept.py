"""Episodes that lie in run folders to be read: where, of what, which of them.

Knows: names of folders, what a buffer says of itself. Does not know: networks, how episodes are shown. Loads no torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from oreo_agents.episodes.spoken import visible
from oreo_algos.episode import Episode
from oreo_algos.storage.buffer import EpisodeBuffer
from oreo_algos.storage.parquet import METADATA, read_metadata
from oreo_envs.checks import closest
from oreo_envs.limits import files_below, read_document, read_json

ANSWERS, CANDIDATES = "answers", "candidates"
"""What names of folders begin with: answers that were given, and those that a search chose them from."""

SOURCE = "judged answers"
"""What the provenance of both says."""


@dataclass(frozen=True)
class Kept:
    """One buffer of episodes.

    Attributes:
        folder: of the buffer.
        facts: its provenance; of judged answers ``algo``, ``search``, ``budget``, ``split``, ``env``, ``env_options``,
            ``evaluated`` (tasks), ``policy`` and ``value``.
        run: name of the run folder, where answers of several runs were found; else "".
    """

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    run: str = ""

    @property
    def judged(self) -> bool:
        """Whether these are answers of an evaluation, which say of which."""
        told = all(isinstance(self.facts.get(name), str) for name in ("algo", "search", "split"))
        return told and self.facts.get("source") == SOURCE

    @property
    def title(self) -> str:
        """What is in it, in a few words."""
        if not self.judged:
            return str(self.folder)
        budget = "" if self.facts.get("budget") is None else f", budget {self.facts['budget']}"
        run = f"{self.run}: " if self.run else ""
        return f"{run}{self.facts['algo']}, {self.facts['search']}{budget}, {self.facts['split']}"

    @cached_property
    def buffer(self) -> EpisodeBuffer:
        """The episodes, read when they are first asked for."""
        return EpisodeBuffer.load(self.folder)

    def candidates(self, task_id: str) -> list[Episode]:
        """Return the answers that a search chose that of a task from; [] where none are kept."""
        return [self._candidates[i] for i in self._by_task.get(task_id, ())]

    @cached_property
    def _candidates(self) -> EpisodeBuffer:
        folder = self.folder.with_name(self.folder.name.replace(ANSWERS, CANDIDATES, 1))
        there = self.judged and (folder / METADATA).exists()
        return EpisodeBuffer.load(folder) if there else EpisodeBuffer([])

    @cached_property
    def _by_task(self) -> dict[str, list[int]]:
        return self._candidates.by_task()


def find_kept(path: Path) -> list[Kept]:
    """Return the buffer at a path, or the judged answers in a run, in a folder of one, or in a folder of runs.

    Raises:
        FileNotFoundError: there is nothing to read.
        ValueError: a buffer is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is nothing there; give a run folder, RUN/NAME or a buffer of episodes")
    if (path / METADATA).is_file():
        return [_kept(path)]
    found = [_kept(file.parent) for file in files_below(path, METADATA) if _of_answers(file)]
    if found:
        if len({kept.folder.parent.parent for kept in found}) > 1:
            found = [replace(kept, run=kept.folder.parent.parent.relative_to(path).as_posix()) for kept in found]
        return sorted(found, key=_order)
    if any(path.glob("items-*.jsonl")) or any(path.glob("*/items-*.jsonl")):
        raise FileNotFoundError(
            f"{path}: it was evaluated, but no answers were kept (evaluate.keep=none, or an earlier release); "
            f"`oreo eval {path} evaluate.keep=200` answers again"
        )
    raise FileNotFoundError(
        f"{path}: no answers there; give the folder of `oreo run`, `oreo train` or `oreo eval`, NAME in one, or a "
        "buffer such as RUN/data/episodes"
    )


def _kept(folder: Path) -> Kept:
    return Kept(folder, read_metadata(folder)["provenance"])


def _of_answers(file: Path) -> bool:
    """Whether a file is in a folder of answers, none that a kill left, whose name is hidden."""
    return file.parent.name.startswith(f"{ANSWERS}-")


def _order(kept: Kept) -> tuple[str, float, str]:
    """In the order of the results where a run tells one; results that cannot be read hide no answers."""
    results = kept.folder.parent.parent / "results.json"
    names = ("algo", "search", "split", "budget")
    try:
        keys = [tuple(map(row.get, names)) for row in read_json(read_document(results))["results"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        keys = []
    own = tuple(map(kept.facts.get, names))
    return str(kept.folder.parent.parent), keys.index(own) if own in keys else len(keys), kept.folder.name


def choose(
    found: Sequence[Kept],
    where: Path,
    *,
    algo: str | None = None,
    search: str | None = None,
    split: str | None = None,
) -> list[Kept]:
    """Return those of an algorithm, search and split.

    Raises:
        ValueError: there are none of that name.
    """
    for name, wanted in (("algo", algo), ("search", search), ("split", split)):
        if wanted is None:
            continue
        known = list(dict.fromkeys(str(kept.facts[name]) for kept in found if name in kept.facts))
        if wanted not in known:
            known = [visible(one) for one in known]
            there = f"there are {', '.join(known)}" if known else f"these episodes do not say of which {name} they are"
            raise ValueError(f"{where}: no answers of {name} {wanted!r}{closest(wanted, known)}; {there}")
        found = [kept for kept in found if kept.facts.get(name) == wanted]
    return list(found)


def reason_of(episode: Episode) -> str | None:
    """Return why an answer was judged as it was; None where nobody says."""
    reason = episode.info.get("grade_reason")
    return None if reason is None else str(reason)


def matching(
    found: Sequence[Kept],
    where: Path,
    *,
    right: bool | None = None,
    task: str | None = None,
    reason: str | None = None,
) -> Callable[[Episode], bool]:
    """Return the test that an episode is shown by.

    Args:
        found: what is chosen from.
        where: what to name in an error.
        right: solved, or not; None: both.
        task: its id.
        reason: why it was judged as it was.

    Raises:
        ValueError: no episode is of that task, or was judged for that reason.
    """
    for name, wanted, of in (("task", task, lambda e: e.task_id), ("reason", reason, reason_of)):
        if wanted is not None:
            known = sorted({str(value) for kept in found for e in kept.buffer if (value := of(e)) is not None})
            if wanted not in known:
                known = [visible(one) for one in known]
                some = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
                raise ValueError(f"{where}: no answer of {name} {wanted!r}{closest(wanted, known)}; there are {some}")
    return lambda episode: (
        (right is None or episode.success == right)
        and (task is None or episode.task_id == task)
        and (reason is None or reason_of(episode) == reason)
    )
