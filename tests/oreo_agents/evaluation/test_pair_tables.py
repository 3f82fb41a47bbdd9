"""Rows of pairs in a report: a table of their own, of several runs too, and compared on the same prompts."""

import json
from pathlib import Path

import numpy as np
import pytest

from oreo_agents.evaluation.preferences import Ranking
from oreo_agents.evaluation.report import report


def write_run(folder: Path, algo: str, margins: list[float], seed: int = 0, tasks: list[int] | None = None) -> None:
    """A run folder whose only results are of pairs."""
    chosen, names = np.array(margins), tasks or list(range(len(margins)))
    ranking = Ranking(chosen, np.zeros(len(chosen)), np.array(names))
    row = {"measure": "pairs", "algo": algo, "search": "implicit_reward", "env": "oreo/Chat-v0", "split": "pairs-x"}
    row |= {"env_options": {}, "seed": seed, "checkpoint": f"{algo}{seed}", "beta": 0.1, **ranking.summary()}
    (folder / algo).mkdir(parents=True)
    items = [{"task_id": f"t{n}", "correct": c} for n, c in zip(names, ranking.correct.tolist(), strict=True)]
    text = "".join(json.dumps(item) + "\n" for item in items)
    (folder / algo / "items-pairs-x-implicit_reward.jsonl").write_text(text)
    (folder / "results.json").write_text(json.dumps({"results": [], "pairs": [row]}))


def record(folder: Path, out: Path, **how) -> dict:
    report([folder], out, formats=("markdown", "json", "csv"), quiet=True, **how)
    return json.loads((out / "report.json").read_text())


def test_runs_of_one_algorithm_are_one_row_and_two_are_compared(tmp_path: Path):
    for seed in (0, 1):
        write_run(tmp_path / f"a{seed}", "dpo", [1.0, 2.0, -1.0, 0.0], seed)
        write_run(tmp_path / f"b{seed}", "kto", [1.0, -2.0, -1.0, -1.0], seed)
    found = record(tmp_path, tmp_path / "out")
    assert found["rows"] == [] and [row["row"] for row in found["pairs"]] == ["dpo", "kto"]
    dpo, kto = found["pairs"]
    assert (dpo["runs"], dpo["n"], dpo["accuracy"], dpo["margin"]) == (2, 8, 0.625, 0.5)
    assert kto["accuracy"] == 0.25 and kto["low"] < 0.25 < kto["high"]
    [compared] = found["comparisons"]
    assert (compared["tasks"], compared["runs"], compared["difference"]) == (4, 2, pytest.approx(0.375))
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Held-out pairs ranked right (%) of pairs-x, oreo/Chat-v0" in text
    assert "Ranking by implicit reward, same pairs (points)" in text
    assert "implicit_reward" in (tmp_path / "out" / "report.csv").read_text()


def test_a_base_may_be_a_row_of_pairs(tmp_path: Path):
    for algo in ("dpo", "kto", "sft"):
        write_run(tmp_path / algo, algo, [1.0, -1.0])
    found = record(tmp_path, tmp_path / "out", base="sft")
    assert {pair["second"]["row"] for pair in found["comparisons"]} == {"sft"}
    with pytest.raises(ValueError, match="--base dqo: there is no such row"):
        record(tmp_path, tmp_path / "out", base="dqo")


def test_one_run_with_several_pairs_a_prompt_has_the_interval_of_its_prompts(tmp_path: Path):
    write_run(tmp_path / "run", "dpo", [1.0] * 8 + [-1.0] * 8, tasks=[0] * 8 + [1] * 8)
    record(tmp_path / "run", tmp_path / "out")
    assert "9.5 to 90.5" in (tmp_path / "out" / "report.md").read_text(), "Wilson of 1 of 2"


def test_where_nothing_is_drawn_no_plots_are_made_or_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_run(tmp_path / "run", "dpo", [1.0, -1.0, 2.0])
    report([tmp_path / "run"], tmp_path / "run")
    said = capsys.readouterr().out
    assert "report.md" in said and "plots" not in said and "tensorboard" not in said
    assert not (tmp_path / "run" / "plots").exists()
