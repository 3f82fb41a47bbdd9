"""Episodes of a buffer as rows that others read, and what such rows cannot hold.

Knows: TRL's types, OpenAI's messages, ShareGPT, our labelled rows. Does not know: files, tokenizers.
Rows of all but pairs and labelled ones have further columns that others leave alone (``task_id, env_id, success,
rewards, action_spans, terminated, truncated, info``), by which an import gives the same episodes.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oreo_algos import Episode, EpisodeBuffer
from oreo_algos.algos.selection import preference_pairs

Row = dict[str, Any]

_SPEAKERS = {"user": "human", "assistant": "gpt"}


class _CannotHoldError(ValueError):
    """An episode is no row of this format; the message says why."""


@dataclass
class Losses:
    """What an export lost.

    Attributes:
        episodes: how many are left out, by reason.
        fields: in how many episodes a field is not kept, by what it is.
    """

    episodes: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)

    def sentences(self) -> list[str]:
        """Say what was lost."""
        left = [f"left out: {count} episodes, {why}" for why, count in self.episodes.items()]
        return left + [f"not kept: {what} ({count} episodes)" for what, count in self.fields.items()]


def _whole(episode: Episode) -> Row:
    """The columns by which an episode comes back as it was."""
    if episode.action_spans is None:
        raise _CannotHoldError("it is not said where their actions stand in their messages")
    return {
        "task_id": episode.task_id,
        "env_id": episode.env_id,
        "success": episode.success,
        "rewards": episode.rewards.tolist(),
        "action_spans": episode.action_spans.tolist(),
        "terminated": episode.terminated,
        "truncated": episode.truncated,
        "info": json.dumps(episode.info, ensure_ascii=False),
    }


def _messages(episode: Episode, losses: Losses) -> Row:
    return {"messages": episode.messages} | _whole(episode)


def _sharegpt(episode: Episode, losses: Losses) -> Row:
    said = [{"from": _SPEAKERS.get(m["role"], m["role"]), "value": m["content"]} for m in episode.messages]
    return {"conversations": said} | _whole(episode)


def _completion(episode: Episode, losses: Losses) -> Row:
    whole = _whole(episode)
    first = whole["action_spans"][0][0]
    return {"prompt": episode.messages[:first], "completion": episode.messages[first:]} | whole


def _sft(episode: Episode, losses: Losses) -> Row:
    if not episode.success:
        raise _CannotHoldError("which did not succeed and are not to be imitated")
    return _completion(episode, losses)


def _kto(episode: Episode, losses: Losses) -> Row:
    return _completion(episode, losses) | {"label": episode.success}


def _labelled(episode: Episode, losses: Losses) -> Row:
    asked = [message["content"] for message in episode.messages if message["role"] == "user"]
    roles = [message["role"] for message in episode.messages if message["role"] != "system"]
    if roles != ["user", "assistant"] or episode.messages[-1]["role"] != "assistant":
        raise _CannotHoldError("which are no single answer to a question")
    _lose(episode, losses, system=any(message["role"] == "system" for message in episode.messages))
    response = episode.messages[-1]["content"]
    row = {"question": asked[0], "response": response, "correct": episode.success, "task_id": episode.task_id}
    return row | {"source": str(episode.info.get("source", ""))}


def _lose(episode: Episode, losses: Losses, *, system: bool = False) -> None:
    """Count what a row without the columns of ``_whole`` does not say."""
    paid = [0.0] * (episode.num_steps - 1) + [float(episode.success)]
    losses.fields["what the system says"] += system
    losses.fields["where steps end, other than turns"] += episode.num_steps > 1
    losses.fields["rewards, other than 1 or 0 at the end"] += episode.rewards.tolist() != paid
    losses.fields["that a limit ended them"] += episode.truncated
    losses.fields["info"] += bool({*episode.info} - {"success", "source", "pair"})


_ROWS: dict[str, Callable[[Episode, Losses], Row]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "trl-sft": _sft,
    "trl-kto": _kto,
    "labelled": _labelled,
}
FORMATS = (*_ROWS, "trl-dpo")


def export_rows(
    buffer: EpisodeBuffer, name: str, losses: Losses, *, max_pairs: int = 6, seed: int = 0
) -> Iterator[Row]:
    """Yield the rows of a buffer in a format.

    Args:
        buffer: any.
        name: of ``FORMATS``.
        losses: is told what is lost, as far as the rows were taken.
        max_pairs: pairs a task that are drawn, of episodes that are of none.
        seed: draws them.

    Raises:
        NothingToLearnError: pairs are asked for, and there are none.
    """
    if name == "trl-dpo":
        yield from _dpo(buffer, losses, max_pairs, seed)
        return
    for episode in buffer:
        try:
            row = _ROWS[name](episode, losses)
        except _CannotHoldError as error:
            losses.episodes[str(error)] += 1
            continue
        _lose_tokens(episode, losses)
        yield row


def _lose_tokens(episode: Episode, losses: Losses) -> None:
    losses.fields["tokens, which oreo data encode makes again"] += episode.encoded
    losses.fields["log-probabilities at sampling"] += episode.behavior_logprobs is not None
    losses.fields["what imitation may not learn from (loss_mask)"] += episode.loss_mask is not None
    losses.fields = Counter({what: count for what, count in losses.fields.items() if count})


def _dpo(buffer: EpisodeBuffer, losses: Losses, max_pairs: int, seed: int) -> Iterator[Row]:
    pairs = preference_pairs(buffer, max_pairs, np.random.default_rng(seed))
    tasks = {episode.task_id for episode, _ in pairs}
    alone = sum(len(of) for task, of in buffer.by_task().items() if task not in tasks)
    if alone:
        losses.episodes["of tasks that have not both outcomes"] += alone
    for right, wrong in pairs:
        prompt = _opening(right)
        if prompt is None or prompt != _opening(wrong):
            losses.episodes["of pairs whose prompts differ"] += 2
            continue
        for episode in (right, wrong):
            _lose(episode, losses)
            _lose_tokens(episode, losses)
        scores = [episode.info.get("score") for episode in (right, wrong)]
        row: Row = {
            "prompt": prompt,
            "chosen": right.messages[len(prompt) :],
            "rejected": wrong.messages[len(prompt) :],
        }
        if all(isinstance(score, int | float) for score in scores):
            row |= {"score_chosen": scores[0], "score_rejected": scores[1]}
        yield row | {"task_id": right.task_id, "env_id": right.env_id}


def _opening(episode: Episode) -> list[dict[str, str]] | None:
    return None if episode.action_spans is None else episode.messages[: int(episode.action_spans[0, 0])]
