"""Whole conversations with a verdict, as chat messages: rows of a file become episodes.

Knows: the form of chat messages. Does not know: environments' data.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oreo_agents.episodes.recorded import conversation_episode
from oreo_agents.runs.rows import json_rows, judge_label
from oreo_algos import Episode, EpisodeBuffer

LABELS = ("reward", "correct", "success", "label")
"""Fields of which one says how a conversation ended."""

_ROLES = ("system", "user", "assistant")


def conversation(row: Mapping[str, Any], where: str) -> list[dict[str, str]]:
    """Return the messages of a row.

    Raises:
        ValueError: they are no conversation in which the assistant answers; says where.
    """
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"{where}: field 'messages' must be a list of chat messages, got {messages!r:.80}")
    said: list[dict[str, str]] = []
    for number, message in enumerate(messages):
        place = f"{where}, message {number}"
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise ValueError(f"{place}: the role must be one of {', '.join(_ROLES)}, got {message!r:.80}")
        if not isinstance(message.get("content"), str):
            raise ValueError(f"{place}: the content must be a text, got {message.get('content')!r:.80}")
        if said and message["role"] == said[-1]["role"]:
            raise ValueError(f"{place}: two messages of the {message['role']} follow one another; join them")
        said.append({"role": message["role"], "content": message["content"]})
    if said[0]["role"] == "assistant" or all(message["role"] != "assistant" for message in said):
        raise ValueError(f"{where}: somebody asks, and then the assistant answers at least once; this is no such text")
    return said


def episode(
    row: Mapping[str, Any], where: str, reward: float, success: bool, env_id: str, delimiters: tuple[str, ...]
) -> Episode:
    """Return the episode of a row: each message of the assistant is an action, or some, and the last is rewarded.

    Args:
        row: ``messages``, and perhaps ``task_id``, ``source``.
        where: names the row.
        reward: of the whole.
        success: whether it solved the task.
        env_id: of the environment.
        delimiters: texts that end a step within an action.

    Raises:
        ValueError: see ``conversation``.
    """
    messages = conversation(row, where)
    turns = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    question = next(message["content"] for message in messages if message["role"] != "system")
    digest = hashlib.sha256(question.encode("utf-8", "replace")).hexdigest()[:12]
    return conversation_episode(
        messages[: turns[-1] + 1],
        [(place, 0, len(messages[place]["content"])) for place in turns],
        [0.0] * (len(turns) - 1) + [reward],
        delimiters,
        terminated=True,
        truncated=False,
        task_id=str(row.get("task_id") or f"imported/{digest}"),
        env_id=env_id,
        info={"success": success, "source": str(row.get("source", ""))},
    )


def import_conversations(
    file: Path, env_id: str, delimiters: tuple[str, ...], success_threshold: float | None = None
) -> EpisodeBuffer:
    """Read conversations from JSON lines: ``messages``, one of ``LABELS``, and perhaps ``task_id`` and ``source``.

    Args:
        file: one JSON object a line.
        env_id: of the environment.
        delimiters: texts that end a step within an action.
        success_threshold: see ``data.import_solutions``.

    Raises:
        ValueError: a row cannot be used; the message names file, line and field. Or there is none.
    """
    episodes = []
    for line, row in json_rows(file):
        where = f"{file}, line {line}"
        label = next((row[name] for name in LABELS if row.get(name) is not None), None)
        if label is None:
            raise ValueError(f"{where}: there is no {' or '.join(LABELS)} to say how it ended")
        episodes.append(episode(row, where, *judge_label(label, success_threshold, where), env_id, delimiters))
    if not episodes:
        raise ValueError(f"{file}: no conversations in this file")
    return EpisodeBuffer(episodes, provenance={"source": "import", "file": file.name, "format": "messages"})
