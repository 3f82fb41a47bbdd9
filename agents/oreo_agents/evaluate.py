"""How often a policy, with a search, solves the tasks of a split.

Knows: rollouts, searches, values. Does not know: training, tables.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from oreo_agents.generate import Sampling
from oreo_agents.networks import autocast
from oreo_agents.policy import CausalPolicy
from oreo_agents.prompts import PromptFormat
from oreo_agents.rollout import RolloutCounts, rollout
from oreo_agents.search import Search
from oreo_agents.statistics import standard_error, wilson_interval
from oreo_agents.tasks import is_played
from oreo_agents.value import TokenValue
from oreo_algos.batch import collate
from oreo_algos.episode import Episode
from oreo_algos.segments import final_values


@dataclass(frozen=True)
class Item:
    """One task, answered.

    Attributes:
        task_id: which task.
        correct: solved.
        sound: every step is right, where the environment can tell; else None.
        tokens: tokens generated for it, those of samples not chosen and those after a final answer included.
        answer: the final answer given, None without one.
        kind: what kind of task it is, where the environment tells kinds apart.
        invalid: actions that the environment did not admit, where it has such.
        grade_reason: why the answer was judged as it was, where one is graded.
    """

    task_id: str
    correct: bool
    sound: bool | None
    tokens: int
    answer: str | None
    kind: str | None = None
    invalid: int | None = None
    grade_reason: str | None = None


@torch.no_grad()
def score_final_states(value: TokenValue, episodes: Sequence[Episode], batch_size: int) -> np.ndarray:
    """Return V of each episode just before its last action token, float [N]."""
    device = next(value.parameters()).device
    order = sorted(range(len(episodes)), key=lambda i: episodes[i].num_tokens)
    scores = np.zeros(len(episodes))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = collate([episodes[i] for i in rows]).to(device)
        with autocast(device):
            scores[rows] = final_values(value.token_values(batch), batch).cpu().numpy()
    return scores


def evaluate(
    make_env: Callable[[], gym.Env[str, str]],
    policy: CausalPolicy,
    prompt_format: PromptFormat,
    searches: Mapping[str, Search],
    indices: Sequence[int],
    sampling: Sampling,
    *,
    seed: int,
    value: TokenValue | None = None,
    counts: RolloutCounts | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, list[Item]]:
    """Answer each task with each search; searches with equal sampling choose among the same samples.

    Args:
        make_env: makes one environment of the split.
        policy: acts.
        prompt_format: of the policy's tokenizer.
        searches: by name.
        indices: the tasks.
        sampling: limits; the temperature is that of each search.
        seed: of the sampling.
        value: for the searches that need one.
        counts: filled with what went wrong; a rollout that could not begin is an unsolved task.
        progress: called with the number of rollouts just finished.

    Returns:
        One item a task, in the order of ``indices``, by name of search.

    Raises:
        ValueError: a search needs a value and there is none, or chooses among finished episodes of an environment
            that cannot be played twice.
    """
    env = make_env()
    played = is_played(env)
    env.close()
    groups: defaultdict[tuple[int, float, bool], dict[str, Search]] = defaultdict(dict)
    for name, search in searches.items():
        if search.needs_value and value is None:
            raise ValueError(f"search {name} needs a value network, and this policy has none")
        if search.samples > 1 and played:
            raise ValueError(
                f"search {name} chooses among {search.samples} finished episodes; a task that is played turn by turn "
                "can be played only once"
            )
        groups[search.samples, search.temperature, search.constrained][name] = search
    items: dict[str, list[Item]] = {}
    for (samples, temperature, constrained), group in groups.items():
        repeated = [index for index in indices for _ in range(samples)]
        episodes: list[Episode | None] = [None] * len(repeated)
        for slot, episode in rollout(
            make_env,
            policy,
            prompt_format,
            repeated,
            replace(sampling, temperature=temperature),
            seed=seed,
            constrained=constrained,
            counts=counts,
            progress=progress,
        ):
            episodes[slot] = episode
        begun = np.array([episode is not None for episode in episodes])
        done = [episode for episode in episodes if episode is not None]
        values = np.full(len(episodes), np.nan)
        if value is not None and any(search.needs_value for search in group.values()):
            values[begun] = score_final_states(value, done, sampling.batch_size)
        for name, search in group.items():
            items[name] = []
            for k, index in enumerate(indices):
                block = slice(k * samples, (k + 1) * samples)
                drawn = [episode for episode in episodes[block] if episode is not None]
                items[name].append(_item(search, drawn, values[block][begun[block]], index))
    return {name: items[name] for name in searches}


def _item(search: Search, drawn: list[Episode], values: np.ndarray, index: int) -> Item:
    if not drawn:
        return Item(f"index {index}", False, None, 0, None)
    episode = drawn[search.choose(drawn, values)]
    names = ("sound", "answer", "task_type", "invalid_actions", "grade_reason")
    sound, answer, kind, invalid, reason = map(episode.info.get, names)
    return Item(
        episode.task_id,
        episode.success,
        None if sound is None else bool(sound),
        sum(int(e.info["generated_tokens"] or 0) for e in drawn),
        None if answer is None else str(answer),
        None if kind is None else str(kind),
        None if invalid is None else int(invalid),
        None if reason is None else str(reason),
    )


def summarize(items: Sequence[Item]) -> dict[str, Any]:
    """Return n, correct, accuracy, its standard error and Wilson interval, and means a task.

    Those are generated tokens and, where there are such, soundness and invalid actions; ``kinds`` holds the same
    for each kind of task.
    """
    summary = _summarize(items)
    kinds = sorted({item.kind for item in items if item.kind is not None})
    if kinds:
        summary["kinds"] = {kind: _summarize([item for item in items if item.kind == kind]) for kind in kinds}
    return summary


def _summarize(items: Sequence[Item]) -> dict[str, Any]:
    n, correct = len(items), sum(item.correct for item in items)
    low, high = wilson_interval(correct, n)
    summary = {
        "n": n,
        "correct": correct,
        "accuracy": correct / n,
        "standard_error": standard_error(correct, n),
        "wilson_low": low,
        "wilson_high": high,
        "tokens_per_task": sum(item.tokens for item in items) / n,
    }
    if any(item.sound is not None for item in items):
        summary["sound"] = sum(bool(item.sound) for item in items) / n
    counted = [item.invalid for item in items if item.invalid is not None]
    if counted:
        summary["invalid_per_task"] = sum(counted) / len(counted)
    return summary
