"""Where progress bars are drawn.

Knows: that a notebook without ipywidgets shows text only, and that rich warns there at every bar. Does not know: bars.
"""

from importlib.util import find_spec

from rich import get_console
from rich.console import Console


def bar_console() -> Console:
    """Return the console for a bar; in a notebook that has no widgets, one that writes a line when it is done."""
    console = get_console()
    if console.is_jupyter and find_spec("ipywidgets") is None:
        return Console(force_jupyter=False)
    return console
