"""Episodes padded into tensors.

Knows: padding, devices, rows; which numbers of an episode a loss may ask for.
Does not know: steps to sums (`segments`), losses, models.
"""

# B episodes, T tokens, K steps. Column t of every [B, T] tensor is about token t.

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oreo_algos.episode import Episode

BEHAVIOR_LOGPROBS, TASK = "behavior_logprobs", "task"
"""Names of ``Batch.extra`` that are no entry of ``Episode.info``."""


class ExtraError(KeyError):
    """A loss reads something of ``Batch.extra`` that was not asked for."""

    def __str__(self) -> str:
        """The message, which ``KeyError`` would quote."""
        return str(self.args[0])


class _Extra(dict[str, Tensor]):
    """What was asked for, by name."""

    def __missing__(self, name: str) -> Tensor:
        asked = (*self, name)
        raise ExtraError(
            f"batch.extra has no {name!r}: a batch brings what its algorithm asks for "
            f"({', '.join(self) or 'nothing'} so far); write extra = {asked!r} into the class of the algorithm"
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """B episodes, padded on the right.

    Attributes:
        tokens: token ids, int64 [B, T], 0 on padding.
        step_id: k >= 0 for a token of step k, -1 for prompt, observation and padding, int64 [B, T].
        loss_mask: action tokens that an imitation loss may learn from, bool [B, T].
        attention: True on real tokens, bool [B, T].
        rewards: reward after step k, reward units, float32 [B, K], 0 on padding.
        step_mask: True on real steps, bool [B, K].
        success: True on episodes that solved their task, bool [B].
        cut_off: True on episodes that a limit ended before they were solved or lost, bool [B]; None: not known.
        ref_logprobs: log-probability under the reference policy, nats, float32 [B, T]; None: not
            computed.
        extra: what was asked for of the episodes, by name. ``behavior_logprobs``: log-probability at sampling, nats,
            float32 [B, T], 0 outside actions; ``task``: a number that episodes of one task share, int64 [B]; any
            other name: that number of ``Episode.info``, float32 [B].
    """

    tokens: Tensor
    step_id: Tensor
    loss_mask: Tensor
    attention: Tensor
    rewards: Tensor
    step_mask: Tensor
    success: Tensor
    ref_logprobs: Tensor | None = None
    cut_off: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Have ``extra`` say what to do for what it lacks."""
        object.__setattr__(self, "extra", _Extra(self.extra))

    def __repr__(self) -> str:
        """One line: sizes and device."""
        sizes = f"{len(self)} episodes, T={self.tokens.shape[1]}, K={self.rewards.shape[1]}"
        ref = "" if self.ref_logprobs is None else ", with ref_logprobs"
        return f"Batch({sizes}, {self.tokens.device}{ref})"

    def __len__(self) -> int:
        """B."""
        return len(self.tokens)

    @property
    def action_mask(self) -> Tensor:
        """True on tokens of actions, bool [B, T]."""
        return self.step_id >= 0

    @property
    def num_action_tokens(self) -> int:
        """Action tokens of all rows (waits for the device)."""
        return int(self.action_mask.sum())

    @property
    def num_loss_tokens(self) -> int:
        """Tokens of all rows that an imitation loss learns from (waits for the device)."""
        return int(self.loss_mask.sum())

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def rows(self, index: Tensor | slice | list[int]) -> "Batch":
        """The chosen episodes; T and K stay, so other tensors of this batch index alike."""
        return self._map(lambda tensor: tensor[index])

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "extra"}
        present = {name: tensor for name, tensor in fields.items() if tensor is not None}
        extra = {name: function(tensor) for name, tensor in self.extra.items()}
        return Batch(**{name: function(tensor) for name, tensor in present.items()}, extra=extra)


def collate(
    episodes: Sequence[Episode],
    *,
    ref_logprobs: Sequence[NDArray[np.floating]] | None = None,
    extra: Iterable[str] = (),
    tasks: Mapping[str, int] | None = None,
) -> Batch:
    """Pad episodes on the right into one batch on the CPU.

    Args:
        episodes: at least one; every one encoded.
        ref_logprobs: for each episode the reference policy's log-probabilities, nats, float [T_i],
            0 at t = 0.
        extra: names of what else of the episodes the batch is to hold, see ``Batch.extra``.
        tasks: the number of each task by its id; those that are not there are numbered within the batch, after them.

    Raises:
        ValueError: there is no episode, one has no tokens yet or lacks what is asked for, or `ref_logprobs` does not
            fit the episodes.
    """
    if not episodes:
        raise ValueError("collate: got no episode; a batch needs at least one")
    tokens, step_id, rewards = ([getattr(e, name) for e in episodes] for name in ("tokens", "step_id", "rewards"))
    lengths = [len(row) for row in tokens]
    if 0 in lengths:
        index = lengths.index(0)
        raise ValueError(
            f"collate: episode {index} (task {episodes[index].task_id!r}) has no tokens yet; "
            "encode the buffer with the policy's tokenizer first (`oreo data encode`)"
        )
    if ref_logprobs is not None:
        found = [len(row) for row in ref_logprobs]
        if found != lengths:
            raise ValueError(f"collate: ref_logprobs need the episodes' lengths {lengths}, got {found}")
    steps = _pad(step_id, np.int64, -1)
    return Batch(
        tokens=_pad(tokens, np.int64, 0),
        step_id=steps,
        loss_mask=_learnable(episodes, steps),
        attention=_real(lengths),
        rewards=_pad(rewards, np.float32, 0),
        step_mask=_real([len(row) for row in rewards]),
        success=torch.tensor([episode.success for episode in episodes]),
        cut_off=torch.tensor([episode.cut_off for episode in episodes]),
        ref_logprobs=None if ref_logprobs is None else _pad(ref_logprobs, np.float32, 0),
        extra={name: _extra(name, episodes, tasks) for name in extra},
    )


def number_tasks(episodes: Iterable[Episode], known: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return a number for each task: those known, then the others in the order in which they first appear."""
    numbers = dict(known or {})
    for episode in episodes:
        numbers.setdefault(episode.task_id, len(numbers))
    return numbers


def require_extra(names: Iterable[str], episodes: Sequence[Episode]) -> None:
    """Refuse episodes that lack something that a batch is to hold, see ``Batch.extra``.

    Raises:
        ValueError: how many lack what, the first of them, and where it comes from.
    """
    for name in names:
        lacking = [episode for episode in episodes if not _has(name, episode)]
        if not lacking:
            continue
        first = lacking[0]
        found = "none" if name == BEHAVIOR_LOGPROBS else repr(first.info.get(name))
        whence = (
            "they are written down where episodes are collected (`oreo collect`)"
            if name == BEHAVIOR_LOGPROBS
            else f"put a finite number into `info[{name!r}]` of every episode, where they are made or in `select`"
        )
        raise ValueError(
            f"{len(lacking)} of {len(episodes)} episodes have no {name} that a loss could read (the first: task "
            f"{first.task_id!r}, {found}); {whence}"
        )


def _has(name: str, episode: Episode) -> bool:
    if name == BEHAVIOR_LOGPROBS:
        return episode.behavior_logprobs is not None
    value = episode.info.get(name)
    return name == TASK or (isinstance(value, int | float) and math.isfinite(value))


def _extra(name: str, episodes: Sequence[Episode], tasks: Mapping[str, int] | None) -> Tensor:
    require_extra([name], episodes)
    if name == TASK:
        numbers = number_tasks(episodes, tasks)
        return torch.tensor([numbers[episode.task_id] for episode in episodes])
    if name == BEHAVIOR_LOGPROBS:
        return _pad([episode.behavior_logprobs for episode in episodes], np.float32, 0)  # type: ignore[misc]
    return torch.tensor([float(episode.info[name]) for episode in episodes])  # type: ignore[arg-type]


def _learnable(episodes: Sequence[Episode], step_id: Tensor) -> Tensor:
    """Return the action tokens that may be imitated, bool [B, T]."""
    action = step_id >= 0
    for row, mask in zip(action.numpy(), (episode.loss_mask for episode in episodes), strict=True):
        if mask is not None:
            row[: len(mask)] &= mask
    return action


def _real(lengths: Sequence[int]) -> Tensor:
    """Return which entries of padded rows are none of the padding, bool [B, longest]."""
    return torch.from_numpy(np.arange(max(lengths)) < np.array(lengths)[:, None])


def _pad(rows: Sequence[NDArray[np.generic]], dtype: type[np.generic], fill: float) -> Tensor:
    padded = np.full((len(rows), max(len(row) for row in rows)), fill, dtype=dtype)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(padded)
