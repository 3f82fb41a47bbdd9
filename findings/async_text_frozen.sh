#!/usr/bin/env bash
# What: AsyncVectorEnv with its default shared memory returns spaces.Text observations that never change: always the
#   first character of the charset, repeated to max_length; numbers beside it in the same Dict are right.
# Versions: gymnasium 1.4.0 (1.2.3 and 1.0.0 the same), numpy 2.4.6.
# Expected by most: the same observations as SyncVectorEnv, or the TypeError that Sequence and Graph spaces raise.
# Observed:
#   SyncVectorEnv: ('turn 2', 'turn 2') [2, 2]
#   AsyncVectorEnv: ('aaaaaaaaaaaa', 'aaaaaaaaaaaa') [2, 2]
#   AsyncVectorEnv, shared_memory=False: ('turn 2', 'turn 2') [2, 2]
# Why: gymnasium/vector/async_vector_env.py reads the shared memory once, in __init__, and relies on numpy views of it;
#   _read_text_from_shared_memory in vector/utils/shared_memory.py makes plain strings from the zeros that are there
#   then. The workers do write the texts. spaces.OneOf is read the same way.
# Instead: AsyncVectorEnv(..., shared_memory=False), or make_vec(..., vectorization_mode="sync").
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check gymnasium==1.4.0 numpy==2.4.6
cat > talk.py <<'PY'
import gymnasium as gym
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv


class Talk(gym.Env):
    text = spaces.Text(12, charset="abcdefghijklmnopqrstuvwxyz 0123456789")
    observation_space = spaces.Dict({"text": text, "turn": spaces.Discrete(10)})
    action_space = spaces.Discrete(2)

    def observation(self):
        seen = {"text": f"turn {self.turn}", "turn": self.turn}
        assert seen in self.observation_space
        return seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.turn = 0
        return self.observation(), {}

    def step(self, action):
        self.turn += 1
        return self.observation(), 0.0, False, False, {}


def second(envs):
    envs.reset(seed=0)
    envs.step([0, 0])
    observations = envs.step([0, 0])[0]
    envs.close()
    return observations["text"], observations["turn"].tolist()


if __name__ == "__main__":
    print("gymnasium", gym.__version__, "- observations of two environments after two steps")
    seen = {
        "SyncVectorEnv": second(SyncVectorEnv([Talk] * 2)),
        "AsyncVectorEnv": second(AsyncVectorEnv([Talk] * 2)),
        "AsyncVectorEnv, shared_memory=False": second(AsyncVectorEnv([Talk] * 2, shared_memory=False)),
    }
    for name, (text, turn) in seen.items():
        print(f"{name}: {text} {turn}")
    right, frozen, unshared = seen.values()
    assert right == unshared == (("turn 2", "turn 2"), [2, 2]) and frozen == (("a" * 12,) * 2, [2, 2])
PY
venv/bin/python talk.py
