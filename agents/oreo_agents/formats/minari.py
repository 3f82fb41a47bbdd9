"""Episodes of text data sets of Minari.

Knows: their arrays. Does not know: storages (``oreo_envs.minari_files`` reads them), buffers.
Source: Minari 0.5, ``EpisodeData``: one observation more than actions, infos of a value a state.
"""

from typing import Any

from oreo_agents.formats.draft import Draft
from oreo_agents.formats.layout import Layout, Row
from oreo_envs.minari_texts import told_of


def _episode(row: Row) -> list[Draft]:
    actions, rewards = row["actions"], row["rewards"]
    if not _texts(actions) or not _texts(row["observations"]) or len(row["observations"]) != len(actions) + 1:
        raise ValueError("actions must be texts, and observations texts too, one more than actions")
    ended, cut = row["terminations"], row["truncations"]
    if not len(rewards) == len(ended) == len(cut) == len(actions):
        raise ValueError(f"{len(actions)} actions have {len(rewards)} rewards, {len(ended)} and {len(cut)} ends")
    told = told_of(row)
    name = told["task_id"]
    return [
        Draft(
            messages=told["messages"],
            turns=sorted({span[0] for span in told["action_spans"]}),
            label=told["success"],
            exact=(rewards, told["action_spans"]),
            task_id=None if name is None else str(name),
            env_id=told["env_id"],
            truncated=bool(cut[-1]),
            terminated=bool(ended[-1]),
            info=told["info"],
        )
    ]


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


LAYOUTS = (
    Layout(
        name="minari",
        columns=("observations", "actions", "rewards", "terminations", "truncations"),
        about="data sets of Minari with texts as observations and actions",
        read=_episode,
    ),
)
