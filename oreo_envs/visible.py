r"""Text that others wrote, for a terminal or a page: nothing in it steers, formats or runs anything.

Knows: control characters, the marks of Markdown and HTML. Does not know: what is written where.
"""

from __future__ import annotations

import re
import unicodedata
from html import escape

# Joiners that scripts and emoji are written with; all other invisible characters are shown.
_WRITTEN = "\n\t\u200c\u200d"


def visible(text: str) -> str:
    r"""Write what would steer a terminal or stay unseen as escapes: ``\x1b``, ``\r``, ``\u202e``."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(_letter(letter) for letter in text)


def inline_markdown(text: str) -> str:
    """Write a text as one line of Markdown that shows it as it is: no mark, link, column or HTML of it is read."""
    shown = escape(" ".join(visible(text).splitlines()), quote=False)
    return re.sub(r"[\\`*|]|~~|\](?=[(\[:])|(?<!\w)_|_(?!\w)", lambda found: "\\" + found[0], shown)


def _letter(letter: str) -> str:
    hidden = letter not in _WRITTEN and unicodedata.category(letter) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
    return letter.encode("unicode_escape").decode() if hidden else letter
