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

    The environments share the games and have no wrappers; seeds, observations, rewards, ends and infos
    are those of a ``SyncVectorEnv`` of single ones.
    """

    def __init__(
        self, num_envs: int = 1, *, autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP, **settings: Any
    ) -> None:
        """Make the environments.

        Args:
            num_envs: how many.
            autoreset_mode: when a finished episode is followed by another, in Gymnasium's words.
            settings: arguments of ``ALFWorldEnv``.
        """
        positive("num_envs", num_envs)
        first = ALFWorldEnv(**settings)
        others = partial(ALFWorldEnv, **{**settings, "path": None, "games": first.games})
        super().__init__([lambda: first, *[others] * (num_envs - 1)], copy=False, autoreset_mode=autoreset_mode)
