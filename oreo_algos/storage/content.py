"""One hash of what episodes hold.

Knows: the canonical bytes of an episode. Does not know: files, tokenizers.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from oreo_algos.episode import Episode

DIGEST_BYTES = 16

# Each call but those for single texts makes an encoder, which costs more than what it writes here.
_dumps = json.JSONEncoder(sort_keys=True, allow_nan=False).encode
_BOOLS = {False: "false", True: "true"}


class ContentHash:
    """SHA-256 over every field of episodes, in the order in which they are added.

    Attributes:
        num_bytes: that were hashed, about what the episodes take.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._digest, self.num_bytes = hashlib.sha256(), 0

    def add(self, form: "Canonical") -> None:
        """Add an episode."""
        self._digest.update(form.whole)
        self.num_bytes += len(form.whole)

    def hexdigest(self) -> str:
        """Return the hash of those added so far, hexadecimal."""
        return self._digest.hexdigest()


class Canonical(NamedTuple):
    """An episode in bytes, the same ones for the same content.

    Attributes:
        whole: every field of it.
        told: what is said, in which task, and in which pair if it is of one.
        info: JSON.
    """

    whole: bytes
    told: str
    info: str

    @classmethod
    def of(cls, episode: Episode) -> "Canonical":
        """Write an episode out."""
        facts, info = episode.info, _dumps(episode.info)
        task, messages = _dumps(episode.task_id), _messages(episode.messages)
        ended = f"{_BOOLS[episode.terminated]}, {_BOOLS[episode.truncated]}"
        blocks = [f"[{task}, {_dumps(episode.env_id)}, {ended}, {messages}, {info}]".encode()]
        if facts.get("success") is None and episode.success != episode.pays_one:  # nothing else tells
            blocks.append(b"success" if episode.success else b"failure")
        for array in (
            episode.tokens,
            episode.step_id,
            episode.rewards,
            episode.loss_mask,
            episode.behavior_logprobs,
            episode.action_spans,
        ):
            blocks.append(b"none" if array is None else array.tobytes())
        whole = b"".join(part for block in blocks for part in (len(block).to_bytes(8, "little"), block))
        pair = "null" if facts.get("pair") is None else _dumps(facts["pair"])
        return cls(whole, f"[{task}, {pair}, {messages}]", info)

    def digest(self) -> bytes:
        """Return what tells an episode from others, every field of it, in 16 bytes."""
        return _digest(self.whole)

    def said(self) -> bytes:
        """Return what tells apart what is said, in which task, and in which pair if it is of one, in 16 bytes."""
        return _digest(self.told.encode())

    def marks(self) -> "Marks":
        """Return what is kept of it beside the episode."""
        return Marks(self.digest(), self.said(), self.info)


class Marks(NamedTuple):
    """Of an episode ``digest`` and ``said`` of its canonical form, and its ``info`` as JSON."""

    digest: bytes
    said: bytes
    info: str


def _messages(messages: Sequence[Mapping[str, str]]) -> str:
    """Write messages as JSON, names in order."""
    each = [f'{{"content": {_dumps(one["content"])}, "role": {_dumps(one["role"])}}}' for one in messages]
    return f"[{', '.join(each)}]"


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest()
