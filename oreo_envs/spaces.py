"""The space of free text, and what vector environments need to batch it.

Knows: any ``str`` is a member; how it travels through the shared memory of ``AsyncVectorEnv``.
Does not know: environments, prompts, tokens; what batching tells environments (``orders``).
Why not ``gymnasium.spaces.Text``: it has a fixed alphabet and length, checks membership character
by character, and its shared-memory reader decodes the buffer once, at construction, so that
asynchronous environments silently return wrong strings.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, overload

import gymnasium
from gymnasium.spaces.utils import is_space_dtype_shape_equiv
from gymnasium.vector.utils import (
    batch_differing_spaces,
    create_shared_memory,
    iterate,
    read_from_shared_memory,
    write_to_shared_memory,
)
from gymnasium.wrappers.utils import create_zero_array

SHARED_TEXT_BYTES = 1 << 16
"""Room for one environment's observation in shared memory, UTF-8 bytes."""

_LENGTH_BYTES = 8
_SLOT_BYTES = _LENGTH_BYTES + SHARED_TEXT_BYTES
# "surrogatepass" lets a lone surrogate through, which is a legal element of str.
_CODEC = ("utf-8", "surrogatepass")
_SAMPLE_ALPHABET = "abcdefghijklmnopqrstuvwxyz ABCXYZ0123456789 .,:+-*/=#$\\{}\n äßéñœ漢字数学π√≤ ∑🎲"
_MAX_SAMPLE_LENGTH = 24


class FreeText(gymnasium.Space[str]):
    """Every ``str`` of any length, any Unicode."""

    def __init__(self, seed: int | None = None) -> None:
        """Make the space; ``seed`` seeds ``sample``."""
        super().__init__(shape=None, dtype=None, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: text has no fixed-size array form."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """Draw a short non-empty text of ASCII and other characters.

        Raises:
            ValueError: a mask or a probability is given; free text has neither.
        """
        if mask is not None or probability is not None:
            raise ValueError("FreeText.sample takes neither a mask nor a probability")
        length = int(self.np_random.integers(1, _MAX_SAMPLE_LENGTH + 1))
        picks = self.np_random.integers(len(_SAMPLE_ALPHABET), size=length)
        return "".join(_SAMPLE_ALPHABET[pick] for pick in picks)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a ``str``; its characters are not looked at."""
        return isinstance(x, str)

    def __eq__(self, other: object) -> bool:
        """All free-text spaces are equal."""
        return isinstance(other, FreeText)

    def __hash__(self) -> int:
        """Equal spaces hash alike."""
        return hash(FreeText)

    def __repr__(self) -> str:
        """Name the space."""
        return "FreeText()"


@create_zero_array.register(FreeText)
def _nothing_said(space: FreeText) -> str:  # type: ignore[misc]
    """What wrappers that stack or delay observations begin with."""
    return ""


class TextBatch(gymnasium.spaces.Tuple):
    """The texts of all environments of a vector, one each."""


@iterate.register(TextBatch)
def _iterate(  # type: ignore[misc] # gymnasium dispatches it on the type of the space
    space: TextBatch, items: Any
) -> Iterator[str]:
    """Iterate over one text an environment: a single text would be taken apart into letters."""
    if isinstance(items, str) or not hasattr(items, "__len__") or len(items) != len(space):
        raise ValueError(f"a step of {len(space)} environments takes {len(space)} texts, got {items!r:.80}")
    return iter(items)


class SharedTexts(Sequence[str]):
    """The observations of all environments, read from shared memory at each access.

    ``AsyncVectorEnv`` makes its observation object once and copies it after every step
    (``copy=True``), as it does with numpy views. This object plays the part of such a view: a deep
    copy of it is the tuple of current strings.
    """

    def __init__(self, memory: Any, num_envs: int) -> None:
        """View ``memory`` (made by ``create_shared_memory``) as ``num_envs`` strings."""
        self._memory, self._num_envs = memoryview(memory).cast("B"), num_envs

    def __len__(self) -> int:
        """Return the number of environments."""
        return self._num_envs

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        """Return the current text of one environment, or of several."""
        if isinstance(index, slice):
            return tuple(self)[index]
        start = range(self._num_envs)[index] * _SLOT_BYTES
        text = start + _LENGTH_BYTES
        length = int.from_bytes(self._memory[start:text], "little")
        return bytes(self._memory[text : text + length]).decode(*_CODEC)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the current texts."""
        return (self[i] for i in range(self._num_envs))

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[str, ...]:
        """Return the current texts, detached from the memory."""
        return tuple(self)


@create_shared_memory.register(FreeText)
def _create(space: FreeText, n: int = 1, ctx: Any = multiprocessing) -> Any:
    return ctx.RawArray("B", n * _SLOT_BYTES)


@read_from_shared_memory.register(FreeText)
def _read(space: FreeText, shared_memory: Any, n: int = 1) -> SharedTexts:
    return SharedTexts(shared_memory, n)


@write_to_shared_memory.register(FreeText)
def _write(space: FreeText, index: int, value: str, shared_memory: Any) -> None:
    encoded = value.encode(*_CODEC)
    if len(encoded) > SHARED_TEXT_BYTES:
        raise ValueError(
            f"an observation of {len(encoded)} bytes does not fit the {SHARED_TEXT_BYTES} bytes of "
            "shared memory; pass vector_kwargs={'shared_memory': False} to make_vec"
        )
    memory, start = memoryview(shared_memory).cast("B"), index * _SLOT_BYTES
    memory[start : start + _LENGTH_BYTES] = len(encoded).to_bytes(_LENGTH_BYTES, "little")
    memory[start + _LENGTH_BYTES : start + _LENGTH_BYTES + len(encoded)] = encoded


@batch_differing_spaces.register(FreeText)
def _batch_differing(  # type: ignore[misc] # gymnasium dispatches it on the type of the items
    spaces: Sequence[FreeText],
) -> gymnasium.spaces.Tuple:
    return gymnasium.spaces.Tuple([deepcopy(space) for space in spaces])


@is_space_dtype_shape_equiv.register(FreeText)
def _equivalent(space_1: FreeText, space_2: gymnasium.Space[Any]) -> bool:
    return isinstance(space_2, FreeText)
