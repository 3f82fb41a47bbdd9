"""The paper's tables and figures: what they run, how they go on, what they say of it."""

import csv
import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from oreo_agents.reproduction.outcome import Outcome
from oreo_agents.reproduction.studies import STUDIES, Column, Model, Row, Stage, Study
from oreo_agents.runs import reproduce
from oreo_agents.runs.overrides import composed_settings
from oreo_agents.runs.reproduce import Job
from oreo_algos import stopping

STAGES = sorted(
    {
        stage
        for study in STUDIES.values()
        for column in study.columns
        for last in column.stages.values()
        for stage in (last, last.of)
        if stage is not None
    },
    key=lambda stage: stage.name,
)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage.command == "run"], ids=lambda stage: stage.name)
def test_every_run_is_of_settings_that_fit_together(stage: Stage, tmp_path: Path):
    settings = composed_settings("run", Job(stage, 1, tmp_path).command[1:])
    assert stage.model is None or stage.model.path == settings.policy.path
    asked = {
        (row.algo.partition("-round")[0], row.search)
        for study in STUDIES.values()
        if any(stage in column.stages.values() for column in study.columns)
        for row in study.rows
    }
    assert {algo for algo, _ in asked} <= {"sft", *settings.algorithms}
    assert {search for _, search in asked} <= {*settings.evaluate.searches, *settings.evaluate.value_searches}
    rounds = {int(row.algo[-1]) for row in STUDIES["fig2"].rows if "-round" in row.algo}
    assert settings.iteration.rounds == (max(rounds) if stage.name.startswith("rounds") else 1)


def test_runs_of_a_repetition_differ_in_their_world_or_seed_alone(tmp_path: Path):
    for stage in STAGES:
        first, second = (Job(stage, k, tmp_path) for k in (0, 1))
        differing = [pair for pair in zip(first.command, second.command, strict=True) if len(set(pair)) > 1]
        own = {text.partition("=")[0] for text, _ in differing}
        assert own in ({"env.options.world"}, {"seed"}, {f"{first.before and first.before.folder}/oreo"})
        assert first.folder != second.folder


def run_folder(job: Job, solved: dict[tuple[str, str], list[int]], *, done: bool = True) -> None:
    """What a run leaves behind, with these tasks solved."""
    rows = []
    for (algo, search), outcomes in solved.items():
        (job.folder / algo).mkdir(parents=True, exist_ok=True)
        items = [{"task_id": f"t{i}", "correct": bool(x), "tokens": 7} for i, x in enumerate(outcomes)]
        text = "".join(json.dumps(item) + "\n" for item in items)
        (job.folder / algo / f"items-test-{search}.jsonl").write_text(text)
        where = {"env": "oreo/Arithmetic-v0", "split": "test", "env_options": {"world": job.k}, "seed": 0}
        counts = {"n": len(outcomes), "correct": sum(outcomes), "accuracy": sum(outcomes) / len(outcomes)}
        rows.append({"algo": algo, "search": search, "settings": {}, "tokens_per_task": 7.0} | where | counts)
    training = {"oreo": {"cpu_seconds": 90.0, "steps": 3}}
    (job.folder / "results.json").write_text(json.dumps({"results": rows, "training": training}))
    if done:
        (job.folder / ".done").write_text(json.dumps(job.command))


RUN = Stage("words-{k}", "run", ("experiment=smoke", "seed={k}"))
STUDY = Study(
    "table9",
    "Table 9: two algorithms",
    [Column("GSM8K", {"tiny": RUN}, {"tiny": "sums"})],
    [
        Row("SFT", "sft", published={"GSM8K": 73.5}),
        Row("OREO", "oreo", published={"GSM8K": 77.3}),
        Row("KTO", "kto"),
    ],
    "OREO",
    deviations={"tiny": ("sums in place of problems",)},
)


@pytest.fixture
def study(monkeypatch) -> Study:
    monkeypatch.setitem(STUDIES, "table9", STUDY)
    return STUDY


