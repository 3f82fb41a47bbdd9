"""The arguments of ``oreo report``, apart so that its help loads nothing.

Knows: names and what they mean. Does not know: reports.
"""

import argparse
from pathlib import Path

from oreo_envs.checks import closest

FORMATS = ("markdown", "json", "csv", "latex")


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(
        prog="oreo report",
        description="One table and plots from run folders. Every setting in which runs differ, apart from the seed, "
        "makes a row of its own.",
        epilog="Exit code: 0; 1 where a folder or a run could not be read, was left out and is named in the report; 2 "
        "where there is no report.",
    )
    made.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="run folders, or folders that hold some")
    made.add_argument(
        "--out", type=Path, help="where to write report.md and plots/; default: the only DIR, else report/"
    )
    made.add_argument("--base", metavar="ROW", help="the row, or the algorithm, that all others are compared with")
    made.add_argument(
        "--group-by", type=_list, metavar="A,B", help="only these settings make rows; the others are averaged over"
    )
    made.add_argument(
        "--over", type=_list, metavar="A,B", default=[], help="settings to average over, such as env.options.world"
    )
    made.add_argument("--dev", metavar="SPLIT", default="dev", help="split that chooses settings; default: dev")
    made.add_argument(
        "--format",
        type=_formats,
        metavar="A,B",
        default=["markdown"],
        help=f"of {', '.join(FORMATS)}; default: markdown",
    )
    return made


def _list(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _formats(text: str) -> list[str]:
    for name in _list(text):
        if name not in FORMATS:
            raise argparse.ArgumentTypeError(
                f"no format {name!r}{closest(name, FORMATS)}; there are {', '.join(FORMATS)}"
            )
    return _list(text)
