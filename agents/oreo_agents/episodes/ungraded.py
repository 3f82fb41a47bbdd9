"""Episodes whose verdict was lost: told apart, graded again, left out and counted.

Knows: what an environment says of a lost verdict, see ``oreo_envs.grading.Reason.NOT_GRADED``; how a text is played
again. Does not know: who needs the verdicts. Such an episode is neither right nor wrong: its reward of 0 is no reward.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from oreo_algos.episode import Episode
from oreo_envs.grading import Reason

if TYPE_CHECKING:  # a report, which reads verdicts alone, loads neither tokenizers nor buffers
    import gymnasium as gym

    from oreo_agents.episodes.prompts import PromptFormat
    from oreo_algos import EpisodeBuffer

_log = logging.getLogger(__name__)

WHY = "the process that compares formulas died, stood still or found no memory to run; run with fewer processes at once"
"""How a verdict is lost, and what to do."""


def is_graded(info: Mapping[str, Any]) -> bool:
    """Whether an episode's ``info`` says something of its outcome."""
    return info.get("grade_reason") != Reason.NOT_GRADED


def grade_again(
    make_env: "Callable[[], gym.Env[str, str]]", prompt_format: "PromptFormat", episodes: Iterable[tuple[int, Episode]]
) -> list[Episode]:
    """Return the episodes, those without a verdict with that which they get now, if they get one.

    Args:
        make_env: makes one environment; called only where a verdict is missing.
        prompt_format: that they were played with.
        episodes: each with the index of its task.
    """
    found = list(episodes)
    if all(is_graded(episode.info) for _, episode in found):
        return [episode for _, episode in found]
    env = make_env()
    try:
        return [
            episode if is_graded(episode.info) else _played_again(env, prompt_format, index, episode)
            for index, episode in found
        ]
    finally:
        env.close()


def _played_again(env: "gym.Env[str, str]", prompt_format: "PromptFormat", index: int, episode: Episode) -> Episode:
    """Say the same text in the same task."""
    assert episode.action_spans is not None
    _, info = env.reset(options={"index": int(index)})
    prompt_format.tell(env, info["messages"])
    over, rewards = False, np.zeros(episode.num_steps, np.float32)
    for step, (message, start, end) in enumerate(episode.action_spans.tolist()):
        text = episode.messages[message]["content"][start:end]
        _, rewards[step], terminated, truncated, info = env.step(text)
        over = terminated or truncated
    if not over:  # an empty action had closed it
        _, reward, *_, info = env.step("")
        rewards[-1] += float(reward)
    said = {name: info[name] for name in episode.info if name in info}
    return dataclasses.replace(episode, rewards=rewards, info=episode.info | said, success=bool(info["success"]))


def leave_out_ungraded(episodes: Sequence[Episode], where: str) -> list[Episode]:
    """Return the episodes that have a verdict, or need none, and say how many have not.

    Raises:
        ValueError: there are episodes, and none of them is left.
    """
    graded = [episode for episode in episodes if is_graded(episode.info)]
    tell_ungraded(len(episodes) - len(graded), len(episodes), where)
    return graded


def tell_ungraded(lost: int, count: int, where: str) -> None:
    """Say how many of ``count`` answers have no verdict and are left out.

    Raises:
        ValueError: all of them.
    """
    if lost and lost == count:
        raise ValueError(f"{where}: not one of {lost} answers could be graded: {WHY}")
    if lost:
        _log.warning("%s: %d of %d answers were not graded and are left out: %s", where, lost, count, WHY)


def only_graded(buffer: "EpisodeBuffer", where: str) -> "EpisodeBuffer":
    """Return a buffer without its episodes that have no verdict, itself without any; see ``leave_out_ungraded``."""
    lost, _ = buffer.named("grade_reason", Reason.NOT_GRADED)
    tell_ungraded(len(lost), len(buffer), where)
    return buffer[np.delete(np.arange(len(buffer)), lost)] if len(lost) else buffer
