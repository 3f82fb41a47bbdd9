"""Results as plain rows, for pandas and files.

Knows: what an entry, a comparison and an evaluation come to in numbers. Does not know: how they are shown.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from oreo_agents.evaluation.comparisons import Pair
from oreo_agents.evaluation.results import (
    Entry,
    Evaluation,
    find_results,
    load_evaluations,
    read_items,
    settings_that_differ,
)


def load_results(
    folders: str | Path | Iterable[str | Path], *, items: bool = False, settings: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Read the results of runs as rows of equal columns: ``pandas.DataFrame(load_results("outputs"))``.

    Args:
        folders: run folders, or folders that hold some, or one of them.
        items: a row for each answered task, with ``task_id``, ``correct`` (bool) and ``tokens``, in place of one for
            each evaluation, with ``n``, ``correct``, ``accuracy`` (of 1), ``wilson_low``, ``wilson_high``,
            ``tokens_per_task``, ``value_tokens_per_task``, ``cpu_seconds`` and ``steps`` of the training.
        settings: further columns, by dotted name as on the command line (an algorithm's own: ``algo.beta``); None:
            all in which the runs differ. Lists are written as text.

    Returns:
        Rows that begin with ``algo``, ``search``, ``env``, ``split``, ``budget``, ``size``, ``seed`` (of the training)
        and ``folder``; None where a run has no such number.

    Raises:
        FileNotFoundError: no results below a folder.
    """
    given = [folders] if isinstance(folders, str | Path) else folders
    runs = sorted({path for folder in given for path in find_results(Path(folder).expanduser())})
    found = load_evaluations(runs)
    names = settings_that_differ(found) if settings is None else list(settings)
    return [row | own for each in found for row in [_evaluation(each, names)] for own in _measured(each, items)]


def _evaluation(each: Evaluation, names: Sequence[str]) -> dict[str, Any]:
    row = {name: each.row.get(name) for name in ("algo", "search", "env", "split", "budget", "size")}
    values = {name: each.settings.values.get(name) for name in names}
    plain = {name: str(value) if isinstance(value, list) else value for name, value in values.items()}
    return row | {"seed": each.settings.seed, "folder": str(each.path.parent)} | plain


def _measured(each: Evaluation, items: bool) -> list[dict[str, Any]]:
    if items:
        return [{name: item.get(name) for name in _OF_ITEM} for item in read_items(each.path, each.row)]
    return [{name: each.row.get(name) for name in _OF_ROW} | {name: each.training.get(name) for name in _OF_TRAINING}]


_OF_ITEM = ("task_id", "correct", "tokens", "kind", "sound")
_OF_ROW = (
    *("n", "correct", "accuracy", "wilson_low", "wilson_high", "tokens_per_task", "value_tokens_per_task"),
    *("sound", "invalid_per_task", "not_graded"),
)
_OF_TRAINING = ("cpu_seconds", "steps")


def entry_record(entry: Entry) -> dict[str, Any]:
    """Return the numbers of an entry."""
    low, high = entry.interval or (None, None)
    names = ("tokens_per_task", "value_tokens_per_task", "sound", "invalid_per_task")
    own: dict[str, Any] = {"row": entry.algo, "algo": entry.name, **entry.settings, "search": entry.search}
    own |= {"budget": entry.budget, "env": entry.env, "split": entry.split, "runs": len(entry.rows)}
    own |= {"seeds": entry.seeds, "n": sum(row["n"] for row in entry.rows), "accuracy": entry.accuracy}
    own |= {"low": low, "high": high, **{name: entry.mean(name) for name in names}}
    return own | {"cpu_minutes": entry.cpu_minutes}


def pair_record(pair: Pair) -> dict[str, Any] | None:
    """Return the numbers of a comparison; None of entries without a task in common."""
    compared = pair.compared
    if compared is None:
        return None
    first, second = ({"row": e.algo, "search": e.search, "budget": e.budget} for e in (pair.first, pair.second))
    where = {"env": pair.first.env, "split": pair.first.split, "first": first, "second": second}
    numbers = {"difference": compared.mean, "low": compared.low, "high": compared.high, "p": compared.p_value}
    return where | {"runs": compared.runs, "tasks": compared.tasks} | numbers
