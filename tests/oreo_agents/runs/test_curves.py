"""Learning curves of whole runs: which tasks are asked, what is logged, kept, drawn and refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from oreo_agents.episodes.collect import CollectSettings, SftSettings
from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.tasks import EnvSettings, identities
from oreo_agents.evaluation import curve
from oreo_agents.evaluation.curve import examples_text, fenced
from oreo_agents.evaluation.curve_plots import plot_curves
from oreo_agents.evaluation.evaluate import DevSettings, EvaluateSettings, Item
from oreo_agents.evaluation.run_settings import row_settings
from oreo_agents.networks.policy import PolicySettings
from oreo_agents.networks.tiny import TinyConfig
from oreo_agents.runs import cli
from oreo_agents.runs.dev_tasks import dev_indices, dev_split
from oreo_agents.runs.pipeline import Run
from oreo_agents.runs.settings import RunSettings
from oreo_agents.search import Answer
from oreo_algos.algos import RejectionSampling, Sft
from oreo_algos.episode import Episode
from oreo_algos.training.glossary import metrics as glossary
from oreo_algos.training.metrics_writer import read_metrics
from oreo_algos.training.trainer import TrainerConfig

TINY = PolicySettings(tiny=TinyConfig(hidden_size=16, layers=1, heads=2, intermediate_size=16), device="cpu")
EASY = {"verbs_per_problem": (1, 1), "num_verbs": 4, "start_range": (8, 9), "amount_range": (1, 1), "answer": "exact"}
ACCURACY = "eval/Arithmetic-v0/dev/accuracy"


def settings(**changes: Any) -> RunSettings:
    """A start of 8 steps and offline learning of a few, small enough for a test."""
    base = {
        "env": EnvSettings(id="oreo/Arithmetic-v0", options=EASY),
        "policy": TINY,
        "sft": SftSettings(demonstrations=32, algorithm=Sft(policy_lr=0.02, batch_size=8, epochs=2)),
        "collect": CollectSettings(tasks=8, samples=2, source="demonstrations"),
        "algorithms": {"rejection": RejectionSampling(batch_size=4, policy_lr=0.01)},
        "evaluate": EvaluateSettings(
            tasks=4, dev=DevSettings(tasks=6, examples=2), sampling=Sampling(max_new_tokens=24)
        ),
        "trainer": TrainerConfig(evaluate_every=3, eval_on_start=True),
        "workers": 1,
    }
    return RunSettings(**(base | changes))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "curve"
    Run(settings(), folder).train_and_evaluate(["sft", "rejection"])
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "policy" / "model.safetensors")


def points(folder: Path) -> list[tuple[int, float]]:
    return [(int(row["step"]), row[ACCURACY]) for row in read_metrics(folder) if ACCURACY in row]


def test_every_training_of_a_run_has_a_curve_and_its_weights_are_those_without_one(run_folder: Path, tmp_path: Path):
    plain = Run(settings(trainer=TrainerConfig()), tmp_path / "plain")
    plain.train_and_evaluate(["sft", "rejection"])
    for name in ("sft", "rejection"):
        steps = [step for step, _ in points(run_folder / name)]
        last = json.loads((run_folder / name / "summary.json").read_text())["steps"]
        assert steps == sorted({*range(0, last, 3), last})
        assert not points(tmp_path / "plain" / name)
        expected = weights(tmp_path / "plain" / name)
        assert all(torch.equal(part, expected[key]) for key, part in weights(run_folder / name).items())


def test_what_a_run_shows_of_it_is_in_the_glossary_and_all_of_the_glossary_is_shown(run_folder: Path):
    shown = set()
    for name in ("sft", "rejection"):
        events = EventAccumulator(str(run_folder / name), {"tensors": 0}).Reload()
        shown |= {*events.Tags()["scalars"], *(tag.removesuffix("/text_summary") for tag in events.Tags()["tensors"])}
    assert {name for name in shown if not any(metric.matches(name) for metric in glossary())} == set()
    of_games = {"eval/<env>/<split>/invalid_per_task", "eval/<env>/<split>/not_graded"}
    own = [m for m in glossary() if m.name.startswith(("eval/", "final/")) and m.name not in of_games]
    own = [m for m in own if "<pairs>" not in m.name]  # see test_pair_book
    assert [metric.name for metric in own if not any(metric.matches(name) for name in shown)] == []
    assert {f"eval/<env>/<split>/{name}" for name in curve._LOGGED.values()} == {
        metric.name for metric in glossary() if metric.name.startswith("eval/<env>/<split>")
    }


def test_settings_and_final_metrics_are_in_the_tab_of_hyperparameters_once(run_folder: Path):
    Run(settings(), run_folder).train_and_evaluate(["sft", "rejection"])
    [file] = (run_folder / "rejection").glob("*.hparams")
    events = EventAccumulator(str(file)).Reload()
    plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    for text in (b"algo.policy_lr", b"algo.batch_size", b"env.options.num_verbs", b"seed"):
        assert text in plugin
    rows = json.loads((run_folder / "results.json").read_text())["results"]
    [row] = [row for row in rows if row["algo"] == "rejection"]
    assert events.Scalars("final/test/greedy/accuracy")[0].value == pytest.approx(row["accuracy"])
    best = max(accuracy for _, accuracy in points(run_folder / "rejection"))
    assert events.Scalars("final/dev_best")[0].value == pytest.approx(best)


def test_the_best_policy_is_what_a_run_saves(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of scores that fall from the third step on, by whatever was answered."""
    real, at, seen = curve.DevTasks.__call__, [], {}

    def falling(self: curve.DevTasks, step: int) -> Any:
        found = real(self, step)
        at.append(step)
        seen[step] = {name: p.detach().clone() for name, p in self.models.policy.named_parameters()}
        return replace(found, score=0.9 if step == 3 else 0.1)

    monkeypatch.setattr(curve.DevTasks, "__call__", falling)
    how = TrainerConfig(evaluate_every=3, load_best_model_at_end=True, early_stopping_patience=1)
    run = Run(settings(trainer=how, algorithms={}), tmp_path / "run")
    saved = weights(Path(run.sft()).parent)
    summary = json.loads((tmp_path / "run" / "sft" / "summary.json").read_text())
    assert at == [3, 6] and (summary["steps"], summary["loaded_step"], summary["stopped_early"]) == (6, 3, True)
    assert not list((tmp_path / "run" / "sft").glob("best-*"))
    found = {name.removeprefix("model.model."): part for name, part in seen[3].items()}
    matched = [key for key, part in saved.items() if any(torch.equal(part, own) for own in found.values())]
    assert len(matched) == len(saved)


