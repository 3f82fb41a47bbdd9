"""The words of the games, for a word-level tokenizer.

Knows: words of commands, answers, tasks, prompts and the expert's reasons; types of things.
Does not know: tokenizers. Text with other words is still read: it falls apart into characters.
"""

from __future__ import annotations

import re
import string

from oreo_envs.alfworld.whereabouts import OBJECT_TYPES, RECEPTACLE_TYPES
from oreo_envs.prompts import PROMPTS

_SENTENCES = """
Welcome to TextWorld ALFRED You are in the middle of a room Looking quickly around you see and nothing on
Your task is to put some find two them it clean heat cool hot examine look at under with the Nothing happens
You arrive at On The is open In it see closed open close go to take from move put use turn on pick up using
You heat clean cool sliced slice inventory help carrying anything not facing Next There nothing special about
This is normal cold Thought Action I need look for there have goes where already everywhere no now light put
that try again leave here away know do so
"""

# Beside those that hold something, or lie in something, when a game begins.
_OTHER_THINGS = ("laundryhamper", "scrubbrush", "plunger", "basketball", "baseballbat", "tennisracket", "floorlamp")

_LARGEST_NUMBER = 30


def vocabulary() -> list[str]:
    """Return words, numbers and every printable character, each once."""
    prompts = [template.system or "" for name, template in PROMPTS.items() if name.startswith("alfworld")]
    words = re.findall("[A-Za-z]+", " ".join([_SENTENCES, *prompts]))
    numbers = (str(number) for number in range(_LARGEST_NUMBER + 1))
    characters = string.ascii_letters + string.punctuation
    return list(dict.fromkeys([*words, *OBJECT_TYPES, *RECEPTACLE_TYPES, *_OTHER_THINGS, *numbers, *characters]))
