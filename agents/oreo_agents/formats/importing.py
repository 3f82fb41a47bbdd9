"""Rows of files become a buffer: which layout they are in, which task each is of, what grades and labels say.

Knows: the order of work, and what is counted. Does not know: layouts, tokens, command lines.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from oreo_agents.episodes.ungraded import WHY
from oreo_agents.formats.chat import unzipped
from oreo_agents.formats.draft import Cut, Draft
from oreo_agents.formats.labels import LABELS, judge_label, relabelled
from oreo_agents.formats.layout import Layout, Row, Watched, columns_of, named, near, recognise
from oreo_agents.formats.matching import Tasks, delimiters_of, is_held_out
from oreo_agents.formats.reading import rows_of
from oreo_agents.formats.registry import LAYOUTS
from oreo_agents.formats.solutions import Solution, Verdict
from oreo_algos import Episode, EpisodeBuffer

CHAT = "oreo/Chat-v0"
"""The environment of episodes of no environment."""

_WATCHED = 100
"""Rows whose columns are held against what is read of them."""

_AT_ONCE = 1024
"""Drafts that are graded and judged together."""


@dataclass
class ImportCounts:
    """What an import met.

    Attributes:
        layout: name of the layout that the rows are in.
        episodes: episodes imported.
        known: of tasks of the environment's data.
        held_out: of tasks of a held-out split.
        first_held_out: name of the first of these tasks.
        graded: without a label, graded by the environment.
        disagreements: labelled ones of known tasks where the environment's grader says otherwise.
        not_graded: without a label, and the verdict was lost; they are left out, and not among ``episodes``.
        unchecked: labelled ones of known tasks whose verdict was lost: nothing is known of a disagreement.
        cut_off: without a label, and a limit cut the answer in the middle: truncated, not graded.
        shown: without a label, there to be imitated: taken as successes.
        pairs: preferences, two episodes each.
        skipped: rows that could not be used, with ``skip_bad``.
        first_skipped: what was wrong with the first of them.
        other_series: rows of another series than the first, such as the samples of a second filter.
        unread: columns of the first rows that their layout does not read.
    """

    layout: str = ""
    episodes: int = 0
    known: int = 0
    held_out: int = 0
    first_held_out: str = ""
    graded: int = 0
    disagreements: int = 0
    not_graded: int = 0
    unchecked: int = 0
    cut_off: int = 0
    shown: int = 0
    pairs: int = 0
    skipped: int = 0
    first_skipped: str = ""
    other_series: int = 0
    unread: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """Say what is not 0."""
        told = {
            "known": "{} of tasks that the environment knows",
            "held_out": "{} of held-out tasks: an evaluation on these is not a test",
            "pairs": "{} preference pairs",
            "shown": "{} with no verdict, there to be imitated: taken as successes, reward 1",
            "graded": "{} graded here",
            "disagreements": "{} labels that the grader disagrees with",
            "cut_off": "{} answers were cut off by a limit (finish_reason) and are truncated, not graded",
            "not_graded": f"{{}} answers were not graded and are left out: {WHY}",
            "unchecked": f"{{}} labels could not be checked: {WHY}",
            "other_series": "{} rows of another filter than the first row's are left out",
            "skipped": "{} rows are left out, the first: " + self.first_skipped.replace("{", "{{").replace("}", "}}"),
        }
        said = [text.format(getattr(self, name)) for name, text in told.items() if getattr(self, name)]
        return said + ([f"not read: the columns {', '.join(self.unread)}"] if self.unread else [])


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """How to import.

    Attributes:
        layout: a layout's name, or "auto".
        label: the column with the verdict, dotted where it lies within another; None: as the layout says.
        env_id: a registered id; None: the rows are of no environment.
        path: where the environment's own data lies.
        prompt: prompt template for tasks that the environment knows; None: its default.
        success_threshold: numbers from this one on are successes; None: labels are true or false, 1 or 0 or -1.
        steps: where steps end, see ``draft.Cut``.
        pay_steps: labels of steps are rewards of the steps; otherwise the last step has the reward of the whole, and
            they stand in ``info["step_rightness"]``.
        skip_bad: leave out and count rows that cannot be used.
        max_unpacked_bytes: what files may unpack to, all together; None: as ``oreo_envs.limits`` has it.
    """

    layout: str = "auto"
    label: str | None = None
    env_id: str | None = None
    path: str | None = None
    prompt: str | None = None
    success_threshold: float | None = None
    steps: Cut = "auto"
    pay_steps: bool = False
    skip_bad: bool = False
    max_unpacked_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.success_threshold is not None and not math.isfinite(self.success_threshold):
            raise ValueError(f"--success-threshold must be a finite number, got {self.success_threshold}")


@dataclass
class _Found:
    """A draft with its place, and the task that it is of."""

    where: str
    draft: Draft
    solution: Solution | None = None


@dataclass
class _Reader:
    """Holds each row against the layout of the first."""

    settings: ImportSettings
    counts: ImportCounts
    layouts: Sequence[Layout] = LAYOUTS
    layout: Layout | None = None
    series: Any = None
    known: set[frozenset[str]] = field(default_factory=set)
    watched: int = 0

    def read(self, where: str, row: Row) -> list[Draft]:
        """Return the drafts of a row.

        Raises:
            ValueError: it cannot be used; says why, and where.
        """
        row = unzipped(row)
        try:
            return self._drafts(row if self.settings.label is None else relabelled(row, self.settings.label))
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            form = f"a field has another form than in the layout {self.layout.name}" if self.layout else "an odd field"
            told = str(error) if isinstance(error, ValueError) else f"{form} ({error!r})"
            if self.layout is not None and (missing := self.layout.missing(row)):
                wanted = " and no ".join(missing).replace("|", " or ")
                told = (
                    f"{told}; the layout {self.layout.name} needs it, and there is no {wanted} among {columns_of(row)}"
                )
            raise ValueError(f"{where}: {told}") from None

    def _drafts(self, row: Row) -> list[Draft]:
        if self.layout is None:
            asked = self.settings.layout
            self.layout = recognise(row, self.layouts) if asked == "auto" else named(asked, self.layouts)
            self.counts.layout, self.series = self.layout.name, self.layout.one_of(row)
            self._require_turns(self.layout)
        elif self.settings.layout == "auto":
            self._require_same(self.layout, row)
        if self.layout.one_of(row) != self.series:
            self.counts.other_series += 1
            return []
        if self.watched >= _WATCHED:
            return self.layout.read(row)
        self.watched += 1
        seen = Watched(row)
        drafts = self.layout.read(seen)
        self.counts.unread = tuple(dict.fromkeys([*self.counts.unread, *seen.unread(self.settings.label)]))
        return drafts

    def _require_same(self, layout: Layout, row: Row) -> None:
        """Refuse a row of another layout, such as one with a verdict after rows that are there to imitate."""
        columns = frozenset(name for name, value in row.items() if value is not None)
        fits = layout.is_of(row)
        if fits and columns in self.known:
            return
        others = [one.name for one in self.layouts if one.is_of(row)]
        if fits and others[0] == layout.name:
            self.known.add(columns)
            return
        missing = " and no ".join(layout.missing(row)).replace("|", " or ") or "such content"
        here = f"this one is {others[0]}" if fits else f"here is no {missing} among {columns_of(row)}"
        hint = f"it would be {', '.join(others[:3])}" if others else near(row, self.layouts)
        raise ValueError(
            f"the rows before are in the layout {layout.name}, and {here}; "
            f"{'say --format, or give each kind as a file of its own' if fits else hint}"
        )

    def _require_turns(self, layout: Layout) -> None:
        """Refuse answers to questions where there are none."""
        env_id = self.settings.env_id
        if layout.name in ("labelled", "prompt-response") and env_id and delimiters_of(env_id) == ():
            raise ValueError(
                f"--format {layout.name} reads answers to questions, and {env_id} is played turn by turn: give whole "
                "conversations with --format messages, or record them (oreo_envs.evaluate with record=FOLDER, or "
                "oreo_envs.Recorder) for oreo data encode"
            )


def import_episodes(files: Sequence[Path], settings: ImportSettings) -> tuple[EpisodeBuffer, ImportCounts]:
    """Read files into memory, see ``import_each``."""
    counts = ImportCounts()
    episodes = list(import_each(files, settings, counts))
    return EpisodeBuffer(episodes, provenance=provenance_of(files, counts)), counts


def provenance_of(files: Sequence[Path], counts: ImportCounts) -> dict[str, Any]:
    """Say where imported episodes come from."""
    return {"source": "import", "file": ", ".join(file.name for file in files[:8]), "format": counts.layout}


def import_each(files: Sequence[Path], settings: ImportSettings, counts: ImportCounts) -> Iterator[Episode]:
    """Read files; each row becomes one episode, or several. Some rows are in memory at once.

    Args:
        files: in their order.
        settings: how to read them.
        counts: filled on the way.

    Raises:
        ValueError: a row cannot be used; the message names file, row, the columns there, and the layouts that come
            close. Or not one answer could be graded, or there is no row.
    """
    reader = _Reader(settings, counts)
    delimiters = delimiters_of(settings.env_id) if settings.env_id else ()
    tasks = Tasks(settings.env_id, settings.path, settings.prompt) if settings.env_id and delimiters != () else None
    waiting: list[_Found] = []
    drafts = 0
    for where, row in rows_of(files, settings.max_unpacked_bytes):
        try:
            waiting += [_matched(where, row, draft, tasks, settings) for draft in reader.read(where, row)]
        except ValueError as error:
            if not settings.skip_bad or not reader.layout:
                raise
            counts.skipped += 1
            counts.first_skipped = counts.first_skipped or str(error)
        if len(waiting) >= _AT_ONCE:
            drafts += len(waiting)
            yield from _episodes(waiting, delimiters, settings, counts)
            waiting = []
    drafts += len(waiting)
    yield from _episodes(waiting, delimiters, settings, counts)
    names = ", ".join(str(file) for file in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    if not drafts:
        raise ValueError(f"{names}: no solutions in this file" + "".join(f"; {s}" for s in counts.sentences()))
    if not counts.episodes:
        raise ValueError(f"{names}: not one of {counts.not_graded} answers could be graded: {WHY}")


def _matched(where: str, row: Row, draft: Draft, tasks: Tasks | None, settings: ImportSettings) -> _Found:
    """Find the task of a draft, and put its question as the environment does."""
    if draft.exact is not None:
        draft.label = _judge(where, draft, settings)[1]
        return _Found(where, draft)
    if settings.pay_steps and draft.step_labels is None:
        raise ValueError(f"{where}: --step-rewards pays labels of steps, and this row has none; leave it out")
    draft.info.setdefault("source", str(row.get("source", "")))
    task = tasks.find(draft.asked) if tasks is not None and draft.single else None
    if draft.label is None and task is None and not draft.shown:
        ending = f"is no task of {settings.env_id}" if settings.env_id else "is of no environment (--env)"
        names = [name for name in LABELS if name in row] or LABELS
        raise ValueError(
            f"{where}: there is no {' or '.join(names)}, and the question {ending} that could be graded; add one, or "
            f"say with --label which of {columns_of(row)} is one"
        )
    if draft.label is not None and draft.pair is None:
        _judge(where, draft, settings)  # before anything is graded
    if task is None or tasks is None:
        return _Found(where, draft)
    draft.messages = [*(dict(m) for m in tasks.opening(draft.asked)), draft.messages[-1]]
    draft.turns = [len(draft.messages) - 1]
    draft.task_id = task.task_id
    cut = draft.truncated
    return _Found(where, draft, Solution(where, cut, draft.response, draft.label, task))


def _judge(where: str, draft: Draft, settings: ImportSettings) -> tuple[float, bool]:
    try:
        return judge_label(draft.label, settings.success_threshold)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _episodes(
    found: Sequence[_Found], delimiters: tuple[str, ...] | None, settings: ImportSettings, counts: ImportCounts
) -> Iterator[Episode]:
    solutions = [one.solution for one in found if one.solution is not None]
    for solution in [one for one in solutions if one.verdict() is Verdict.LOST]:  # once more, when the rest is done
        solution.verdict(again=True)
    for episode in _judged(found, delimiters, settings, counts):
        counts.episodes += 1
        yield episode


def _judged(
    found: Sequence[_Found], delimiters: tuple[str, ...] | None, settings: ImportSettings, counts: ImportCounts
) -> Iterator[Episode]:
    """Yield the episodes of rows; a row of which one cannot be made is no row, and the half of a pair no pair."""
    for where, row in groupby(found, key=lambda one: one.where):
        before, halves = dict(vars(counts)), 0
        try:
            made = []
            for one in row:
                made += _episode(one, delimiters, settings, counts)
                halves += one.draft.pair is not None
        except (ValueError, OverflowError) as error:
            if not settings.skip_bad:
                raise ValueError(f"{where}: {error}") from None
            vars(counts).update(before)
            counts.skipped += 1
            counts.first_skipped = counts.first_skipped or f"{where}: {error}"
            continue
        counts.pairs += halves // 2
        yield from made


def _episode(
    one: _Found, delimiters: tuple[str, ...] | None, settings: ImportSettings, counts: ImportCounts
) -> list[Episode]:
    """Return the episode of a draft, counted; none where its verdict was lost."""
    draft, solution = one.draft, one.solution
    verdict = None if solution is None else solution.verdict()
    counts.known += solution is not None
    if solution is not None and solution.task.held_out:
        counts.held_out += 1
        counts.first_held_out = counts.first_held_out or str(draft.task_id)
    if draft.exact is not None:
        reward, success = 0.0, bool(draft.label)
        counts.held_out += is_held_out(draft.env_id or "", draft.task_id, draft.info.get("split"))
    elif draft.label is None and solution is not None:
        counts.cut_off += verdict is Verdict.CUT_OFF
        counts.not_graded += verdict is Verdict.LOST
        counts.graded += verdict in (Verdict.RIGHT, Verdict.WRONG)
        if verdict is Verdict.LOST:
            return []
        reward, success = float(verdict is Verdict.RIGHT), verdict is Verdict.RIGHT
        draft.truncated = verdict is Verdict.CUT_OFF
    elif draft.label is None:
        counts.shown += 1
        reward, success = 1.0, True
    else:
        threshold = None if draft.pair is not None else settings.success_threshold
        reward, success = judge_label(draft.label, threshold)
        counts.unchecked += verdict is Verdict.LOST
        counts.disagreements += verdict in (Verdict.RIGHT, Verdict.WRONG) and (verdict is Verdict.RIGHT) != success
        draft.truncated &= solution is None
    made = draft.episode(
        settings.env_id or CHAT,
        delimiters=delimiters or (),
        cut=settings.steps,
        reward=reward,
        success=success,
        pay_steps=settings.pay_steps,
    )
    return [made]