def test_a_curve_is_drawn_against_steps_and_time(run_folder: Path, tmp_path: Path):
    metrics = {name: [read_metrics(run_folder / name)] for name in ("sft", "rejection")}
    path = plot_curves(metrics, tmp_path / "curves.png", "seed 0")
    assert path is not None and path.stat().st_size > 10_000
    assert plot_curves({"sft": [read_metrics(run_folder / "sft")[:1]]}, tmp_path / "none.png") is None


# --- which tasks


def gsm8k(folder: Path, train: int) -> EnvSettings:
    folder.mkdir()
    for split, count in (("train", train), ("test", 3)):
        rows = [{"question": f"{split} {i}?", "answer": f"{i}\n#### {i}"} for i in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return EnvSettings(id="oreo/GSM8K-v0", path=str(folder))


def test_without_a_dev_split_train_tasks_are_asked_that_are_not_learned_from(tmp_path: Path):
    env = gsm8k(tmp_path / "data", 20)
    found = settings(env=env, sft=SftSettings(demonstrations=6), collect=CollectSettings(tasks=8))
    assert dev_split(found) == "train"
    with found.env_maker("train")() as made:
        learned = identities(made, range(15))
    make, indices = dev_indices(found, "train", lambda: learned)
    assert sorted(indices) == [15, 16, 17, 18, 19]
    assert not learned & identities(make(), indices)
    assert dev_indices(found, "train", lambda: learned)[1] == indices
    with pytest.raises(ValueError, match=r"all tasks of split 'train' are; collect on fewer \(collect\.tasks=\.\.\."):
        dev_indices(found, "train", lambda: identities(make(), range(20)))


@pytest.mark.parametrize(("part", "name"), [("sft", "sft.demonstrations"), ("collect", "collect.tasks")])
def test_where_all_tasks_are_learned_from_the_setting_to_change_is_named(part: str, name: str, tmp_path: Path):
    all_of = {"sft": SftSettings(demonstrations=None), "collect": CollectSettings(tasks=None)}[part]
    found = settings(env=gsm8k(tmp_path / "data", 20), **{part: all_of})
    if part == "collect":
        found = replace(found, sft=SftSettings(demonstrations=4))
    with pytest.raises(
        ValueError, match=rf"it has no dev split, and {name} takes all 20 train tasks.*{name}=14"
    ) as error:
        Run(found, tmp_path / "run").prepare(episodes=True)
    assert "evaluate.dev.split" in str(error.value)
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("split", "said"),
    [("test", "must not be what the results are of"), ("deev", "has the splits train, dev, test; did you mean 'dev'")],
)
def test_test_tasks_are_never_asked_on_the_way(split: str, said: str):
    with pytest.raises(ValueError, match=said):
        dev_split(settings(evaluate=EvaluateSettings(dev=DevSettings(split=split))))


