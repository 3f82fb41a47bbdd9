#!/usr/bin/env bash
# What: question i of a dataset of reasoning-gym is drawn from `seed + i`. Two datasets with neighbouring seeds are one shifted by one:
#   of 1,000 questions for validation with seed 2, 999 are in the training set with seed 1. ReseedingDataset, which makes a dataset
#   "infinite", adds one to the seed for each chunk: ten chunks of 100 questions are 109 questions.
# Versions: reasoning_gym 0.1.25; 102 of its tasks are so (all but acre, gsm_symbolic and list_functions), and composites of them.
# Expected by most: another seed gives other questions, and a new chunk new ones. The package's own training does:
#   `examples/trl/grpo.py` and `training/train_grpo.py` of open-thought/reasoning-gym train with seed 1 and validate with seed 2.
# Observed:
#   reasoning_gym 0.1.25
#   chain_sum: of 1000 questions with seed 2 in those with seed 1: 991; with seed 10000: 11
#   knights_knaves: of 1000 questions with seed 2 in those with seed 1: 999; with seed 10000: 0
#   composite: of 1000 questions with seed 2 in those with seed 1: 996; with seed 10000: 1
#   ReseedingDataset: 109 different questions in ten chunks of 100
# Why: `__getitem__` makes `Random(self.seed + idx)`; `ReseedingDataset._create_chunk` takes `seed + chunk_num`. (Of chain_sum
#   some questions repeat within one dataset: the 991 and the 11.)
# Instead: seeds further apart than a dataset is long, or one dataset whose indices are split; for endless data a great `size`, for
#   questions are made when they are asked for.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check reasoning_gym==0.1.25
cat > show.py <<'PY'
from importlib.metadata import version
from itertools import islice

import reasoning_gym
from reasoning_gym.composite import DatasetSpec
from reasoning_gym.dataset import ReseedingDataset

NAMES = ["chain_sum", "knights_knaves", "countdown"]
SPECS = [DatasetSpec(name=name, weight=1, config={}) for name in NAMES]


def made(name, seed, size=1000):
    rest = {"datasets": SPECS} if name == "composite" else {}
    return reasoning_gym.create_dataset(name, seed=seed, size=size, **rest)


def questions(rows):
    return [row["question"] for row in rows]


def main():
    print("reasoning_gym", version("reasoning_gym"))
    for name in ("chain_sum", "knights_knaves", "composite"):
        train = questions(made(name, 1))
        near, far = questions(made(name, 2)), questions(made(name, 10_000))
        shared = [len(set(train) & set(other)) for other in (near, far)]
        print(f"{name}: of 1000 questions with seed 2 in those with seed 1: {shared[0]}; with seed 10000: {shared[1]}")
        assert train[1:] == near[:-1] and shared[0] >= 990 and shared[1] < 20
    endless = ReseedingDataset(made("knights_knaves", 1, 100), chunk_size=100)
    different = len(set(questions(islice(endless, 1000))))
    print(f"ReseedingDataset: {different} different questions in ten chunks of 100")
    assert different <= 109


if __name__ == "__main__":
    main()
PY
venv/bin/python show.py 2>errors || { cat errors; exit 1; }
