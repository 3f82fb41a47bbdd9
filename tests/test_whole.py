"""Whole runs through the command line: what they leave behind, killed and repeated, swept, and from a wheel."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from forked import OREO, Forked, run
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
ROW = {"algo", "search", "env", "split", "seed", "n", "correct", "accuracy"}
# What no second run may touch.
LASTING = ("*.safetensors", "metrics.jsonl", "items-*.jsonl", "part-*.parquet", "summary.json")

pytestmark = pytest.mark.slow


def environment(*hidden: str) -> dict[str, str]:
    """No data, no hub, no GPU."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("OREO_DATA", "PYTEST_CURRENT_TEST", *hidden)
    }
    return kept | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


def oreo(*arguments: str, cwd: Path, command: Sequence[str] = ()) -> str:
    """Run the command to its end and return what it printed; ``command``: the program, where it is another."""
    if command:
        own = environment(*([] if command[0] == sys.executable else ["PYTHONPATH"]))  # a wheel is alone
        result = subprocess.run([*command, *arguments], cwd=cwd, env=own, capture_output=True, text=True)
    else:
        result = run([*OREO, *arguments], cwd, environment())
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout


def results(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["results"]


def stamps(folder: Path) -> dict[str, int]:
    """Modification times of everything that a second run may not touch."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for name in LASTING for path in folder.rglob(name)}


@pytest.fixture(scope="module")
def smoke(once: Callable[..., Path]) -> Path:
    """The folder of one uninterrupted smoke run, of an interpreter of its own."""
    command = [sys.executable, *OREO, "run", "experiment=smoke"]
    return once("smoke", lambda to: oreo(f"hydra.run.dir={to / 'run'}", cwd=to, command=command)) / "run"


def test_results_hold_one_row_an_algorithm_and_search(smoke: Path):
    rows = results(smoke)
    config = OmegaConf.load(smoke / "config.yaml")
    for row in rows:
        assert set(row) >= ROW
        assert row["accuracy"] == row["correct"] / row["n"]
        assert row["env"] == "oreo/Arithmetic-v0" and row["split"] == "test" and row["seed"] == 0
    keys = [(row["algo"], row["search"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert {algo for algo, search in keys if search == "greedy"} == {"sft", *config.algos}
    assert ("oreo", "best_of_n") in keys and ("oreo", "majority") in keys


def test_every_policy_loads_as_a_plain_checkpoint_with_its_tokenizer(smoke: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for algo in {row["algo"] for row in results(smoke)}:
        folder = smoke / algo / "policy"
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        assert model.config.vocab_size == len(tokenizer)
        names = {path.name for path in folder.iterdir()}
        assert {"config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "README.md"} <= names


def test_the_value_loads_as_a_plain_classifier_of_one_label(smoke: Path):
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model = AutoModelForTokenClassification.from_pretrained(smoke / "oreo" / "value")
    assert model.config.num_labels == 1 and model.score.bias is None
    assert len(AutoTokenizer.from_pretrained(smoke / "oreo" / "value")) == model.config.vocab_size


def test_every_training_run_leaves_curves_and_no_optimiser(smoke: Path):
    for algo in {row["algo"] for row in results(smoke)}:
        lines = (smoke / algo / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
        assert {"train/loss", "train/grad_norm", "train/learning_rate"} <= set(rows[-1])
        assert list((smoke / algo).glob("events.out.tfevents.*"))
        assert (smoke / algo / "policy").exists() and not list((smoke / algo).glob("checkpoint-*"))


def test_tensorboard_reads_the_curves(smoke: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(smoke / "oreo"))
    events.Reload()
    lines = (smoke / "oreo" / "metrics.jsonl").read_text().splitlines()
    assert len(events.Scalars("train/losses/value")) == len(lines)


def test_report_and_plots_are_there(smoke: Path):
    text = (smoke / "report.md").read_text(encoding="utf-8")
    for row in results(smoke):
        assert f"| {row['algo']} | {row['search']} |" in text
    names = {path.name for path in (smoke / "plots").glob("*.png")}
    assert names == {"accuracy.png", "cost.png", "training.png"}


def test_judged_answers_are_kept_and_read_and_the_report_shows_some(smoke: Path):
    from oreo_algos import EpisodeBuffer

    for row in results(smoke):
        kept = EpisodeBuffer.load(smoke / row["algo"] / f"answers-test-{row['search']}")
        assert len(kept) == row["n"] and sum(episode.success for episode in kept) == row["correct"]
    text = (smoke / "report.md").read_text(encoding="utf-8")
    assert "## Answers" in text and "`oreo, greedy, test`, wrong:" in text
    shown = oreo("show", str(smoke / "oreo"), "--search", "best_of_n", "--values", "--limit", "2", cwd=smoke)
    assert "V at the start" in shown and "chosen from" in shown and "2 of " in shown
    assert "only A right" in oreo("show", str(smoke / "oreo"), "--compare", "dpo", cwd=smoke)


def test_cards_tell_the_results_and_networks_are_ready_to_be_uploaded(smoke: Path):
    from huggingface_hub import ModelCard

    rows = [row for row in results(smoke) if row["algo"] == "oreo"]
    told = ModelCard.load(smoke / "oreo" / "policy" / "README.md").data.eval_results
    assert [(one.metric_value, one.metric_args["n"]) for one in told] == [(row["accuracy"], row["n"]) for row in rows]
    assert all("by V of oreo" in one.metric_name
               for one in ModelCard.load(smoke / "oreo" / "value" / "README.md").data.eval_results)  # fmt: skip
    for part in ("policy", "value"):
        said = oreo("push", str(smoke / "oreo" / part), f"me/{part}", "--dry-run", cwd=smoke)
        assert "model.safetensors" in said and "files of training stay" not in said


def test_the_buffer_is_one_that_others_read(smoke: Path):
    import pyarrow.parquet

    from oreo_algos import EpisodeBuffer

    buffer = EpisodeBuffer.load(smoke / "data" / "episodes")
    assert buffer.provenance["source"] == "policy samples"
    shards = sorted((smoke / "data" / "episodes").glob("part-*.parquet"))
    assert sum(pyarrow.parquet.read_metadata(shard).num_rows for shard in shards) == len(buffer)
    assert all("/train/" in episode.task_id for episode in buffer)


def test_a_second_run_in_the_same_folder_does_nothing_more(smoke: Path):
    before, rows = stamps(smoke), results(smoke)
    oreo("run", "experiment=smoke", f"hydra.run.dir={smoke}", cwd=smoke.parent)
    assert stamps(smoke) == before
    assert results(smoke) == rows


def test_another_configuration_in_the_same_folder_is_refused(smoke: Path):
    before = stamps(smoke)
    result = run([*OREO, "run", "experiment=smoke", "seed=1", f"hydra.run.dir={smoke}"], smoke.parent, environment())
    assert result.returncode == 2 and "holds a run with another configuration" in result.stderr
    assert "Traceback" not in result.stderr and stamps(smoke) == before


def run_until(reached: Callable[[], bool], arguments: Sequence[str], cwd: Path) -> None:
    """Start the command and kill it, with all its processes, as soon as ``reached`` is true."""
    process = Forked([*OREO, *arguments], cwd, environment())
    try:
        while not reached():
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def lines_in(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def test_a_run_that_was_killed_three_times_ends_with_the_same_numbers(smoke: Path, tmp_path: Path):
    folder = tmp_path / "run"
    arguments = ["run", "experiment=smoke", "trainer.checkpoint_every=5", f"hydra.run.dir={folder}"]
    steps = {algo: lines_in(smoke / algo / "metrics.jsonl") for algo in ("sft", "oreo")}
    moments: list[Callable[[], bool]] = [
        lambda: lines_in(folder / "sft" / "metrics.jsonl") >= steps["sft"] // 2,
        lambda: any(folder.glob("data/episodes*")) or any(folder.glob("data/.episodes*")),
        lambda: lines_in(folder / "oreo" / "metrics.jsonl") >= steps["oreo"] // 2,
    ]
    for reached in moments:
        run_until(reached, arguments, tmp_path)
        assert not (folder / "results.json").exists()
    oreo(*arguments, cwd=tmp_path)
    assert results(folder) == results(smoke)
    for algo, count in steps.items():
        assert lines_in(folder / algo / "metrics.jsonl") == count


def test_rounds_that_were_killed_end_with_the_same_buffers_and_networks(tmp_path: Path):
    """OREO, whose value is carried from round to round."""
    small = ["sft.demonstrations=384", "evaluate.tasks=4", "evaluate.searches=[greedy]"]
    small += ["collect.tasks=16", "collect.samples=4", "algorithms.oreo.batch_size=32"]
    arguments = ["run", "experiment=smoke", "algos=[oreo]", "rounds=3", "trainer.checkpoint_every=3", *small]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    oreo(*arguments, f"hydra.run.dir={whole}", cwd=tmp_path)
    moments: list[Callable[[], bool]] = [
        lambda: (killed / "oreo-round2" / "data").exists(),
        lambda: lines_in(killed / "oreo-round3" / "metrics.jsonl") >= 5,
    ]
    for reached in moments:
        run_until(reached, [*arguments, f"hydra.run.dir={killed}"], tmp_path)
        assert not (killed / "results.json").exists()
    oreo(*arguments, f"hydra.run.dir={killed}", cwd=tmp_path)
    assert results(killed) == results(whole)
    assert [row["round"] for row in results(whole) if "round" in row] == [1, 2, 3]
    for name in ("oreo", "oreo-round2", "oreo-round3"):
        for file in ("policy/model.safetensors", "value/model.safetensors", "metrics.jsonl"):
            assert (killed / name / file).read_bytes() == (whole / name / file).read_bytes(), f"{name}/{file}"
    for name in ("data", "oreo-round2/data", "oreo-round3/data"):
        first, second = (json.loads((f / name / "episodes" / "metadata.json").read_text()) for f in (whole, killed))
        assert first["content_hash"] == second["content_hash"] and first["provenance"] == second["provenance"]


def test_a_sweep_shares_a_checkpoint_and_a_buffer_and_reports_join_it(smoke: Path, tmp_path: Path):
    config = OmegaConf.to_container(OmegaConf.load(smoke / "config.yaml"))
    assert isinstance(config, dict)
    world = [f"++env.options.{name}={json.dumps(value)}" for name, value in config["env"]["options"].items()]
    oreo(
        "train",
        "-m",
        "algo=dpo,oreo",
        "seed=0,1",
        f"policy.path={smoke / 'sft' / 'policy'}",
        f"data={smoke / 'data' / 'episodes'}",
        "algo.batch_size=64",
        "evaluate.tasks=16",
        "evaluate.searches=[greedy]",
        "evaluate.sampling.max_new_tokens=48",
        *world,
        "hydra.sweep.dir=sweep",
        "hydra.sweep.subdir=${hydra.job.num}",
        cwd=tmp_path,
    )
    runs = sorted((tmp_path / "sweep").glob("*/results.json"))
    assert len(runs) == 4
    rows = [row for path in runs for row in results(path.parent)]
    greedy = {(row["algo"], row["seed"]) for row in rows if row["search"] == "greedy"}
    assert greedy == {(algo, seed) for algo in ("dpo", "oreo") for seed in (0, 1)}
    oreo("report", "sweep", "--out", "joined", cwd=tmp_path)
    text = (tmp_path / "joined" / "report.md").read_text(encoding="utf-8")
    assert "| dpo | greedy | 2 | 32 |" in text and "| oreo | greedy | 2 | 32 |" in text
    assert "| oreo - dpo | 2 | 16 |" in text  # the same tasks in both runs
    assert (tmp_path / "joined" / "plots" / "accuracy.png").exists()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that holds the locked dependencies and the wheel, and knows nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        pytest.skip("uv is needed to fill an environment; `make test` brings it")

    def call(*command: str) -> None:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]

    call(sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT))
    [wheel] = folder.glob("*.whl")
    call(uv, "venv", "--quiet", "--python", sys.executable, "venv")
    install = [uv, "pip", "install", "--quiet", "--python", "venv/bin/python"]
    call(*install, "--require-hashes", "-r", str(ROOT / "requirements" / "runtime.txt"))
    call(*install, "--no-deps", str(wheel))
    return folder / "venv" / "bin"


def test_a_wheel_brings_its_own_configurations(installed: Path, tmp_path: Path):
    code = "from oreo_agents.runs.cli import config_folder; print(config_folder())"
    found = oreo("-c", code, cwd=tmp_path, command=[str(installed / "python")]).strip()
    assert Path(found).is_relative_to(installed.parent)
    files = sorted(path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml"))
    assert sorted(path.relative_to(found) for path in Path(found).rglob("*.yaml")) == files


def test_a_wheel_runs_anywhere(installed: Path, smoke: Path, tmp_path: Path):
    command = [str(installed / "oreo")]
    assert "oreo run" in oreo("--help", cwd=tmp_path, command=command)
    oreo("run", "experiment=smoke", "hydra.run.dir=out", cwd=tmp_path, command=command)
    assert {(row["algo"], row["search"]) for row in results(tmp_path / "out")} == {
        (row["algo"], row["search"]) for row in results(smoke)
    }
    assert (tmp_path / "out" / "report.md").exists()


def test_played_games_run_end_to_end(tmp_path: Path):
    folder = tmp_path / "run"
    oreo("run", "experiment=alfworld-smoke", f"hydra.run.dir={folder}", cwd=tmp_path)
    rows = results(folder)
    algos = {"sft", *OmegaConf.load(folder / "config.yaml").algos}
    splits = {"valid_seen", "valid_unseen"}
    expected = {(algo, split, search) for algo in algos for split in splits for search in ("greedy", "admissible")}
    assert {(row["algo"], row["split"], row["search"]) for row in rows} == expected
    assert all(row["invalid_per_task"] == 0 for row in rows if row["search"] == "admissible")
    assert all(sum(kind["n"] for kind in row["kinds"].values()) == row["n"] for row in rows)
    assert "by kind of task" in (folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("experiment", ["countdown-smoke", "textworld-smoke"])
def test_the_other_smoke_runs_go_through_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str):
    if experiment == "textworld-smoke":
        pytest.importorskip("textworld", reason="the extra [alfworld] is not installed")
    monkeypatch.setenv("OREO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "run"
    oreo("run", f"experiment={experiment}", f"hydra.run.dir={folder}", cwd=tmp_path)
    rows = results(folder)
    assert {row["algo"] for row in rows} == {"sft", *OmegaConf.load(folder / "config.yaml").algos}
    assert all(row["split"] == "test" for row in rows) and any(row["correct"] for row in rows)
