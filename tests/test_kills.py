"""Commands that are killed and given again, with few kills; ``benchmarks/kills.py`` has many, over all commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize("only", ["data", "train", "collect in parts"])
def test_commands_that_were_killed_end_as_unbroken_ones(only: str):
    command = [sys.executable, BENCHMARKS / "kills.py", "--kills", "4", "--seed", "1", "--only", only]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr[-4000:]
    assert f"| {only} |" in result.stdout
