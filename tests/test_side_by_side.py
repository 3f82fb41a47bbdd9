"""The measuring of `benchmarks/side_by_side.py`, on work of known cost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from side_by_side import Row, check_equal, report, take_turns  # noqa: E402


def test_both_sides_take_turns_after_a_warm_up() -> None:
    calls: list[str] = []
    row = take_turns("x", lambda: calls.append("ours"), lambda: calls.append("peer"), n=3)
    assert calls == ["ours", "peer"] * 4
    assert (row.name, row.n, row.unit) == ("x", 3, "s")


def test_the_ratio_says_how_many_times_less_we_need(capsys: pytest.CaptureFixture[str]) -> None:
    report([Row("memory", 2.0, 6.0, "MiB", 5)], as_json=True)
    assert json.loads(capsys.readouterr().out) == [
        {"name": "memory", "ours": 2.0, "peer": 6.0, "unit": "MiB", "n": 5, "ratio": 3.0}
    ]


def test_the_peak_counts_what_the_work_holds_and_not_what_stood_before() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "import numpy as np\n"
        "from side_by_side import peak_above\n"
        "stays = []\n"
        "def ready():\n"
        "    stays.append(np.ones(2**25))\n"  # 256 MiB
        "    return lambda: np.ones(2**24).sum()\n"  # 128 MiB
        "print(peak_above(ready))\n"
    )
    peak = float(subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE).stdout)
    assert 120 < peak < 150


@pytest.mark.parametrize(
    ("loss", "gradient", "message"),
    [
        (2.0, [3.0, 4.0], None),
        (2.0 + 1e-6, [3.0, 4.0], None),
        (2.1, [3.0, 4.0], r"x: losses .*2\.1"),
        (2.0, [4.0, 3.0], r"gradients of norm 5 that differ by 1\.41"),
        (2.0, [-3.0, -4.0], "gradients of norm 5 that differ by 10"),
        (2.0, None, "x: 1 parameters have no gradient"),
    ],
)
def test_sides_that_differ_are_not_timed(loss: float, gradient: list[float] | None, message: str | None) -> None:
    """Gradients of equal norm are not equal."""
    networks = [torch.nn.Linear(2, 1, bias=False) for _ in range(2)]
    networks[0].weight.grad = None if gradient is None else torch.tensor([gradient])
    networks[1].weight.grad = torch.tensor([[3.0, 4.0]])
    if message is None:
        check_equal("x", [[loss], [2.0]], networks, tolerance=1e-5)
        return
    with pytest.raises(SystemExit, match=message):
        check_equal("x", [[loss], [2.0]], networks, tolerance=1e-5)
