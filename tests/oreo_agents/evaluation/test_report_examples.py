"""Examples in a report: the first right and wrong answer of each algorithm, quoted so that nothing is marked up."""

import json
import re
from pathlib import Path

import pytest

from oreo_agents.episodes.texts import text_episode
from oreo_agents.evaluation.examples import quoted
from oreo_agents.evaluation.kept import SOURCE
from oreo_agents.evaluation.report import report
from oreo_algos import EpisodeBuffer

HOSTILE = "# A heading\n![x](http://a/b.png) <script>alert(1)</script>\n````\n| a | b |\n\x1b[31m\n```text\n"


def run(folder: Path, algos: tuple[str, ...] = ("sft", "oreo"), *, text: str = "ok\n", kept: bool = True) -> Path:
    rows = []
    for algo in algos:
        (folder / algo).mkdir(parents=True)
        items = [{"task_id": f"t{i}", "correct": i == 1, "tokens": 1} for i in range(3)]
        (folder / algo / "items-test-greedy.jsonl").write_text(
            "\n".join(map(json.dumps, items)) + "\n", encoding="utf-8"
        )
        rows.append({"algo": algo, "search": "greedy", "env": "oreo/QA-v0", "split": "test", "seed": 0, "n": 3,
                     "correct": 1, "accuracy": 1 / 3, "tokens_per_task": 1.0})  # fmt: skip
        episodes = [
            text_episode(
                [{"role": "user", "content": f"{text}{algo} question {i}"}],
                [text, f"end {i}"],
                [0.0, float(i == 1)],
                task_id=f"t{i}",
                env_id="oreo/QA-v0",
                info={"answer": str(i), "grade_reason": "numeric"},
            )
            for i in range(3)
        ]
        if kept:
            facts = {"source": SOURCE, "algo": algo, "search": "greedy", "split": "test"}
            EpisodeBuffer(episodes, provenance=facts).save(folder / algo / "answers-test-greedy")
    (folder / "results.json").write_text(json.dumps({"results": rows, "training": {}}), encoding="utf-8")
    return folder


def written(folder: Path) -> str:
    report([folder], folder, quiet=True)
    return (folder / "report.md").read_text(encoding="utf-8")


def test_a_report_shows_the_first_right_and_the_first_wrong_answer_of_each_algorithm(tmp_path: Path):
    text = written(run(tmp_path / "run"))
    section = text[text.index("## Answers") :]
    for algo in ("sft", "oreo"):
        assert section.count(f"{algo} question 1") == section.count(f"{algo} question 0") == 1
        assert f"{algo} question 2" not in section
    assert "`oreo, greedy, test`, right:" in section and "(answer 1; numeric; reward 1; 2 steps)" in section
    assert f"`oreo show {tmp_path / 'run'}`" in section


def test_nothing_in_an_answer_is_markdown(tmp_path: Path):
    text = written(run(tmp_path / "run", ("oreo",), text=HOSTILE))
    outside, inside, fence = [], [], None
    for line in text.splitlines():  # as CommonMark reads fences
        mark = re.match(r" {0,3}(`{3,})", line)
        if fence is None and mark:
            fence = mark[1]
        elif fence and mark and len(mark[1]) >= len(fence) and line.strip() == mark[1]:
            fence = None
        else:
            (outside if fence is None else inside).append(line)
    assert fence is None and sum("<script>" in line for line in inside) == 4
    assert not [line for line in outside if "script" in line or "http" in line or "heading" in line]
    assert "\x1b" not in text and r"\x1b[31m" in text


@pytest.mark.parametrize("text", ["```", "a ```` b `````", "", "`"])
def test_a_fence_is_longer_than_any_in_it(text: str):
    fence = quoted(text).splitlines()[0].removesuffix("text")
    assert fence not in text and set(fence) == {"`"}


def test_damaged_answers_cost_no_report(tmp_path: Path, caplog):
    folder = run(tmp_path / "run")
    next((folder / "sft" / "answers-test-greedy").glob("*.parquet")).write_bytes(b"x")
    text = written(folder)
    assert "answers of sft are not shown" in caplog.text and "oreo question 1" in text and "| sft | greedy |" in text


def test_long_answers_lose_their_middle(tmp_path: Path):
    text = written(run(tmp_path / "run", ("oreo",), text="x" * 20_000 + "\n"))
    assert len(text) < 15_000 and "end 1" in text and "characters left out" in text


def test_a_report_of_many_rows_stays_short_and_one_without_answers_has_no_section(tmp_path: Path):
    names = tuple(f"algo{k}" for k in range(9))
    assert written(run(tmp_path / "many", names)).count("`, right:") == 6
    assert "## Answers" not in written(run(tmp_path / "none", kept=False))
