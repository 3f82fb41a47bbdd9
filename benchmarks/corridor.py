"""A game of any length, and a model without attention: to see what else a turn costs.

Knows: an environment, an attention function of transformers. Does not know: what is measured. It runs in builds of
before, too, and imports only what these have.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from transformers import AttentionInterface, AttentionMaskInterface

from oreo_envs.base import Opening, Outcome, TextEnv


class Corridor(TextEnv):
    """A walk without end: each turn is a word, and each answer a sentence."""

    splits = ("train",)
    held_out_splits = ()

    def __init__(self, turns: int = 1 << 30, seen: str = "You see door {}.", **options: Any) -> None:
        """Walk so many turns, and see so much at each."""
        self._seen = seen
        super().__init__(split="train", max_steps=turns, max_chars=1 << 40, **options)

    @property
    def num_tasks(self) -> int:
        """Many."""
        return 1000

    def _open(self, index: int) -> Opening:
        text = f"Corridor {index}."
        return Opening(f"corridor/{index}", text, ({"role": "user", "content": text},))

    def _index_of(self, task_id: str) -> int | None:
        return int(task_id.rpartition("/")[2])

    def _respond(self, action: str) -> Outcome:
        return Outcome(self._seen.format(self._num_steps))


def make_game(turns: int, **options: Any) -> Any:
    """Return the walk as an environment that has a name."""
    name = f"Corridor{turns}-v0"
    if name not in gym.registry:
        gym.register(name, entry_point=lambda **options: Corridor(turns, **options))
    return gym.make(name, disable_env_checker=True, **options)


def itself_alone(module: Any, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> Any:
    """Attend to the newest tokens alone, each to itself, and read nothing of what was kept."""
    newest = values[:, :, -query.shape[2] :].repeat_interleave(query.shape[1] // values.shape[1], dim=1)
    return newest.transpose(1, 2), None


AttentionInterface.register("itself", itself_alone)
AttentionMaskInterface.register("itself", lambda *_, **__: None)
