"""Many games at once in one process.

Knows: that a game takes microseconds, so that processes and their pipes would only slow it down.
Does not know: anything about games (``env``).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from gymnasium.vector import AutoresetMode, SyncVectorEnv

from oreo_envs.alfworld.env import ALFWorldEnv
from oreo_envs.checks import positive


class ALFWorldVectorEnv(SyncVectorEnv):
    """What ``gymnasium.make_vec("oreo/ALFWorld-v0", num_envs=n)`` makes: n episodes side by side.

    The environments share the games; seeds, observations, rewards, ends and infos are those of a ``SyncVectorEnv`` of
    single ones. Gymnasium passes ``wrappers`` and ``vector_kwargs`` to its own vectors only: ask for one of these with
    ``vectorization_mode="sync"`` or ``"async"``.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        **settings: Any,
    ) -> None:
        """Make the environments.

        Args:
            num_envs: how many.
            autoreset_mode: when a finished episode is followed by another, in Gymnasium's words.
            max_episode_steps: shortens episodes further than ``max_steps`` does; -1, None: does not.
            settings: arguments of ``ALFWorldEnv``.

        Raises:
            ValueError: no number of environments or steps, or what ``ALFWorldEnv`` refuses.
        """
        positive("num_envs", num_envs)
        for name in ("wrappers", "vector_kwargs", "place"):
            if name in settings:
                raise ValueError(f"{name} is for Gymnasium's own vectors: gym.make_vec(..., vectorization_mode='sync')")
        first = ALFWorldEnv(**settings)
        if max_episode_steps not in (None, -1):
            limit = positive("max_episode_steps", max_episode_steps)
            first.max_steps = settings["max_steps"] = min(limit, first.max_steps or limit)
        other = partial(ALFWorldEnv, **{**settings, "games": first.games})
        super().__init__([lambda: first, *[other] * (num_envs - 1)], copy=False, autoreset_mode=autoreset_mode)

    def _add_info(self, vector_infos: dict[str, Any], env_info: dict[str, Any], env_num: int) -> dict[str, Any]:
        """Do what Gymnasium does, without arrays that are made and thrown away for each value."""
        for key, value in env_info.items():
            mask = vector_infos.get(f"_{key}")
            if mask is None or isinstance(value, dict) or key == "final_obs":
                super()._add_info(vector_infos, {key: value}, env_num)
            else:
                vector_infos[key][env_num] = value
                mask[env_num] = True
        return vector_infos
