"""A written solution, or a whole conversation, as an episode that no tokenizer has seen yet.

Knows: messages and where steps lie in them. Does not know: where the text comes from, tokens.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from oreo_algos.episode import Episode, JSONScalar
from oreo_envs.base import Demonstration


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
        An episode without tokens, to be encoded with ``prompts.encode_episode``.
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
    """Make an episode of a demonstration, to be encoded with ``prompts.encode_episode``.

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
