"""Tables of how preference pairs are ranked; they are called held out where the rows know that.

Knows: what is a row and what a column. Does not know: how pairs are scored, files.
"""

from collections.abc import Sequence

from rich.table import Table

from oreo_agents.evaluation.results import Entry
from oreo_agents.evaluation.tables import interval, percent, places

POLICY, VALUE = "implicit_reward", "value"
"""The judges, as they are called where other rows name a search."""

JUDGES = {POLICY: "implicit reward", VALUE: "V at the end"}
"""What a judge is called in a table."""


def pair_tables(entries: Sequence[Entry]) -> list[Table]:
    """Return a table of reward accuracies and margins for each environment and set of pairs.

    Args:
        entries: of rows of pairs.
    """
    tables = []
    for env, split in places(entries):
        shown = [entry for entry in entries if (entry.env, entry.split) == (env, split)]
        rows = [row for entry in shown for row in entry.rows]
        held_out = not any(row.get("training_unknown") or row.get("seen_in_training") for row in rows)
        kind = "Held-out" if held_out else "Preference"
        table = Table(title=f"{kind} pairs ranked right (%) of {split}, {env}")
        table.add_column("algo")
        table.add_column("judged by", no_wrap=True)
        for name in ("runs", "pairs", "accuracy", "95% interval", "margin", "95% interval", "ties", "beta"):
            table.add_column(name, justify="right", no_wrap=True)
        seen = [sum(row.get("seen_in_training", 0) for row in entry.rows) for entry in shown]
        if any(seen):
            table.add_column("trained on", justify="right")
        for entry, known in zip(shown, seen, strict=True):
            table.add_row(*_row(entry), *([str(known)] if any(seen) else []))
        tables.append(table)
    return tables


def _row(entry: Entry) -> list[str]:
    margin, low, high, beta = map(entry.mean, ("margin", "margin_low", "margin_high", "beta"))
    alone = entry.rows[0] if len(entry.rows) == 1 else None
    return [
        entry.algo,
        JUDGES.get(entry.search, entry.search),
        str(len(entry.rows)),
        str(sum(row["n"] for row in entry.rows)),
        percent(entry.mean("accuracy") or 0.0),
        # One run says it of pairs; of several, prompts are what is independent.
        interval(entry) if alone is None else f"{percent(alone['wilson_low'])} to {percent(alone['wilson_high'])}",
        "" if margin is None else f"{margin:.2g}",
        "" if alone is None or low is None or high is None else f"{low:.2g} to {high:.2g}",
        str(sum(row["ties"] for row in entry.rows)),
        "" if beta is None else f"{beta:g}",
    ]
