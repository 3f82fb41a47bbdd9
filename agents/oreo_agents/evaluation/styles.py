"""How things look in every picture: a colour for each algorithm, a marker and a line for each search.

Knows: names. Does not know: what is drawn. A name looks the same in all pictures of all runs.
"""

import zlib
from collections.abc import Iterable, Sequence

from matplotlib.colors import to_rgb

from oreo_agents.evaluation.round_names import split_round

# Okabe and Ito's colours, which most eyes tell apart, and some more.
_COLOURS = {
    "sft": "#888888",
    "sft-more": "#222222",
    "rejection": "#e69f00",
    "dpo": "#009e73",
    "kto": "#d55e00",
    "oreo": "#0072b2",
    "oreo-step": "#56b4e9",
    "oreo-response": "#6a4fb3",
    "oreo-constant": "#8c564b",
    "dqo": "#cc79a7",
    "dpo-nll": "#66c2a5",
    "step-dpo": "#1b7837",
    "direct-advantage": "#a6761d",
    "implicit-prm": "#b2182b",
    "grpo": "#542788",
    "asymre": "#e7298a",
    "topr": "#66a61e",
    "optimal-advantage": "#7f6000",
    "awr": "#17becf",
    "iql": "#393b79",
}
_OTHERS = ("#bcbd22", "#e377c2", "#98df8a", "#c49c94", "#d6616b", "#637939", "#ff9896")

_MARKERS = {
    "greedy": "o",
    "sampled": "x",
    "majority": "s",
    "best_of_n": "^",
    "weighted_vote": "D",
    "step_beam": "*",
    "block_beam": "X",
    "token_guide": "d",
    "admissible": "P",
    "best_of_k_actions": "v",
    "majority_of_k_actions": "p",
    "resample": "h",
    "resample_actions": "H",
}
_OTHER_MARKERS = "<>dX"
Line = str | tuple[int, tuple[int, ...]]
_LINES: Sequence[Line] = (
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1)),
    (0, (1, 1)),
    (0, (3, 1, 1, 1)),
)


def colour(algorithm: str) -> str:
    """Return the colour of an algorithm; rounds of one have the same."""
    name, _ = split_round(algorithm)
    return _COLOURS.get(name) or _OTHERS[zlib.crc32(name.encode()) % len(_OTHERS)]


def shade(algorithm: str, number: int, count: int) -> tuple[float, float, float]:
    """Return one of ``count`` shades of an algorithm's colour: the first is the colour, later ones are paler."""
    pale = 0.6 * number / max(count - 1, 1)
    red, green, blue = (part + (1 - part) * pale for part in to_rgb(colour(algorithm)))
    return red, green, blue


def tone(algorithm: str, number: int, count: int) -> tuple[float, float, float]:
    """Return one of ``count`` tones of an algorithm's colour, from a dark one to a pale one."""
    mixed = number / max(count - 1, 1) - 0.55
    red, green, blue = (part + (float(mixed > 0) - part) * abs(mixed) for part in to_rgb(colour(algorithm)))
    return red, green, blue


def shades(rows: Iterable[str]) -> dict[str, tuple[float, float, float]]:
    """Return a colour for each row of results, named by its algorithm and settings: shades tell settings apart."""
    by_name: dict[str, list[str]] = {}
    for row in dict.fromkeys(rows):
        by_name.setdefault(row.partition(" ")[0], []).append(row)
    return {row: shade(name, k, len(own)) for name, own in by_name.items() for k, row in enumerate(own)}


def marker(search: str) -> str:
    """Return the marker of a search."""
    return _MARKERS.get(search) or _OTHER_MARKERS[zlib.crc32(search.encode()) % len(_OTHER_MARKERS)]


def line(number: int) -> Line:
    """Return one of several kinds of line."""
    return _LINES[number % len(_LINES)]


def legible(ticks: Sequence[float], share: float = 0.08) -> list[float]:
    """Return positive numbers in order, without those whose labels would cover one another on a logarithmic axis.

    Args:
        ticks: positive.
        share: of the range of the axis that a label needs.
    """
    kept: list[float] = []
    for tick in sorted(ticks):
        if not kept or tick / kept[-1] > (max(ticks) / min(ticks)) ** share:
            kept.append(tick)
    return kept


DPI = 110
"""Of all pictures."""
