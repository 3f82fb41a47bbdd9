"""The rules that games are written with: those of ALFWorld's data release, and our own.

Knows: the texts of our domain and grammar, and how to tell whether a game file was written with them or
with those of the data release, which play alike and of which only checksums are kept here.
Does not know: what they mean (``simulator`` plays them, the stock engine interprets them).
Source: the release's rules are ALFWorld's (https://github.com/alfworld/alfworld); ours, in ``rules/``, use
the same names and print the same sentences.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache, lru_cache
from importlib.resources import files

# What stands for the task's sentence in our grammar, and the text around the sentence in both.
_GOAL = "UNKNOWN GOAL"
_TASK = re.compile(r'(?<="Your task is to: )[^"]*(?=")')

# A sentence of these characters is printed by the stock grammar as it stands.
_SENTENCE = re.compile(r"[^;|\"<>\[\]#{}\\\n\t]+")

# SHA-256 of the data release's domain, in lower case, without comments and with single spaces, and of its grammar
# without the task's sentence: release 0.4, the same in all games.
_RELEASED_DOMAIN = "e733dcfa5154f9d53cbe57f3a9538fac6258eb371abd658b6a15de4c28faa85f"
_RELEASED_GRAMMAR = "10da93e13b58e1a6039723f5d4a59ceae7c60772515bfab9fc603bafa7f8ee06"


@cache
def _text(name: str) -> str:
    return (files(__package__) / "rules" / name).read_text(encoding="utf-8")


def domain_text() -> str:
    """Return our PDDL domain, as game files hold it under ``pddl_domain``."""
    return _text("domain.pddl")


def grammar_text(task: str) -> str:
    """Return our grammar with the sentence ``task``, as game files hold it under ``grammar``.

    Raises:
        ValueError: the sentence has a character that means something to the grammar.
    """
    if not _SENTENCE.fullmatch(task):
        raise ValueError(f'a task is one line without any of ; | " < > [ ] # {{ }} \\, got {task!r}')
    return _text("grammar.twl2").replace(_GOAL, task)


def task_of(domain: str, grammar: str) -> str:
    """Return the task's sentence of a game with these texts, "put some mug in desk.".

    Raises:
        ValueError: the texts are not those of rules that the direct engine plays.
    """
    released, ours = (
        (_RELEASED_DOMAIN, _RELEASED_GRAMMAR),
        (_domain_sum(domain_text()), _grammar_sum(_text("grammar.twl2"))),
    )
    expected = dict([released, ours]).get(_domain_sum(domain))
    if expected is None:
        raise ValueError("field 'pddl_domain' is not the domain of ALFWorld's data release 0.4, nor ours")
    grammar = grammar.replace("\r\n", "\n")
    tasks = _TASK.findall(grammar)
    if len(tasks) != 1 or not _SENTENCE.fullmatch(tasks[0]) or _grammar_sum(grammar) != expected:
        raise ValueError("field 'grammar' is not the grammar that goes with the game's domain")
    return str(tasks[0])


@lru_cache(maxsize=8)
def _domain_sum(domain: str) -> str:
    """Checksum of a domain that blank space, comments and letter case do not change."""
    words = re.findall(r"[()]|[^\s()]+", re.sub(r";[^\n]*", "", domain).lower())
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def _grammar_sum(grammar: str) -> str:
    """Checksum of a grammar that its task's sentence does not change."""
    return hashlib.sha256(_TASK.sub("", grammar).encode()).hexdigest()
