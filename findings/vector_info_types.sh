#!/usr/bin/env bash
# What: in a vector environment of gymnasium the first sub-environment that has a key in its info decides the type of the column.
#   What the others say is converted to it without a word: a score of 0.5 beside a 1 is 0, a count of 3 beside a True is True, a
#   None (not judged) beside a False is False, an array of halves beside one of whole numbers is zeros. The same two values the
#   other way round stay what they are. The mask `_score` says that both are there, and the reward, beside it, is right.
# Versions: gymnasium 1.4.0, numpy 2.4.6.
# Expected by most: a column holds what the environments said, or is of a type that can.
# Observed:
#   gymnasium 1.4.0 numpy 2.4.6
#   said [1, 0.5], column [1, 0]; said [0.5, 1], column [0.5, 1.0]
#   said [True, 3], column [True, True]; said [3, True], column [3, 1]
#   said [False, None], column [False, False]; said [None, False], column [None, False]
#   said [[0, 0], [0.5, 0.5]], column [[0, 0], [0, 0]]; said [[0.5, 0.5], [0, 0]], column [[0.5, 0.5], [0.0, 0.0]]
# Why: `VectorEnv._add_info` makes the array by the type of the first value and assigns the others into it.
# Instead: one type for each key, always (`float(score)`, -1 for "not judged"), or values that numpy keeps as objects (a list of one).
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check gymnasium==1.4.0 numpy==2.4.6
cat > show.py <<'PY'
import gymnasium as gym
import numpy as np


class Scored(gym.Env):
    """One step, whose info says a score."""

    observation_space = action_space = gym.spaces.Discrete(2)

    def __init__(self, score):
        self.score = score

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        return 0, 0.0, True, False, {"score": self.score}


def column(kind, *scores):
    """The infos of a vector whose environments say these."""
    envs = kind([lambda score=score: Scored(score) for score in scores])
    envs.reset()
    infos = envs.step(np.zeros(len(scores), dtype=int))[-1]
    envs.close()
    assert infos["_score"].all()
    return infos["score"].tolist()


def main():
    print(f"gymnasium {gym.__version__} numpy {np.__version__}")
    pairs = [(1, 0.5), (True, 3), (False, None), (np.zeros(2, int), np.full(2, 0.5))]
    for first, second in pairs:
        said = column(gym.vector.SyncVectorEnv, first, second)
        turned = column(gym.vector.SyncVectorEnv, second, first)
        assert said == column(gym.vector.AsyncVectorEnv, first, second)
        names = [np.asarray(value).tolist() for value in (first, second)]
        print(f"said {names}, column {said}; said {names[::-1]}, column {turned}")
        yield said


if __name__ == "__main__":
    assert list(main()) == [[1, 0], [True, True], [False, False], [[0, 0], [0, 0]]]
PY
venv/bin/python -W ignore show.py
