"""Run folders, written by hand, and the cells of tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oreo_agents.evaluation.results import load_entries

ENV = "oreo/Arithmetic-v0"


def write_run(
    folder: Path,
    solved: dict[tuple[str, str], Sequence[int]],
    *,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> Path:
    """A run folder whose items are solved as stated, by (algorithm, search)."""
    folder.mkdir(parents=True)
    rows = []
    for (algo, search), outcomes in solved.items():
        (folder / algo).mkdir(exist_ok=True)
        items = [
            {"task_id": f"t{i}", "correct": bool(x), "sound": bool(x), "tokens": 10, "answer": "1"}
            for i, x in enumerate(outcomes)
        ]
        (folder / algo / f"items-test-{search}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        metrics = [{"step": s, "train/loss": 1 / s, "train/values/terminal_pos": 0.1 * s} for s in (1, 2, 3)]
        (folder / algo / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
        rows.append(
            {
                "algo": algo,
                "search": search,
                "env": ENV,
                "env_options": options or {},
                "split": "test",
                "seed": seed,
                "settings": settings or {},
                "n": len(outcomes),
                "correct": sum(outcomes),
                "accuracy": sum(outcomes) / len(outcomes),
                "sound": 0.25,
                "tokens_per_task": 10.0 if search == "greedy" else 80.0,
            }
        )
    (folder / "results.json").write_text(json.dumps({"results": rows, "training": {}}))
    return folder


SFT = [1, 0, 0, 0, 1, 0, 0, 0]
OREO = [1, 1, 1, 0, 1, 0, 1, 0]
ONE_RUN = {
    ("sft", "greedy"): SFT,
    ("oreo", "greedy"): OREO,
    ("oreo", "majority"): [1, 1, 0, 0, 1, 0, 1, 0],
    ("oreo", "best_of_n"): [1, 1, 1, 1, 1, 0, 1, 0],
}


def cells(table) -> list[list[str]]:
    return [list(row) for row in zip(*(column.cells for column in table.columns), strict=True)]


def load(*runs: Path) -> dict[tuple[str, str], Any]:
    return {(entry.algo, entry.search): entry for entry in load_entries([run / "results.json" for run in runs])}
