"""`oreo metrics`: what the numbers of a training mean.

Knows: the command. Does not know: what they mean (`oreo_algos.training.glossary`).
"""

import argparse
from collections.abc import Sequence

from oreo_algos.training.glossary import described, markdown, metrics
from oreo_envs.checks import closest


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: a name is no metric's.
    """
    parser = argparse.ArgumentParser(prog="oreo metrics", description="What the numbers that a training logs mean.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="whole names or parts of them; none: all")
    parser.add_argument("--markdown", action="store_true", help="print the page docs/metrics.md")
    given = parser.parse_args(arguments)
    if given.markdown:
        print(markdown(), end="")
        return
    for name in given.names:
        if not described([name]):
            known = [metric.name for metric in metrics()]
            raise ValueError(f"no metric is called {name!r}{closest(name, known)}; `oreo metrics` lists all")
    print(described(given.names), end="")
