"""Rollouts of rLLM: trajectories whose steps each hold the conversation so far.

Source: ``Trajectory.to_dict`` and ``Episode.to_dict`` of rLLM 0.2.
"""

import itertools
from typing import Any

from oreo_agents.formats.chat import turns
from oreo_agents.formats.draft import Draft, scalars
from oreo_agents.formats.labels import label_of
from oreo_agents.formats.layout import Layout, Row

_LIMITS = ("max_", "timeout", "truncat")


def _episode(row: Row) -> list[Draft]:
    """Return a draft a trajectory, with a verdict of its own or else the episode's."""
    return [
        draft
        for one in row["trajectories"]
        for draft in _trajectory(
            {"is_correct": row.get("is_correct")} | {k: v for k, v in one.items() if v is not None}, row
        )
    ]


def _trajectory(row: Row, episode: Row | None = None) -> list[Draft]:
    steps = [step["chat_completions"] for step in row["steps"]]
    for number, (before, after) in enumerate(itertools.pairwise(steps), start=2):
        if after[: len(before)] != before:
            raise ValueError(
                f"step {number} does not go on with the conversation of the step before, so that the trajectory is no "
                "single conversation; give each step as a row of prompt, response and reward"
            )
    said, learned = turns(steps[-1], "chat_completions", row)
    ended = str((episode or row).get("termination_reason") or "").lower()
    return [
        Draft(
            messages=said,
            turns=[place for place, learn in enumerate(learned) if learn],
            label=label_of(row),
            shown=label_of(row) is None,
            truncated=any(limit in ended for limit in _LIMITS),
            info=scalars(row, ("name",)),
        )
    ]


def _has_steps(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("steps"), list)
        and bool(value["steps"])
        and all(isinstance(step, dict) and step.get("chat_completions") for step in value["steps"])
    )


LAYOUTS = (
    Layout(
        name="rllm",
        columns=("trajectories",),
        about="rLLM, episodes of one trajectory or several",
        read=_episode,
        fits=lambda row: isinstance(row["trajectories"], list) and all(map(_has_steps, row["trajectories"])),
    ),
    Layout(
        name="rllm-trajectory",
        columns=("steps", "reward"),
        about="rLLM, trajectories; a turn of the assistant is an action, the last is rewarded",
        read=_trajectory,
        fits=lambda row: _has_steps(dict(row)),
    ),
)