def test_a_report_holds_the_papers_number_ours_and_a_paired_test(study: Study, tmp_path: Path, capsys):
    for k, sft in enumerate(([1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0])):
        run_folder(Job(RUN, k, tmp_path / "tiny"), {("sft", "greedy"): sft, ("oreo", "greedy"): [1, 1, 1, 0]})
    reproduce.main(["table9", "--only-report", "--out", str(tmp_path)])
    out = tmp_path / "tiny"
    page = (out / "table9.md").read_text()
    assert "paper (theirs)" in page and "sums in place of problems" in page and "GSM8K; here sums" in page
    [sft] = [line for line in page.splitlines() if line.startswith("| SFT")]
    cells = [cell.strip() for cell in sft.split("|")]
    assert cells[2:4] == ["73.5", "16.7"] and cells[5:8] == ["3", "12", "-58.3"]
    assert "not run" in next(line for line in page.splitlines() if line.startswith("| KTO"))
    rows = list(csv.DictReader((out / "table9.csv").read_text().splitlines()))
    assert [row["title"] for row in rows] == ["SFT", "OREO", "KTO"]
    assert float(rows[0]["difference"]) == pytest.approx(-7 / 12) and rows[0]["published"] == "73.5"
    assert float(rows[1]["cpu_minutes"]) == 1.5 and rows[1]["difference"] == ""
    assert (out / "table9.png").read_bytes()[:4] == b"\x89PNG"
    assert "table9.md" in capsys.readouterr().out


