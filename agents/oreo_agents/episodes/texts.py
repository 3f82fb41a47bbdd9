"""A written solution, or a whole conversation, as an episode that no tokenizer has seen yet.

Knows: messages and where steps lie in them. Does not know: where the text comes from, tokens.
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from oreo_algos.episode import Episode, JSONScalar
from oreo_envs.base import Demonstration

if TYPE_CHECKING:
    from oreo_agents.episodes.prompts import PromptFormat


def text_episode(
    opening: Iterable[Mapping[str, str]],
    steps: Sequence[str],
    rewards: Sequence[float],
    *,
    task_id: str,
    env_id: str,
    info: Mapping[str, JSONScalar],
) -> Episode:
    """Make an episode of one answer.

    Args:
        opening: messages before the answer.
        steps: texts of the actions, which add up to the answer.
        rewards: one a step.
        task_id: names the task.
        env_id: names the environment.
        info: what else is known.

    Returns:
        An episode without tokens, to be encoded with ``encode_episode``.
    """
    messages = [*(dict(message) for message in opening), {"role": "assistant", "content": "".join(steps)}]
    ends = np.cumsum([len(step) for step in steps])
    spans = np.stack([np.full_like(ends, len(messages) - 1), ends - [len(step) for step in steps], ends], axis=1)
    return Episode(
        tokens=np.zeros(0, np.int32),
        step_id=np.zeros(0, np.int32),
        rewards=np.asarray(rewards, np.float32),
        action_spans=spans.astype(np.int32),
        terminated=True,
        truncated=False,
        task_id=task_id,
        env_id=env_id,
        messages=messages,
        info=dict(info),
    )


def demonstration_episode(shown: Demonstration, env_id: str) -> Episode:
    """Make an episode of a demonstration, to be encoded with ``encode_episode``.

    Which steps are mistaken is not part of it: a mask needs tokens.
    """
    return Episode(
        tokens=np.zeros(0, np.int32),
        step_id=np.zeros(0, np.int32),
        rewards=np.asarray(shown.rewards, np.float32),
        action_spans=np.asarray(shown.spans, np.int32),
        terminated=not shown.truncated,
        truncated=shown.truncated,
        task_id=shown.task_id,
        env_id=env_id,
        messages=list(shown.messages),
        info=shown.info,
    )


def encode_episode(
    episode: Episode, prompt_format: "PromptFormat", *, masked_steps: Collection[int] | None = None
) -> Episode:
    """Encode the text of an episode for a tokenizer, dropping what was recorded for another one.

    Args:
        episode: with ``action_spans``.
        prompt_format: of the tokenizer.
        masked_steps: actions that no imitation loss may learn from; None: those of the episode's ``loss_mask``.

    Raises:
        ValueError: the episode has no ``action_spans`` to find its actions by, or the template cannot write it.
    """
    if episode.action_spans is None:
        raise ValueError(
            f"task {episode.task_id}: this episode has no action_spans, so its text cannot be encoded again"
        )
    try:
        tokens, step_id = prompt_format.encode_episode(
            episode.messages, episode.action_spans.tolist(), ended=not episode.truncated
        )
    except ValueError as error:
        raise ValueError(f"task {episode.task_id}: {error}") from error
    if masked_steps is None and episode.loss_mask is not None:
        masked_steps = set(range(episode.num_steps)) - set(episode.step_id[episode.loss_mask].tolist())
    mask = None
    if masked_steps:
        mask = np.array([k >= 0 and k not in masked_steps for k in step_id])
    return dataclasses.replace(
        episode,
        tokens=np.array(tokens, dtype=np.int32),
        step_id=np.array(step_id, dtype=np.int32),
        loss_mask=mask,
        behavior_logprobs=None,
    )
