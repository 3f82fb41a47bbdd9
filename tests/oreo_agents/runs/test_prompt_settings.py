"""The settings of prompts reach every place that writes one, and what is saved keeps them."""

import json
from pathlib import Path
from typing import Any

import pytest
from chat_templates import TEMPLATES, make
from tiny_models import make_model

from oreo_agents.episodes.collect import CollectSettings, SftSettings
from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.tasks import EnvSettings
from oreo_agents.evaluation.evaluate import EvaluateSettings
from oreo_agents.networks.policy import PolicySettings
from oreo_agents.runs import building, cli, jobs
from oreo_agents.runs.data import main as data
from oreo_agents.runs.loading import Loader
from oreo_agents.runs.pipeline import Run
from oreo_agents.runs.settings import RunSettings
from oreo_agents.search import Greedy
from oreo_algos import EpisodeBuffer
from oreo_algos.algos import Oreo, Sft
from oreo_algos.training.trainer import TrainerConfig

QUESTION = [{"role": "user", "content": "q"}]
CHANGES: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}, "system_prompt": "Think twice."}
SHORT = Sampling(max_new_tokens=6)


@pytest.fixture
def start(tmp_path: Path) -> str:
    tokenizer = make("bytes", "qwen3")
    make_model("llama", vocabulary=len(tokenizer), context=512).save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    return str(tmp_path / "start")


def run_settings(path: str, **policy: Any) -> RunSettings:
    return RunSettings(
        env=EnvSettings(id="oreo/Arithmetic-v0", options={"verbs_per_problem": [1, 1], "prompt": "boxed"}),
        policy=PolicySettings(path=path, device="cpu", **policy),
        sft=SftSettings(demonstrations=4, algorithm=Sft(batch_size=2, epochs=1)),
        collect=CollectSettings(source="demonstrations", tasks=2, samples=1),
        algorithms={"oreo": Oreo(batch_size=2, epochs=1)},
        searches={"greedy": Greedy()},
        evaluate=EvaluateSettings(tasks=2, sampling=SHORT),
        trainer=TrainerConfig(bf16=False),
    )


def test_a_run_writes_reads_and_saves_with_its_settings(tmp_path: Path, start: str):
    run = Run(run_settings(start, **CHANGES), tmp_path / "run")
    rows = run.train_and_evaluate(["sft", "oreo"])
    assert [row["n"] for row in rows] == [2, 2]
    expected = PromptFormat.from_pretrained(start, **CHANGES)
    for buffer in (run.data.demonstrations(start).buffer, run.episodes()):
        assert buffer.tokenizer_fingerprint == expected.fingerprint
        for episode in buffer:
            text = expected.tokenizer.decode(episode.tokens)
            assert "Think twice." in text and "reason step by step" not in text
            assert "assistant\n<think>\n\n</think>\n\n" in text
    for part in ("sft/policy", "oreo/policy", "oreo/value"):
        saved = PromptFormat.from_pretrained(str(run.folder / part), system_prompt="Think twice.")
        assert saved.fingerprint == expected.fingerprint
        # Also for whoever does not know the settings.
        assert saved.tokenizer.apply_chat_template(QUESTION, tokenize=False, add_generation_prompt=True).endswith(
            "</think>\n\n"
        )


def test_networks_and_buffers_of_other_settings_do_not_fit(tmp_path: Path, start: str):
    told = Run(run_settings(start, **CHANGES), tmp_path / "told")
    EpisodeBuffer(
        [*told.data.demonstrations(start).buffer],
        tokenizer_fingerprint=told.load.prompt_format(start).fingerprint,
    ).save(tmp_path / "buffer")
    for changes in ({}, {"system_prompt": "Think twice."}, CHANGES | {"system_prompt": ""}):
        load = Loader(PolicySettings(path=start, device="cpu", **changes), told.settings.value)
        with pytest.raises(ValueError, match=r"oreo data encode"):
            EpisodeBuffer.load(tmp_path / "buffer", tokenizer_fingerprint=load.prompt_format(start).fingerprint)
        assert load.policy(start).tokenizer_fingerprint != told.load.policy(start).tokenizer_fingerprint


def test_a_changed_template_file_is_another_start(tmp_path: Path, start: str):
    file = tmp_path / "mine.jinja"
    file.write_text(TEMPLATES["chatml"])
    chosen = run_settings(start, chat_template=str(file))
    first = Run(chosen, tmp_path / "run", shared=tmp_path / "starts").start_folder
    assert Run(chosen, tmp_path / "run", shared=tmp_path / "starts").start_folder == first
    file.write_text(TEMPLATES["gemma"])
    assert Run(chosen, tmp_path / "run", shared=tmp_path / "starts").start_folder != first


def test_buffers_are_imported_and_encoded_with_the_same_options(tmp_path: Path, start: str, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = {"question": "2 + 2?", "response": "#### 4", "correct": True}
    Path("solutions.jsonl").write_text(json.dumps(row))
    Path("mine.jinja").write_text(TEMPLATES["gemma"])
    options = ["--tokenizer", start, "--chat-template", "mine.jinja", "--system-prompt", ""]
    imported = ["import", "solutions.jsonl", "--format", "labelled", "--env", "gsm8k", "--path", "nowhere"]
    data([*imported, *options, "--out", "mine"])
    data([*imported, "--out", "plain"])
    data(["encode", "plain", "--tokenizer", start, "--chat-template-kwargs", '{"enable_thinking": false}'])
    mine = PromptFormat.from_pretrained(start, chat_template="mine.jinja", system_prompt="")
    silent = PromptFormat.from_pretrained(start, chat_template_kwargs={"enable_thinking": False})
    for folder, prompt_format, shown in (("mine", mine, "<start_of_turn>"), ("plain", silent, "<|im_start|>")):
        buffer = EpisodeBuffer.load(tmp_path / folder, tokenizer_fingerprint=prompt_format.fingerprint)
        assert shown in prompt_format.tokenizer.decode(buffer[0].tokens)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chat_template_kwargs": "no"}, r"policy.chat_template_kwargs must be a mapping such as \{enable_thinking"),
        ({"system_prompt": 3}, r"policy.system_prompt must be a text, got 3"),
        ({"chat_template": ["x"]}, r"policy.chat_template must be a text"),
        ({"trust_remote_code": "no"}, r"policy.trust_remote_code must be true or false, got 'no'"),
    ],
)
def test_settings_of_another_kind_are_refused_by_name(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        PolicySettings(**changes)


@pytest.mark.parametrize(
    "override",
    [
        "policy.chat_template_kwargs.enable_thinking=false",
        "policy.chat_template_kwargs={enable_thinking: false}",
        "+policy.chat_template_kwargs.enable_thinking=false",
    ],
)
def test_arguments_of_a_template_have_any_name_on_the_command_line(override: str, monkeypatch, tmp_path: Path):
    seen = []
    monkeypatch.setitem(jobs.JOBS, "train", lambda config, folder: seen.append(building.build(config.policy)))
    cli._run_hydra("train", ["policy.path=x", override, f"hydra.run.dir={tmp_path}"], [])
    assert seen[0].chat_template_kwargs == {"enable_thinking": False}


def test_an_argument_that_the_template_does_not_read_stops_a_command_with_a_sentence(
    start: str, tmp_path: Path, monkeypatch, capsys
):
    override = "policy.chat_template_kwargs.enable_thinkin=false"
    argv = ["oreo", "eval", "env=arithmetic", f"policy.path={start}", override, f"hydra.run.dir={tmp_path / 'run'}"]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "reads no 'enable_thinkin'; it reads enable_thinking" in capsys.readouterr().err
