"""One hash of what episodes hold.

Knows: the canonical bytes of an episode. Does not know: files, tokenizers.
"""

import hashlib
import json
from collections.abc import Iterable

from oreo_algos.episode import Episode


class ContentHash:
    """SHA-256 over every field of episodes, in the order in which they are added.

    Attributes:
        num_bytes: that were hashed, about what the episodes take.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._digest, self.num_bytes = hashlib.sha256(), 0

    def add(self, episodes: Iterable[Episode]) -> None:
        """Add episodes."""
        for episode in episodes:
            for block in _blocks(episode):
                self._digest.update(len(block).to_bytes(8, "little"))
                self._digest.update(block)
                self.num_bytes += len(block)

    def hexdigest(self) -> str:
        """Return the hash of those added so far, hexadecimal."""
        return self._digest.hexdigest()


DIGEST_BYTES = 16


def said(episode: Episode) -> bytes:
    """Return what tells apart what is said, in which task, and in which pair if it is of one, in 16 bytes."""
    text = json.dumps([episode.task_id, episode.info.get("pair"), episode.messages], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def digest(episode: Episode) -> bytes:
    """Return what tells an episode from others, every field of it, in 16 bytes."""
    found = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for block in _blocks(episode):
        found.update(len(block).to_bytes(8, "little"))
        found.update(block)
    return found.digest()


def _blocks(episode: Episode) -> Iterable[bytes]:
    """Canonical bytes of an episode: its text as sorted JSON, success where nothing else tells, its arrays."""
    text = [episode.task_id, episode.env_id, episode.terminated, episode.truncated]
    yield json.dumps([*text, episode.messages, episode.info], sort_keys=True).encode()
    if episode.info.get("success") is None and episode.success != episode.pays_one:
        yield b"success" if episode.success else b"failure"
    for array in (
        episode.tokens,
        episode.step_id,
        episode.rewards,
        episode.loss_mask,
        episode.behavior_logprobs,
        episode.action_spans,
    ):
        yield b"none" if array is None else array.tobytes()
