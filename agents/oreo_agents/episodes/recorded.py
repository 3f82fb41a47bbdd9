"""Conversations that an agent had, as episodes that no tokenizer has seen yet.

Knows: folders that ``oreo_envs.evaluate(record=...)`` and ``oreo_envs.Recorder`` write; where actions lie in messages.
Does not know: tokens, buffers' files.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oreo_algos import Episode, EpisodeBuffer
from oreo_envs.answers import split_steps
from oreo_envs.recording import Row, read_rows, read_settings


@dataclass(frozen=True)
class RecordCounts:
    """What a record holds that is no episode.

    Attributes:
        errors: episodes that ended in an error; they were played again where the record was gone on with.
        not_graded: answers whose verdict was lost.
        silent: episodes in which the agent did nothing.
    """

    errors: int = 0
    not_graded: int = 0
    silent: int = 0

    def __str__(self) -> str:
        """Say what is not 0."""
        told = {"ended in an error": self.errors, "were not graded": self.not_graded, "hold no action": self.silent}
        return ", ".join(f"{count} {what}" for what, count in told.items() if count)


def recorded_episodes(folder: Path, *, held_out: bool = False) -> tuple[EpisodeBuffer, RecordCounts]:
    """Read a record; what an environment calls steps of an answer are the actions, see ``split_steps``.

    Args:
        folder: written by ``oreo_envs.evaluate(record=...)`` or ``oreo_envs.Recorder``.
        held_out: read also one of a split that nothing may learn from.

    Raises:
        ValueError: a damaged record, or one of a held-out split; not one episode in it.
    """
    settings = read_settings(folder)
    env_id, split = settings["env_id"], settings["split"]
    if settings["held_out"] and not held_out:
        raise ValueError(
            f"{folder}: episodes of split {split!r} of {env_id}, which is held out: nothing may learn from it. Record "
            "on a split to train on, or pass --allow-held-out and evaluate on something else"
        )
    delimiters = tuple(settings["step_delimiters"])
    left, episodes = Counter[str](), []
    for row in read_rows(folder):
        acted = bool(row.spans) and not (row.truncated and all(start == end for _, start, end in row.spans))
        why = "errors" if row.error is not None else "not_graded" if not row.counted else "" if acted else "silent"
        if why:
            left[why] += 1
        else:
            episodes.append(_episode(row, env_id, delimiters, {"split": split, "agent": settings["agent"]}))
    counts = RecordCounts(**left)
    if not episodes:
        raise ValueError(f"{folder}: no episode to learn from in it{f': {counts}' * bool(str(counts))}")
    provenance = {
        "source": "record",
        "record": folder.name,
        "env": env_id,
        "env_options": settings["options"],
        "split": split,
        "agent": settings["agent"],
    }
    return EpisodeBuffer(episodes, provenance=provenance), counts


def _episode(row: Row, env_id: str, delimiters: tuple[str, ...], told: Mapping[str, Any]) -> Episode:
    agent = told["agent"] if isinstance(told["agent"], str | None) else told["agent"].get("model")
    info = {**row.info, "split": told["split"], "source": "agent", "agent": agent, "sample": row.sample}
    if isinstance(row.answer, str | int | float | None):
        info["answer"] = row.answer
    return conversation_episode(
        row.messages,
        row.spans,
        row.rewards,
        delimiters,
        terminated=row.terminated,
        truncated=row.truncated,
        task_id=row.task_id,
        env_id=env_id,
        info={name: value for name, value in info.items() if not isinstance(value, float) or math.isfinite(value)},
        success=row.success,
    )


def conversation_episode(
    messages: Sequence[Mapping[str, str]],
    spans: Sequence[Sequence[int]],
    rewards: Sequence[float],
    delimiters: tuple[str, ...] = (),
    **fields: Any,
) -> Episode:
    """Make an episode of a conversation.

    Args:
        messages: the whole conversation.
        spans: (message, start, end) of each action. An empty one that only closes an answer, or that a limit cut before
            it began, hands its reward to the one before it.
        rewards: one an action.
        delimiters: texts that end a step within an action; its reward is that of its last step.
        fields: the other fields of ``Episode``.

    Returns:
        An episode without tokens, to be encoded with ``encode_episode``.
    """
    placed: list[tuple[int, int, int]] = []
    paid: list[float] = []
    for (message, start, end), reward in zip(spans, rewards, strict=True):
        if start == end and placed and (placed[-1][0] == message or (fields["truncated"] and message == spans[-1][0])):
            paid[-1] += reward
            continue
        for step in split_steps(messages[message]["content"][start:end], delimiters):
            placed.append((message, start, start + len(step)))
            paid.append(0.0)
            start += len(step)
        paid[-1] = reward
    return Episode(
        tokens=np.zeros(0, np.int32),
        step_id=np.zeros(0, np.int32),
        rewards=np.asarray(paid, np.float32),
        action_spans=np.asarray(placed, np.int32),
        messages=[dict(message) for message in messages],
        **fields,
    )
