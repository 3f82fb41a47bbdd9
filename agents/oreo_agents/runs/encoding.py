"""A whole buffer, encoded for a tokenizer.

Knows: buffers, a bar. Does not know: where episodes come from.
"""

from collections.abc import Iterable, Iterator

from rich.progress import track

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.texts import encode_episode
from oreo_algos import Episode, EpisodeBuffer
from oreo_algos.bars import bar_console


def encoded(episodes: Iterable[Episode], prompt_format: PromptFormat) -> Iterator[Episode]:
    """Encode episodes for a tokenizer, one after another.

    Raises:
        ValueError: an episode has no ``action_spans``.
    """
    for episode in track(episodes, "encode", transient=True, console=bar_console()):
        yield encode_episode(episode, prompt_format)


def encode_buffer(buffer: EpisodeBuffer, prompt_format: PromptFormat) -> EpisodeBuffer:
    """Encode every episode for a tokenizer, see ``encoded``."""
    return EpisodeBuffer(
        encoded(buffer, prompt_format),
        tokenizer_fingerprint=prompt_format.fingerprint,
        provenance=buffer.provenance,
    )
