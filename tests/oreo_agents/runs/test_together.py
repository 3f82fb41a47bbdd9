"""`oreo` started by `torchrun`: one folder, one voice, one end, and what one process would have trained."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
from forked import OREO, Forked
from safetensors.torch import load_file

from oreo_agents.runs import together

SMALL = [
    "algo=oreo",
    "algo.value_warmup_steps=2",
    "algo.epochs=1",
    "collect.tasks=12",
    "collect.samples=4",
    "sft.demonstrations=96",
    "sft.algorithm.epochs=1",
    "evaluate.tasks=4",
    "search=[greedy]",
    "policy.tiny.hidden_size=16",
    "trainer.tracker=none",
]


def start(folder: Path, *arguments: str, processes: int = 2) -> list[Forked]:
    """Start what `torchrun --nproc-per-node N --no-python oreo ...` starts, without its own supervision."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        env = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
        if processes > 1:
            env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        started.append(Forked([*OREO, *arguments], folder, os.environ | env))
    return started


def ended(processes: list[Forked]) -> tuple[list[int], str, str]:
    said = [process.communicate(timeout=600) for process in processes]
    return [process.wait() for process in processes], *("".join(parts) for parts in zip(*said, strict=True))


@pytest.mark.slow
def test_two_processes_train_in_one_folder_what_one_trains(tmp_path: Path):
    saved = {}
    for name, processes, sharding in (("one", 1, "replicated"), ("parts", 2, "full"), ("whole", 2, "replicated")):
        (tmp_path / name).mkdir()
        where = [f"trainer.sharding={sharding}", "hydra.run.dir=run"]
        codes, out, errors = ended(start(tmp_path / name, "train", *SMALL, *where, processes=processes))
        assert codes == [0] * processes, errors
        assert out.count("report: ") == 1
        run = tmp_path / name / "run"
        assert {path.name for path in run.iterdir()} >= {"config.yaml", "oreo", "results.json", "report.md"}
        assert not list(run.glob("oreo/checkpoint-*"))
        assert len(list((tmp_path / name / "outputs").rglob("start"))) == 1
        networks = [load_file(run / "oreo" / part / "model.safetensors") for part in ("policy", "value")]
        saved[name] = networks, json.loads((run / "results.json").read_text())["results"]
    for name in ("parts", "whole"):
        for found, expected in zip(saved[name][0], saved["one"][0], strict=True):
            for key, tensor in expected.items():
                torch.testing.assert_close(found[key], tensor, rtol=0, atol=1e-4, msg=f"{name}: {key}")
        assert [row["correct"] for row in saved[name][1]] == [row["correct"] for row in saved["one"][1]]


@pytest.mark.slow
def test_a_run_that_lost_a_process_goes_on_to_what_one_process_makes(tmp_path: Path):
    own = [text.replace("algo.", "algorithms.oreo.", 1) for text in SMALL if text.startswith("algo.")]
    others = [text for text in SMALL if not text.startswith(("algo", "sft"))]
    # From the same start to the byte: what is collected first is the same to the byte.
    arguments = ["run", "algos=[oreo]", *own, *others, "sft.demonstrations=0", "rounds=2", "hydra.run.dir=run"]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    codes, _, errors = ended(start(tmp_path / "one", *arguments, processes=1))
    assert codes == [0], errors
    one, two = tmp_path / "one" / "run", tmp_path / "two" / "run"
    processes = start(tmp_path / "two", *arguments)
    while not (two / "data" / "episodes" / "metadata.json").exists() and processes[1].poll() is None:
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGKILL)
    codes, _, errors = ended(processes)
    assert codes == [2, -9] and errors.count("oreo: ") == 1 and "another process of this run was killed" in errors
    assert not (two / "results.json").exists()
    codes, again, errors = ended(start(tmp_path / "two", *arguments))
    assert codes == [0, 0], errors
    assert [again.count(text) for text in ("report: ", "Accuracy (%)")] == [1, 1]
    files = {path.relative_to(one) for path in one.rglob("*") if path.suffix not in (".arrow", ".lock")}
    assert files == {path.relative_to(two) for path in two.rglob("*") if path.suffix not in (".arrow", ".lock")}
    for file in ("part-00000.parquet", "metadata.json"):
        assert (one / "data/episodes" / file).read_bytes() == (two / "data/episodes" / file).read_bytes()
    for part in ("oreo/policy", "oreo/value", "oreo-round2/policy", "oreo-round2/value"):
        found, expected = (load_file(run / part / "model.safetensors") for run in (two, one))
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=0, atol=1e-4, msg=f"{part}: {key}")
    results = [json.loads((run / "results.json").read_text())["results"] for run in (one, two)]
    assert [[row["correct"], row["search"]] for row in results[0]] == [[r["correct"], r["search"]] for r in results[1]]


@pytest.mark.slow
def test_signals_end_all_after_the_same_step_and_the_run_goes_on(tmp_path: Path):
    small = [text for text in SMALL if not text.startswith(("sft", "algo.epochs"))]
    # Until it is told to end, there is always a further step.
    endless = ["train", *small, "sft.demonstrations=0", "algo.epochs=100000", "algo.batch_size=8", "hydra.run.dir=run"]
    log, steps = tmp_path / "run" / "oreo" / "metrics.jsonl", []
    for number, told in ((signal.SIGINT, (0, 1)), (signal.SIGTERM, (1,))):
        before = log.read_text().count("\n") if log.exists() else 0
        processes = start(tmp_path, *endless)
        while not (log.exists() and log.read_text().count("\n") > before):
            assert all(process.poll() is None for process in processes), ended(processes)
            time.sleep(0.02)
        for rank in told:
            processes[rank].send_signal(number)
        codes, _, errors = ended(processes)
        assert codes == [128 + number] * 2, errors
        assert errors.count("oreo: ended by") == 1 and "goes on from there" in errors and "Traceback" not in errors
        (checkpoint,) = log.parent.glob("checkpoint-*")
        steps.append(int(checkpoint.name.partition("-")[2]))
    assert steps == sorted(set(steps)) and steps[0] > 0


@pytest.mark.slow
def test_a_mistake_is_said_once_and_ends_all_as_it_ends_one(tmp_path: Path):
    for arguments, sentence in (
        (["train", "algo=oreo", "trainer.sharding=half"], "trainer.sharding must be"),
        (["eval", "somewhere"], "oreo eval is for one process"),
        (["collect", "env=gsm8k"], "oreo collect is for one process"),
        (["run", "experiment=smoke", "workers=2"], "workers=2 is for one process"),
        (["train", "-m", "algo=oreo,dpo"], "start a sweep (-m) without torchrun"),
    ):
        codes, out, errors = ended(start(tmp_path, *arguments))
        assert codes == [2, 2] and (out + errors).count("oreo: ") == 1 and sentence in errors, errors
        assert "Traceback" not in errors


@pytest.mark.slow
def test_help_is_said_once(tmp_path: Path):
    for arguments, text in ((["--version"], "oreo "), (["--help"], "oreo run "), (["train", "--help"], "oreo train")):
        codes, out, errors = ended(start(tmp_path, *arguments))
        _, alone, _ = ended(start(tmp_path, *arguments, processes=1))
        assert codes == [0, 0] and out == alone and text in out and not errors


def test_a_process_that_was_started_alone_has_nobody_to_meet(monkeypatch, tmp_path: Path):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    together.join("eval")
    assert together.follow() == [] and together.meet(tmp_path) and together.speaks() and together.leads()