def test_results_of_the_split_that_chooses_are_said_to_flatter(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    how = TrainerConfig(evaluate_every=3, load_best_model_at_end=True)
    evaluate = EvaluateSettings(splits=["dev"], tasks=4, dev=DevSettings(tasks=2))
    Run(settings(trainer=how, evaluate=evaluate), tmp_path / "run")._check_dev()
    assert "the results are of split dev, by which networks are chosen" in caplog.text


@pytest.mark.parametrize("given", [{"tasks": 0}, {"tasks": True}, {"examples": -1}, {"split": ""}])
def test_an_impossible_setting_is_refused(given: dict[str, Any]):
    with pytest.raises(ValueError, match=rf"\.{next(iter(given))} must be"):
        DevSettings(**given)


# --- the rows of a report


def test_a_setting_of_the_curve_makes_a_row_only_where_it_decides_what_is_kept(tmp_path: Path):
    def values(**trainer: Any) -> Any:
        config = {"algo": {"beta": 1}, "trainer": trainer, "evaluate": {"dev": {"tasks": 5, "examples": 1}}, "seed": 0}
        (tmp_path / "config.yaml").write_text(json.dumps(config))
        return row_settings(tmp_path, {"algo": "oreo", "search": "greedy", "seed": 0}).values

    plain = {"evaluate_every": 5, "load_best_model_at_end": False, "early_stopping_patience": None}
    assert not [name for name in values(**plain) if name.startswith(("trainer", "evaluate"))]
    chosen = values(**plain | {"load_best_model_at_end": True})
    assert chosen["trainer.load_best_model_at_end"] is True and chosen["evaluate.dev.tasks"] == 5
    assert "evaluate.dev.examples" not in chosen


# --- texts


def test_what_is_said_is_no_markup_and_bounded():
    text = "a ``` b <script>alert(1)</script>\n# no title\x1b[31m\n" + "x" * 9000
    shown = fenced(text)
    assert shown.startswith("````\n") and shown.endswith("\n````") and "\x1b" not in shown and "\\u001b" in shown
    assert len(shown) < 2000 and "characters ..." in shown
    episode = Episode(
        tokens=[], step_id=[], rewards=[1.0], terminated=True, truncated=False, task_id="t_1 <b>*", env_id="e",
        messages=[{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": text}],
    )  # fmt: skip
    items = [Item("t_1 <b>*", True, None, 3, "4"), Item("t2", False, None, 0, None)]
    page = examples_text([Answer(episode, 3), None], items)
    assert page.startswith(r"**t\_1 &lt;b&gt;\*: right, 3 tokens**") and "<b>" not in page
    assert "**t2: wrong, 0 tokens**\n\nThe task fills the context: no answer." in page


def test_of_a_long_game_the_first_and_last_turns_are_shown():
    turns = [
        {"role": role, "content": f"turn {k} {role} " + "y" * 3000} for k in range(50) for role in ("user", "assistant")
    ]
    episode = Episode(
        tokens=[],
        step_id=[],
        rewards=[0.0] * 50,
        terminated=True,
        truncated=False,
        task_id="t",
        env_id="e",
        messages=turns,
    )
    page = examples_text([Answer(episode, 3)], [Item("t", False, None, 3, None)])
    assert "[... 92 messages ...]" in page and len(page) < 15_000
    assert "turn 0 user" in page and "turn 49 assistant" in page and "turn 20 " not in page


# --- the command line


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["trainer.load_best_model_at_end=true"], "give trainer.evaluate_every=STEPS too"),
        (["trainer.evaluate_every=2", "evaluate.dev.split=test"], "must not be what the results are of"),
        (["trainer.evaluate_every=2", "evaluate.dev.tasks=0"], "evaluate.dev.tasks must be a whole number"),
        (["trainer.evaluate_every=2", "evaluate.dev.taks=1"], "did you mean 'evaluate.dev.tasks'"),
    ],
)
def test_mistakes_are_sentences(given, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["oreo", "train", *given, "hydra.run.dir=run", "hydra/job_logging=disabled"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "run" / "sft").exists()
