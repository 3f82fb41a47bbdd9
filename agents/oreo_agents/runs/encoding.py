"""A whole buffer, encoded for a tokenizer.

Knows: buffers, a bar. Does not know: where episodes come from.
"""

from rich.progress import track

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.texts import encode_episode
from oreo_algos import EpisodeBuffer
from oreo_algos.bars import bar_console


def encode_buffer(buffer: EpisodeBuffer, prompt_format: PromptFormat) -> EpisodeBuffer:
    """Encode every episode for a tokenizer.

    Raises:
        ValueError: an episode has no ``action_spans``.
    """
    return EpisodeBuffer(
        (
            encode_episode(episode, prompt_format)
            for episode in track(buffer, "encode", transient=True, console=bar_console())
        ),
        tokenizer_fingerprint=prompt_format.fingerprint,
        provenance=buffer.provenance,
    )
