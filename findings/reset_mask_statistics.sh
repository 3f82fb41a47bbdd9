#!/usr/bin/env bash
# What: in gymnasium with autoreset disabled, `reset(options={"reset_mask": mask})` of a vector environment takes `reset_mask` out
#   of the caller's dictionary. The wrapper RecordEpisodeStatistics looks for it there after the vector's reset, finds none, and
#   begins the statistics of every sub-environment anew: the episode that was still running is reported with the return and the
#   length it has had since the other one ended. Nothing warns, rewards and ends are right. The dictionary, used again, resets all.
# Versions: gymnasium 1.4.0, numpy 2.4.6.
# Expected by most: episodes of 3 steps that pay 1 a step are reported with return 3 and length 3 in each mode; a reset with a mask
#   leaves the dictionary that it was given as it was, and the running sub-environments alone.
# Observed:
#   gymnasium 1.4.0 numpy 2.4.6
#   NEXT_STEP: of 3 steps [(3.0, 3), (3.0, 3)], of 2 steps [(2.0, 2), (2.0, 2)]
#   SAME_STEP: of 3 steps [(3.0, 3), (3.0, 3)], of 2 steps [(2.0, 2), (2.0, 2)]
#   DISABLED: of 3 steps [(1.0, 1), (2.0, 2)], of 2 steps [(2.0, 2), (1.0, 1)]
# Why: `SyncVectorEnv.reset` and `AsyncVectorEnv.reset` call `options.pop("reset_mask")`, and the wrapper calls them first.
# Instead: a new dictionary for each reset, and statistics from RecordEpisodeStatistics of each sub-environment, inside the vector.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check gymnasium==1.4.0 numpy==2.4.6
cat > show.py <<'PY'
import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics


class Walk(gym.Env):
    """So many steps, each of which pays 1."""

    observation_space = action_space = gym.spaces.Discrete(2)

    def __init__(self, steps):
        self.steps = steps

    def reset(self, *, seed=None, options=None):
        self.taken = 0
        return 0, {}

    def step(self, action):
        self.taken += 1
        return 0, 1.0, self.taken == self.steps, False, {}


def reported(kind, mode):
    """Returns and lengths of the first episodes that each of two environments, of 3 and of 2 steps, ends."""
    envs = RecordEpisodeStatistics(kind([lambda: Walk(3), lambda: Walk(2)], autoreset_mode=mode))
    envs.reset()
    ended = [[], []]
    while min(map(len, ended)) < 2:
        *_, terminated, truncated, infos = envs.step(np.zeros(2, int))
        for i in np.flatnonzero(terminated):
            ended[i].append((float(infos["episode"]["r"][i]), int(infos["episode"]["l"][i])))
        if mode == AutoresetMode.DISABLED and terminated.any():
            options = {"reset_mask": terminated}
            envs.reset(options=options)
            assert options == {}
    return [pairs[:2] for pairs in ended]


if __name__ == "__main__":
    print(f"gymnasium {gym.__version__} numpy {np.__version__}")
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
        seen = reported(SyncVectorEnv, mode)
        print(f"{mode.name}: of 3 steps {seen[0]}, of 2 steps {seen[1]}")
        assert seen == reported(AsyncVectorEnv, mode)
        assert (seen == [[(3.0, 3)] * 2, [(2.0, 2)] * 2]) == (mode != AutoresetMode.DISABLED), seen
PY
venv/bin/python -W ignore show.py
