"""Commands that are killed and given again, with few kills; ``benchmarks/kills.py`` has many, over all commands."""

from pathlib import Path

import pytest
from forked import run

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize("only", ["data", "train", "collect in parts"])
def test_commands_that_were_killed_end_as_unbroken_ones(only: str, tmp_path: Path):
    result = run([str(BENCHMARKS / "kills.py"), "--kills", "4", "--seed", "1", "--only", only], tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr[-4000:]
    assert f"| {only} |" in result.stdout
