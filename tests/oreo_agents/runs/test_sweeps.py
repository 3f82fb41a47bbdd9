"""Sweeps: a job that fails ends alone, whoever launches it; what jobs return; what is told of them at the end."""

import json
import math
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from forked import OREO, run
from hydra.core import utils
from omegaconf import DictConfig

from oreo_agents.evaluation.failed_jobs import FILE, load_failed, write_begin
from oreo_agents.evaluation.report import main as report
from oreo_agents.runs import jobs
from oreo_agents.runs.overrides import UserError, check_overrides
from oreo_agents.runs.sweeps import score
from oreo_algos.algos.selection import NothingToLearnError


def row(config: DictConfig, **others: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"algo": "oreo", "search": "greedy", "env": config.env.id, "split": "test"}
    found |= {"env_options": {}, "seed": config.seed, "n": 4, "correct": 2, "accuracy": 0.5, "tokens_per_task": 3.0}
    return found | others


def job(config: DictConfig, folder: Path) -> float:
    """Seed 1 finds nothing, seed 2 is an error of the program; the others have a result."""
    jobs.write_down(config, folder)
    if config.seed == 1:
        raise NothingToLearnError("dpo: no pairs")
    if config.seed == 2:
        raise RuntimeError("out of luck")
    (folder / "results.json").write_text(json.dumps({"results": [row(config)]}))
    return 0.5


def test_a_job_that_fails_ends_alone(oreo, monkeypatch, tmp_path: Path, capsys):
    monkeypatch.setitem(jobs.JOBS, "train", job)
    sweep = tmp_path / "sweep"
    with pytest.raises(SystemExit) as stopped:
        oreo("train", "-m", "algo=oreo", "collect.samples=4", "seed=1,2,3", f"hydra.sweep.dir={sweep}")
    assert stopped.value.code == 2
    said = capsys.readouterr()
    for number, why in ((0, "dpo: no pairs"), (1, "RuntimeError: out of luck")):
        assert f"oreo: {sweep / str(number)} (seed={number + 1}) gave no result: {why}" in said.err
    assert said.out.count("Accuracy (%)") == 1 and "Jobs without a result" in said.out
    text = (sweep / "report.md").read_text()
    assert "| oreo | greedy | 1 | 4 | 50.0 |" in text
    assert "| 0 | seed=1 | dpo: no pairs |" in text and "| 1 | seed=2 | RuntimeError: out of luck |" in text
    assert [file.parent.name for file in sorted(sweep.glob(f"*/{FILE}"))] == ["0", "1"]
    # A later report tells the same, and the same sweep in the same place forgets what went well this time.
    report([str(sweep)])
    assert "out of luck" in capsys.readouterr().out
    monkeypatch.setitem(jobs.JOBS, "train", lambda config, folder: None)
    oreo("train", "-m", "algo=oreo", "collect.samples=4", "seed=1,2,3", f"hydra.sweep.dir={sweep}")
    assert not load_failed([sweep])


def test_a_job_that_was_killed_is_told(tmp_path: Path):
    write_begin(tmp_path / "10", ["seed=1"])
    write_begin(tmp_path / "9", ["seed=0"])
    (tmp_path / "8").mkdir()
    (tmp_path / "8" / FILE).write_text("{")
    found = load_failed([tmp_path])
    assert [job.folder.name for job in found] == ["8", "9", "10"]
    assert "cannot be read" in found[0].why and found[1].why.startswith("it did not end: it was killed")


def test_a_single_run_that_fails_leaves_no_such_note(oreo, monkeypatch, tmp_path: Path, capsys):
    monkeypatch.setitem(jobs.JOBS, "train", job)
    with pytest.raises(SystemExit) as stopped:
        oreo("train", "seed=1", f"hydra.run.dir={tmp_path / 'run'}")
    assert stopped.value.code == 2 and capsys.readouterr().err == "oreo: dpo: no pairs\n"
    assert not (tmp_path / "run" / FILE).exists()


LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "hydra.launcher.n_jobs=2"),
    "ray": ("hydra_plugins.hydra_ray_launcher", "+hydra.launcher.ray.init.num_cpus=2"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "hydra.launcher.timeout_min=10"),
}
TINY = (
    *("sft.demonstrations=32", "sft.algorithm.epochs=1", "collect.tasks=8", "collect.samples=4", "algo.epochs=1"),
    *("policy.tiny.hidden_size=32", "policy.tiny.layers=1", "evaluate.tasks=8", "evaluate.searches=[greedy]"),
    *("evaluate.value_searches=[]", "evaluate.sampling.max_new_tokens=16", "collect.sampling.max_new_tokens=16"),
)


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run([*OREO, "train", "-m", *arguments, *TINY], folder)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_job_that_fails_ends_alone_under_every_launcher(launcher: str, tmp_path: Path):
    module, setting = LAUNCHERS[launcher]
    if find_spec("hydra_plugins") is None or find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install hydra-{launcher.partition('_')[0]}-launcher")
    ended = command(tmp_path, "algo=dpo,kto", f"hydra/launcher={launcher}", setting, "hydra.sweep.dir=sweep")
    assert ended.returncode == 2, ended.stderr
    assert "oreo: sweep/0 (algo=dpo) gave no result: dpo: none of the 8 tasks" in ended.stderr
    assert "| kto | greedy |" in (tmp_path / "sweep" / "report.md").read_text()