@pytest.mark.parametrize("name", list(STUDIES))
def test_every_study_is_drawn_with_what_there_is(name: str, tmp_path: Path):
    """Also half of its rows, or none."""
    study = STUDIES[name]
    column = study.columns[0]
    column = replace(column, split="test")
    job = Job(RUN, 0, tmp_path)
    run_folder(job, {(row.algo, row.search): [1, 0, 1] for row in study.rows[: len(study.rows) // 2 + 1]})
    outcome = Outcome(replace(study, columns=[column]), "tiny", {column.title: [job.folder / "results.json"]}, 3)
    assert {path.suffix for path in outcome.write(tmp_path)} == {".md", ".csv", ".png"}
    assert len(outcome.entries) == len(study.rows) // 2 + 1
    assert f"{column.title}: 1 of 3 runs are done." in outcome.notes()


def test_it_goes_on_where_it_was_stopped(study: Study, tmp_path: Path, monkeypatch, capsys):
    """Finished runs are not run again, one that failed is said with its command, and what is done is reported."""
    started = []
    solved = {("sft", "greedy"): [1, 0], ("oreo", "greedy"): [1, 1]}

    def command(self: object, arguments: list[str], log: Path, environment: object) -> int:
        k = int(next(text for text in arguments if text.startswith("seed=")).partition("=")[2])
        started.append(k)
        if k == 1 and len(started) < 4:
            log.write_text("a line\nno space left\n")
            return 1
        run_folder(Job(RUN, k, tmp_path / "tiny"), solved, done=False)
        return 0

    monkeypatch.setattr(reproduce.Commands, "run", command)
    arguments = ["table9", "--out", str(tmp_path), "--jobs", "1"]
    with pytest.raises(ValueError, match=r"experiment=smoke seed=1 failed, see .*words-1.log: no space left"):
        reproduce.main(arguments)
    assert started == [0, 1, 2] and "GSM8K: 2 of 3 runs are done." in capsys.readouterr().out
    reproduce.main(arguments)
    assert started == [0, 1, 2, 1] and "runs are done" not in capsys.readouterr().out
    reproduce.main(arguments)
    assert len(started) == 4


def test_a_folder_of_another_command_is_refused(study: Study, tmp_path: Path):
    job = Job(RUN, 0, tmp_path / "tiny")
    run_folder(job, {("sft", "greedy"): [1]})
    (job.folder / ".done").write_text(json.dumps(["run", "experiment=smoke", "seed=9"]))
    with pytest.raises(ValueError, match=r"made by another command.*delete it, or give another --out"):
        reproduce.main(["table9", "--only-report", "--out", str(tmp_path)])


def test_nothing_done_yet_is_said(study: Study, tmp_path: Path, capsys):
    reproduce.main(["table9", "--only-report", "--out", str(tmp_path / "out")])
    assert "no run of it is done" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_folders_may_be_moved_and_named_from_elsewhere(tmp_path: Path, monkeypatch):
    stage = Stage("beams-{k}", "eval", ("{of}/oreo", "search=[greedy]"), of=RUN)
    run_folder(Job(stage, 0, tmp_path / "here"), {("oreo", "greedy"): [1]})
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    assert all(Job(stage, 0, out).is_done() for out in (Path("there"), tmp_path / "there"))
    with pytest.raises(ValueError, match="made by another command"):
        Job(replace(stage, arguments=("{of}/kto", "search=[greedy]")), 0, Path("there")).is_done()


# What stands in for `oreo`: it says what it was asked, and goes on until it is told to end.
ENDLESS = """
import signal, sys, time
def told(number, frame):
    print("told", number, flush=True)
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, told)
print(sys.argv[-1], flush=True)
time.sleep(100)
"""


def test_a_signal_to_the_command_ends_its_runs_and_none_is_begun(study: Study, tmp_path: Path, monkeypatch):
    """Whatever the folder is called: blanks, commas and brackets are text."""
    out = tmp_path / "a, b=[1] 'c'"
    monkeypatch.setattr(reproduce, "_OREO", (sys.executable, "-c", ENDLESS))
    logs = [out / "tiny" / f"words-{k}.log" for k in range(3)]

    def send() -> None:
        while not all(log.exists() and log.read_text() for log in logs[:2]):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    with stopping.listening(), pytest.raises(stopping.Interrupted) as caught:
        reproduce.main(["table9", "--out", str(out), "--jobs", "2"])
    sender.join()
    assert caught.value.number == signal.SIGTERM and "goes on from there" in caught.value.kept
    assert not logs[2].exists() and not list(out.rglob(".done"))
    for k, log in enumerate(logs[:2]):
        asked, told = log.read_text().splitlines()
        assert OverridesParser.create().parse_override(asked).value() == str(out / "tiny" / f"words-{k}")
        assert told == f"told {int(signal.SIGTERM)}"


def test_the_papers_scale_is_checked_and_refused_without_a_gpu(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=r"no GPU is in sight here.*oreo reproduce table2"):
        reproduce.main(["table2", "--scale", "paper", "--out", str(tmp_path / "out")])
    assert "experiment=paper-alfworld" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_the_memory_of_a_model_of_the_paper_is_counted_once(study: Study, tmp_path: Path, monkeypatch, capsys):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = Model("nobody/here", {"model_type": "llama", "vocab_size": 64, **sizes})
    arguments = ("experiment=paper-1.5b", "policy.path=nobody/here", "seed={k}", "algos=[oreo]")
    column = Column("GSM8K", {"paper": Stage("words-{k}", "run", arguments, model=model)}, {"paper": "GSM8K"})
    monkeypatch.setitem(STUDIES, "table9", replace(study, columns=[column]))
    reproduce.main(["table9", "--scale", "paper", "--dry-run", "--repeats", "2", "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert said.count("an update of 16,384 tokens holds") == 1 and not (tmp_path / "out").exists()
    assert said.count("seed=") == 2 and "seed=1" in said


@pytest.mark.parametrize("wrong", [["table3"], ["table1", "--repeats", "0"], ["table1", "--scale", "huge"], []])
def test_wrong_arguments_end_with_a_sentence(wrong: list[str], capsys):
    with pytest.raises(SystemExit) as caught:
        reproduce.main(wrong)
    assert caught.value.code == 2 and "oreo reproduce: error:" in capsys.readouterr().err
