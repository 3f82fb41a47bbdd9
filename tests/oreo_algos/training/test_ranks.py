"""Training on several processes against one: gradients of the first step, weights, metrics, kills, cuts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ranks_at_work
import torch
from ranks_at_work import CASES, KILLED, SHARDINGS, run_case

from oreo_algos.training.metrics_writer import read_metrics

QUICK = ["sft, one example a step", "dpo", "kto, one turn", "oreo, moving average", "oreo, muon"]
SLOW = [name for name in CASES if name not in QUICK]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, random_episodes, make_episode) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    buffers(folder, random_episodes, make_episode)
    return folder