@pytest.mark.slow
def test_a_sweeper_chooses_by_the_dev_split(tmp_path: Path):
    if find_spec("hydra_plugins") is None or find_spec("hydra_plugins.hydra_optuna_sweeper") is None:
        pytest.skip("the optuna sweeper is not installed: pip install hydra-optuna-sweeper 'optuna<3'")
    sweep = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=1", "hydra.sweep.dir=sweep")
    space = ("algo=choice(kto,dpo)", "algo.policy_lr=interval(0.0001,0.001)")  # of which dpo finds no pair
    best = ("hydra.sweeper.direction=maximize", "hydra.sweeper.sampler.seed=0", "evaluate.splits=[dev,test]")
    ended = command(tmp_path, *space, *sweep, *best)
    failed = len(load_failed([tmp_path / "sweep"]))
    assert ended.returncode == (2 if failed else 0), ended.stderr
    assert "best_value" in (tmp_path / "sweep" / "optimization_results.yaml").read_text()


# What jobs return, what a sweep needs.


def test_a_job_is_worth_what_it_got_on_the_dev_split_and_never_on_another(tmp_path: Path):
    dev = [
        {"algo": "sft", "search": "greedy", "split": "dev", "accuracy": 0.9},
        {"algo": "oreo", "search": "greedy", "split": "test", "accuracy": 0.8},
        {"algo": "oreo", "search": "greedy", "split": "dev", "accuracy": 0.2},
        {"algo": "dpo", "search": "greedy", "split": "dev", "accuracy": 0.4},
        {"algo": "oreo", "search": "best_of_n", "split": "dev", "accuracy": 0.7},
    ]
    assert score(dev, tmp_path) == pytest.approx(0.3)
    assert score(dev[:1], tmp_path) == 0.9
    assert score(dev[1:2], tmp_path) is None
    (tmp_path / "oreo").mkdir()
    curve = [{"step": 1, "eval/x/dev/accuracy": 0.1}, {"step": 2, "eval/x/dev/accuracy": 0.6}, {"step": 3, "loss": 1}]
    (tmp_path / "oreo" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve))
    assert score(dev[1:2], tmp_path) == 0.6


def test_a_sweep_of_failures_has_a_table_and_gives_numbers(oreo, monkeypatch, tmp_path: Path, capsys):
    returned: list[Any] = []
    set_value = utils.JobReturn.return_value.fset
    watched = utils.JobReturn.return_value.setter(lambda self, value: (returned.append(value), set_value(self, value)))
    monkeypatch.setattr(utils.JobReturn, "return_value", watched)
    monkeypatch.setitem(jobs.JOBS, "train", job)
    with pytest.raises(SystemExit) as stopped:
        oreo("train", "-m", "algo=oreo", "seed=1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert stopped.value.code == 2 and all(map(math.isnan, returned)) and len(returned) == 2
    said = capsys.readouterr()
    assert "Jobs without a result" in said.out and "dpo: no pairs" in said.err


@pytest.mark.parametrize("space", ["algo.beta=interval(0.01,0.1)", "algo.beta=choice(0.01,0.1)", "seed=range(0,3)"])
def test_spaces_of_sweepers_are_checked_as_far_as_can_be(space: str):
    check_overrides("train", ["algo=dpo", space])
    with pytest.raises(UserError, match=r"there is no setting 'algo.betta'; did you mean 'algo.beta'"):
        check_overrides("train", ["algo=dpo", space, "algo.betta=interval(0,1)"])


def test_a_sweeper_that_chooses_is_given_a_split_to_choose_on(monkeypatch):
    from oreo_agents.runs import sweeps

    monkeypatch.setattr(sweeps, "_BASIC", "another.sweeper")  # so that the one that is there is one that chooses
    with pytest.raises(UserError, match=r"must not be that on test tasks: .*evaluate.splits=\[dev,test\]"):
        check_overrides("train", ["algo=dpo"])
    check_overrides("train", ["algo=dpo", "evaluate.splits=[dev,test]"])
    with pytest.raises(UserError, match=r"would minimize it; give hydra.sweeper.direction=maximize"):
        check_overrides("train", ["evaluate.splits=[dev]", "hydra.sweeper.direction=minimize"])
    check_overrides("train", ["algo=dpo", "trainer.evaluate_every=10"])


def test_jobs_beside_others_take_one_core(oreo, monkeypatch, tmp_path: Path):
    from oreo_agents.runs import sweeps

    asked: list[int | None] = []

    def watch(config: DictConfig, folder: Path) -> None:
        asked.append(jobs.prepare(config, folder, {}).settings.workers)

    monkeypatch.setitem(jobs.JOBS, "train", watch)
    sweep = ("train", "-m", "algo=dpo", "seed=0")
    oreo(*sweep, "hydra.sweep.dir=a")
    monkeypatch.setattr(sweeps, "_BASIC", "another.launcher")
    splits = "evaluate.splits=[dev]"
    oreo(*sweep, splits, "hydra.sweep.dir=b")
    oreo(*sweep, splits, "workers=2", "hydra.sweep.dir=c")
    oreo("train", "algo=dpo", splits, "hydra.run.dir=d")
    assert asked == [None, 1, 2, None]
