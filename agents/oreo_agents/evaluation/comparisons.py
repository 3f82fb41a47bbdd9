"""What is compared with what.

Knows: which entries belong together, and which is the base. Does not know: intervals, files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from oreo_agents.evaluation.results import Entry, compare_entries
from oreo_agents.evaluation.round_names import split_round
from oreo_agents.evaluation.statistics import Comparison
from oreo_agents.evaluation.tables import places, points
from oreo_envs.checks import closest

START = "sft"
"""The algorithm that stands for the policy that everything starts from, in results."""


@dataclass(frozen=True)
class Pair:
    """Two entries to compare.

    Attributes:
        title: of the table that it stands in.
        label: what is compared.
        first: entry.
        second: entry that is taken from it.
    """

    title: str
    label: str
    first: Entry
    second: Entry

    @property
    def whole_label(self) -> str:
        """What is compared, outside of its table: with the search that both share unless it is greedy."""
        shared = self.first.search if self.first.search == self.second.search != "greedy" else None
        return self.label if shared is None else f"{shared}: {self.label}"

    @property
    def compared(self) -> Comparison | None:
        """The comparison; None of entries without a task in common."""
        return compare_entries(self.first, self.second)


def comparison_pairs(
    entries: Sequence[Entry], base: str | None = None, judges: Mapping[str, str] | None = None
) -> list[Pair]:
    """Return what to compare.

    With a base: every entry with it that has its search, in the same setting where they share settings. Without one
    OREO (its last round) with the others of the same setting, and with itself in others; without OREO all others with
    the start, so that plus is better than it, and without a start the first algorithm with the others. Beside these
    every search with greedy decoding, and the searches by the learned value with a majority vote of the same budget.

    Args:
        entries: of all environments and splits.
        base: name of a row, or of an algorithm.
        judges: of preference pairs, by what stands where other rows name a search, each in words; None: rows of tasks.

    Raises:
        ValueError: no row has the name of the base.
    """
    if base is not None and not any(base in (entry.algo, entry.name) for entry in entries):
        rows = list(dict.fromkeys(entry.algo for entry in entries))
        raise ValueError(f"--base {base}: there is no such row{closest(base, rows)}; rows: {', '.join(rows)}")
    pairs = []
    several = len(places(entries)) > 1
    for env, split in places(entries):
        here = [entry for entry in entries if (entry.env, entry.split) == (env, split)]
        where = f" on {env}, split {split}" if several else ""
        searches = (
            ["greedy"] if base is None and judges is None else list(dict.fromkeys(entry.search for entry in here))
        )
        for search in searches:
            done = "Greedy decoding, same tasks" if search == "greedy" else f"{search}, same tasks"
            done = done if judges is None else f"Ranking by {judges[search]}, same pairs"
            own = [entry for entry in here if entry.search == search]
            found = _leading(own) if base is None else _against(own, base)
            pairs += [Pair(f"{done}{where} (points)", *pair) for pair in found]
        pairs += [Pair(f"Searches, same tasks{where} (points)", *pair) for pair in _searches(here)]
    return pairs


def comparison_tables(
    entries: Sequence[Entry], base: str | None = None, judges: Mapping[str, str] | None = None
) -> list[Table]:
    """Return the paired differences of ``comparison_pairs``."""
    tables: dict[str, Table] = {}
    for pair in comparison_pairs(entries, base, judges):
        compared = pair.compared
        if compared is None:
            continue
        if pair.title not in tables:
            tables[pair.title] = Table(title=pair.title)
            tables[pair.title].add_column("comparison")
            for name in ("runs", "tasks" if judges is None else "prompts", "difference", "95% interval", "p"):
                tables[pair.title].add_column(name, justify="right")
        tables[pair.title].add_row(
            pair.label,
            str(compared.runs),
            str(compared.tasks),
            points(compared.mean),
            f"{points(compared.low)} to {points(compared.high)}",
            f"{compared.p_value:.2g}",
        )
    return list(tables.values())


def _leading(entries: Sequence[Entry]) -> list[tuple[str, Entry, Entry]]:
    """Return the pairs of the algorithm that all are compared with when no base is named."""
    first = max(entries, key=_rank, default=None)
    leading = [entry for entry in entries if first is not None and entry.name == first.name]
    pairs = [(a, b) for a in leading for b in entries if b.name != a.name and _fit(a, b)]
    if first is not None and first.name == START:
        pairs = [(other, start) for start, other in pairs]
    pairs += [(leading[0], other) for other in leading[1:]]
    return [(f"{a.algo} - {b.algo}", a, b) for a, b in pairs]


def _against(entries: Sequence[Entry], base: str) -> list[tuple[str, Entry, Entry]]:
    """Return the pairs with a base: a row by its whole name, or an algorithm in each of its settings."""
    bases = [entry for entry in entries if entry.algo == base] or [entry for entry in entries if entry.name == base]
    named = [(a, b) for b in bases for a in entries if a is not b and a.budget == b.budget]
    fit = [(a, b) for a, b in named if len(bases) == 1 or _fit(a, b)]
    return [(f"{a.algo} - {b.algo}", a, b) for a, b in fit]


def _fit(first: Entry, second: Entry) -> bool:
    """Whether two entries have the same settings, as far as both depend on them."""
    return all(first.shared[name] == second.shared[name] for name in {*first.shared} & {*second.shared})


def _searches(entries: Sequence[Entry]) -> list[tuple[str, Entry, Entry]]:
    """Return what to compare searches with, each with a label.

    That is greedy decoding, and a vote that generates as much; where neither was done, the search that was named first.
    """
    pairs = []
    for entry in entries:
        own = [other for other in entries if other.name == entry.name and other is not entry and _nested(entry, other)]
        searched = entry.search if entry.budget is None else f"{entry.search}, {entry.budget} tokens"
        if entry.search != "greedy":
            pairs += [(f"{entry.algo}: {searched} - greedy", entry, o) for o in own if o.search == "greedy"][:1]
        if entry.search not in ("majority", "greedy", "sampled", "admissible"):
            votes = [other for other in own if (other.search, other.budget) == ("majority", entry.budget)]
            pairs += [(f"{entry.algo}: {searched} - majority", entry, vote) for vote in votes[:1]]
        if not {"greedy", "majority"} & {entry.search, *(other.search for other in own)}:
            before = [other for other in entries[: entries.index(entry)] if other in own]
            alike = [o for o in before if o.budget == entry.budget and o.search != entry.search]
            pairs += [(f"{entry.algo}: {searched} - {first.search}", entry, first) for first in alike[:1]]
    return pairs


def _nested(entry: Entry, other: Entry) -> bool:
    """Whether two searches are of one network: what both depend on is equal."""
    return all(entry.settings[name] == other.settings[name] for name in {*entry.settings} & {*other.settings})


def _rank(entry: Entry) -> int:
    """Rank entries to compare others with: the last round of OREO first, then earlier ones, the start, all others."""
    algorithm, number = split_round(entry.name)
    return {"oreo": 1 + number, START: 1}.get(algorithm, 0)
