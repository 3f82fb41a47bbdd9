"""Every file of `configs/` composes, and builds settings that check themselves."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from oreo_agents.runs.choices import compose, config_folder
from oreo_agents.runs.jobs import settings_from_config
from oreo_agents.runs.settings import IterationSettings, RunSettings
from oreo_algos.algos import Algorithm

FOLDER = config_folder()
COMMANDS = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "base")
GROUPS = {
    folder.name: sorted(path.stem for path in folder.glob("*.yaml")) for folder in FOLDER.iterdir() if folder.is_dir()
}
PLAIN_GROUPS = ["env", "policy", "value", "sft", "collect", "evaluate", "sampler"]


@pytest.fixture(scope="module", autouse=True)
def hydra_folder() -> Iterator[None]:
    with initialize_config_dir(str(FOLDER), version_base="1.3"):
        yield


@cache
def settings(command: str, *overrides: str) -> tuple[DictConfig, RunSettings]:
    """Compose and build, with every algorithm that the command brings."""
    config = compose(command, list(overrides))
    if "algorithms" in config:
        algorithms = dict(config.algorithms)
    else:
        algorithms = {"algo": config.algo} if "algo" in config else {}
    return config, settings_from_config(config, algorithms)


def checkpoint(choice: str) -> list[str]:
    """What a choice needs beside itself: a checkpoint has no path, an own environment no id, a server no address."""
    needs = {
        "checkpoint": ["policy=checkpoint", "policy.path=some/model"],
        "own": ["env.id=oreo/QA-v0"],
        "vllm": ["sampler.url=http://127.0.0.1:8000"],
    }
    return needs.get(choice, [])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes_into_settings(command: str):
    config, built = settings(command)
    assert built.env.id == config.env.id == "oreo/Arithmetic-v0"
    assert not OmegaConf.missing_keys(config)


@pytest.mark.parametrize(("group", "choice"), [(group, choice) for group in PLAIN_GROUPS for choice in GROUPS[group]])
def test_every_choice_of_a_group_composes_into_settings(group: str, choice: str):
    chosen = [] if group == "policy" else [f"{group}={choice}"]
    _, built = settings("train", *chosen, *checkpoint(choice))
    assert isinstance(built, RunSettings)


@pytest.mark.parametrize("choice", GROUPS["search"])
def test_every_search_can_be_added_under_any_name(choice: str):
    added = [f"+search@searches.my-{name}={name}" for name in GROUPS["search"]]
    _, built = settings("eval", *added, f"evaluate.searches=[{','.join(f'my-{name}' for name in GROUPS['search'])}]")
    named = {"block_beam": "step_beam"}.get(choice, choice)
    assert type(built.searches[f"my-{choice}"]).__name__.lower() == named.replace("_", "")


@pytest.mark.parametrize("choice", GROUPS["algo"])
@pytest.mark.parametrize("size", ["tiny", "checkpoint"])
def test_every_algorithm_can_be_trained_at_either_size(choice: str, size: str):
    _, built = settings("train", f"algo={choice}", *checkpoint(size))
    assert isinstance(built.algorithms["algo"], Algorithm)


@pytest.mark.parametrize("choice", GROUPS["algo"])
def test_every_algorithm_can_be_added_to_a_run(choice: str):
    added = [f"+algo@algorithms.my-{name}={name}" for name in GROUPS["algo"]]
    _, built = settings("run", *added, f"algos=[{','.join(f'my-{name}' for name in GROUPS['algo'])}]")
    assert isinstance(built.algorithms[f"my-{choice}"], Algorithm)


@pytest.mark.parametrize("choice", GROUPS["experiment"])
def test_every_experiment_composes_with_run(choice: str):
    config, built = settings("run", f"experiment={choice}")
    assert set(config.algos) <= {*config.algorithms, "sft"}
    assert built.algorithms


@pytest.mark.parametrize("choice", [name for name in GROUPS["experiment"] if name.endswith("smoke")])
def test_no_value_warms_up_for_long_in_an_experiment_that_tries_every_stage(choice: str):
    _, built = settings("run", f"experiment={choice}")
    steps = {name: getattr(algorithm, "value_warmup_steps", 0) for name, algorithm in built.algorithms.items()}
    assert max(steps.values()) == 8, steps


@pytest.mark.parametrize("choice", sorted({*GROUPS["recipe"]} - {"value-adapters"}))
def test_every_recipe_belongs_to_a_size_and_an_algorithm_and_changes_it(choice: str):
    size, _, algorithm = choice.partition("-")
    assert size in GROUPS["policy"] and algorithm in GROUPS["algo"]
    tuned, _ = settings("train", f"algo={algorithm}", *checkpoint(size))
    paper, _ = settings("train", f"algo={algorithm}", *checkpoint("checkpoint"))
    assert tuned.algo._target_ == paper.algo._target_
    assert tuned.algo != paper.algo


@pytest.mark.parametrize(
    ("command", "place"), [("train", "recipe@algo"), ("run", "recipe@algorithms.oreo")], ids=["train", "run"]
)
def test_a_value_of_adapters_is_trained_as_the_paper_does(command: str, place: str):
    chosen = ("value=adapters", f"{place}=value-adapters", "policy=checkpoint", "policy.path=some/model")
    _, built = settings(command, *chosen)
    assert (built.value.lora.rank, built.value.lora.alpha, built.policy.lora.rank) == (64, 64, 0)
    [trained] = [algo for name, algo in built.algorithms.items() if name in ("algo", "oreo")]
    assert trained.value_lr == 1e-4 and trained.policy_lr == 5e-6


@pytest.mark.parametrize("command", ["run", "train"])
def test_rounds_are_one_setting_of_the_commands_that_train(command: str):
    assert GROUPS["iteration"] == ["rounds"]
    _, built = settings(command, "rounds=3", "iteration.keep_data=false")
    assert built.iteration == IterationSettings(rounds=3, keep_data=False)


def test_no_file_is_left_out_by_these_tests():
    tested = {*PLAIN_GROUPS, "search", "algo", "experiment", "recipe", "iteration"}
    assert set(GROUPS) == tested
    nested = [path for path in FOLDER.rglob("*.yaml") if len(path.relative_to(FOLDER).parts) > 2]
    assert not nested


@pytest.mark.parametrize(("choice", "expected"), [("tiny", False), ("expert", False), ("checkpoint", "auto")])
@pytest.mark.parametrize("command", COMMANDS)
def test_layers_of_a_checkpoint_are_computed_again_where_they_can_be(command: str, choice: str, expected: object):
    _, built = settings(command, f"policy={choice}", *checkpoint(choice)[1:])
    assert built.policy.gradient_checkpointing == built.value.gradient_checkpointing == expected
    _, built = settings(command, *checkpoint("checkpoint"), "policy.gradient_checkpointing=false")
    assert built.value.gradient_checkpointing is False
    _, built = settings(command, *checkpoint("checkpoint"), "value.gradient_checkpointing=false")
    assert built.policy.gradient_checkpointing == "auto"


# Section "Data and training protocol" of Wang et al. 2024 (arXiv:2412.16145), the settings of its 1.5B math runs.
PAPER = {
    "sft": {"policy_lr": 2e-5, "epochs": 3},
    "rejection": {"policy_lr": 5e-6, "epochs": 1},
    "dpo": {"policy_lr": 5e-7, "epochs": 1, "beta": 0.1, "max_pairs": 6},
    "kto": {"policy_lr": 5e-8, "epochs": 1, "beta": 0.1},
    "oreo": {"policy_lr": 5e-6, "value_lr": 5e-6, "epochs": 1, "beta": 0.03, "alpha": 0.01, "granularity": "token"},
    "oreo-step": {"policy_lr": 5e-6, "value_lr": 5e-6, "epochs": 1, "beta": 0.03, "alpha": 0.1, "granularity": "step"},
    "oreo-response": {"policy_lr": 5e-6, "value_lr": 5e-6, "beta": 0.03, "alpha": 0.3, "granularity": "response"},
}
PAPER_ALL = {"batch_size": 128, "warmup_ratio": 0.03, "weight_decay": 0.0}


@pytest.mark.parametrize("name", sorted(PAPER))
def test_algorithm_files_hold_the_numbers_of_the_paper(name: str):
    _, built = settings("train", f"algo={name}", *checkpoint("checkpoint"))
    algorithm = built.algorithms["algo"]
    for field, value in (PAPER[name] | PAPER_ALL).items():
        assert getattr(algorithm, field) == value, field


@pytest.mark.parametrize("name", ["sft", "sft-more", "rejection", "dpo", "kto", "oreo"])
def test_the_defaults_of_the_dataclasses_are_the_same_numbers(name: str):
    _, built = settings("train", f"algo={name}", *checkpoint("checkpoint"))
    algorithm = built.algorithms["algo"]
    assert algorithm == type(algorithm)()


def test_the_protocol_around_the_algorithms_is_the_papers():
    _, built = settings("run", *checkpoint("checkpoint"), "env=gsm8k")
    assert built.collect.samples == 10 and built.collect.tasks is None
    assert built.evaluate.sampling.max_new_tokens == 2048
    assert (
        built.sft.demonstrations is None and built.sft.algorithm.policy_lr == 2e-5 and built.sft.algorithm.epochs == 3
    )
    assert built.value.bias_at_mean_reward is False


@pytest.mark.parametrize("size", ["tiny", "checkpoint"])
def test_what_the_supervised_start_is_shown_is_set_without_naming_new_fields(size: str):
    chosen = ["sft.split=dev", "sft.samples=3", "sft.algorithm.observation_weight=0.5"]
    _, built = settings("run", *chosen, *checkpoint(size))
    assert (built.sft.split, built.sft.samples, built.sft.algorithm.observation_weight) == ("dev", 3, 0.5)


def test_the_control_of_the_household_experiment_weighs_tokens_as_its_start_does():
    _, built = settings("run", "experiment=alfworld")
    more = built.algorithms["sft-more"]
    assert more.observation_weight == built.sft.algorithm.observation_weight > 0
    assert more.batch_size == built.sft.algorithm.batch_size


def test_prompts_ask_for_the_answer_where_the_papers_do():
    assert compose("run", ["env=gsm8k"]).env.options.prompt == "gsm8k-hash"
    assert compose("run", ["env=math"]).env.options.prompt == "boxed"


def test_no_file_holds_a_path_of_anyones_machine():
    for path in FOLDER.rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert "/home/" not in text and "/Users/" not in text and "C:\\" not in text, path


def test_the_files_are_where_a_wheel_takes_them_from():
    assert FOLDER.samefile(Path(__file__).resolve().parents[1] / "configs")


def test_the_expert_collects_without_supervised_training():
    _, built = settings("collect", "policy=expert", "env=alfworld")
    assert built.collect.source == "demonstrations" and built.collect.tasks is None and built.collect.samples == 1
    assert built.sft.demonstrations == 0 and built.policy.path is None


@pytest.mark.parametrize(("env", "prompt"), [("qa", "boxed"), ("math", "boxed"), ("gsm8k", "gsm8k-hash")])
def test_questions_lie_in_several_places_under_other_names(env: str, prompt: str):
    chosen = [f"env={env}", "env.path=[a,b.csv]", "env.options.fields={question: q.0, answer: gold}"]
    _, built = settings("run", *chosen, "env.options.allow_test_problems=true")
    assert built.env.paths == ["a", "b.csv"] and built.env.keywords() == {
        "path": ["a", "b.csv"],
        "prompt": prompt,
        "fields": {"question": "q.0", "answer": "gold"},
        "max_unpacked_bytes": 4 * 2**30,
        "allow_test_problems": True,
    }


def test_games_are_evaluated_on_both_splits_free_and_constrained():
    _, built = settings("run", "env=alfworld")
    assert list(built.evaluate.splits) == ["valid_seen", "valid_unseen"]
    assert [built.searches[name].constrained for name in built.evaluate.searches] == [False, True]


@pytest.mark.parametrize("given", [[], ["env=gsm8k", "policy=tiny"], ["env=alfworld", "policy=tiny"]])
def test_numbers_of_tasks_are_those_of_the_environment_with_a_limit_for_the_small_model(given: list[str]):
    config = compose("run", given)
    assert (config.collect.tasks, config.evaluate.tasks) == (600, 500)
    fewer = compose("run", [*given, "env.collection_tasks=50", "env.evaluation_tasks=20"])
    assert (fewer.collect.tasks, fewer.evaluate.tasks) == (50, 20)
