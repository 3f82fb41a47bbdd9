"""Training on several processes against one: gradients of the first step, weights, metrics, kills, cuts."""

from pathlib import Path

import pytest
from ranks_at_work import CASES

QUICK = ["sft, one example a step", "dpo", "kto, one turn", "oreo, moving average", "oreo, muon"]
SLOW = [name for name in CASES if name not in QUICK]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, random_episodes, make_episode) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    buffers(folder, random_episodes, make_episode)
    return folder
