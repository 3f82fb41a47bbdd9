"""What the states of a data set are worth without a network: mean returns of the samples that were in them.

Knows: returns, tasks, what an action was read after. Does not know: losses, networks.
Source: mean over the samples of a question: Shao et al. 2024 (arXiv:2402.03300), without the division by the deviation;
over equal states within it: Feng et al. 2025 (arXiv:2505.10978), GiGPO's anchor states, here of recorded episodes.
"""

import hashlib
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from oreo_algos.algos.saying import warn_once
from oreo_algos.algos.selection import NothingToLearnError
from oreo_algos.episode import Episode
from oreo_algos.storage.buffer import EpisodeBuffer

_log = logging.getLogger(__name__)

Baseline = float | Literal["data", "question", "state"]
"""What a return is compared with: a number; the mean return of all episodes, of the question's, or of those that were
in the same state of it."""

Values = Callable[[int, Episode], NDArray[np.float64]]
"""V(s_k) just before each action of the episode with a number, reward units, [K]."""


def baseline_values(buffer: EpisodeBuffer, baseline: Baseline) -> Values:
    """Return V of the states of a buffer's episodes.

    A state is worth the mean of the rewards that followed it, over the episodes of its task that were in it; one that
    a single episode was in is worth what its question is. A number, ``data`` and ``question`` compare whole
    episodes, so there V is the baseline less what was earned before, and ``R_k - V(s_k)`` the same at every action.
    """
    if baseline == "state":
        return _values_of_states(buffer)
    if isinstance(baseline, str):
        return _of_episodes(_means(buffer, baseline))
    _warn_outside(buffer.columns.total_reward, float(baseline))
    return _of_episodes(np.full(len(buffer), float(baseline)))


def _warn_outside(returns: NDArray[np.floating], baseline: float) -> None:
    """Warn of a number that all of several different returns are above, or below."""
    low, high = (float(end(returns)) for end in (np.min, np.max)) if len(returns) else (0.0, 0.0)
    if low < high and not low <= baseline <= high:
        below = baseline < low
        warn_once(
            _log,
            f"baseline={baseline:g} is {'below' if below else 'above'} the return of each of the {len(returns)} "
            f"episodes ({low:g} to {high:g}), so all of them count as {'better, wrong' if below else 'worse, right'} "
            "ones too; give a number between the returns of good and of bad ones, or question or data",
        )


def soft_values(buffer: EpisodeBuffer, temperature: float) -> Values:
    """Return ``temperature * log mean exp(return / temperature)`` over the samples of a question, stable at any."""
    task, returns = buffer.columns.task, buffer.columns.total_reward
    highest = np.full(len(buffer.columns.task_ids), -math.inf)
    np.maximum.at(highest, task, returns)
    mass = np.bincount(task, np.exp((returns - highest[task]) / temperature), minlength=len(highest))
    soft = highest + temperature * np.log(mass / np.bincount(task, minlength=len(highest)))
    return _of_episodes(soft[task])


def less_baseline(buffer: EpisodeBuffer, values: Values, *, shift: float = 0.0) -> list[Episode]:
    """Return the episodes with rewards whose sum from an action on is its advantage, ``R_k - V(s_k) - shift``.

    Reward k becomes ``r_k + V(s_{k+1}) - V(s_k)``, V being 0 after the end: shaping by a potential (Ng et al. 1999).
    Success stays what it was.

    Raises:
        NothingToLearnError: there is no episode, or every advantage before the shift is 0.
    """
    if not buffer:
        raise NothingToLearnError(
            "this buffer has no episode, so there is nothing to learn from; collect or import some"
        )
    shaped, found = [], 0.0
    for number, episode in enumerate(buffer):
        before = values(number, episode)
        advantage = _to_go(episode) - before
        found = max(found, float(np.abs(advantage).max()))
        to_go = np.append(advantage - shift, 0.0)
        shaped.append(replace(episode, rewards=to_go[:-1] - to_go[1:]))
    if found < 1e-6:
        raise NothingToLearnError(
            f"each of the {len(buffer)} episodes of this buffer returned just what it is compared with, so none is "
            "better than another: no task has samples of different returns; collect more samples a task or tasks "
            "that are sometimes solved, or compare with a number (`baseline`), where the algorithm takes one"
        )
    return shaped


def states_of(episode: Episode) -> list[bytes]:
    """Return a name of the state before each action, [K], the same for equal states of one task.

    It is what ``info["states"]`` says, K words that an environment gave its states. Else it is the observation that an
    action follows, as far as tokens tell; where the environment said nothing between two actions, such as two lines
    of one answer, it is the state before and what was written since. Two states that look alike are one.
    """
    said = episode.info.get("states")
    if isinstance(said, str) and len(words := said.split()) == episode.num_steps:
        return [word.encode() for word in words]
    action = episode.step_id >= 0
    order = episode.step_id[action]
    positions = np.flatnonzero(action)
    first = positions[np.searchsorted(order, np.arange(episode.num_steps))]
    last = positions[np.searchsorted(order, np.arange(episode.num_steps), side="right") - 1]
    names = [_name(episode.tokens[: first[0]])]
    for k in range(1, episode.num_steps):
        seen = episode.tokens[last[k - 1] + 1 : first[k]]
        names.append(_name(seen) if len(seen) else _name(episode.tokens[first[k - 1] : first[k]], names[-1]))
    return names


def _name(tokens: NDArray[np.int32], before: bytes = b"") -> bytes:
    return hashlib.blake2b(before + tokens.tobytes(), digest_size=16).digest()


def _values_of_states(buffer: EpisodeBuffer) -> Values:
    """Return the mean of what followed a state; of one that a single episode was in, as of the question as a whole."""
    sums: dict[tuple[str, bytes], tuple[float, int]] = {}
    visitor: dict[tuple[str, bytes], int] = {}
    shared: set[tuple[str, bytes]] = set()
    for number, episode in enumerate(buffer):
        for name, value in zip(states_of(episode), _to_go(episode).tolist(), strict=True):
            state = (episode.task_id, name)
            total, count = sums.get(state, (0.0, 0))
            sums[state] = total + value, count + 1
            if visitor.setdefault(state, number) != number:
                shared.add(state)
    means = {state: sums[state][0] / sums[state][1] for state in shared}
    of_question = _of_episodes(_means(buffer, "question"))

    def values(number: int, episode: Episode) -> NDArray[np.float64]:
        pairs = zip(states_of(episode), of_question(number, episode).tolist(), strict=True)
        return np.array([means.get((episode.task_id, name), other) for name, other in pairs])

    return values


def _of_episodes(numbers: NDArray[np.float64]) -> Values:
    """Return V of the states of episodes that are compared as wholes, given a baseline for each."""

    def values(number: int, episode: Episode) -> NDArray[np.float64]:
        to_go = _to_go(episode)
        return numbers[number] - (to_go[0] - to_go)

    return values


def _means(buffer: EpisodeBuffer, over: str) -> NDArray[np.float64]:
    """Return, for each episode, the mean return of all or of its question's, [N]."""
    task, returns = buffer.columns.task, buffer.columns.total_reward
    if over == "data":
        return np.full(len(buffer), returns.mean() if len(buffer) else 0.0)
    return (np.bincount(task, returns) / np.bincount(task).clip(1))[task]


def _to_go(episode: Episode) -> NDArray[np.float64]:
    """Return the sum of the rewards from each action on, [K]."""
    return np.cumsum(episode.rewards[::-1], dtype=np.float64)[::-1]
