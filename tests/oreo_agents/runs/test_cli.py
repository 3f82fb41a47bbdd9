"""The command line: mistakes get a sentence and exit code 2, settings reach the dataclasses.

``oreo run`` composes every algorithm, in thrice the time: where the command is not the point, it is another.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from oreo_agents.runs import cli, jobs

Caught = Callable[..., str]

pytestmark = pytest.mark.usefixtures("nothing_is_trained")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_lists_every_command(arguments, run, capsys: pytest.CaptureFixture[str]):
    run(*arguments)
    text = capsys.readouterr().out
    for command in ("run", "sft", "collect", "train", "eval", "report", "data"):
        assert f"oreo {command}" in text


def test_the_version_is_that_of_the_package(run, capsys: pytest.CaptureFixture[str]):
    run("--version")
    assert capsys.readouterr().out == f"oreo {version('oreo-suite')}\n"


@pytest.mark.parametrize("override", ["algos.oreo.beta=1", "seed.x=1", "evaluate.splits.x=1", "env.id.x.y=3"])
def test_a_setting_below_a_value_is_one_sentence(override: str, refused: Caught):
    text = refused("run", override)
    assert re.search(r"run: \S+: \S+ is .* and has no settings of its own", text) and text.count("\n") == 1


@pytest.mark.parametrize("override", ["seed=[1", "seed", "algos[0]=dpo"])
def test_an_override_that_cannot_be_read_is_one_message(override: str, refused: Caught):
    assert f"{override!r} is no setting, nor an option of this command: settings are given as KEY=VALUE" in refused(
        "run", override
    )


@pytest.mark.parametrize("flags", [("--limit", "3"), ("--limit=3",), ("--sed", "1")])
def test_an_option_that_there_is_not_is_named(flags: tuple[str, ...], refused: Caught):
    assert f"train: there is no flag {flags[0]}; settings are written KEY=VALUE" in refused("train", *flags)


@pytest.mark.parametrize(
    "flags", [("--shell-completion", "install=bash"), ("-sc",), ("--config-name", "x"), ("-cp", "/")]
)
def test_options_of_hydra_that_mean_nothing_here_are_refused(flags: tuple[str, ...], refused: Caught):
    assert "of Hydra is not for this command; settings are written KEY=VALUE" in refused("run", *flags)


def test_several_values_without_a_sweep_say_how_each_is_written(refused: Caught):
    assert "algo has several values: `oreo train -m` runs one job for each" in refused("train", "algo=oreo,dpo")
    text = refused("run", "search=greedy,majority")
    assert "a list is written evaluate.searches=[greedy,majority], a text with commas" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("collect collect.samples=0", "collect.samples must be at least 1, got 0"),
        ("run algorithms.oreo.beta=-1", "beta must be > 0, got -1"),
        (
            "eval evaluate.searches=[greddy] policy.path=x",
            "evaluate.searches: unknown search 'greddy'; did you mean 'greedy'?",
        ),
        (
            "train evaluate.value_searches=[greddy]",
            "evaluate.value_searches: unknown search 'greddy'; did you mean 'greedy'?",
        ),
        (
            "eval evaluate.searches=greedy policy.path=x",
            "evaluate.searches must be a list, each a text, got 'greedy'; a list of one is [greedy]",
        ),
        ("train budget=200", "evaluate.budget must be a list, each a whole number, got 200; a list of one is [200]"),
        ("run algos=[oero]", "algos: unknown algorithm 'oero'; did you mean 'oreo'?"),
        ("collect +collect.sampels=3", "there is no setting collect.sampels; did you mean 'samples'?"),
        ("sft trainer.micro_batch_tokens=0", "micro_batch_tokens must be at least 1, got 0"),
    ],
)
def test_a_value_that_is_refused_gives_its_sentence(arguments: str, sentence: str, refused: Caught, tmp_path: Path):
    assert sentence in refused(*arguments.split(), f"hydra.run.dir={tmp_path / 'out'}")
    assert not (tmp_path / "out" / "config.yaml").exists()


def test_evaluation_without_a_checkpoint_says_what_to_give(refused: Caught, tmp_path: Path):
    for given in ([], ["policy.path="]):
        text = refused("eval", *given, f"hydra.run.dir={tmp_path / 'out'}")
        assert "oreo eval measures a checkpoint: give policy.path=FOLDER_OR_HUB_NAME" in text


def test_a_checkpoint_that_is_not_there_is_one_sentence(refused: Caught, tmp_path: Path):
    text = refused(
        "eval", f"policy.path={tmp_path / 'nowhere'}", f"hydra.run.dir={tmp_path / 'out'}", "evaluate.tasks=1"
    )
    assert "nowhere: there is no such folder" in text


def test_data_that_is_not_there_is_one_sentence(refused: Caught, tmp_path: Path):
    text = refused(
        "collect", "env=gsm8k", f"env.path={tmp_path / 'nowhere'}", f"hydra.run.dir={tmp_path / 'out'}", "workers=1"
    )
    assert "nowhere: no such file or folder" in text


def test_a_report_of_nothing_is_one_sentence(refused: Caught, tmp_path: Path):
    assert "no results.json there or below" in refused("report", str(tmp_path))


def test_a_policy_path_alone_chooses_the_settings_of_a_checkpoint(run, composed, tmp_path: Path):
    run("train", "policy.path=some/model", f"hydra.run.dir={tmp_path / 'a'}")
    run("train", f"hydra.run.dir={tmp_path / 'b'}")
    with_path, without = (config for config, _ in composed)
    assert with_path.policy.path == "some/model" and "tiny" not in with_path.policy
    assert with_path.collect.sampling.max_new_tokens == 2048 and with_path.algo.policy_lr == 5e-6
    assert without.policy.path is None and without.policy.tiny.architecture == "llama"
    assert without.collect.sampling.max_new_tokens < 2048 and without.algo.policy_lr > 5e-6


def test_searches_and_budgets_have_short_names(run, composed, tmp_path: Path):
    run("eval", "search=[greedy,step_beam]", "budget=[100,200]", f"hydra.run.dir={tmp_path / 'a'}")
    run("eval", "evaluate.searches=[greedy,step_beam]", "evaluate.budget=[100,200]", f"hydra.run.dir={tmp_path / 'b'}")
    short, long = (config.evaluate for config, _ in composed)
    assert short == long and short.searches == ["greedy", "step_beam"] and short.budget == [100, 200]


def test_a_search_that_is_asked_for_without_a_value_is_refused(refused: Caught, tmp_path: Path):
    text = refused("eval", "search=[greedy,step_beam]", "policy.path=some/model", f"hydra.run.dir={tmp_path / 'out'}")
    assert "step_beam: these searches read a value network" in text and "value.path=FOLDER" in text


def test_searches_and_budgets_are_refused_where_a_value_is_measured(refused: Caught, tmp_path: Path):
    asked = ["what=value", "policy.path=some/model", "value.path=some/value", f"hydra.run.dir={tmp_path / 'out'}"]
    text = refused("eval", *asked, "search=[greedy]", "evaluate.budget=[100]")
    assert "what=value measures V along samples and searches nothing: leave out search= and budget=" in text
    assert "leave out budget=, or" in refused("eval", *asked, "budget=[100]", "tracker=none")


def test_the_null_path_stays_with_the_small_model(run, composed, tmp_path: Path):
    run("train", "policy.path=null", f"hydra.run.dir={tmp_path / 'a'}")
    assert "tiny" in composed[0][0].policy


def test_a_run_folder_keeps_its_configuration_and_refuses_another(run, composed, refused: Caught, tmp_path: Path):
    folder = tmp_path / "out"
    run("collect", f"hydra.run.dir={folder}", "seed=1")
    written = (folder / "config.yaml").read_text()
    assert "seed: 1\n" in written
    run("collect", f"hydra.run.dir={folder}", "seed=1")
    (folder / ".start.lock").touch()  # of one that was refused for its data
    run("collect", f"hydra.run.dir={folder}", "seed=3")
    run("collect", f"hydra.run.dir={folder}", "seed=1")
    (folder / "data").mkdir()
    files = {path: path.read_bytes() for path in folder.rglob("*.yaml")}
    text = refused("collect", f"hydra.run.dir={folder}", "seed=2")
    assert {path: path.read_bytes() for path in folder.rglob("*.yaml")} == files
    assert f"{folder} holds a run with another configuration" in text
    assert (folder / "config.yaml").read_text() == written


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("experiment=smoke algo=oreo", {"value_warmup_steps": 8, "policy_lr": 5e-4}),  # the second of its recipe
        ("experiment=smoke algo=oreo algo.value_warmup_steps=3", {"value_warmup_steps": 3}),
        ("experiment=smoke algo=oreo algorithms.oreo.value_warmup_steps=5", {"value_warmup_steps": 5}),
        ("experiment=smoke algo=dpo", {"beta": 0.5}),  # of which the experiment says nothing
        ("experiment=miniature algo=oreo-response-matched", {"alpha": 0.4, "policy_lr": 1e-3}),
        ("experiment=alfworld-few algo=sft-more", {"samples": 66, "optimizer": "muon"}),
    ],
)
def test_training_takes_what_an_experiment_of_run_says_of_its_algorithm(
    given: str, expected: dict[str, Any], run, composed, tmp_path: Path
):
    run("train", *given.split(), f"hydra.run.dir={tmp_path / 'out'}")
    config = composed[-1][0]
    assert {key: config.algo[key] for key in expected} == expected
    assert "algorithms" not in config and "algos" not in config


def test_each_job_of_a_sweep_takes_what_an_experiment_says_of_its_own_algorithm(run, composed, tmp_path: Path):
    run("train", "-m", "experiment=miniature", "algo=kto,dqo,oreo-response-matched", f"hydra.sweep.dir={tmp_path}")
    assert [config.algo.policy_lr for config, _ in composed] == [3e-4, 3e-4, 1e-3]


@pytest.mark.parametrize("command", ["sft", "collect"])
def test_other_commands_leave_out_what_an_experiment_says_of_algorithms(command: str, run, composed, tmp_path: Path):
    run(command, "experiment=smoke", f"hydra.run.dir={tmp_path / 'out'}")
    assert composed[-1][0].collect.tasks == 32 and "algorithms" not in composed[-1][0]


@pytest.mark.parametrize("command", ["run", "train", "sft", "collect", "eval"])
def test_of_a_checkpoint_the_shape_that_an_experiment_gives_small_models_is_not_read(
    command: str, run, composed, tmp_path: Path
):
    run(command, "experiment=smoke", f"policy.path={tmp_path}", f"hydra.run.dir={tmp_path / 'out'}")
    assert composed[-1][0].policy.path == str(tmp_path) and composed[-1][0].collect.tasks == 32
    assert "tiny" not in OmegaConf.load(tmp_path / "out" / "config.yaml").policy


def test_a_folder_in_which_nothing_was_done_yet_takes_other_settings(run, composed, tmp_path: Path):
    folder = tmp_path / "out"
    for seed in (1, 2):
        run("collect", f"hydra.run.dir={folder}", f"seed={seed}")
        assert f"seed: {seed}\n" in (folder / "config.yaml").read_text()


def test_a_finished_run_may_be_given_more_rounds_and_algorithms(tmp_path: Path):
    path = tmp_path / "config.yaml"
    with initialize_config_dir(str(cli.config_folder()), version_base="1.3"):
        first = compose("run", ["algos=[oreo]"])
        more = ["rounds=2", "algos=[oreo,dpo]", "workers=1", "trainer.tracker=none", "evaluate.keep=all"]
        second = compose("run", more)
        others = [
            compose("run", [*more, other]) for other in ("seed=2", "iteration.keep_data=false", "policy.tiny.layers=1")
        ]
    jobs.write_down(first, tmp_path)
    (tmp_path / "sft").mkdir()
    stamp = path.stat().st_mtime_ns
    jobs.write_down(first, tmp_path)
    assert path.stat().st_mtime_ns == stamp, "what is there already is not written again"
    earlier = OmegaConf.create(path.read_text(encoding="utf-8"))
    del earlier.trainer["tracker"], earlier.evaluate["keep"]  # which earlier releases did not have
    path.write_text(OmegaConf.to_yaml(earlier), encoding="utf-8")
    jobs.write_down(second, tmp_path)
    written = path.read_text(encoding="utf-8")
    assert OmegaConf.create(written).iteration.rounds == 2 and OmegaConf.create(written).algos == ["oreo", "dpo"]
    for other in others:
        with pytest.raises(
            ValueError,
            match=r"only rounds, .*trainer\.sharding.* may",
        ):
            jobs.write_down(other, tmp_path)
    assert path.read_text(encoding="utf-8") == written


def test_a_kill_while_the_configuration_is_written_leaves_none(monkeypatch, tmp_path: Path):
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        jobs.write_down(OmegaConf.create({"seed": 1}), tmp_path)
    assert not (tmp_path / "config.yaml").exists()


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("tracker=wandb,mlflow", ["wandb", "mlflow"]),
        ("tracker=none", "none"),
    ],
)
def test_trackers_are_named_in_a_row_and_are_no_sweep(run, composed, tmp_path: Path, given: str, names):
    run("run", given, f"hydra.run.dir={tmp_path / 'out'}")
    assert composed[0][0].trainer.tracker == names


def test_overrides_win_over_an_experiment(run, composed, tmp_path: Path):
    run("run", "experiment=smoke", "collect.samples=3", f"hydra.run.dir={tmp_path / 'out'}")
    assert composed[0][0].collect.samples == 3


def test_a_sweep_gives_every_job_a_folder_of_its_own(run, composed, tmp_path: Path):
    run("train", "-m", "algo=dpo,oreo", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    folders = {folder.name for _, folder in composed}
    assert folders == {"0", "1", "2", "3"}
    assert all((tmp_path / "sweep" / name / "config.yaml").exists() for name in folders)


def test_the_folder_of_configurations_is_found():
    folder = cli.config_folder()
    assert (folder / "run.yaml").is_file() and (folder / "algo" / "oreo.yaml").is_file()


def test_from_a_shell_a_mistake_is_printed_without_a_traceback(tmp_path: Path):
    environment: dict[str, Any] = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [sys.executable, "-m", "oreo_agents.runs.cli", "run", "collect.sampels=3"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert result.returncode == 2 and not result.stdout
    assert result.stderr.startswith("oreo: run: there is no setting 'collect.sampels'; did you mean")
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir()), "a mistake leaves no folder behind"


def test_a_policy_of_other_tasks_is_warned_of(tmp_path: Path):
    def config(world: int) -> DictConfig:
        env = {"id": "oreo/Arithmetic-v0", "options": {"world": world, "answer": "boxes"}}
        return OmegaConf.create({"env": env, "policy": {"path": str(tmp_path / "oreo" / "policy")}})

    assert jobs.other_tasks(config(1)) is None
    OmegaConf.save(config(1), tmp_path / "config.yaml")
    assert jobs.other_tasks(config(1)) is None
    assert "here env.options.world=2 (there 1)" in (jobs.other_tasks(config(2)) or "")
    alone = config(2)
    alone.policy.path = None
    assert jobs.other_tasks(alone) is None
    (tmp_path / "oreo" / "policy").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "oreo"):
        said = jobs.other_tasks(OmegaConf.merge(alone, {"run": str(folder)}))
        assert said is not None and f"see {tmp_path / 'config.yaml'}: here env.options.world=2 (there 1)" in said
        assert jobs.other_tasks(OmegaConf.merge(alone, {"run": str(folder), "what": "pairs"})) is None
