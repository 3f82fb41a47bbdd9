"""S-expressions, the form in which PDDL is written.

Knows: brackets, words, comments. Does not know: what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from oreo_envs.limits import Limits, raised

Sexp = list[Any]
"""Words and further lists."""

_LONGEST = 80


def read_sexp(text: str) -> Sexp:
    """Read one bracketed expression into nested lists of lower-case words; comments are left out.

    Raises:
        ValueError: brackets do not match or lie too deep, or there is something around the expression.
    """
    if ";" in text:
        text = re.sub(r";[^\n]*", "", text)
    before, *openings = text.lower().replace("?", " ?").split("(")
    root: Sexp = before.split()
    depth = Limits.now().depth
    stack = [root]
    for opening in openings:
        words, *closings = opening.split(")")
        inner: Sexp = words.split()
        stack[-1].append(inner)
        stack.append(inner)
        if len(stack) > depth + 1:
            raise ValueError(f"PDDL: brackets more than {depth} deep inside one another; {raised('depth')}")
        for words in closings:
            stack.pop()
            if not stack:
                raise ValueError("PDDL: one ')' too many")
            stack[-1] += words.split()
    if len(stack) > 1:
        raise ValueError(f"PDDL: {len(stack) - 1} ')' missing at the end; is the text cut off?")
    if len(root) != 1 or not isinstance(root[0], list):
        raise ValueError("PDDL: not one expression in brackets")
    return root[0]


def show(expression: Sequence[Any] | None) -> str:
    """Write an expression without its outer brackets, cut short; for errors."""
    text = " ".join(f"({show(part)})" if isinstance(part, list) else str(part) for part in expression or ())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
