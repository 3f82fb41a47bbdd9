"""What the command does with run folders: evaluations of a run, and the joint report of a sweep."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from oreo_agents.runs import cli, jobs
from oreo_agents.runs.dev_tasks import dev_split
from oreo_agents.runs.run_folders import choose_value, measured, networks, run_of


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[DictConfig]:
    """Replace the evaluation by one that keeps its configuration."""
    seen: list[DictConfig] = []
    monkeypatch.setitem(jobs.JOBS, "eval", lambda config, folder: seen.append(config))
    return seen


def trained(folder: Path, *overrides: str, names: tuple[str, ...] = ("sft", "oreo", "dpo")) -> Path:
    """The folder of a run that trained these."""
    with initialize_config_dir(str(cli.config_folder()), version_base="1.3"):
        config = compose("run", list(overrides))
    folder.mkdir(parents=True)
    for name in names:
        (folder / name / "policy").mkdir(parents=True)
    if "oreo" in names:
        (folder / "oreo" / "value").mkdir()
    OmegaConf.save(OmegaConf.create(OmegaConf.to_container(config, resolve=True)), folder / "config.yaml")
    return folder


ODD = (
    'policy.system_prompt="Say: \\"x = {1,2}\\", #not a comment\\\\"',
    "++policy.chat_template_kwargs.thinking=false",
    "env.options.fields={question: a.b, answer: c}",
)


@pytest.mark.parametrize(
    "overrides",
    [
        ["env=miniature", "+env.options.num_verbs=8", "env.options.world=3", "evaluate.splits=[dev]", "seed=7"],
        ["env=gsm8k", "env.path=[first/part.jsonl,second]", "policy=tiny", "searches.majority.samples=5"],
        ["env=alfworld", "env.path=generated", "env.options.dev_scenes=[3,207]", "evaluate.tasks=9"],
        ["env=qa", "policy=checkpoint", "policy.path=hub/model", *ODD],
    ],
)
def test_a_run_is_evaluated_with_its_own_settings(overrides: list[str], oreo, evaluated, tmp_path: Path):
    folder = trained(tmp_path / "a run, odd=name" / "r", *overrides)
    oreo("eval", str(folder), "workers=1", f"hydra.run.dir={tmp_path / 'out'}")
    [config] = evaluated
    before = OmegaConf.load(folder / "config.yaml")
    for key in ("env", "policy", "value", "evaluate", "searches", "trainer", "seed"):
        assert config[key] == before[key], key
    assert config.run == str(folder) and config.workers == 1


def test_tasks_that_a_run_did_not_learn_from_can_choose_a_tau(oreo, evaluated, tmp_path: Path):
    """An evaluation took all games to be demonstrated, as the environment says where a run says nothing."""
    few = trained(tmp_path / "few", "experiment=alfworld-generated", "env.options.houses=12", "sft.demonstrations=8")
    every = trained(tmp_path / "all", "experiment=alfworld-generated", "sft.demonstrations=null")
    for folder in (few, every):
        oreo("eval", str(folder), "evaluate.tau=[0,0.1]", "workers=1")
    ours, spent = evaluated
    assert (ours.sft.demonstrations, ours.sft.split) == (8, "train")
    assert dev_split(jobs.settings_from_config(ours, {}), "evaluate.tau") == "train_renumbered"
    with pytest.raises(ValueError, match=r"sft\.demonstrations takes all 2000 train tasks"):
        dev_split(jobs.settings_from_config(spent, {}), "evaluate.tau")


def test_what_is_given_wins_over_the_run(oreo, evaluated, tmp_path: Path):
    folder = trained(tmp_path / "r", "env=miniature", "env.options.world=3", "evaluate.tasks=50")
    oreo("eval", f"{folder}/oreo", "search=[greedy,majority]", "env.options.world=4", "evaluate.tasks=7")
    oreo("eval", str(folder), "env=gsm8k")
    ours, other = evaluated
    assert ours.evaluate.searches == ["greedy", "majority"] and ours.evaluate.tasks == 7
    assert ours.env.options.world == 4 and ours.env.options.max_total == 29 and ours.run == f"{folder}/oreo"
    assert other.env.id == "oreo/GSM8K-v0" and "world" not in other.env.options and other.evaluate.tasks == 50


def test_networks_of_a_run_are_found_with_their_values(tmp_path: Path):
    folder = trained(tmp_path / "r")
    rows = [{"algo": name, "search": "greedy", "split": "test", "seed": 0} for name in ("sft", "oreo", "dpo")]
    (folder / "results.json").write_text(json.dumps({"results": rows}))
    value = str(folder / "oreo" / "value")
    # The start is searched by the value of the algorithm that its settings name.
    assert [(each.name, each.value) for each in networks(folder)] == [("sft", value), ("oreo", value), ("dpo", None)]
    [one] = networks(folder / "dpo")
    assert one.policy == str(folder / "dpo" / "policy") and run_of(folder / "dpo") == folder
    with pytest.raises(FileNotFoundError, match="no NAME/policy there: nothing was trained to its end"):
        networks(trained(tmp_path / "empty" / "r", names=()))


def test_a_value_that_is_given_is_read_in_place_of_that_of_the_run(tmp_path: Path):
    folder = trained(tmp_path / "r")
    config = OmegaConf.create({"run": str(folder / "dpo"), "value": {"path": "mine"}})
    assert [each.value for each in measured(config, ["value.path=mine"])] == ["mine"]
    assert [each.value for each in measured(config, ["++value.path=started/from"])] == [None]
    config.run = str(folder)
    assert {each.value for each in measured(config, ["value.path=mine"])} == {"mine"}
    with pytest.raises(ValueError, match=r"r names what is measured, and so does policy\.path: leave one of them out"):
        measured(config, ["policy.path=other"])


def test_a_value_of_a_run_is_measured_with_its_policy_reference_and_beta(oreo, evaluated, tmp_path: Path):
    folder = trained(tmp_path / "r", "algorithms.oreo.beta=0.2")
    for arguments in ((), ("value_eval.beta=0.5",)):
        oreo("eval", str(folder), "what=value", *arguments)
    for config, given, beta in zip(evaluated, ([], ["value_eval.beta=0.5"]), (0.2, 0.5), strict=True):
        choose_value(config, given)
        names = [Path(path).relative_to(folder).as_posix() for path in (config.policy.path, config.value.path)]
        assert names == ["oreo/policy", "oreo/value"] and config.value_eval.beta == beta
        assert config.value_eval.reference_path == str(folder / "sft" / "policy")
    config.run = str(folder / "sft")
    choose_value(config, [])
    assert (config.policy.path, config.value.path) == (str(folder / "sft/policy"), str(folder / "oreo/value"))
    (folder / "start").mkdir()
    (folder / "oreo" / "summary.json").write_text('{"reference": "start"}')
    config.run, config.reference.path = str(folder), None
    choose_value(config, [])
    assert config.reference.path == str(folder / "start")
    config.run = str(folder / "dpo")
    with pytest.raises(ValueError, match=r"what=value measures one value network, and .*dpo has none; give RUN/NAME"):
        choose_value(config, [])


@pytest.mark.parametrize("place", ["nowhere", "r/start", "."])
def test_a_folder_that_is_no_run_is_refused(place: str, oreo, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (trained(tmp_path / "r") / "start").mkdir()
    with pytest.raises(SystemExit) as stopped:
        oreo("eval", place)
    assert stopped.value.code == 2
    assert f"oreo: {place}: neither a run folder, which holds config.yaml, nor RUN/NAME" in capsys.readouterr().err


def test_a_sweep_ends_in_one_report_of_all_its_jobs(oreo, monkeypatch, tmp_path: Path, capsys):
    quiet = []

    def job(config: DictConfig, folder: Path) -> None:
        jobs.write_down(config, folder)
        quiet.append(cli.in_sweep())
        row: dict[str, Any] = {"algo": "oreo", "search": "greedy", "env": config.env.id, "split": "test"}
        row |= {"env_options": {}, "seed": config.seed, "n": 4, "correct": 2, "accuracy": 0.5, "tokens_per_task": 3.0}
        (folder / "results.json").write_text(json.dumps({"results": [row]}))

    monkeypatch.setitem(jobs.JOBS, "train", job)
    oreo("train", "-m", "algo=oreo", "collect.samples=2,12", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert quiet == [True] * 4
    text = (tmp_path / "sweep" / "report.md").read_text()
    for samples in (2, 12):
        assert f"| oreo collect.samples={samples} | greedy | 2 | 8 | 50.0 |" in text
    assert capsys.readouterr().out.count("Accuracy (%)") == 1
    oreo("train", "seed=5", f"hydra.run.dir={tmp_path / 'alone'}")
    assert quiet[4] is False and not (tmp_path / "report.md").exists()


def test_a_sweep_without_results_has_no_report(oreo, monkeypatch, tmp_path: Path):
    monkeypatch.setitem(jobs.JOBS, "collect", lambda config, folder: None)
    oreo("collect", "-m", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert not (tmp_path / "sweep" / "report.md").exists()
