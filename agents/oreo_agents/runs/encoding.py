"""A whole buffer, encoded for a tokenizer.

Knows: buffers, a bar. Does not know: where episodes come from.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.progress import track

from oreo_agents.episodes.texts import encode_episode
from oreo_algos import Episode, EpisodeBuffer
from oreo_algos.bars import bar_console

if TYPE_CHECKING:
    from oreo_agents.episodes.prompts import PromptFormat

_log = logging.getLogger(__name__)


def encoded(episodes: Iterable[Episode], prompt_format: "PromptFormat") -> Iterator[Episode]:
    """Encode episodes for a tokenizer, one after another; at the end those are told that hold text it cannot write.

    Raises:
        ValueError: an episode has no ``action_spans``.
    """
    unknown, count, lost = _unknown_id(prompt_format), 0, []
    for episode in track(episodes, "encode", transient=True, console=bar_console()):
        one = encode_episode(episode, prompt_format)
        count += 1
        if unknown is not None and unknown in one.tokens:
            lost.append(one.task_id)
        yield one
    if lost:
        _log.warning(
            "%d of %d episodes hold text that the tokenizer of %s has no tokens for, and reads as %s (the first: task "
            "%s): that text is not what is learned; take a checkpoint whose tokenizer knows it",
            len(lost),
            count,
            prompt_format.name,
            prompt_format.tokenizer.unk_token,
            lost[0],
        )


def encode_buffer(buffer: EpisodeBuffer, prompt_format: "PromptFormat") -> EpisodeBuffer:
    """Encode every episode for a tokenizer, see ``encoded``."""
    return EpisodeBuffer(
        encoded(buffer, prompt_format),
        tokenizer_fingerprint=prompt_format.fingerprint,
        provenance=buffer.provenance,
    )


def _unknown_id(prompt_format: "PromptFormat") -> int | None:
    """Return the token that stands for text that there is none for; None: there is no such text, or nothing tells."""
    unknown: int | None = prompt_format.tokenizer.unk_token_id
    return None if unknown in prompt_format.end_ids else unknown
