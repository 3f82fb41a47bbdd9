"""The terminal that commands print to: texts are shown as they are, whoever wrote them.

Knows: Rich, that it reads marks in plain strings and passes control characters on. Does not know: what is printed.
"""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.text import Text

from oreo_envs.visible import visible


class Terminal(Console):
    """A console that reads no markup and no emoji codes, and writes control characters as escapes."""

    def __init__(self, **how: Any) -> None:
        """Open it; ``how`` as for ``rich.console.Console``."""
        super().__init__(**({"markup": False, "emoji": False} | how))

    def render_str(self, text: str, **how: Any) -> Text:
        """Read a plain string: nothing in it is marked up."""
        return super().render_str(visible(text), **how)

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Write a text, or what is made of texts."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def say(text: str) -> None:
    """Print a line or several, whoever wrote what is in them."""
    print(visible(text))
